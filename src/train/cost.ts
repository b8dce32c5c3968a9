/** What training costs, by formula: parameters, arithmetic, memory. */
import type { CausalLM } from "../models/index.ts";
import { autocast, matmul, noGrad, type Precision, randn, scope } from "../tensor/index.ts";

/** Parameters that a matrix product uses for every token: all but the tables that are only looked up. */
export function computedParameters(model: CausalLM): number {
  let n = 0;
  const { vocabulary, hidden, context } = model.dimensions;
  let heads = 0;
  for (const [, p] of model.namedParameters()) {
    const [rows, columns] = p.shape;
    if (rows === vocabulary && columns === hidden) heads++;
    // GPT-2's table of positions is looked up too.
    else if (model.modelType === "gpt2" && rows === context && columns === hidden) continue;
    else n += p.size;
  }
  // One table of the vocabulary's size is the head; a second one (untied) is the embedding.
  return n + (heads > 0 ? vocabulary * hidden : 0);
}

/**
 * Floating-point operations of training on one token: 6 for each parameter (2 forward, 4 backward; Kaplan et al. 2020, 2.1), and
 * attention's two products, of which causal masking leaves half: 6·layers·width·context.
 */
export function flopsPerToken(model: CausalLM, context: number): number {
  const { layers, heads, headDim } = model.dimensions;
  return 6 * computedParameters(model) + 6 * layers * heads * headDim * context;
}

/** The rate of a large matrix product of this precision on this machine now, in FLOP/s: the peak that progress is measured against. Takes about a tenth of a second. */
export function measurePeakFlops(precision: Precision = "f32", milliseconds = 100): number {
  let best = 0;
  scope(() =>
    noGrad(() => {
      let n = 64;
      let [a, b] = [randn([n, n], { stream: PRIVATE }), randn([n, n], { stream: PRIVATE })];
      const until = performance.now() + milliseconds;
      for (;;) {
        const began = performance.now();
        scope(() => void autocast(precision, () => matmul(a, b)));
        const seconds = (performance.now() - began) / 1000;
        best = Math.max(best, (2 * n ** 3) / seconds);
        if (performance.now() > until) return undefined;
        // As large as the time allows: small products do not reach the peak.
        if (n < 1024 && seconds < milliseconds / 20_000) {
          n *= 2;
          [a, b] = [randn([n, n], { stream: PRIVATE }), randn([n, n], { stream: PRIVATE })];
        }
      }
    }),
  );
  return best;
}

// A stream of its own: measuring must not move the training's.
const PRIVATE = { seed: 0, stream: 99, position: 0 };

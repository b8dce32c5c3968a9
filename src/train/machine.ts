/** How fast this machine computes, and what else a plan must know of it and of the process that it is made in. */
import { autocast, matmul, noGrad, type Precision, randn, scope } from "../tensor/index.ts";

/** What `planTraining` must know of a machine. */
export interface Machine {
  /** Rate of large matrix products with the backend that is in use, FLOP/s. */
  flops: number;
  /** What this process takes before it trains: Node, and groundup's code. */
  processBytes: number;
}

/** Looks at the process first: measuring makes tensors. Takes about a tenth of a second. */
export function measureMachine(precision: Precision = "f32"): Machine {
  const processBytes = process.memoryUsage.rss();
  return { processBytes, flops: measurePeakFlops(precision) };
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
        // As large as the time allows, and no larger, since the pool keeps the blocks: small products do not reach the peak.
        if (n < 1024 && seconds < milliseconds / 100_000) {
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

import { afterEach, describe, expect, test } from "vitest";
import { whereNative } from "../../tests/where-native.ts";
import { architectures } from "../models/architectures.ts";
import { type CausalLM, createModel } from "../models/index.ts";
import * as nn from "../nn/index.ts";
import { init, type Linear, replaceParameter } from "../nn/index.ts";
import { memory, noGrad, randn, scope, tensor } from "../tensor/index.ts";
import { createPagedState, type PagedState, type Sequence } from "./paged-state.ts";

const open: { dispose(): void }[] = [];
const use = <T extends { dispose(): void }>(x: T): T => {
  open.push(x);
  return x;
};
afterEach(() => {
  for (const x of open.splice(0).reverse()) x.dispose();
});

const SMALL = {
  model_type: "llama",
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  initializer_range: 0.2,
};

function modelOf(config: Record<string, unknown>): CausalLM {
  const model = use(createModel(config)).eval();
  // So large that each token changes what follows.
  for (const [name, p] of model.namedParameters()) if (p.rank > 1 && !/experts/.test(name)) noGrad(() => init.normal(p, { std: 0.3 }));
  return model;
}

/** A state whose steps are captured, or run the model each time. */
function stateOf(model: CausalLM, eager: boolean): PagedState {
  model.eager = eager;
  return createPagedState(model);
}

/** One step of a token for each sequence; the logits. */
function step(state: PagedState, sequences: readonly Sequence[], vocabulary: number): Float32Array {
  return scope(() => {
    const entries = sequences.map((sequence, s) => ({ sequence, ids: [(sequence.length * 7 + s * 3) % vocabulary] }));
    return { data: state.step(entries).dataSync() as Float32Array };
  }).data;
}

const SAMPLES = Object.values(architectures).flatMap(({ modelType, samples }) =>
  samples.map((sample, i): [name: string, config: Record<string, unknown>] => [`${modelType}, sample ${i}`, { model_type: modelType, ...sample }]),
);
/** Where their experts' rows begin and end is decided by the host. */
const DECIDES = /moe|mixtral|gpt_oss/;

whereNative("steps that are captured", () => {
  test.each(SAMPLES)("%s: the same bytes as without", (name, config) => {
    const model = modelOf(config);
    const { vocabulary, context } = model.dimensions;
    const [plain, captured] = [true, false].map((eager) => {
      const state = use(stateOf(model, eager));
      const sequences = [state.allocate(), state.allocate()];
      scope(() => void state.step([{ sequence: sequences[0] as Sequence, ids: Array.from({ length: 5 }, (_, i) => i) }]));
      const out = Array.from({ length: Math.min(context - 5, 70) }, () => step(state, sequences, vocabulary));
      return { out, replayed: state.usage().replayedSteps };
    });
    expect(captured?.out).toEqual(plain?.out);
    expect(plain?.replayed).toBe(0);
    if (DECIDES.test(name)) expect(captured?.replayed).toBe(0);
    else expect(captured?.replayed).toBeGreaterThan(context / 2);
  });

  describe.each([
    ["default", null],
    ["dynamic", { rope_type: "dynamic", factor: 2 }],
    ["longrope", { rope_type: "longrope", short_factor: [1, 1, 1], long_factor: [2, 3, 4], original_max_position_embeddings: 40 }],
    ["yarn", { rope_type: "yarn", factor: 4 }],
  ])("rotary positions of the kind %s", (_, scaling) => {
    test("sequences short and long, over the length that they adapt to, and back", () => {
      const model = modelOf({ ...SMALL, max_position_embeddings: 60, rope_scaling: scaling });
      const [plain, captured] = [true, false].map((eager) => {
        const state = use(stateOf(model, eager));
        const out: Float32Array[] = [];
        for (let round = 0; round < 2; round++) {
          const [long, short] = [state.allocate(), state.allocate()];
          while (long.length < 60) out.push(step(state, [long], 41));
          while (short.length < 20) out.push(step(state, [short], 41));
          state.truncate(long, 30);
          while (long.length < 55) out.push(step(state, [short, long], 41));
          for (const s of [long, short]) state.free(s);
        }
        return { out, replayed: state.usage().replayedSteps };
      });
      expect(captured?.out).toEqual(plain?.out);
      expect(captured?.replayed).toBeGreaterThan(60);
    });
  });

  test("weights that change, are replaced or are watched are seen", () => {
    const model = modelOf(SMALL);
    const [plain, captured] = [true, false].map((eager) => use(stateOf(model, eager))) as [PagedState, PagedState];
    const [a, b] = [plain.allocate(), captured.allocate()];
    const same = (steps: number): number => {
      const before = captured.usage().replayedSteps;
      for (let i = 0; i < steps; i++) expect(step(captured, [b], 41)).toEqual(step(plain, [a], 41));
      return captured.usage().replayedSteps - before;
    };
    expect(same(8)).toBe(6);
    const head = model.lm_head as Linear;
    noGrad(() => head.weight.fill(0.25));
    expect(same(8)).toBe(6);
    scope(() => replaceParameter(model, "lm_head.weight", randn([41, 24])));
    expect(same(8)).toBe(6);
    let seen = 0;
    const unhook = model.hook("model.layers.1", () => {
      seen++;
      return undefined;
    });
    expect(same(4)).toBe(0);
    expect(seen).toBe(8);
    unhook();
    expect(same(8)).toBe(6);
    expect(seen).toBe(8);
    model.train();
    expect(same(8)).toBe(6);
  });

  test("a part that comes where there was none is seen", () => {
    const model = modelOf({ ...SMALL, tie_word_embeddings: true }) as CausalLM & { model: { layers: { mlp: { up_proj: Linear } }[] } };
    const [plain, captured] = [true, false].map((eager) => use(stateOf(model, eager))) as [PagedState, PagedState];
    const [a, b] = [plain.allocate(), captured.allocate()];
    const same = (): void => {
      for (let i = 0; i < 6; i++) expect(step(captured, [b], 41)).toEqual(step(plain, [a], 41));
    };
    same();
    model.lm_head = new nn.Linear(24, 41, { bias: false });
    same();
    (model.model.layers[0] as { mlp: { up_proj: Linear } }).mlp.up_proj.bias = nn.parameter(randn([20]));
    same();
    expect(captured.usage().replayedSteps).toBe(12);
  });

  test("forms are forgotten, and what they held with them", () => {
    const model = modelOf(SMALL);
    const bytes = memory().liveBytes;
    const state = createPagedState(model);
    const sequences = Array.from({ length: 12 }, () => state.allocate());
    for (let n = 1; n <= 12; n++) for (let i = 0; i < 4; i++) step(state, sequences.slice(0, n), 41);
    expect(memory().owners.find((o) => o.name === "captured work")?.count).toBe(8);
    state.dispose();
    expect(memory().owners.find((o) => o.name === "captured work")).toBeUndefined();
    expect(memory().liveBytes).toBe(bytes);
  });

  test("a step that fails is no harm to those after it", () => {
    const model = modelOf(SMALL);
    const [plain, captured] = [true, false].map((eager) => use(stateOf(model, eager))) as [PagedState, PagedState];
    const [a, b] = [plain.allocate(), captured.allocate()];
    const forward = model.forward;
    for (let i = 0; i < 12; i++) {
      if (i % 3 === 1) {
        model.forward = () => {
          throw new Error("no luck");
        };
        expect(() => step(captured, [b], 41)).toThrow("no luck");
        model.forward = forward;
      }
      expect(step(captured, [b], 41)).toEqual(step(plain, [a], 41));
    }
    expect(tensor([1]).itemSync()).toBe(1);
  });
});

/** Watching and replacing what goes on inside models, by dotted name: in training, over ragged rows, and in serving. */
import { describe, expect, test } from "vitest";
import { createPagedState } from "../generate/index.ts";
import { init } from "../nn/index.ts";
import { concat, keep, linear, memory, noGrad, scope, type Tensor, tensor, tensorFrom } from "../tensor/index.ts";
import { Bloom } from "./bloom.ts";
import type { CausalLM, CausalLMInputs } from "./causal-lm.ts";
import { Falcon } from "./falcon.ts";
import { Gemma } from "./gemma.ts";
import { Gemma2 } from "./gemma2.ts";
import { Gemma3Text } from "./gemma3_text.ts";
import { GPTNeoX } from "./gpt_neox.ts";
import { GptOss } from "./gpt_oss.ts";
import { GPT2 } from "./gpt2.ts";
import { Granite } from "./granite.ts";
import { Llama } from "./llama.ts";
import { Mistral } from "./mistral.ts";
import { Mixtral } from "./mixtral.ts";
import { Olmo2 } from "./olmo2.ts";
import { OPT } from "./opt.ts";
import { Phi3 } from "./phi3.ts";
import { Qwen2 } from "./qwen2.ts";
import { Qwen3 } from "./qwen3.ts";
import { Qwen3Moe } from "./qwen3_moe.ts";
import { SmolLM3 } from "./smollm3.ts";

/** Weights far from zero, so that scores, activations and probabilities differ from place to place, and the loss with them (for some models with a `seed` of their own). */
function loud<M extends CausalLM>(model: M, seed = 3): M {
  const stream = { seed, stream: 0, position: 0 };
  for (const p of model.parameters()) init.normal(p, { std: 0.5, stream });
  return model.eval();
}
/** Llama and those after it. */
const sizes = {
  vocab_size: 31,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 4,
  max_position_embeddings: 80,
};
const family = (name: string, make: () => CausalLM, mlp = "mlp"): [string, () => CausalLM, string, string, string] => [
  name,
  () => withoutSinks(loud(make())),
  "model.layers.1.self_attn",
  "o_proj",
  `model.layers.1.${mlp}`,
];

/** Probabilities then sum to 1. */
function withoutSinks(model: CausalLM): CausalLM {
  for (const [name, p] of model.namedParameters()) if (name.endsWith(".sinks")) p.write(new Float32Array(p.size).fill(-1e9));
  return model;
}
/** Sizes under the names that most configs have. */
const SIZES = { vocab_size: 31, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 80 };
const OPT_SIZES = { ...SIZES, ffn_dim: 20, activation_function: "gelu", do_layer_norm_before: false } as const;
const MODELS: [name: string, make: () => CausalLM, attention: string, out: string, mlp: string][] = [
  [
    "gpt2",
    () => loud(new GPT2({ vocab_size: 31, n_positions: 80, n_embd: 16, n_layer: 2, n_head: 4 })),
    "transformer.h.1.attn",
    "c_proj",
    "transformer.h.1.mlp",
  ],
  family("llama with grouped queries", () => new Llama(sizes)),
  family("qwen2", () => new Qwen2(sizes)),
  family("qwen3", () => new Qwen3(sizes)),
  family("mistral", () => new Mistral(sizes)),
  family("gemma", () => new Gemma(sizes)),
  family("gemma2", () => new Gemma2({ ...sizes, query_pre_attn_scalar: 4, attn_logit_softcapping: 5 })),
  family("gemma3_text", () => new Gemma3Text({ ...sizes, query_pre_attn_scalar: 4 })),
  // Each token visits all experts: where its choice turns there is no slope.
  family("mixtral", () => new Mixtral({ ...sizes, num_local_experts: 3, num_experts_per_tok: 3 }), "mlp.experts"),
  family("qwen3_moe", () => new Qwen3Moe({ ...sizes, num_local_experts: 3, num_experts_per_tok: 3, moe_intermediate_size: 24 }), "mlp.experts"),
  family("gpt_oss", () => new GptOss({ ...sizes, num_local_experts: 3, num_experts_per_tok: 3, sliding_window: 20 }), "mlp.experts"),
  family("smollm3", () => new SmolLM3({ ...sizes, no_rope_layer_interval: 2, tie_word_embeddings: false })),
  ["phi3", () => loud(new Phi3({ ...SIZES, intermediate_size: 20, num_key_value_heads: 2 })), "model.layers.1.self_attn", "o_proj", "model.layers.1.mlp"],
  [
    "gpt_neox",
    () => loud(new GPTNeoX({ ...SIZES, intermediate_size: 20, partial_rotary_factor: 0.5 })),
    "gpt_neox.layers.1.attention",
    "dense",
    "gpt_neox.layers.1.mlp",
  ],
  ["olmo2", () => loud(new Olmo2({ ...SIZES, intermediate_size: 20, num_key_value_heads: 2 })), "model.layers.1.self_attn", "o_proj", "model.layers.1.mlp"],
  [
    "granite",
    () => loud(new Granite({ ...SIZES, intermediate_size: 20, num_key_value_heads: 2 }), 5),
    "model.layers.1.self_attn",
    "o_proj",
    "model.layers.1.mlp",
  ],
  ["opt", () => loud(new OPT(OPT_SIZES)), "model.decoder.layers.1.self_attn", "out_proj", "model.decoder.layers.1"],
  [
    "bloom",
    () => loud(new Bloom({ vocab_size: 31, hidden_size: 16, n_layer: 2, n_head: 4 }), 5),
    "transformer.h.1.self_attention",
    "dense",
    "transformer.h.1.mlp",
  ],
  [
    "falcon",
    () => loud(new Falcon({ ...SIZES, new_decoder_architecture: true, num_kv_heads: 2 })),
    "transformer.h.1.self_attention",
    "dense",
    "transformer.h.1.mlp",
  ],
];
/** A point that is inside of each MLP, beside "neurons". */
const INSIDE: Record<string, string> = { gpt2: "c_fc", opt: "fc1", gpt_neox: "dense_h_to_4h", bloom: "dense_h_to_4h", falcon: "dense_h_to_4h" };

const ids = (shape: number[], seed = 1) =>
  tensorFrom(
    Int32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => (i * 7 + seed * 5 + i * i) % 31),
    shape,
  );
const rectangle = (): CausalLMInputs => ({ inputIds: ids([2, 9]), labels: ids([2, 9]) });
const ragged = (): CausalLMInputs => ({ inputIds: ids([1, 12]), targets: ids([1, 12], 2), cuSeqlens: Int32Array.of(0, 5, 12) });

/** Logits, loss and every gradient. */
function pass(model: CausalLM, inputs: CausalLMInputs): Map<string, Float32Array> {
  return scope(() => {
    const out = model.forward(inputs);
    const values = new Map([["logits", out.logits.dataSync() as Float32Array]]);
    const loss = out.loss as Tensor;
    loss.backward();
    values.set("loss", loss.dataSync() as Float32Array);
    for (const [name, p] of model.namedParameters()) if (p.grad !== null) values.set(name, p.grad.dataSync() as Float32Array);
    model.zeroGrad();
    return values;
  });
}

/** Sums in another order: 1e-5 of the largest value of its kind, as between the fused operations and their twins. */
function expectClose(actual: Map<string, Float32Array>, expected: Map<string, Float32Array>, but: (name: string) => boolean = () => false): void {
  expect([...actual.keys()]).toEqual([...expected.keys()]);
  for (const [name, e] of expected) {
    if (but(name)) continue;
    const largest = e.reduce((m, x) => Math.max(m, Math.abs(x)), 1e-3);
    const worst = e.reduce((m, x, i) => Math.max(m, Math.abs(x - (actual.get(name) as Float32Array)[i])), 0);
    expect(worst / largest, name).toBeLessThan(1e-5);
  }
}

const sameBytes = (a: Map<string, Float32Array>, b: Map<string, Float32Array>) =>
  expect([...a].map(([n, x]) => [n, [...x]])).toEqual([...b].map(([n, x]) => [n, [...x]]));

describe.each(MODELS)("%s", (family, make, attention, out, mlp) => {
  test.each([
    ["a rectangle", rectangle],
    ["ragged rows", ragged],
  ])("watched on every point it gives the same, over %s; and the same bytes again when nobody watches", (_name, inputs) => {
    const model = make();
    const before = pass(model, inputs());
    const names = [...model.namedPoints()].map(([name]) => name);
    const seen = new Map<string, number>();
    const unhook = names.map((name) => model.hook<unknown>(name, (_output, at) => void seen.set(at, (seen.get(at) ?? 0) + 1)));
    const watched = pass(model, inputs());
    for (const remove of unhook) remove();
    // What is added to all keys leaves the probabilities as they are: that bias has no gradient but rounding.
    expectClose(watched, before, (name) => name.endsWith("k_proj.bias"));
    // Every name that is listed really shows itself; attention shows two sequences one by one.
    expect([...seen.keys()].sort()).toEqual([...names].sort());
    for (const [name, times] of seen) expect(times, name).toBe(inputs === ragged && /scores|probabilities/.test(name) ? 2 : 1);
    sameBytes(pass(model, inputs()), before);
    model.dispose();
  });

  test("probabilities are causal and sum to one, and are those of the scores", () => {
    const model = make();
    scope(() => {
      const { seen, result } = model.record(new RegExp(`${attention}.(scores|probabilities)`), () =>
        noGrad(() => model.forward({ inputIds: ids([2, 9]) }).logits),
      );
      expect(result.shape).toEqual([2, 9, 31]);
      const p = seen.get(`${attention}.probabilities`) as Tensor;
      const s = seen.get(`${attention}.scores`) as Tensor;
      expect(p.shape).toEqual([2, 4, 9, 9]);
      const [rows, scores] = [p.dataSync() as Float32Array, s.dataSync() as Float32Array];
      for (let row = 0; row < 2 * 4 * 9; row++) {
        const t = row % 9;
        const at = (x: Float32Array, k: number) => x[row * 9 + k];
        let [total, whole] = [0, 0];
        for (let k = 0; k < 9; k++) {
          if (k > t) expect(at(rows, k)).toBe(0);
          else whole += Math.exp(at(scores, k));
          total += at(rows, k);
        }
        expect(total).toBeCloseTo(1, 6);
        for (let k = 0; k <= t; k++) expect(at(rows, k)).toBeCloseTo(Math.exp(at(scores, k)) / whole, 5);
      }
    });
    model.dispose();
  });

  test.each(["probabilities", "heads", "v"] as const)("a head whose %s are replaced by zeros is an ablated head, gradients too", (point) => {
    // The value heads of grouped queries serve several heads: there a pair goes out.
    const lost = point === "v" && make().dimensions.kvHeads === 2 ? [2, 3] : [2];
    const ablated = make();
    scope(() => {
      // Without the columns of the last projection that read the head, nothing of it is left.
      const w = ablated.stateDict().get(`${attention}.${out}.weight`) as Tensor;
      const data = w.dataSync() as Float32Array;
      for (let i = 0; i < 16; i++) for (let j = 0; j < 16; j++) if (lost.includes(Math.floor(j / 4))) data[out === "c_proj" ? j * 16 + i : i * 16 + j] = 0;
      w.write(data.slice());
      return undefined;
    });
    const expected = pass(ablated, rectangle());
    const model = make();
    const unhook = model.hook(`${attention}.${point}`, (t) => {
      const axis = point === "probabilities" ? 1 : 2;
      const index = point === "v" && lost.length === 2 ? 1 : 2;
      return concat([t.narrow(axis, 0, index), t.narrow(axis, index, 1).mul(0), t.narrow(axis, index + 1, (t.shape[axis] as number) - index - 1)], axis);
    });
    const actual = pass(model, rectangle());
    unhook();
    // The ablated model's own projection still learns from the head; nothing before it does.
    expectClose(actual, expected, (name) => name === `${attention}.${out}.weight`);
    ablated.dispose();
    model.dispose();
  });

  test.each(["scores", "probabilities", "heads", "q", "mlp.neurons", `mlp.${INSIDE[family] ?? "activation"}`])(
    "gradients flow through a replaced %s as central differences say",
    (point) => {
      const model = make();
      const name = point.startsWith("mlp.") ? point.replace("mlp", mlp) : `${attention}.${point}`;
      const scaled = (s: Tensor | number) => {
        // Not by a number alone: a norm behind it (Gemma 2 and 3) would take that away again.
        const unhook = model.hook(name, (t) => t.mul(t.mul(0.5).add(s as number)));
        try {
          return scope(() => model.forward(rectangle()).loss as Tensor);
        } finally {
          unhook();
        }
      };
      const factor = keep(tensor([1.1], { requiresGrad: true }));
      const loss = scaled(factor);
      loss.backward();
      const g = factor.grad?.itemSync() as number;
      const at = (s: number) => noGrad(() => scaled(s).itemSync());
      const h = 0.02;
      const numeric = (8 * (at(1.1 + h) - at(1.1 - h)) - (at(1.1 + 2 * h) - at(1.1 - 2 * h))) / (12 * h);
      expect(Math.abs(g)).toBeGreaterThan(1e-3);
      expect(Math.abs(g - numeric)).toBeLessThan(0.02 * Math.abs(g));
      factor.dispose();
      model.dispose();
    },
  );

  test("a projection shows its own result, the module around it what it adds to", () => {
    const model = make();
    const around = attention.replace(/\.[^.]*$/, "");
    scope(() => {
      const names = [`${attention}.${out}`, attention, around.replace(".1", ".0")];
      const seen = new Map<string, Tensor>();
      const run = () => noGrad(() => model.forward({ inputIds: ids([1, 6]) }).hidden);
      const plain = run();
      const unhook = names.map((name) => model.hook(name, (t) => void seen.set(name, keep(t))));
      close(run().dataSync(), plain.dataSync());
      for (const remove of unhook) remove();
      const [own, sum, before] = names.map((name) => seen.get(name) as Tensor);
      // Where a norm comes first (Gemma 2 and 3), the block adds.
      const adds = ![...model.namedParameters()].some(([name]) => name.startsWith(`${around}.post_feedforward_layernorm`));
      close((adds ? own.add(before) : own).dataSync(), sum.dataSync());
      for (const t of seen.values()) t.dispose();
      return undefined;
    });
    model.dispose();
  });

  test("in serving: the same tokens' logits, and probabilities over all positions so far", () => {
    const model = make();
    const steps = (): Float32Array[] => {
      const state = createPagedState(model);
      const [a, b] = [state.allocate(), state.allocate()];
      const long = Array.from({ length: 70 }, (_, i) => (i * 11) % 31);
      const entries = [
        [{ sequence: a, ids: long }],
        [
          { sequence: a, ids: [4] },
          { sequence: b, ids: [1, 2, 3] },
        ],
      ];
      const logits = entries.map((e) => scope(() => ({ x: state.step(e).dataSync() as Float32Array })).x);
      state.dispose();
      return logits;
    };
    const before = steps();
    const shapes: string[] = [];
    const unhook = model.hook(`${attention}.probabilities`, (p, name, sequence) => {
      shapes.push(`${sequence}: ${p.shape.join(" ")}`);
      const [h, t, s] = p.shape.slice(1) as [number, number, number];
      for (const x of p.sum(-1).dataSync()) expect(x).toBeCloseTo(1, 5);
      expect(h).toBe(4);
      expect(t).toBeLessThanOrEqual(s);
      expect(name).toBe(`${attention}.probabilities`);
    });
    const watched = steps();
    unhook();
    expect(shapes).toEqual(["0: 1 4 70 70", "0: 1 4 1 71", "1: 1 4 3 3"]);
    expectClose(new Map(watched.map((x, i) => [`step ${i}`, x])), new Map(before.map((x, i) => [`step ${i}`, x])));
    expect(steps().map((x) => [...x])).toEqual(before.map((x) => [...x]));
    model.dispose();
  });

  test("the head can be watched and replaced, with a loss and without", () => {
    const model = make();
    scope(() => {
      const inputs = rectangle();
      const loss = (model.forward(inputs).loss as Tensor).itemSync();
      const unhook = model.hook("lm_head", (logits) => {
        expect(logits.shape).toEqual([2, 9, 31]);
        return logits.mul(0);
      });
      expect((model.forward(inputs).loss as Tensor).itemSync()).toBeCloseTo(Math.log(31), 5);
      expect([...model.forward({ inputIds: inputs.inputIds }).logits.dataSync()].every((x) => x === 0)).toBe(true);
      unhook();
      expect((model.forward(inputs).loss as Tensor).itemSync()).toBe(loss);
      return undefined;
    });
    model.dispose();
  });

  test("names that nothing has, and results that do not fit, are errors in words", () => {
    const model = make();
    expect(() => model.hook(`${attention}.probabilites`, () => undefined)).toThrow(
      new RegExp(`expected ${attention}\\.\\(.*scores, probabilities, heads.*\\).*Did you mean "probabilities"`),
    );
    expect(() => model.hook("tranformer", () => undefined)).toThrow(/expected \(.*\) or a pattern, got no match/);
    expect(() => model.get(`${attention}.o_prj`)).toThrow(/Did you mean|expected/);
    const wrong = model.hook(`${attention}.scores`, (t) => t.sum(-1));
    expect(() => scope(() => void model.forward(rectangle()))).toThrow(
      /scores: expected nothing or a tensor of shape \(2, 4, 9, 9\), got one of shape \(2, 4, 9\)/,
    );
    wrong();
    model.dispose();
  });

  test("a record belongs to the scope around and leaves nothing behind", () => {
    const model = make();
    const run = () =>
      scope(() => {
        const { seen } = model.record("**.heads", () => model.forward(rectangle()).loss as Tensor);
        expect(seen.size).toBe(2);
        expect([...seen.values()].every((t) => !t.requiresGrad)).toBe(true);
        return undefined;
      });
    run();
    const live = memory().liveBytes;
    for (let i = 0; i < 3; i++) run();
    expect(memory().liveBytes).toBe(live);
    expect(() => scope(() => void model.record("**.probabilities", () => model.forward(ragged()).hidden))).toThrow(/came twice.*Use hook/);
    // Stars alone stand for modules: what is fused stays so.
    const names: string[] = [];
    const unhook = model.hook<unknown>("**", (_t, name) => void names.push(name));
    scope(() => void model.forward({ inputIds: ids([1, 4]) }));
    unhook();
    expect(names.some((name) => /scores|probabilities|neurons/.test(name))).toBe(false);
    expect(names).toContain(attention);
    model.dispose();
  });
});

/** Fused and step by step the same within rounding: the reference backend rounds between steps. */
function close(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(expected[i])));
}

test("a linear layer that is watched is the same in its three steps", () => {
  scope(() => {
    const [x, w, b, r] = [[3, 5], [4, 5], [4], [3, 4]].map((shape, i) =>
      tensorFrom(
        Float32Array.from({ length: shape.reduce((a, c) => a * c) }, (_, j) => Math.sin(j + i)),
        shape,
      ),
    );
    const options = { activation: "gelu", residual: r } as const;
    const sums: Tensor[] = [];
    const watched = linear(x, w, b, { ...options, watch: (y) => sums[sums.push(y) - 1] });
    close(watched.dataSync(), linear(x, w, b, options).dataSync());
    close(sums[0].dataSync(), linear(x, w, b).dataSync());
    return undefined;
  });
});

/** What models refuse: sequences longer than the context, however the positions come, and settings they do not know. */
import { describe, expect, test } from "vitest";
import { ConfigError, ShapeError } from "../errors.ts";
import { init } from "../nn/index.ts";
import { noGrad, scope, tensor, zeros } from "../tensor/index.ts";
import { contextOf } from "./causal-lm.ts";
import { GPT2 } from "./gpt2.ts";
import { Llama } from "./llama.ts";
import type { RopeParameters } from "./rope-tables.ts";

const sizes = { vocab_size: 11, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 6 };
const ids = (t: number) => zeros([1, t], { dtype: "i32" });

describe.each([
  ["gpt2", () => new GPT2({ vocab_size: 11, n_embd: 8, n_layer: 1, n_head: 2, n_positions: 6 })],
  ["llama", () => new Llama(sizes)],
])("%s", (_, make) => {
  test("takes its whole context and refuses more", () => {
    const model = make().eval();
    const lengthOf = (inputs: Parameters<typeof model.forward>[0]) => scope(() => ({ length: noGrad(() => model.forward(inputs)).logits.shape[1] })).length;
    const tooLong = /^forward: the sequence is too long, expected at most 6 positions \(the model's context\), got 7\./;
    expect(lengthOf({ inputIds: ids(6) })).toBe(6);
    expect(() => lengthOf({ inputIds: ids(7) })).toThrow(ShapeError);
    expect(() => lengthOf({ inputIds: ids(7) })).toThrow(tooLong);
    expect(lengthOf({ inputIds: ids(2), positions: tensor([Int32Array.of(0, 5)]) })).toBe(2);
    expect(() => lengthOf({ inputIds: ids(2), positions: tensor([Int32Array.of(0, 6)]) })).toThrow(tooLong);
    // Ragged rows: each sequence has the context for itself.
    expect(lengthOf({ inputIds: ids(9), cuSeqlens: Int32Array.of(0, 3, 9) })).toBe(9);
    expect(() => lengthOf({ inputIds: ids(9), cuSeqlens: Int32Array.of(0, 2, 9) })).toThrow(tooLong);
    model.dispose();
  });

  test("refuses inputs that it does not know", () => {
    const model = make();
    const inputs = { inputIds: ids(3), segmentIds: ids(3) };
    expect(() => model.forward(inputs)).toThrow(ConfigError);
    expect(() => model.forward(inputs)).toThrow(/^forward: unknown option, expected one of inputIds, .*, got segmentIds\./);
    model.dispose();
  });
});

test("an architecture of one's own may have more inputs than contextOf reads", () => {
  const inputs = { inputIds: ids(3), segmentIds: ids(3) };
  expect(scope(() => ({ found: contextOf(inputs, false, 6).sequences })).found).toEqual([{ rows: 3, positions: 3 }]);
});

test("llama with stretched rotary positions takes longer sequences, as transformers does", () => {
  const model = new Llama({ ...sizes, rope_parameters: { rope_type: "dynamic", factor: 2 } }).eval();
  expect(scope(() => ({ shape: noGrad(() => model.forward({ inputIds: ids(20) })).logits.shape })).shape).toEqual([1, 20, 11]);
  model.dispose();
});

test("settings that are unknown are named, with what was probably meant", () => {
  expect(() => new Llama({ ...sizes, num_atention_heads: 2 } as never)).toThrow(ConfigError);
  expect(() => new Llama({ ...sizes, num_atention_heads: 2 } as never)).toThrow(/num_atention_heads is unknown.*Did you mean "num_attention_heads"/);
  expect(() => new GPT2({ n_layers: 2 } as never)).toThrow(/n_layers is unknown.*Did you mean "n_layer"/);
});

test("llama refuses heads that turn in part only, which it would compute as something else", () => {
  const half = { ...sizes, rope_parameters: { rope_type: "default", partial_rotary_factor: 0.5 } };
  expect(() => new Llama(half as never)).toThrow(ConfigError);
  expect(() => new Llama(half as never)).toThrow(/rope_parameters\.partial_rotary_factor is not one of its values, expected 1, got 0\.5/);
  expect(() => new Llama({ ...sizes, rope_parameters: { rope_type: "default", partial_rotary_factor: 1 } }).dispose()).not.toThrow();
});

test.each<[string, RopeParameters]>([
  ["longrope", { rope_type: "longrope", short_factor: [1, 1.5], long_factor: [3, 7], original_max_position_embeddings: 12, factor: 4 }],
  ["dynamic", { rope_type: "dynamic", factor: 4 }],
  ["yarn", { rope_type: "yarn", factor: 4 }],
])("sequences of different lengths side by side turn as each would alone: %s", (_, rope_parameters) => {
  const model = new Llama({ ...sizes, rope_parameters }).eval();
  for (const p of model.parameters()) init.normal(p, { std: 0.5, stream: { seed: 5, stream: 0, position: 0 } });
  const rows = (n: number, from: number) => Array.from({ length: n }, (_, i) => (i * i + from) % 11);
  const texts = [rows(5, 1), rows(20, 2), rows(3, 3), rows(26, 4)];
  const logits = (inputs: () => Parameters<typeof model.forward>[0]) =>
    scope(() => ({ data: noGrad(() => model.forward(inputs())).logits.dataSync() as Float32Array })).data;
  const alone = texts.map((text) => logits(() => ({ inputIds: tensor([Int32Array.from(text)]) })));
  const cuSeqlens = Int32Array.of(0, 5, 25, 28, 54);
  const together = logits(() => ({ inputIds: tensor([Int32Array.from(texts.flat())]), cuSeqlens }));
  expect(together).toEqual(Float32Array.from(alone.flatMap((part) => [...part])));
  model.dispose();
});

import { expect, test } from "vitest";
import { architectures, describeModel } from "./architectures.ts";
import { modelCounts } from "./counts.ts";
import { parameterCountOf, sizedConfig, sizedKeys } from "./sized.ts";

test("GPT-2's own sizes give GPT-2's own shapes", () => {
  const of = (size: number) => sizedConfig({ model_type: "gpt2" }, size);
  expect(of(124_439_808)).toMatchObject({ n_layer: 12, n_embd: 768, n_head: 12 });
  // GPT-2 medium is deeper than wide; the dial stays near one layer for each 64.
  const medium = of(354_823_168);
  expect(modelCounts(describeModel(medium)).parameters.total / 354_823_168).toBeCloseTo(1, 1);
});

test.each(Object.keys(architectures))("%s: sizes are met, larger ones are larger, and every shape is sound", (type) => {
  let before = 0;
  for (const size of [1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9, 7e9, 7e10]) {
    const description = describeModel(sizedConfig({ model_type: type, vocab_size: 2048 }, size));
    const { total } = modelCounts(description).parameters;
    expect(Math.abs(total / size - 1), `${size}: ${total}`).toBeLessThan(0.15);
    expect(total).toBeGreaterThan(before);
    before = total;
    const { hidden, layers, headDim } = description.dimensions;
    expect(headDim === 64 || headDim === 128).toBe(true);
    expect(hidden / 64 / layers).toBeGreaterThan(0.4);
    expect(hidden / 64 / layers).toBeLessThan(2.5);
    for (const key of sizedKeys(type)) expect(description.config).toHaveProperty(key);
  }
});

test("what the config says stays, and a vocabulary that leaves no room is an error", () => {
  expect(sizedConfig({ model_type: "llama", vocab_size: 1000, tie_word_embeddings: false, rope_theta: 5e5 }, 5e6)).toMatchObject({
    vocab_size: 1000,
    tie_word_embeddings: false,
    rope_theta: 5e5,
  });
  expect(sizedConfig({ model_type: "llama" }, 5e7).tie_word_embeddings).toBe(true);
  expect(sizedConfig({ model_type: "llama" }, 5e9).tie_word_embeddings).toBeUndefined();
  expect(() => sizedConfig({ model_type: "gpt2", vocab_size: 50257 }, 1e6)).toThrow(/model\.size: no gpt2 comes near it.*vocabulary of 50257/);
});

test("sizes are read with their units", () => {
  expect(["15M", "1.5b", "300k", "1000", 42].map(parameterCountOf)).toEqual([15e6, 1.5e9, 3e5, 1000, 42]);
});

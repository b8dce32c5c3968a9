import { expect, test } from "vitest";
import { createModel, describeModel } from "../models/index.ts";
import { memory, resetPeakMemory } from "../tensor/index.ts";
import { checkMemory, planTraining, waysToFit } from "./plan.ts";
import { optimizerOf } from "./pretrain.ts";
import { modelConfig, recipeSchema } from "./recipe.ts";
import { accumulateGradients } from "./step.ts";

const still = { resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 };
const CASES: [name: string, model: Record<string, unknown>, training: Record<string, unknown>, vocabulary: number][] = [
  ["the character model", { model_type: "gpt2", n_embd: 128, n_layer: 4, n_head: 4, ...still }, { batch_size: 12, context_length: 64 }, 65],
  ["a large vocabulary", { model_type: "gpt2", n_embd: 128, n_layer: 2, n_head: 4, ...still }, { batch_size: 2, context_length: 64 }, 8000],
  [
    "the quickstart",
    {
      model_type: "llama",
      hidden_size: 192,
      intermediate_size: 512,
      num_hidden_layers: 4,
      num_attention_heads: 6,
      num_key_value_heads: 3,
      tie_word_embeddings: true,
    },
    { batch_size: 8, context_length: 128 },
    2048,
  ],
  [
    "an untied llama",
    { model_type: "llama", hidden_size: 128, intermediate_size: 384, num_hidden_layers: 3, num_attention_heads: 8, num_key_value_heads: 2 },
    { batch_size: 8, context_length: 128 },
    1024,
  ],
  [
    "accumulation",
    { model_type: "llama", hidden_size: 128, intermediate_size: 384, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 4 },
    { batch_size: 1, context_length: 64, gradient_accumulation_steps: 2 },
    4096,
  ],
];

test.each(CASES)("planned memory against the measured peak, to 10 percent: %s", (_, config, training, vocabulary) => {
  const recipe = recipeSchema.parse({ data: { path: "none" }, model: config, training: { max_steps: 10, ...training } });
  const before = memory().liveBytes;
  const model = createModel(modelConfig(recipe, vocabulary));
  const optimizer = optimizerOf(recipe, model);
  const { batch_size: rows, context_length: context, gradient_accumulation_steps: accumulate } = recipe.training;
  const ids = (factor: number) => Int32Array.from({ length: rows * context }, (__, i) => (i * factor) % vocabulary);
  const batches = Array.from({ length: accumulate }, () => ({ rows, context, inputIds: ids(1), targets: ids(7), targetTokens: rows * context }));
  for (let step = 0; step < 2; step++) {
    if (step === 1) resetPeakMemory();
    accumulateGradients(model, batches);
    optimizer.step();
    optimizer.zeroGrad();
  }
  const measured = memory().peakBytes - before;
  const plan = planTraining(model, recipe, 1e11);
  expect(plan.memory.peak / measured).toBeGreaterThan(0.9);
  expect(plan.memory.peak / measured).toBeLessThan(1.1);
  // Counted on the description alone, it is the same.
  expect(planTraining(describeModel(modelConfig(recipe, vocabulary)), recipe, 1e11)).toEqual(plan);
  optimizer.dispose();
  model.dispose();
});

const LARGE = {
  model_type: "llama",
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
};
const large = (training: Record<string, unknown>) =>
  recipeSchema.parse({ data: { path: "none" }, model: LARGE, training: { max_steps: 10, batch_size: 8, context_length: 2048, ...training } });

test("a model of 7 billion parameters is planned at once, and nothing is allocated", () => {
  const before = memory().liveBytes;
  resetPeakMemory();
  const began = performance.now();
  const recipe = large({});
  const model = describeModel(modelConfig(recipe, 32000));
  const plan = planTraining(model, recipe, 1e12);
  expect(performance.now() - began).toBeLessThan(100);
  expect(memory().peakBytes).toBe(before);
  // Llama 2 7B (Touvron et al. 2023).
  expect(plan.parameters).toBe(6_738_415_616);
  // Weights, gradients and two moments take 16 bytes a parameter.
  expect(plan.memory.peak).toBeGreaterThan(16 * plan.parameters);
  expect(() => checkMemory(model, recipe, 24e9)).toThrow(
    /not enough memory.*expected at most 24\.0 GB.*What would help: model\.num_hidden_layers=\d.*a machine that gives tensors \d+\.\d GB/,
  );
});

test("the ways to fit do fit, and the next larger one does not", () => {
  const recipe = large({ batch_size: 16, gradient_accumulation_steps: 2 });
  const model = describeModel(modelConfig(recipe, 32000));
  const limit = 150e9;
  const ways = waysToFit(model, recipe, limit);
  const peak = (changes: object, of = model) => planTraining(of, large({ batch_size: 16, gradient_accumulation_steps: 2, ...changes }), 1).memory.peak;
  const number = (pattern: RegExp) => Number(ways.join("; ").match(pattern)?.[1]);
  const [batch, accumulate] = [number(/training\.batch_size=(\d+)/), number(/training\.gradient_accumulation_steps=(\d+)/)];
  expect(batch * accumulate).toBeGreaterThanOrEqual(32);
  expect(peak({ batch_size: batch, gradient_accumulation_steps: accumulate })).toBeLessThanOrEqual(limit);
  expect(peak({ batch_size: batch + 1, gradient_accumulation_steps: Math.ceil(32 / (batch + 1)) })).toBeGreaterThan(limit);
  const context = number(/training\.context_length=(\d+)/);
  expect(peak({ context_length: context })).toBeLessThanOrEqual(limit);
  expect(peak({ context_length: context + 1 })).toBeGreaterThan(limit);
  const layers = number(/model\.num_hidden_layers=(\d+)/);
  const shallow = (n: number) => describeModel(modelConfig({ ...recipe, model: { ...LARGE, num_hidden_layers: n } }, 32000));
  expect(peak({}, shallow(layers))).toBeLessThanOrEqual(limit);
  expect(peak({}, shallow(layers + 1))).toBeGreaterThan(limit);
  expect(checkMemory(model, recipe, 1e13)).toBeUndefined();
});

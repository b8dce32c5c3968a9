import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createModel, describeModel } from "../models/index.ts";
import { memory, resetPeakMemory } from "../tensor/index.ts";
import { checkMemory, planTraining, waysToFit } from "./plan.ts";
import { planText } from "./planned-text.ts";
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
      hidden_size: 128,
      intermediate_size: 384,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 4,
      tie_word_embeddings: true,
    },
    { batch_size: 4, context_length: 128 },
    2048,
  ],
  ["attention with dropout", { model_type: "gpt2", n_embd: 64, n_layer: 3, n_head: 8 }, { batch_size: 4, context_length: 128 }, 256],
  [
    "grouped queries with dropout",
    {
      model_type: "llama",
      hidden_size: 128,
      intermediate_size: 256,
      num_hidden_layers: 3,
      num_attention_heads: 8,
      num_key_value_heads: 2,
      attention_dropout: 0.1,
    },
    { batch_size: 8, context_length: 64 },
    256,
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
  const plan = planTraining(model, recipe);
  expect(plan.memory.peak / measured).toBeGreaterThan(0.9);
  expect(plan.memory.peak / measured).toBeLessThan(1.1);
  // Counted on the description alone, it is the same.
  expect(planTraining(describeModel(modelConfig(recipe, vocabulary)), recipe)).toEqual(plan);
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
  const from = process.cpuUsage();
  const recipe = large({});
  const model = describeModel(modelConfig(recipe, 32000));
  const plan = planTraining(model, recipe);
  const { user, system } = process.cpuUsage(from);
  // Of the processor, whoever else runs.
  expect((user + system) / 1000).toBeLessThan(100);
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
  const peak = (changes: object, of = model) => planTraining(of, large({ batch_size: 16, gradient_accumulation_steps: 2, ...changes })).memory.peak;
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

test("memory and time are the sums of their parts, and every look at the model is in them", () => {
  const machine = { flops: 1e11, processBytes: 7e7 };
  const text = { trainTokens: 9e5, validationTokens: 1e5 };
  const planOf = (changes: object, known?: typeof text) => {
    const recipe = recipeSchema.parse({
      data: { path: "none" },
      model: { model_type: "gpt2", n_embd: 64, n_layer: 2, n_head: 2 },
      training: { max_steps: 100, batch_size: 4, context_length: 32 },
      ...changes,
    });
    return planTraining(describeModel(modelConfig(recipe, 80)), recipe, machine, known);
  };
  const plan = planOf({}, text);
  expect(plan.memory.parts.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(plan.memory.process);
  expect(plan.memory.parts.find(({ name }) => name.startsWith("Node"))?.bytes).toBe(7e7);
  expect(Object.values(plan.times).reduce((sum, seconds) => sum + seconds, 0)).toBe(plan.seconds);
  // Without the text nothing is known of the evaluations; with it they are before the first step, every so often, and after the last.
  expect(planOf({}).times).toEqual({ ...plan.times, evaluations: 0 });
  const evaluations = (eval_steps: number) => planOf({ eval: { eval_steps } }, text).times.evaluations;
  expect(evaluations(30) / evaluations(100)).toBeCloseTo(5 / 2, 10);
  const samples = (sample: object) => planOf({ sample: { prompts: ["a"], ...sample } }).times.samples;
  expect(samples({})).toBe(0);
  expect(samples({ sample_steps: 50, prompts: ["a", "b"] }) / samples({ sample_steps: 50 })).toBeCloseTo(2, 10);
  expect(samples({ sample_steps: 25 }) / samples({ sample_steps: 50 })).toBeCloseTo(5 / 3, 10);
  expect(planOf({ sample: { sample_steps: 50 } }).memory.process).toBeGreaterThan(planOf({}).memory.process + plan.memory.weights);
  // An evaluation finds the space of a step in the pool: a small one takes no more, of a large one only what is beyond.
  const evaluating = (batch_size: number) => planOf({ eval: { batch_size } }).memory.parts.find(({ name }) => name.includes("evaluation"))?.bytes;
  expect(evaluating(4)).toBe(0);
  expect(evaluating(8)).toBe(0);
  const [large, larger] = [evaluating(64), evaluating(128)];
  expect(large).toBeGreaterThan(0);
  expect(larger).toBeGreaterThan(2 * (large as number));
});

test.each([
  ["characters", { type: "characters" }, 11],
  ["bytes", { type: "bytes" }, 257],
  ["bpe", { type: "bpe", vocab_size: 300 }, 300],
])("the text's tokens before there is a tokenizer: %s", async (_, tokenizer, vocabulary) => {
  const dir = mkdtempSync(join(tmpdir(), "groundup-planned-text-"));
  try {
    const path = join(dir, "text.txt");
    // Eleven characters, two of them of two bytes.
    const text = "äö schwimmt. ".repeat(500);
    writeFileSync(path, text);
    const recipe = recipeSchema.parse({
      data: { path, validation_fraction: 0.2 },
      tokenizer,
      model: { model_type: "gpt2" },
      training: { max_steps: 1, batch_size: 1, context_length: 8 },
    });
    const planned = await planText(recipe);
    expect(planned.vocabulary).toBe(vocabulary);
    const tokens = tokenizer.type === "bytes" ? Buffer.byteLength(text) : text.length;
    const all = planned.trainTokens + planned.validationTokens;
    if (tokenizer.type === "bpe") expect(all).toBeLessThan(Buffer.byteLength(text));
    else expect(all).toBe(tokens);
    expect(planned.validationTokens).toBe(Math.round(all * 0.2));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

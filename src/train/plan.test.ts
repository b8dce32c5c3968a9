import { expect, test } from "vitest";
import { createModel } from "../models/index.ts";
import { memory, resetPeakMemory } from "../tensor/index.ts";
import { checkMemory, planTraining } from "./plan.ts";
import { optimizerOf } from "./pretrain.ts";
import { modelConfig, recipeSchema } from "./recipe.ts";
import { accumulateGradients } from "./step.ts";

const still = { resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 };
const CASES: [name: string, model: Record<string, unknown>, training: Record<string, unknown>, vocabulary: number][] = [
  ["the character model", { model_type: "gpt2", n_embd: 128, n_layer: 4, n_head: 4, ...still }, { batch: 12, context: 64 }, 65],
  ["a large vocabulary", { model_type: "gpt2", n_embd: 128, n_layer: 2, n_head: 4, ...still }, { batch: 2, context: 64 }, 8000],
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
    { batch: 8, context: 128 },
    2048,
  ],
  [
    "an untied llama",
    { model_type: "llama", hidden_size: 128, intermediate_size: 384, num_hidden_layers: 3, num_attention_heads: 8, num_key_value_heads: 2 },
    { batch: 8, context: 128 },
    1024,
  ],
  [
    "accumulation",
    { model_type: "llama", hidden_size: 128, intermediate_size: 384, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 4 },
    { batch: 1, context: 64, accumulate: 2 },
    4096,
  ],
];

test.each(CASES)("planned memory against the measured peak, to 10 percent: %s", (_, config, training, vocabulary) => {
  const recipe = recipeSchema.parse({ data: { path: "none" }, model: config, training: { steps: 10, ...training } });
  const before = memory().liveBytes;
  const model = createModel(modelConfig(recipe, vocabulary));
  const optimizer = optimizerOf(recipe, model);
  const { batch: rows, context, accumulate } = recipe.training;
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
  expect(() => checkMemory(plan, measured / 2)).toThrow(/not enough memory.*training\.batch/);
  optimizer.dispose();
  model.dispose();
});

/** A run of seconds for tests of training. Importing it gives each test a folder of its own with a text in it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { openPretraining, type PretrainOptions, type PretrainSession, type Recipe, recipeSchema, type TrainingEvent } from "../src/train/index.ts";

export let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "groundup-train-"));
  writeFileSync(join(dir, "text.txt"), "the whale swims in the sea, and the ship sails over the whale in the sea. ".repeat(40));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

export const recipeOf = (training: Record<string, unknown> = {}, rest: Record<string, unknown> = {}): Recipe =>
  recipeSchema.parse({
    data: { path: join(dir, "text.txt") },
    tokenizer: { type: "characters" },
    model: { model_type: "llama", hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
    training: { max_steps: 12, batch_size: 2, context_length: 16, save_steps: 4, ...training },
    eval: { eval_steps: 6 },
    ...rest,
  });

export const open = (recipe: Recipe, options: Partial<PretrainOptions> = {}) => openPretraining(recipe, { out: join(dir, "run"), ...options });

export async function run(session: PretrainSession, see?: (event: TrainingEvent) => void): Promise<TrainingEvent[]> {
  const events: TrainingEvent[] = [];
  try {
    for await (const event of session.train()) {
      events.push(event);
      see?.(event);
    }
  } finally {
    await session.close();
  }
  return events;
}

export const weightsAt = (name: string, step: string) => readFileSync(join(dir, name, "checkpoints", step, "model.safetensors"));

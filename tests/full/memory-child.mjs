/**
 * Trains 1,000 steps and generates 1,000 times with the built package, in a process of its own: in the test runner's,
 * what the runner itself keeps of a long test (its transformed sources and their machine code) would count as ours.
 * Needs --expose-gc: what V8 has not yet collected is no leak. Argument: a folder to work in. Prints one JSON object.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { memory } from "groundup";
import { generate } from "groundup/generate";
import { openPretraining, recipeSchema } from "groundup/train";

const dir = process.argv[2];
function settled() {
  globalThis.gc();
  return { live: memory().liveBytes, rss: process.memoryUsage().rss };
}

writeFileSync(join(dir, "text.txt"), "the whale swims in the sea, and the ship sails over the whale. ".repeat(200));
const recipe = recipeSchema.parse({
  data: { path: join(dir, "text.txt") },
  tokenizer: { type: "characters" },
  model: { model_type: "llama", hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4 },
  training: { max_steps: 1000, batch_size: 4, context_length: 64, save_steps: 1000 },
  eval: { eval_steps: 1000 },
});
const session = await openPretraining(recipe, { out: join(dir, "run") });
const steps = {};
for await (const event of session.train()) if (event.type === "step" && event.metrics.step % 100 === 0) steps[event.metrics.step] = settled();

session.model.eval();
const generations = {};
for (let i = 1; i <= 1000; i++) {
  await generate(session.model, "the ", { tokenizer: session.data.tokenizer, maxNewTokens: 8, seed: i });
  if (i % 100 === 0) generations[i] = settled();
}
await session.close();
console.log(JSON.stringify({ steps, generations }));

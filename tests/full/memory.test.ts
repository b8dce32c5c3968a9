/** Live bytes and resident memory over 1,000 training steps and 1,000 generations. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { generate } from "../../src/generate/index.ts";
import { memory } from "../../src/tensor/index.ts";
import { openPretraining, recipeSchema } from "../../src/train/index.ts";

const MEGABYTE = 1e6;
// What V8 has not yet collected is no leak: it lets its heap grow by some 60 MB before it looks.
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const settled = () => {
  collect();
  return { live: memory().liveBytes, rss: process.memoryUsage().rss };
};

test("steps 100 and 1,000 hold the same memory; so do 1,000 generations", { timeout: 600_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), "groundup-memory-"));
  try {
    writeFileSync(join(dir, "text.txt"), "the whale swims in the sea, and the ship sails over the whale. ".repeat(200));
    const recipe = recipeSchema.parse({
      data: { path: join(dir, "text.txt") },
      tokenizer: { type: "characters" },
      model: { model_type: "llama", hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4 },
      training: { max_steps: 1000, batch_size: 4, context_length: 64, save_steps: 1000 },
      eval: { eval_steps: 1000 },
    });
    const session = await openPretraining(recipe, { out: join(dir, "run") });
    const at: Record<number, ReturnType<typeof settled>> = {};
    for await (const event of session.train()) if (event.type === "step" && event.metrics.step % 100 === 0) at[event.metrics.step] = settled();
    console.info(
      Object.entries(at)
        .map(([step, { live, rss }]) => `${step}: ${live} live, ${(rss / MEGABYTE).toFixed(1)} MB`)
        .join("\n"),
    );
    expect(at[1000].live).toBe(at[100].live);
    expect(at[1000].rss - at[100].rss).toBeLessThan(10 * MEGABYTE);

    session.model.eval();
    const once = (seed: number) => generate(session.model, "the ", { tokenizer: session.data.tokenizer, maxNewTokens: 8, seed });
    for (let i = 0; i < 100; i++) await once(i);
    const before = settled();
    for (let i = 100; i < 1000; i++) await once(i);
    const after = settled();
    console.info(`generations: ${(before.rss / MEGABYTE).toFixed(1)} → ${(after.rss / MEGABYTE).toFixed(1)} MB`);
    expect(after.live).toBe(before.live);
    expect(after.rss - before.rss).toBeLessThan(10 * MEGABYTE);
    await session.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

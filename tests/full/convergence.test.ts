/** Learning as well as PyTorch does: nanoGPT's CPU setting (recipes/characters.yaml) on the bundled book, to its end. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { parse } from "yaml";
import { openPretraining, recipeSchema } from "../../src/train/index.ts";
import { ROOT } from "../built.ts";
import { whereNative } from "../where-native.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-convergence-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Loss over the whole held-out tenth by PyTorch 2.15 (bench/peers/torch_characters.py on the same text, seed 1337). */
const PYTORCH = 1.8122;
/** What another seed moves: on tiny Shakespeare, where three seeds were run on each side, at most 1 %. */
const SEEDS = 1.01;

// On the plain backend 2,000 of these steps take an hour.
whereNative("convergence", () => {
  test("2,000 steps of the character model end where PyTorch ends", { timeout: 900_000 }, async () => {
    const book = gunzipSync(readFileSync(join(ROOT, "data", "moby-dick.jsonl.gz"))).toString();
    const chapters: string[] = book
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).text);
    const text = join(dir, "book.txt");
    writeFileSync(text, chapters.join("\n\n"));
    const recipe = parse(readFileSync(join(ROOT, "recipes", "characters.yaml"), "utf8"));
    recipe.data.path = text;
    recipe.eval.eval_steps = 2000;
    recipe.sample = undefined;
    const session = await openPretraining(recipeSchema.parse(recipe), { out: join(dir, "run") });
    const losses: number[] = [];
    let held = Number.NaN;
    for await (const event of session.train()) {
      if (event.type === "step") losses.push(event.metrics.loss);
      if (event.type === "evaluation") held = event.result.loss;
    }
    await session.close();
    console.info(`first loss ${losses[0]}, held-out loss ${held}, PyTorch's ${PYTORCH}`);
    expect(losses.length).toBe(2000);
    expect(held).toBeLessThan(PYTORCH * SEEDS);
    // Far better would mean that it saw what it should predict.
    expect(held).toBeGreaterThan(PYTORCH * 0.95);
  });
});

/** A disk that is full in the middle of a checkpoint or of answers, met by a real process. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { verifyCheckpoint } from "../src/formats/index.ts";
import { GPT2, saveModel } from "../src/models/index.ts";
import { trainBpe } from "../src/tokenizers/index.ts";
import { ensureBuilt, groundup, start, startOnSmallDisk, WELL } from "./built.ts";
import { recipe, resultOf, textOf } from "./kill-and-resume.ts";

let folder: string;
beforeAll(() => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), "groundup-disk-"));
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the previous checkpoint stays good, the error says what to do, and the run goes on when there is room again", { timeout: 120_000 }, async () => {
  const yaml = join(folder, "recipe.yaml");
  writeFileSync(join(folder, "text.txt"), textOf(60));
  writeFileSync(yaml, recipe(join(folder, "text.txt")));
  const run = join(folder, "run");
  const checkpoints = join(run, "checkpoints");

  // To a first checkpoint with room enough.
  const { child, ended } = start(["pretrain", yaml, "--out", run]);
  child.stdout?.on("data", (text) => {
    if (/step \d+\/60/.test(String(text))) child.kill("SIGINT");
  });
  expect((await ended).code).toBe(130);
  const before = readdirSync(checkpoints);
  const newest = join(checkpoints, before.at(-1) as string);

  // The weights fit, the optimiser's state does not.
  const [weights, state] = ["model.safetensors", "training/optimizer.safetensors"].map((name) => statSync(join(newest, name)).size) as [number, number];
  const full = await startOnSmallDisk(["pretrain", run, "--resume"], (weights + state) / 2).ended;
  expect(full.code).toBe(1);
  expect(full.stderr).toMatch(/step-\d+: could not be written, .*\(EFBIG\), expected to write \d+ bytes, got as far as byte \d+\./);
  expect(full.stderr).toContain("before is untouched and still good");
  expect(full.stderr).not.toContain("    at ");
  expect(readdirSync(checkpoints)).toEqual(before);
  await verifyCheckpoint(newest, { hashes: true });

  const resumed = await groundup(["pretrain", run, "--resume"]);
  expect(resumed.stderr).toBe(WELL);
  expect(resumed.code).toBe(0);
  expect((await groundup(["pretrain", yaml, "--out", join(folder, "straight")])).code).toBe(0);
  const [a, b] = [resultOf(run), resultOf(join(folder, "straight"))];
  expect(a.losses).toBe(b.losses);
  expect(a.weights.equals(b.weights)).toBe(true);
  expect(a.optimizer.equals(b.optimizer)).toBe(true);
});

test.each(["completion", "input"])(
  "answers in the order of %s that are there stay, and the same command makes the others",
  { timeout: 120_000 },
  async (order) => {
    const model = join(folder, `model-${order}`);
    const tokenizer = trainBpe("It was a bright cold day in April. ".repeat(20), { vocabSize: 280, specialTokens: ["<|endoftext|>"] });
    const made = new GPT2({ vocab_size: 280, n_positions: 64, n_embd: 16, n_layer: 1, n_head: 2 });
    await saveModel(made, model);
    made.dispose();
    await tokenizer.save(model);
    const [inputs, out] = [join(folder, "prompts.jsonl"), join(folder, `${order}.jsonl`)];
    writeFileSync(inputs, '{"prompt": "It was", "maxNewTokens": 20}\n'.repeat(12));
    const args = ["generate", model, "--inputs", inputs, "--out", out, "--order", order, "--max-batch", "4"];

    const full = await startOnSmallDisk(args, 2048).ended;
    expect(full.code).toBe(1);
    const there = readFileSync(out, "utf8").split("\n").slice(0, -1);
    expect(there.length).toBeGreaterThan(1);
    for (const line of there) expect(JSON.parse(line)).toHaveProperty("key");
    expect(full.stderr).toMatch(
      new RegExp(
        `${out}: an answer could not be written, the file is too large for this file system or limit \\(EFBIG\\), expected room for [\\d,]+ bytes more, got none\\. ` +
          `The ${there.length} answers before it stay\\. Make room, and the same command goes on with the others\\.\\n$`,
      ),
    );

    expect(await groundup(args)).toMatchObject({ code: 0, stdout: `${out}: 12 answers\n` });
    const lines = readFileSync(out, "utf8")
      .split("\n")
      .slice(0, -1)
      .map((line) => Number(JSON.parse(line).line));
    expect(lines.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  },
);

/** A disk that is full in the middle of a checkpoint, met by a real process. */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { verifyCheckpoint } from "../src/formats/index.ts";
import { ensureBuilt, groundup, start, startOnSmallDisk, WELL } from "./built.ts";
import { recipe, resultOf, textOf } from "./kill-and-resume.ts";

let folder: string;
beforeAll(() => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), "groundup-disk-"));
});
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

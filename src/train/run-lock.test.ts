/** The lock of a run's folder, where processes come at the same moment. */
import fs, { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import os, { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RunError } from "../errors.ts";
import { recipeSchema } from "./recipe.ts";
import { openRun } from "./run-folder.ts";

const recipe = recipeSchema.parse({
  data: { path: "/text.txt" },
  model: { model_type: "llama", hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
  training: { max_steps: 1, batch_size: 1, context_length: 8 },
});
const holder = (pid: number) => JSON.stringify({ pid, host: os.hostname(), started: null });
const DEAD = holder(2 ** 22 + 12345);

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "groundup-lock-"));
  file = join(dir, "lock");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("a dead process's lock that another takes over in the same moment stays the other's", async () => {
  writeFileSync(file, DEAD);
  const { readFileSync } = fs;
  let taken = false;
  fs.readFileSync = ((...args: Parameters<typeof readFileSync>) => {
    const content = readFileSync(...args);
    if (args[0] === file && !taken) {
      taken = true;
      writeFileSync(file, holder(process.ppid));
    }
    return content;
  }) as typeof readFileSync;
  syncBuiltinESMExports();
  try {
    await expect(openRun(dir, recipe)).rejects.toThrow(new RegExp(`another process is training in this folder.*process ${process.ppid} `));
  } finally {
    fs.readFileSync = readFileSync;
    syncBuiltinESMExports();
  }
  expect(taken).toBe(true);
  expect(readFileSync(file, "utf8")).toBe(holder(process.ppid));
  expect(readdirSync(dir)).toEqual(["lock"]);
});

test.each([
  ["dead", DEAD],
  ["cut off", '{"pid":'],
])("a process that died in the middle of taking over is no obstacle: %s", async (_, left) => {
  for (const name of ["lock", ".lock.takeover"]) writeFileSync(join(dir, name), left);
  const run = await openRun(dir, recipe);
  expect(existsSync(file)).toBe(true);
  run.close();
  expect(readdirSync(dir)).toEqual(["config.yaml"]);
});

test("a folder in the lock's place is said, and what to do", async () => {
  mkdirSync(file);
  await expect(openRun(dir, recipe)).rejects.toThrow(RunError);
  await expect(openRun(dir, recipe)).rejects.toThrow(
    /the lock of a process that is gone can't be removed, expected a file .* got \w+ for .*lock\. Remove it by hand\./,
  );
});

/** What becomes of a command whose output goes nowhere: a reader that leaves, a full disk, a terminal that is closed. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureBuilt, ROOT, start } from "./built.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-closed-"));
const recipe = join(dir, "recipe.yaml");
beforeAll(() => {
  ensureBuilt();
  writeFileSync(join(dir, "text.txt"), "The whale swims, the ship sails.\n\nAnd the sea is wide.\n\n".repeat(60));
  writeFileSync(
    recipe,
    `data: { path: ${JSON.stringify(join(dir, "text.txt"))}, document: blank-line }
tokenizer: { type: bytes }
model: { model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 }
training: { max_steps: 1000000, batch_size: 2, context_length: 16, save_steps: 1000000 }
eval: { eval_steps: 1000000 }
`,
  );
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The built command in a shell, where `groundup` names it. */
function shell(script: string) {
  const main = join(ROOT, "dist", "cli", "main.js");
  return spawnSync("sh", ["-c", `groundup() { "${process.execPath}" "${main}" "$@"; }; ${script}`], { cwd: dir, encoding: "utf8" });
}
const saved = (run: string) => (existsSync(join(dir, run, "checkpoints")) ? readdirSync(join(dir, run, "checkpoints")).length : 0);

test("a reader that leaves (| head) stops a run as Ctrl-C does: it saves, and nobody holds the folder", { timeout: 60_000 }, () => {
  const { stdout } = shell(`groundup pretrain ${recipe} --out piped --set run.seed=1 | head -n 8`);
  expect(stdout).toMatch(/step 1\/1000000/);
  expect(saved("piped")).toBe(1);
  expect(existsSync(join(dir, "piped", "lock"))).toBe(false);
});

test("so does the terminal's end", { timeout: 60_000 }, async () => {
  const out = join(dir, "hung-up");
  const { child, ended } = start(["pretrain", recipe, "--out", out]);
  child.stdout?.on("data", (text) => /step \d+\/1000000/.test(String(text)) && child.kill("SIGHUP"));
  expect((await ended).code).toBe(130);
  expect(saved("hung-up")).toBe(1);
});

test("a short answer to a reader that leaves is an ordinary end; a full disk is said; a full log disturbs nothing", { timeout: 60_000 }, () => {
  expect(shell("groundup --help | head -n 1").stderr).toBe("");
  // Only Linux has a device that is always full.
  if (!existsSync("/dev/full")) return;
  const full = shell("groundup doctor > /dev/full");
  expect([full.status, full.stderr]).toEqual([1, expect.stringMatching(/standard output: can't be written, .*ENOSPC.* What was printed is not whole\.\n$/)]);
  expect(shell("groundup nonsense 2> /dev/full").status).toBe(2);
});

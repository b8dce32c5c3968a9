/** The README's first program, as a user runs it: an installed package, a Hugging Face folder, Node alone. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createModel, saveModel } from "../src/models/index.ts";
import { byteTokenizer } from "../src/tokenizers/index.ts";
import { ensureBuilt, WELL } from "./built.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
let home = "";

// `!` only where TypeScript needs it.
const programIn = (bang: string) => `
import { tensor } from "groundup";
import { fromPretrained } from "groundup/models";
import { loadTokenizer } from "groundup/tokenizers";

const dir = process.argv[2]${bang};
const tokenizer = await loadTokenizer(dir);
const model = await fromPretrained(dir);
const { ids } = tokenizer.encode("Call me Ishmael.");
const { logits, loss } = model.forward({ inputIds: tensor([ids]), labels: tensor([ids]) });
loss.backward();
for (const [name, p] of model.namedParameters()) console.log(name, p.shape, (await p.grad${bang}.data()).length);
const values = await logits.data();
console.log(ids.constructor.name, values.constructor.name, JSON.stringify(logits.shape), values.length);
`;

beforeAll(async () => {
  ensureBuilt();
  home = mkdtempSync(join(tmpdir(), "groundup-program-"));
  mkdirSync(join(home, "node_modules"));
  symlinkSync(root, join(home, "node_modules", "groundup"), "dir");
  const model = createModel({
    model_type: "llama",
    vocab_size: 257,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: 32,
    tie_word_embeddings: true,
  });
  const folder = join(home, "model");
  mkdirSync(folder);
  await saveModel(model, folder);
  await byteTokenizer().save(folder);
  writeFileSync(join(home, "program.mjs"), programIn(""));
  writeFileSync(join(home, "program.mts"), programIn("!"));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

test("compiles under strict TypeScript against the built types", () => {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,esnext.disposable", "--types", "node"];
  const made = spawnSync(process.execPath, [tsc, ...flags, "--typeRoots", join(root, "node_modules", "@types"), "program.mts"], {
    cwd: home,
    encoding: "utf8",
  });
  expect(made.stdout).toBe("");
  expect(made.status).toBe(0);
});

test("prints every parameter with its gradient, and the logits", () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, ["program.mjs", "model"], { cwd: home, encoding: "utf8" });
  expect(stderr).toBe(WELL);
  expect(status).toBe(0);
  const lines = stdout.trim().split("\n");
  expect(lines).toContain("model.embed_tokens.weight [ 257, 16 ] 4112");
  expect(lines).toContain("model.layers.0.self_attn.q_proj.weight [ 16, 16 ] 256");
  expect(lines.at(-1)).toBe("Int32Array Float32Array [1,16,257] 4112");
});

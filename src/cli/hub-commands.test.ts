/** Commands that take models from the hub, and that list what is here. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { commandLine } from "../../tests/command-line.ts";
import { breakAfter, hubEnvironment, startHub, type TestHub } from "../../tests/hub-server.ts";
import { KNOWN_MODELS } from "../formats/hub/known-models.ts";
import { locate } from "../formats/hub/locate.ts";
import { encodeGguf, pullModel } from "../formats/index.ts";
import { architectures, describeModel, fromPretrained, GPT2, modelCounts, saveModel } from "../models/index.ts";
import { loadTokenizer, trainBpe } from "../tokenizers/index.ts";
import type { CommandTable } from "./dispatch.ts";

let hub: TestHub;
let home: string;
let commit: string;
const before = process.cwd();
const table: CommandTable = [
  ["generate", "", () => import("./generate.ts")],
  ["eval", "", () => import("./eval.ts")],
  ["inspect", "", () => import("./inspect.ts")],
  ["tokenizer", "", () => import("./tokenizer.ts")],
  ["pull", "", () => import("./pull.ts")],
  ["models", "", () => import("./models.ts")],
  ["convert", "", () => import("./convert.ts")],
  ["quantize", "", () => import("./quantize.ts")],
  ["chat", "", () => import("./chat.ts")],
];

const { groundup, json, said } = commandLine(table);

beforeAll(async () => {
  hub = await startHub();
  const folder = mkdtempSync(join(tmpdir(), "groundup-hub-model-"));
  const model = new GPT2({ vocab_size: 280, n_positions: 32, n_embd: 16, n_layer: 1, n_head: 2 });
  await saveModel(model, folder);
  await trainBpe("It was a bright cold day in April. ".repeat(20), { vocabSize: 280, specialTokens: ["<|endoftext|>"] }).save(folder);
  model.dispose();
  const files = ["config.json", "model.safetensors", "tokenizer.json"].map((name) => [name, readFileSync(join(folder, name))]);
  commit = hub.add("org/tiny", Object.fromEntries(files));
  hub.add("org/other", { ...Object.fromEntries(files), "config.json": '{"model_type":"perceiver"}' });
  hub.add("org/bare", { "config.json": '{"model_type":"gpt2"}' });
  rmSync(folder, { recursive: true });
});
afterAll(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "groundup-hub-cli-"));
  process.chdir(home);
  for (const [name, value] of Object.entries({ ...hubEnvironment(hub, join(home, "hf")), HOME: home })) vi.stubEnv(name, value);
});
afterEach(() => {
  vi.unstubAllEnvs();
  process.chdir(before);
  rmSync(home, { recursive: true, force: true });
});

test("pull says what it fetched and where it is", async () => {
  const first = await groundup("pull", "org/tiny");
  expect(first.out).toMatch(
    new RegExp(
      `^org/tiny@main \\(${commit.slice(0, 12)}\\): 3 files, .* kB, of which .* kB were fetched, .*/s\n${home}/hf/hub/models--org--tiny/snapshots/${commit}\n$`,
    ),
  );
  expect(await json("pull", "org/tiny")).toMatchObject({ id: "org/tiny", commit, fetched: 0, files: expect.any(Array) });
  const narrow = await json("pull", "org/tiny", "--include", "*.json", "--exclude", "tok*");
  expect(narrow.files).toEqual([{ path: "config.json", bytes: expect.any(Number) }]);
  expect((await groundup("pull", "tiny")).err).toContain("tiny: not a model's id, expected org/name");
  expect(await groundup("pull", "org/none")).toMatchObject({ code: 1, err: expect.stringContaining("no such model, or a private one") });
});

test("generate, eval, inspect and the tokenizer's commands open a model by its id; the library too", async () => {
  const args = ["--prompt", "It was", "--max-new-tokens", "2"];
  const offline = await groundup("generate", "org/tiny", ...args, "--offline");
  expect(offline).toMatchObject({ code: 1, err: expect.stringContaining("not on this machine") });
  const generated = await groundup("generate", "org/tiny", ...args);
  expect([generated.code, generated.err]).toEqual([undefined, expect.stringContaining("org/tiny is fetched from the hub\n")]);
  const again = await json("generate", "org/tiny", ...args, "--offline");
  expect(again.model).toBe(join(home, "hf/hub/models--org--tiny/snapshots", commit));
  expect(said()).not.toContain("is fetched");
  writeFileSync("text.txt", "It was a bright cold day in April. ".repeat(9));
  expect((await json("eval", "org/tiny", "--data", "text.txt", "--offline")).results.perplexity.perplexity).toBeGreaterThan(1);
  expect(await json("inspect", `org/tiny@${commit}`, "--offline")).toMatchObject({ kind: "model", modelType: "gpt2" });
  expect((await json("tokenizer", "inspect", "org/tiny")).vocabSize).toBe(280);
  expect((await loadTokenizer("org/tiny")).vocabSize).toBe(280);
  const model = await fromPretrained("org/tiny");
  expect(model.dimensions.vocabulary).toBe(280);
  model.dispose();
  expect((await groundup("generate", "org/tinny", ...args)).err).toContain("There is no file or folder org/tinny here");
});

test("a model whose tokenizer alone is not here is said to be that", async () => {
  await groundup("pull", "org/tiny", "--include", "config.json", "--include", "*.safetensors");
  expect((await groundup("generate", "org/tiny", "--prompt", "a", "--offline")).err).toMatch(
    /^org\/tiny: its tokenizer is not on this machine, expected tokenizer\.json or another tokenizer's file in .*snapshots.*, got weights alone, and --offline/,
  );
  // With a connection it is fetched.
  expect((await json("generate", "org/tiny", "--prompt", "a", "--max-new-tokens", "2")).ids).toHaveLength(2);
});

test("convert, quantize, chat and the tokenizer's commands take an id too, and fetch nothing with --offline", async () => {
  const refused = expect.stringContaining("not on this machine");
  expect((await groundup("convert", "org/tiny", "--to", "gguf", "--out", "a.gguf", "--offline")).err).toEqual(refused);
  expect((await groundup("chat", "org/tiny", "--offline")).err).toEqual(refused);
  for (const args of [
    ["inspect", "org/tiny"],
    ["encode", "org/tiny", "--text", "a"],
    ["decode", "org/tiny", "1"],
  ])
    expect((await groundup("tokenizer", ...args, "--offline")).err).toEqual(refused);
  expect(await json("convert", "org/tiny", "--to", "gguf", "--out", "a.gguf")).toMatchObject({ type: "F32" });
  // Not the name of the snapshot, which is a commit.
  expect((await json("inspect", "a.gguf")).metadata["general.name"]).toBe("org/tiny");
  expect((await json("quantize", "org/tiny", "--type", "F32", "--out", "b.gguf", "--check", "--offline")).compared).toEqual({ agree: 30, of: 30 });
});

test("weights of PyTorch's in the cache are a model that is here", async () => {
  hub.add("org/old", { "config.json": '{"model_type":"gpt2"}', "pytorch_model.bin": "PK", "tokenizer.json": "{}" });
  await groundup("pull", "org/old");
  expect((await locate("org/old", { weights: true, tokenizer: true, offline: true })).path).toContain("models--org--old");
});

test("a GGUF file without its ending is opened, and one that is none is not", async () => {
  const architecture = { kind: "string", value: "llama" } as const;
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeGguf(new Map([["general.architecture", architecture]]), []).content) pieces.push(piece);
  writeFileSync("blob", Buffer.concat(pieces));
  writeFileSync("text.gguf", "no model");
  expect((await groundup("inspect", "blob")).out).toContain("GGUF       blob, version 3");
  expect((await groundup("generate", "blob", "--prompt", "a")).err).toContain('blob: metadata lack "');
  expect((await groundup("generate", "text.gguf", "--prompt", "a")).err).toContain("text.gguf: no model here");
});

test("models lists what is here, and what could be", async () => {
  expect((await groundup("models")).out).toContain("No models on this machine yet.");
  await groundup("pull", "org/tiny");
  mkdirSync(".lmstudio/models/a/b", { recursive: true });
  writeFileSync(".lmstudio/models/a/b/c.gguf", "GGUF and no more");
  const { local, memoryBytes } = await json("models");
  expect(memoryBytes).toBeGreaterThan(1e8);
  const parameters = 280 * 16 + 32 * 16 + 12 * 16 * 16 + 13 * 16 + 2 * 16;
  expect(local[0]).toMatchObject({
    source: "hub",
    id: "org/tiny",
    modelType: "gpt2",
    opens: true,
    reason: null,
    parameters,
    revision: { commit, names: ["main"] },
  });
  expect(local[0].memory).toEqual({
    f32: 4 * parameters,
    bf16: 2 * parameters,
    Q8_0: Math.ceil((parameters * 34) / 32),
    Q4_K: Math.ceil((parameters * 144) / 256),
  });
  expect(local[1]).toMatchObject({ source: "lmstudio", opens: false, reason: expect.stringContaining("c.gguf") });
  for (const id of ["org/other", "org/bare"]) await groundup("pull", id);
  const others = (await json("models")).local;
  expect(others.map(({ id, opens }: { id: string; opens: boolean }) => [id, opens])).toContainEqual(["org/other", false]);
  expect(others.find(({ id }: { id: string }) => id === "org/other").reason).toContain('got "perceiver"');
  expect(others.find(({ id }: { id: string }) => id === "org/bare")).toMatchObject({ modelType: "gpt2", opens: false, parameters: null, memory: null });
  const shown = (await groundup("models")).out;
  expect(shown).toContain(`org/tiny\n  hub, ${(local[0].bytes / 1000).toFixed(1)} kB, main (${commit.slice(0, 12)}), last used 20`);
  expect(shown).toMatch(/gpt2, 8\.30 k parameters, opens; weights as f32 33\.2 kB, bf16 16\.6 kB/);

  const { known } = await json("models", "--search", "SmolLM2-135M-i");
  expect(known).toEqual([expect.objectContaining({ id: "HuggingFaceTB/SmolLM2-135M-Instruct", opens: true, here: false, gated: false, template: "chatml" })]);
  expect((await json("models", "--search", "")).known).toHaveLength(KNOWN_MODELS.length);
  expect((await groundup("models", "--search", "llama-3.1")).out).toMatch(/8\.03 B parameters, llama3\.1, 131,072 tokens, chats \(llama-3\), gated/);
  expect((await groundup("models", "--search", "zzz")).out).toContain('None of the 27 well-known models fits "zzz"');
});

test("models says what a pull that was broken off has brought, and how to go on", async () => {
  const patience = { tries: 1, waitMs: 1 };
  hub.fault("model.safetensors", breakAfter(2000));
  await expect(pullModel("org/tiny", { patience })).rejects.toThrow(/the connection keeps breaking/);
  const { local } = await json("models");
  const all = hub.seen.length;
  expect(local).toHaveLength(1);
  expect(local[0]).toMatchObject({ id: "org/tiny", opens: false, revision: { commit, names: [] }, incomplete: { include: [], exclude: [] } });
  expect(local[0].bytes).toBeGreaterThan(2000);
  expect(local[0].incomplete.bytes).toBeGreaterThan(30_000);
  expect((await groundup("models")).out).toMatch(
    /^org\/tiny\n {2}hub, incomplete, [\d.]+ kB of [\d.]+ kB, no name \(\w{12}\), gpt2\n {2}go on with: npx groundup pull org\/tiny\n/,
  );
  expect(hub.seen).toHaveLength(all);
  await groundup("pull", "org/tiny");
  const whole = await json("models");
  expect(whole.local).toEqual([expect.objectContaining({ id: "org/tiny", opens: true, incomplete: null })]);
  // What was asked for is asked for again.
  rmSync("hf", { recursive: true });
  hub.fault("tokenizer.json", breakAfter(500));
  await expect(pullModel(`org/tiny@${commit}`, { include: ["tok*", "*.txt"], exclude: ["x y"], patience })).rejects.toThrow();
  expect((await groundup("models")).out).toContain(`\n  go on with: npx groundup pull org/tiny@${commit} --include "tok*" --include "*.txt" --exclude "x y"\n`);
});

test("a GGUF file that was broken off stands beside the whole ones", async () => {
  const content = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(4000)]);
  hub.add("org/tiny-GGUF", { "a-Q8_0.gguf": content, "a-Q4_0.gguf": Buffer.concat([content, content]), "README.md": "x" });
  await pullModel("org/tiny-GGUF:Q8_0");
  hub.fault("a-Q4_0.gguf", breakAfter(3000));
  await expect(pullModel("org/tiny-GGUF:Q4_0", { patience: { tries: 1, waitMs: 1 } })).rejects.toThrow();
  const shown = (await groundup("models")).out;
  expect(shown).toMatch(
    /^org\/tiny-GGUF:Q4_0\n {2}hub, incomplete, 3\.0 kB of 8\.0 kB.*\n {2}go on with: npx groundup pull org\/tiny-GGUF:Q4_0\norg\/tiny-GGUF:a-Q8_0\.gguf\n/,
  );
  await groundup("pull", "org/tiny-GGUF:Q4_0");
  expect((await groundup("models")).out).not.toContain("incomplete");
});

test("what another program was fetching is no whole model either", async () => {
  const root = (name: string) => `hf/hub/models--org--${name}`;
  for (const name of ["tiny", "none"]) {
    mkdirSync(`${root(name)}/blobs`, { recursive: true });
    writeFileSync(`${root(name)}/blobs/0123.incomplete`, Buffer.alloc(5000));
  }
  mkdirSync(`${root("tiny")}/snapshots/${commit}`, { recursive: true });
  writeFileSync(`${root("tiny")}/snapshots/${commit}/config.json`, '{"model_type":"gpt2"}');
  const shown = (await groundup("models")).out;
  expect(shown).toMatch(
    /^org\/none\n {2}hub, incomplete, 5\.0 kB so far\n {2}go on with: npx groundup pull org\/none\norg\/tiny@\w+\n {2}hub, incomplete, 5\.0 kB so far, no name/,
  );
  await groundup("pull", "org/tiny");
  expect((await json("models")).local).toContainEqual(expect.objectContaining({ id: "org/tiny", opens: true, incomplete: null }));
});

test("a model that does not run is refused by its id before its weights come", async () => {
  for (const line of [["generate", "--prompt", "a"], ["inspect"], ["convert", "--to", "gguf", "--out", "other.gguf"]]) {
    hub.seen.length = 0;
    const { err, code } = await groundup(line[0] as string, "org/other", ...line.slice(1));
    expect(err).toMatch(/config\.json: an architecture that groundup does not run \(yet\), expected a model_type that it has, got /);
    expect(code).toBe(1);
    expect(hub.seen.filter(({ path }) => /\.safetensors$|tokenizer/.test(path))).toEqual([]);
  }
  await expect(fromPretrained("org/other")).rejects.toThrow(/config\.json: an architecture that groundup does not run/);
});

test("pull says of a model that it does not run, before its weights come", async () => {
  hub.seen.length = 0;
  const { err, out, code } = await groundup("pull", "org/other");
  expect(err).toMatch(
    /^org\/other: groundup can't run this model \(it is fetched all the same\): config\.json: an architecture that groundup does not run \(yet\), expected a model_type that it has, got "perceiver"\..*\n$/,
  );
  expect([out, code]).toEqual([expect.stringContaining(": 3 files"), undefined]);
  const order = hub.seen.filter(({ path }) => path.includes("/resolve/")).map(({ path }) => path.split("/").at(-1));
  expect([order.length, order[0]]).toEqual([3, "config.json"]);
  for (const id of ["org/tiny", "org/bare"]) expect((await groundup("pull", id)).err).not.toContain("can't run");
});

test("the figures of well-known models follow from their configs", () => {
  const llama = (vocab_size: number, hidden_size: number, intermediate_size: number, num_hidden_layers: number, heads: number, kv: number, tied: boolean) => ({
    model_type: "llama",
    vocab_size,
    hidden_size,
    intermediate_size,
    num_hidden_layers,
    num_attention_heads: heads,
    num_key_value_heads: kv,
    tie_word_embeddings: tied,
  });
  const configs: Record<string, Record<string, unknown>> = {
    "openai-community/gpt2": { model_type: "gpt2", n_embd: 768, n_layer: 12, n_head: 12, n_positions: 1024, vocab_size: 50257 },
    "HuggingFaceTB/SmolLM2-135M": llama(49152, 576, 1536, 30, 9, 3, true),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": llama(49152, 2048, 8192, 24, 32, 32, true),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": llama(32000, 2048, 5632, 22, 32, 4, false),
    "meta-llama/Llama-3.2-1B-Instruct": llama(128256, 2048, 8192, 16, 32, 8, true),
    "meta-llama/Llama-3.1-8B-Instruct": llama(128256, 4096, 14336, 32, 32, 8, false),
  };
  for (const [id, config] of Object.entries(configs))
    expect(KNOWN_MODELS.find((model) => model.id === id)?.parameters, id).toBe(modelCounts(describeModel(config)).parameters.total);
  expect(new Set(KNOWN_MODELS.map(({ id }) => id)).size).toBe(KNOWN_MODELS.length);
  expect(KNOWN_MODELS.some(({ modelType }) => modelType in architectures)).toBe(true);
});

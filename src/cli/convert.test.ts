/** `convert` and `quantize`, from a folder to GGUF and back. */
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { commandLine } from "../../tests/command-line.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { firstOfGgufs } from "../formats/gguf/split-names.ts";
import { encodeGguf, openFile, openGguf } from "../formats/index.ts";
import { GPT2, Llama, saveModel } from "../models/index.ts";
import { memory, setMemoryLimit } from "../tensor/index.ts";
import { loadTokenizer, trainBpe } from "../tokenizers/index.ts";
import type { CommandTable } from "./dispatch.ts";

let folder: string;
const table: CommandTable = [
  ["convert", "", () => import("./convert.ts")],
  ["quantize", "", () => import("./quantize.ts")],
  ["inspect", "", () => import("./inspect.ts")],
  ["generate", "", () => import("./generate.ts")],
];
const { groundup, json } = commandLine(table);
const at = (...names: string[]) => join(folder, ...names);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "groundup-convert-"));
  const text = "It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(20);
  writeFileSync(at("text.txt"), text);
  const model = new Llama({
    vocab_size: 300,
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: 64,
  });
  model.tokenIds = { bos_token_id: 0, eos_token_id: 0, pad_token_id: null };
  await saveModel(model, at("model"), { dtype: "bf16" });
  model.dispose();
  await trainBpe(text, { vocabSize: 290, specialTokens: ["<|endoftext|>"] }).save(at("model"));
  writeFileSync(at("model/tokenizer_config.json"), JSON.stringify({ chat_template: [{ name: "default", template: "{{ a }}" }] }));
  writeFileSync(at("model/generation_config.json"), '{"top_k": 5}');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a folder as GGUF and back: the same weights, tokenizer, template", async () => {
  // All matrices are BF16, so that is what loses nothing.
  expect(await json("convert", at("model"), "--to", "gguf", "--out", at("a.gguf"))).toMatchObject({ type: "BF16", layouts: { BF16: 16, F32: 5 } });
  expect((await json("inspect", at("a.gguf"))).metadata).toMatchObject({
    "general.name": "model",
    "tokenizer.chat_template": "{{ a }}",
    "general.file_type": 32,
  });
  const { files } = await json("convert", at("a.gguf"), "--to", "hf", "--out", at("again"), "--type", "BF16");
  expect(files.sort()).toEqual(readdirSync(at("again")).sort());
  expect(readFileSync(at("again/model.safetensors")).equals(readFileSync(at("model/model.safetensors")))).toBe(true);
  expect(JSON.parse(readFileSync(at("again/config.json"), "utf8"))).toMatchObject({ architectures: ["LlamaForCausalLM"], dtype: "bfloat16", eos_token_id: 0 });
  expect(readFileSync(at("again/chat_template.jinja"), "utf8")).toBe("{{ a }}");
  expect(readFileSync(at("again/tokenizer.json"), "utf8")).toBe(readFileSync(at("model/tokenizer.json"), "utf8"));
  expect(JSON.parse(readFileSync(at("again/tokenizer_config.json"), "utf8"))).toMatchObject({
    bos_token: "<|endoftext|>",
    eos_token: "<|endoftext|>",
    model_max_length: 64,
    chat_template: "{{ a }}",
  });
  await groundup("convert", at("model"), "--to", "hf", "--out", at("kept"));
  expect(readFileSync(at("kept/generation_config.json"), "utf8")).toBe('{"top_k": 5}');
});

test("quantize says sizes, compares tokens, measures", async () => {
  const plain = await json("quantize", at("model"), "--type", "F32", "--out", at("f32.gguf"));
  expect(plain.compared).toEqual({ agree: 32, of: 32 });
  const small = await groundup("quantize", at("model"), "--type", "Q4_0", "--out", at("q.gguf"), "--perplexity", at("text.txt"));
  expect(small.out).toMatch(
    /q\.gguf: Q4_0, .* bits per weight \(.*\)\nbefore .*, 16\.00 bits per weight; took .*\n\d+ of 32 greedy tokens agree with .*\nperplexity [\d.]+ before, [\d.]+ after\n/,
  );
});

test("quantize packs folders as bitsandbytes does, and compares them like files", async () => {
  const packed = await json("quantize", at("model"), "--type", "nf4", "--out", at("nf4"), "--perplexity", at("text.txt"));
  expect(packed).toMatchObject({ type: "nf4", layouts: { NF4: 14, BF16: 7 }, compared: { of: 32 } });
  expect(packed.perplexity.after / packed.perplexity.before).toBeLessThan(1.2);
  expect(packed.files.sort()).toEqual(readdirSync(at("nf4")).sort());
  expect(readdirSync(at("nf4"))).toEqual(expect.arrayContaining(["tokenizer.json", "chat_template.jinja", "generation_config.json"]));
  const int8 = await groundup("quantize", at("model"), "--type", "int8", "--out", at("int8"));
  expect(int8.out).toMatch(/int8: int8, .* bits per weight \(.*14 INT8.*\)\nbefore .*, 16\.00 bits per weight; took .*\n\d+ of 32 greedy tokens agree/);
  // What is packed is a model like others: as GGUF, and packed otherwise.
  expect((await json("quantize", at("int8"), "--type", "F32", "--out", at("int8.gguf"))).compared).toEqual({ agree: 32, of: 32 });
  expect((await json("quantize", at("nf4"), "--type", "int8", "--out", at("again8"), "--no-check")).compared).toBe(null);
  expect((await groundup("quantize", at("model"), "--type", "nf4", "--out", at("nf4"))).err).toContain("already exists");
});

test("a damaged file is told once, and a context of fewer tokens than are compared is compared as far as it goes", async () => {
  await groundup("convert", at("model"), "--to", "gguf", "--out", at("whole.gguf"));
  writeFileSync(at("cut.gguf"), readFileSync(at("whole.gguf")).subarray(0, -2000));
  const { err } = await groundup("quantize", at("cut.gguf"), "--out", at("y.gguf"));
  expect(err).toMatch(/^[^\n]*cut\.gguf: the file ends early, expected at least \d+ bytes, got \d+\.[^\n]*\n$/);
  const config = { vocab_size: 65, n_positions: 16, n_embd: 32, n_layer: 1, n_head: 2 };
  const short = new GPT2(config);
  await saveModel(short, at("short"));
  short.dispose();
  const { compared } = await json("quantize", at("short"), "--type", "F32", "--out", at("short.gguf"), "--check");
  expect(compared.agree).toBe(compared.of);
  expect(compared.of).toBeGreaterThan(10);
});

test("a misspelt folder is not made for a file", async () => {
  for (const line of [
    ["convert", at("model"), "--to", "gguf"],
    ["quantize", at("model"), "--type", "Q8_0"],
  ])
    expect(await groundup(...line, "--out", at("nosuch/a.gguf"))).toMatchObject({
      code: 1,
      err: `${at("nosuch/a.gguf")}: its folder does not exist, expected one to write into, got ${at("nosuch")}. Make it, or correct --out.\n`,
    });
  expect(existsSync(at("nosuch"))).toBe(false);
});

test("--force replaces models, and nothing else", async () => {
  mkdirSync(at("notes/deep"), { recursive: true });
  writeFileSync(at("notes/a.txt"), "mine");
  await groundup("convert", at("model"), "--to", "gguf", "--out", at("source.gguf"));
  mkdirSync(at("home"));
  copyFileSync(at("source.gguf"), at("home/m.gguf"));
  const toFolder = (source: string, out: string) => groundup("convert", at(source), "--to", "hf", "--out", at(out), "--force");
  expect((await toFolder("source.gguf", "notes")).err).toContain(
    `--out ${at("notes")}: more than a model, expected a folder of files with config.json to replace, got`,
  );
  expect((await toFolder("home/m.gguf", "home")).err).toContain(`--out ${at("home")}: the model lies in it, expected another place`);
  writeFileSync(at("notes/config.json"), "{}");
  expect((await toFolder("source.gguf", "notes")).err).toContain("got one with the folder deep. Choose another name, or empty it.");
  expect([readFileSync(at("notes/a.txt"), "utf8"), existsSync(at("home/m.gguf"))]).toEqual(["mine", true]);
  expect((await toFolder("source.gguf", "replaced")).code).toBeUndefined();
  expect((await toFolder("source.gguf", "replaced")).code).toBeUndefined();
});

test("a folder that has a GGUF file in place of weights, or all parts of one, is opened by it", async () => {
  await groundup("convert", at("model"), "--to", "gguf", "--out", at("alone.gguf"));
  mkdirSync(at("repository"));
  copyFileSync(at("alone.gguf"), at("repository/model-Q8_0.gguf"));
  const words = ["--prompt", "a", "--max-new-tokens", "4", "--temperature", "0"];
  const { out } = await groundup("generate", at("alone.gguf"), ...words);
  expect((await groundup("generate", at("repository"), ...words)).out).toBe(out);
  copyFileSync(at("model/config.json"), at("repository/config.json"));
  expect((await groundup("generate", at("repository"), ...words)).out).toBe(out);
  // Its own tokenizer wins.
  writeFileSync(at("repository/vocab.json"), JSON.stringify({ a: 0 }));
  writeFileSync(at("repository/merges.txt"), "#version: 0.2\n");
  expect((await loadTokenizer(at("repository"))).vocabSize).toBe(1);
  rmSync(at("repository/vocab.json"));
  rmSync(at("repository/merges.txt"));
  expect((await loadTokenizer(at("repository"))).vocabSize).toBeGreaterThan(280);
  // Which of two is meant, nobody knows.
  copyFileSync(at("alone.gguf"), at("repository/another.gguf"));
  expect((await groundup("generate", at("repository"), ...words)).err).toContain("no weights");
  expect(firstOfGgufs(["m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "a.txt"])).toBe("m-00001-of-00002.gguf");
  for (const some of [["m-00001-of-00002.gguf"].concat("n-00002-of-00002.gguf"), ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf"], ["a.gguf", "b.gguf"], []])
    expect(firstOfGgufs(some), some.join()).toBeNull();
});

test("what is written is named by its whole path", async () => {
  const before = process.cwd();
  process.chdir(folder);
  try {
    expect((await groundup("convert", "model", "--to", "gguf", "--out", "named.gguf")).out).toContain(`${at("named.gguf")}: BF16, `);
    expect((await groundup("convert", "model", "--to", "hf", "--out", "deep/er")).out).toContain(`${at("deep/er")}: model.safetensors, config.json`);
    expect((await groundup("quantize", "model", "--type", "int8", "--out", "deep/int8", "--no-check")).out).toContain(`${at("deep/int8")}: int8, `);
  } finally {
    process.chdir(before);
  }
});

test("a text without a perplexity is told before the work", async () => {
  writeFileSync(at("short.txt"), "a");
  const { err, code } = await groundup("quantize", at("model"), "--out", at("unmade.gguf"), "--perplexity", at("short.txt"));
  expect(err).toContain("short.txt: too short for --perplexity, expected a document of at least 2 tokens, got none. Give a longer text.");
  expect([code, existsSync(at("unmade.gguf"))]).toEqual([1, false]);
});

test("a GGUF with a layout that does not run is said not to run", async () => {
  await groundup("convert", at("model"), "--to", "gguf", "--out", at("whole.gguf"), "--force");
  const reader = await openGguf(await openFile(at("whole.gguf")));
  const entries = [...reader.tensors.values()].map(({ name, type, shape }) => ({ name, type, shape, data: () => reader.read(name) }));
  const odd = { name: "odd", type: "IQ2_XXS", shape: [256], data: new Uint8Array(66) } as const;
  const bytes: Uint8Array[] = [];
  for await (const piece of encodeGguf(reader.metadata, [...entries, odd]).content) bytes.push(piece);
  await reader.close();
  writeFileSync(at("odd.gguf"), Buffer.concat(bytes));
  expect((await json("inspect", at("odd.gguf"))).unsupported).toMatch(
    /^weights in layouts that groundup does not run, expected F32, .*, got IQ2_XXS \(1\) among 22 tensors\. Get the model as another file, such as Q4_K_M\.$/,
  );
  expect((await groundup("inspect", at("odd.gguf"))).out).toMatch(/^does not run: weights in layouts/m);
  // The same before the first weight is read.
  for (const line of [
    ["generate", at("odd.gguf"), "--prompt", "a"],
    ["convert", at("odd.gguf"), "--to", "hf", "--out", at("odd")],
  ])
    expect(await groundup(...line)).toMatchObject({
      code: 1,
      err: expect.stringContaining(`${at("odd.gguf")}: weights in layouts that groundup does not run`),
    });
  expect((await json("inspect", at("whole.gguf"))).unsupported).toBeNull();
});

test("a GGUF in several files is inspected whole, and a part alone is no model", async () => {
  await groundup("convert", at("model"), "--to", "gguf", "--out", at("one.gguf"), "--force");
  const reader = await openGguf(await openFile(at("one.gguf")));
  const tensors = [...reader.tensors.values()];
  const number = (value: number) => ({ kind: "u16", value }) as const;
  for (const [no, part] of [tensors.slice(0, 5), tensors.slice(5)].entries()) {
    const split = [
      ["split.no", number(no)],
      ["split.count", number(2)],
      ["split.tensors.count", { kind: "i32", value: tensors.length }],
    ] as const;
    const entries = part.map(({ name, type, shape }) => ({ name, type, shape, data: () => reader.read(name) }));
    const { content } = encodeGguf(new Map<string, GgufValue>([...(no === 0 ? reader.metadata : []), ...split]), entries);
    const bytes: Uint8Array[] = [];
    for await (const piece of content) bytes.push(piece);
    writeFileSync(at(`m-0000${no + 1}-of-00002.gguf`), Buffer.concat(bytes));
  }
  await reader.close();
  const [whole, split] = [await json("inspect", at("one.gguf"), "--tensors"), await json("inspect", at("m-00001-of-00002.gguf"), "--tensors")];
  expect(split).toMatchObject({ files: 2, tensors: whole.tensors, bytes: whole.bytes, parameters: whole.parameters, list: whole.list, unsupported: null });
  expect((await groundup("inspect", at("m-00001-of-00002.gguf"))).out).toMatch(/^weights {4}.* in 2 files: /m);
  expect((await groundup("inspect", at("m-00002-of-00002.gguf"))).err).toContain("Name the first file");
  rmSync(at("m-00002-of-00002.gguf"));
  expect((await groundup("inspect", at("m-00001-of-00002.gguf"))).err).toContain("m-00002-of-00002.gguf");
});

test("what is called .gguf and is none is told as such", async () => {
  writeFileSync(at("text.gguf"), "some text");
  for (const line of [["inspect"], ["convert", "--to", "hf", "--out", at("none")], ["generate", "--prompt", "a"]]) {
    const { err, code } = await groundup(line[0] as string, at("text.gguf"), ...line.slice(1));
    expect(err).toMatch(/text\.gguf: .*(begins with "GGUF"|does not begin as a GGUF file does)/);
    expect(code).toBe(1);
  }
});

test("a folder that can't be read is no empty one", async () => {
  mkdirSync(at("locked"));
  chmodSync(folder, 0o755);
  // What is imported when a command first runs must be there before.
  expect((await groundup("inspect", at("locked"))).err).toContain("got an empty folder");
  chmodSync(at("locked"), 0);
  // Nothing is locked for root.
  const root = process.geteuid?.() === 0;
  if (root) process.seteuid?.(65_534);
  try {
    const { err, code } = await groundup("inspect", at("locked"));
    expect(err).toContain("locked: can't be read, expected a readable file, got no permission (EACCES)");
    expect(code).toBe(1);
  } finally {
    if (root) process.seteuid?.(0);
    chmodSync(at("locked"), 0o755);
  }
});

test("nanoGPT's checkpoint: inspected, converted, and no words about its tokenizer but that there is none", async () => {
  const fixture = JSON.parse(readFileSync(new URL("../formats/pytorch/pytorch.fixture.json", import.meta.url), "utf8")) as { nanogpt: string };
  writeFileSync(at("ckpt.pt"), Buffer.from(fixture.nanogpt, "base64"));
  expect(await json("inspect", at("ckpt.pt"))).toMatchObject({ kind: "pytorch", modelType: "gpt2", parameters: { total: expect.any(Number) } });
  const { err, code } = await groundup("convert", at("ckpt.pt"), "--to", "hf", "--out", at("mine"));
  expect([err, code]).toEqual([`no tokenizer: ${at("ckpt.pt")} is a checkpoint of PyTorch's, which has none\n`, undefined]);
  expect((await groundup("generate", at("ckpt.pt"), "--prompt", "a")).err).toContain("a checkpoint without a tokenizer");
});

test("nothing is replaced by accident", async () => {
  writeFileSync(at("there.gguf"), "mine");
  const refused = await groundup("quantize", at("model"), "--out", at("there.gguf"));
  expect(refused.err).toContain("there.gguf: already exists, expected a new name, got one in use. Choose another, or add --force to replace it.");
  expect(readFileSync(at("there.gguf"), "utf8")).toBe("mine");
  expect((await groundup("convert", at("model"), "--to", "hf", "--out", at("model"), "--force")).err).toContain("--out: the model itself");
  expect((await groundup("convert", at("model"), "--to", "gguf", "--out", at("empty"), "--force", "--type", "Q9")).code).toBe(2);
  expect((await groundup("convert", at("model"), "--to", "hf", "--out", at("new"), "--type", "Q4_0")).err).toContain(
    "--type: a folder holds plain floats, expected F32, F16, BF16, got Q4_0",
  );
  expect((await groundup("quantize", at("model"), "--type", "Q8_0", "--out", at("there.gguf"), "--force")).code).toBe(undefined);
  expect(readFileSync(at("there.gguf")).toString("latin1", 0, 4)).toBe("GGUF");
  expect(existsSync(at("new"))).toBe(false);
});

test("inspect says of a model whether it opens, the memory it takes, and how its template writes", async () => {
  cpSync(at("model"), at("judged"), { recursive: true });
  rmSync(at("judged/tokenizer_config.json"));
  const config = JSON.parse(readFileSync(at("judged/config.json"), "utf8"));
  const fits = await json("inspect", at("judged"));
  expect(fits).toMatchObject({ unsupported: null, memoryBytes: 4 * fits.parameters.total, template: null, tokenizer: { kind: "tokenizer" } });
  const { out } = await groundup("inspect", at("judged"));
  expect(out).toMatch(/^opens {6}yes$/m);
  expect(out).toMatch(/^template {3}none, the model continues texts$/m);
  expect(out).toMatch(/^memory {5}433\.4 kB for the weights, /m);

  writeFileSync(
    at("judged/chat_template.jinja"),
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
  );
  expect((await json("inspect", at("judged"))).template).toBe("<user>Hello<assistant>");
  expect((await groundup("inspect", at("judged"))).out).toMatch(/^template {3}makes "<user>Hello<assistant>" of a user's "Hello"$/m);
  writeFileSync(at("judged/chat_template.jinja"), "{{ raise_exception('system first') }}");
  expect((await groundup("inspect", at("judged"))).out).toMatch(/^template {3}can't write a user's "Hello": .*system first/m);

  writeFileSync(at("judged/config.json"), JSON.stringify({ ...config, vocab_size: config.vocab_size + 1 }));
  expect((await json("inspect", at("judged"))).unsupported).toMatch(/^the weights do not fit config\.json, expected .*, got 2 of another shape:\n/);
  writeFileSync(at("judged/config.json"), JSON.stringify({ ...config, model_type: "gpt22" }));
  expect(await json("inspect", at("judged"))).toMatchObject({
    unsupported: expect.stringMatching(/an architecture .*gpt22/),
    memoryBytes: null,
    parameters: null,
  });
  const limit = memory().limitBytes;
  writeFileSync(at("judged/config.json"), JSON.stringify(config));
  try {
    setMemoryLimit(100_000);
    expect((await json("inspect", at("judged"))).unsupported).toMatch(/^the model is too large for this machine, expected at most .* of weights, got /);
  } finally {
    setMemoryLimit(limit);
  }
});

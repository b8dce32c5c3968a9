/** Models from GGUF files against transformers on the same quantised weights. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { memory, noGrad, scope, tensor } from "../tensor/index.ts";
import { fromPretrained, weightEntries } from "./index.ts";

const fixture = JSON.parse(readFileSync(new URL("gguf-model.fixture.json", import.meta.url), "utf8")) as {
  ids: number[];
  models: Record<string, { file: string; logits: number[] }>;
};
const dir = mkdtempSync(join(tmpdir(), "groundup-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));

function write(content: Uint8Array): string {
  const path = join(dir, "model.gguf");
  writeFileSync(path, content);
  return path;
}
const fileOf = (name: string): Buffer => Buffer.from(fixture.models[name].file, "base64");

test.each(Object.entries(fixture.models))("%s: transformers' logits", async (name, { logits }) => {
  const model = await fromPretrained(write(fileOf(name)), { dtype: "f32" });
  expect(model.training).toBe(false);
  expect(model.tokenIds).toEqual({ bos_token_id: 1, eos_token_id: 2, pad_token_id: null });
  const made = scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() }))).values;
  const largest = Math.max(...logits.map(Math.abs));
  expect(made.length).toBe(logits.length);
  expect(Math.max(...logits.map((x, i) => Math.abs(x - Number(made[i]))))).toBeLessThan(2e-6 * largest);
  model.dispose();
});

test.each(Object.entries(fixture.models))("%s: quantised matrices stay so, with the logits that 8-bit activations give", async (name, { logits }) => {
  const model = await fromPretrained(write(fileOf(name)));
  const kinds = new Set([...model.namedParameters()].map(([, p]) => `${p.rank}-d ${p.dtype}${p.requiresGrad ? "" : " frozen"}`));
  expect(
    [...kinds].some((kind) => /^2-d (q|iq|mx)\w+ frozen$/.test(kind)),
    [...kinds].join(),
  ).toBe(true);
  expect([...kinds].filter((kind) => kind.startsWith("1-d"))).toEqual(["1-d f32"]);
  const made = scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() }))).values;
  const size = Math.sqrt(logits.reduce((sum, x) => sum + x * x, 0) / logits.length);
  const error = Math.sqrt(logits.reduce((sum, x, i) => sum + (x - Number(made[i])) ** 2, 0) / logits.length);
  expect(error / size).toBeLessThan(0.02);
  expect(error).toBeGreaterThan(0);
  expect(() => weightEntries(model)).toThrow(/safetensors files hold no block-quantised weights, .*Ask for a dtype \("bf16", "f16" or "f32"\)/);
  const floats = await fromPretrained(write(fileOf(name)), { dtype: "f32" });
  const bytes = async (of: typeof model) =>
    Promise.all(
      weightEntries(of, { dtype: "f32" }).map(async (e) => [
        e.name,
        Buffer.from((await (typeof e.data === "function" ? e.data() : e.data)) as Uint8Array).toString("base64"),
      ]),
    );
  expect(await bytes(model)).toEqual(await bytes(floats));
  expect(memory().owners.find((owner) => owner.name === "quantized weights")?.bytes).toBeGreaterThan(0);
  model.dispose();
  floats.dispose();
});

test("only float32 can be asked for", async () => {
  await expect(fromPretrained("model.gguf", { dtype: "q8_0" as never })).rejects.toThrow(
    /not a dtype that weights can be opened in, expected "f32", got "q8_0"/,
  );
});

/** The file with one text in it replaced by another of the same length. */
function changed(name: string, from: string, to: string): Buffer {
  const content = fileOf(name);
  const at = content.indexOf(from);
  expect(at).toBeGreaterThan(0);
  content.write(to, at);
  return content;
}

/** The file with another value of a u32 in its metadata. */
function withNumber(name: string, key: string, value: number): Buffer {
  const content = fileOf(name);
  // Behind the key stands the number of the kind.
  content.writeUInt32LE(value, content.indexOf(key) + key.length + 4);
  return content;
}

test.each([
  [
    "another architecture",
    changed("llama Q8_0", "llama", "lxama"),
    /an architecture that is not supported \(yet\), expected a general\.architecture that groundup has, got "lxama"\. Choose a model of one of gpt2, llama, /,
  ],
  ["a missing number", changed("llama Q8_0", "llama.block_count", "llama.block_cXunt"), /metadata lack "llama\.block_count", expected a number, got nothing/],
  [
    "a missing tensor",
    changed("gpt2 Q5_1", "blk.1.ffn_up.bias", "blk.1.ffn_uq.bias"),
    /1 missing:\n {2}transformer\.h\.1\.mlp\.c_fc\.bias\nand 1 unexpected:\n {2}blk\.1\.ffn_uq\.bias/,
  ],
  [
    "heads that turn in part",
    withNumber("llama Q8_0", "llama.rope.dimension_count", 8),
    /model\.gguf: heads that turn in part are not supported \(yet\), expected rope\.dimension_count 16, got 8/,
  ],
  [
    "the file cut off",
    fileOf("llama Q8_0").subarray(0, 20_000),
    /model\.gguf: the file ends early, expected at least \d+ bytes, got 20000\. Most likely its download/,
  ],
])("%s is one error, and nothing stays behind", async (_, content, message) => {
  const before = memory().liveBytes;
  const path = write(content);
  await expect(fromPretrained(path)).rejects.toThrow(FormatError);
  await expect(fromPretrained(path)).rejects.toThrow(message);
  expect(memory().liveBytes).toBe(before);
});

/** gpt-oss with experts in MXFP4: transformers' folders, llama.cpp's files, and one from the other without a number changed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openGgufFiles } from "../formats/gguf/files.ts";
import { bytesSource, memoryFolder, openFolder, openModelWeights, openSafetensors } from "../formats/index.ts";
import { noGrad, scope, tensor } from "../tensor/index.ts";
import { type CausalLM, describeModel, fromPretrained, openWeights, saveFolder, saveGguf, saveModel, weightsOf } from "./index.ts";

const fixture = JSON.parse(readFileSync(new URL("gpt_oss.fixture.json", import.meta.url), "utf8")) as Record<
  "transformers" | "llama.cpp" | "llama.cpp on blocks" | "ids",
  number[]
> & { folder: Record<string, string>; gguf: string };
const dir = mkdtempSync(join(tmpdir(), "groundup-gpt-oss-"));
const at = (name: string) => join(dir, name);
const weights = new Uint8Array(Buffer.from(fixture.folder["model.safetensors"] as string, "base64"));
const files = { "config.json": Buffer.from(fixture.folder["config.json"] as string), "model.safetensors": weights };

beforeAll(async () => {
  writeFileSync(at("llama.gguf"), Buffer.from(fixture.gguf, "base64"));
});
afterAll(() => rmSync(dir, { recursive: true }));

const logits = (model: CausalLM): Float32Array =>
  scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() as Float32Array }))).values;
/** The largest difference, over the largest number. */
const apart = (made: ArrayLike<number>, expected: readonly number[]): number => {
  expect(made.length).toBe(expected.length);
  return Math.max(...expected.map((x, i) => Math.abs(x - (made[i] as number)))) / Math.max(...expected.map(Math.abs));
};

test("a folder with experts in MXFP4: transformers' logits on their numbers, and on the blocks within what 8-bit activations cost", async () => {
  const model = await fromPretrained(memoryFolder(files), { dtype: "f32" });
  // The fixture's digits, and float32.
  expect(apart(logits(model), fixture.transformers)).toBeLessThan(3e-6);
  const packed = await fromPretrained(memoryFolder(files));
  const kept = [...packed.stateDict()].filter(([, p]) => p.isQuantized).map(([name]) => name.replace(/\d/, "i"));
  expect([...new Set(kept)]).toEqual(["model.layers.i.mlp.experts.gate_up_proj", "model.layers.i.mlp.experts.down_proj"]);
  const error = apart(logits(packed), fixture.transformers);
  expect(error).toBeGreaterThan(1e-4);
  expect(error).toBeLessThan(0.02);
  for (const one of [model, packed]) one.dispose();
});

const contents = async (path: string) => {
  const reader = await openGgufFiles(path);
  const tensors = new Map<string, { type: string; shape: readonly number[]; bytes: string }>();
  for (const { name, type, shape } of reader.tensors.values()) tensors.set(name, { type, shape, bytes: Buffer.from(await reader.read(name)).toString("hex") });
  await reader.close();
  return { tensors, metadata: reader.metadata };
};

/** The fixture's folder on the disk. */
function ownFolder(): string {
  const path = mkdtempSync(join(dir, "folder-"));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(path, name), bytes);
  return path;
}

test("the folder as GGUF is the file that llama.cpp's converter makes, byte for byte of each tensor", async () => {
  const source = await openWeights(ownFolder());
  const { layouts } = await saveGguf(source, at("ours.gguf"), { type: "BF16" });
  await source.close();
  expect(layouts.MXFP4).toBe(6);
  const [made, expected] = [await contents(at("ours.gguf")), await contents(at("llama.gguf"))];
  expect(Object.fromEntries(made.tensors)).toEqual(Object.fromEntries(expected.tensors));
  const said = [...expected.metadata].filter(([key]) => key.startsWith("gpt-oss.") || key === "general.architecture");
  expect(said.length).toBeGreaterThan(12);
  expect(Object.fromEntries(said.map(([key]) => [key, made.metadata.get(key)]))).toEqual(Object.fromEntries(said));
  expect(made.metadata.get("general.file_type")?.value).toBe(38);
});

test("GGUF as a folder, and a model in memory as both: the same blocks", async () => {
  const original = await openSafetensors(bytesSource(weights, "folder"));
  const check = async (path: string) => {
    const reader = await openModelWeights(openFolder(path));
    expect([...reader.tensors.keys()].sort()).toEqual([...original.tensors.keys()].sort());
    for (const [name, { dtype, shape }] of original.tensors) {
      const [made, expected] = [await reader.read(name), await original.read(name)];
      expect([name, made.shape]).toEqual([name, shape]);
      if (dtype === "U8") expect([name, Buffer.from(made.data).equals(Buffer.from(expected.data))]).toEqual([name, true]);
    }
    await reader.close();
    const again = await fromPretrained(path, { dtype: "f32" });
    expect(apart(logits(again), fixture.transformers)).toBeLessThan(3e-6);
    again.dispose();
    const text = readFileSync(join(path, "config.json"), "utf8");
    // transformers refuses a limit that is no float.
    expect(text).toContain('"swiglu_limit": 7.0,');
    const { quantization_config, ...config } = JSON.parse(text);
    const { quantization_config: packing, ...own } = JSON.parse(fixture.folder["config.json"] as string);
    expect(quantization_config).toEqual(packing);
    // GGUF's base is a float32, and what is yarn's default stays unsaid.
    const sizes = (json: Record<string, unknown>) => ({ ...describeModel(json).config, rope_theta: 0, rope_parameters: null });
    expect(sizes(config)).toEqual(sizes(own));
  };
  const file = await openWeights(at("llama.gguf"));
  await saveFolder(file, at("from-file"));
  await file.close();
  await check(at("from-file"));
  const model = await fromPretrained(at("llama.gguf"));
  await saveFolder(weightsOf(model), at("from-model"));
  await check(at("from-model"));
  await saveGguf(model, at("from-model.gguf"), { type: "F32" });
  const [made, expected] = [await contents(at("from-model.gguf")), await contents(at("llama.gguf"))];
  const packed = (all: typeof made) => Object.fromEntries([...all.tensors].filter(([, { type }]) => type === "MXFP4"));
  expect(packed(made)).toEqual(packed(expected));
  model.dispose();
});

test("with floats of a dtype no block is left, in a folder or of a model", async () => {
  const source = await openWeights(at("llama.gguf"));
  await saveFolder(source, at("floats"), { dtype: "BF16" });
  await source.close();
  const model = await fromPretrained(at("llama.gguf"));
  await saveModel(model, at("model"), { dtype: "f32" });
  model.dispose();
  for (const place of ["floats", "model"]) {
    const again = await fromPretrained(at(place));
    expect([...again.stateDict().values()].some((p) => p.isQuantized)).toBe(false);
    expect(apart(logits(again), fixture.transformers)).toBeLessThan(3e-6);
    again.dispose();
  }
});

test("llama.cpp's logits on the file's numbers, and of its blocks within what both round activations to", async () => {
  const [model, packed] = [await fromPretrained(at("llama.gguf"), { dtype: "f32" }), await fromPretrained(at("llama.gguf"))];
  expect(model.config).toMatchObject({ sliding_window: 5, rope_parameters: { rope_type: "yarn", truncate: false } });
  expect(apart(logits(model), fixture["llama.cpp"])).toBeLessThan(5e-6);
  // llama.cpp itself is 0.028 from the numbers.
  expect(apart(logits(packed), fixture["llama.cpp on blocks"])).toBeLessThan(0.025);
  for (const one of [model, packed]) one.dispose();
});

test.each([
  ["sliding_window", null, 'no place for sliding_window, expected "a number", got null'],
  ["swiglu_limit", 5, "no place for swiglu_limit, expected 7, got 5"],
  ["swiglu_alpha", 1, "no place for swiglu_alpha, expected 1.702, got 1"],
  ["attention_bias", false, "no place for attention_bias, expected true, got false"],
  ["tie_word_embeddings", true, "no place for tie_word_embeddings, expected false, got true"],
  ["layer_types", ["full_attention", "full_attention"], "no place for layer_types, expected [128,null], got [null,null]"],
] as const)("llama.cpp has no %s %j", (key, value, message) => {
  const { architecture, config } = describeModel({ model_type: "gpt_oss", num_hidden_layers: 2, [key]: value });
  expect(() => architecture.gguf?.metadata(config)).toThrow(message);
});

test("a ramp of whole dimensions, and weights packed otherwise, are refused", async () => {
  const { quantization_config: _, rope_parameters, ...config } = JSON.parse(fixture.folder["config.json"] as string);
  const source = await openWeights(at("llama.gguf"));
  const description = describeModel({ ...config, rope_parameters: { ...rope_parameters, truncate: true } });
  await expect(saveGguf({ ...source, description }, at("refused.gguf"))).rejects.toThrow(
    "GGUF: yarn with truncate: true, expected fractions of dimensions, got whole ones. These files don't say it",
  );
  await source.close();
  expect(() => describeModel({ ...config, quantization_config: { quant_method: "gptq" } }, "config.json")).toThrow(
    'config.json: weights that are quantised in a way that groundup does not read, expected quantization_config with quant_method mxfp4 or bitsandbytes, got "gptq".',
  );
  const damaged = memoryFolder({
    ...files,
    "model.safetensors": Buffer.from(Buffer.from(weights).toString("latin1").replace("[3,64,1,16]", "[3,64,16,1]"), "latin1"),
  });
  await expect(fromPretrained(damaged)).rejects.toThrow(/gate_up_proj_blocks and .*_scales do not belong together, expected U8 \(experts, out, in \/ 32, 16\)/);
});

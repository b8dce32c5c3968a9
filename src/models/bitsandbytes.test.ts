/** Folders that transformers wrote with bitsandbytes, opened; and ours, which hold the same. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { bytesSource, encodeSafetensors, memoryFolder, openFolder, openModelWeights, openSafetensors, type TensorReader } from "../formats/index.ts";
import { noGrad, scope, tensor } from "../tensor/index.ts";
import { type CausalLM, fromPretrained, GPT2, Mixtral, openWeights, saveFolder, saveGguf, weightsOf } from "./index.ts";

type Files = Record<"config.json" | "model.safetensors", string>;
const fixture = JSON.parse(readFileSync(new URL("../formats/nf4.fixture.json", import.meta.url), "utf8")) as {
  ids: number[];
  folders: Record<"plain" | "nf4" | "int8", Files>;
  logits: Record<"nf4" | "int8", number[]>;
};
const dir = mkdtempSync(join(tmpdir(), "groundup-bnb-"));
afterAll(() => rmSync(dir, { recursive: true }));

const filesOf = (name: keyof typeof fixture.folders) => ({
  "config.json": Buffer.from(fixture.folders[name]["config.json"]),
  "model.safetensors": new Uint8Array(Buffer.from(fixture.folders[name]["model.safetensors"], "base64")),
});
function folderOf(name: keyof typeof fixture.folders): string {
  const path = mkdtempSync(join(dir, `${name}-`));
  for (const [file, bytes] of Object.entries(filesOf(name))) writeFileSync(join(path, file), bytes);
  return path;
}
const logits = (model: CausalLM): Float32Array =>
  scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() as Float32Array }))).values;
const contents = async (reader: TensorReader) =>
  Promise.all(
    [...reader.tensors].sort().map(async ([name, { dtype, shape }]) => [name, dtype, shape.join(), Buffer.from((await reader.read(name)).data)] as const),
  );

test.each(["nf4", "int8"] as const)("%s: transformers' folder opens, with the logits of its numbers", async (packing) => {
  const model = await fromPretrained(memoryFolder(filesOf(packing)));
  const [made, expected] = [logits(model), fixture.logits[packing]];
  expect(made.length).toBe(expected.length);
  const largest = Math.max(...expected.map(Math.abs));
  // The fixture's digits, and float32.
  expect(Math.max(...expected.map((x, i) => Math.abs(x - made[i])))).toBeLessThan(3e-6 * largest);
  model.dispose();
  const source = await openWeights(folderOf(packing));
  expect(source.formats.get("model.layers.0.mlp.down_proj.weight")).toBe(packing.toUpperCase());
  await saveGguf(source, join(dir, "floats.gguf"), { type: "F32" });
  await source.close();
  const again = await fromPretrained(join(dir, "floats.gguf"));
  expect(logits(again)).toEqual(made);
  again.dispose();
});

test.each(["nf4", "int8"] as const)("%s: what saveFolder packs is what transformers packs, tensor for tensor", async (packing) => {
  const source = await openWeights(folderOf("plain"));
  const out = join(dir, `ours-${packing}`);
  const saved = await saveFolder(source, out, { packing });
  await source.close();
  expect(saved.layouts).toEqual({ [packing.toUpperCase()]: 7, BF16: 9 });
  const reader = await openModelWeights(openFolder(out));
  const theirs = await openSafetensors(bytesSource(filesOf(packing)["model.safetensors"], "theirs"));
  const [made, expected] = [await contents(reader), await contents(theirs)];
  expect(made.map(([name]) => name)).toEqual(expected.map(([name]) => name));
  for (const [i, [name, dtype, shape, bytes]] of made.entries()) {
    const [, code, sizes, own] = expected[i];
    if (name.endsWith("bitsandbytes__nf4")) {
      const [a, b] = [bytes, own].map((text) => JSON.parse(text.toString()) as Record<string, unknown>);
      // Theirs are sums in bfloat16, whose mean differs.
      expect({ ...a, dtype: 0, nested_offset: 0 }).toEqual({ ...b, dtype: 0, nested_offset: 0 });
      expect(Math.abs(Number(a.nested_offset) / Number(b.nested_offset) - 1)).toBeLessThan(0.01);
    } else {
      expect([name, dtype, shape]).toEqual([name, code, sizes]);
      if (code === "I8") {
        // Theirs are computed in float16, where 127 over a row's size has eleven bits.
        const apart = [...new Int8Array(bytes)].map((x, i) => Math.abs(x - own.readInt8(i)));
        expect(Math.max(...apart)).toBeLessThanOrEqual(1);
        expect(apart.filter((d) => d > 0).length / apart.length).toBeLessThan(0.02);
      } else if (!/absmax$/.test(name)) expect([name, bytes.equals(own)]).toEqual([name, true]);
    }
  }
  const text = readFileSync(join(out, "config.json"), "utf8");
  // transformers refuses a threshold that is no float.
  expect(text).toContain('"llm_int8_threshold": 6.0,');
  const config = JSON.parse(text);
  expect(config.quantization_config).toEqual(JSON.parse(fixture.folders[packing]["config.json"]).quantization_config);
  const again = await fromPretrained(out);
  const [own, expectedLogits] = [logits(again), fixture.logits[packing]];
  const largest = Math.max(...expectedLogits.map(Math.abs));
  expect(Math.max(...expectedLogits.map((x, i) => Math.abs(x - own[i])))).toBeLessThan(0.02 * largest);
  again.dispose();
  await reader.close();
});

test("parts that are missing or have another size, and models without linear layers, are refused", async () => {
  const { "config.json": config, "model.safetensors": bytes } = filesOf("nf4");
  const reader = await openSafetensors(bytesSource(bytes, "nf4"));
  const without = async (change: (name: string) => boolean) => {
    const entries = [];
    for (const [name, { shape }] of reader.tensors) {
      const { dtype, data } = await reader.read(name);
      if (!change(name)) entries.push({ name, dtype, shape, data });
      else if (name.endsWith("quant_map")) entries.push({ name, dtype, shape: [15], data: data.slice(0, 60) });
    }
    const pieces: Uint8Array[] = [];
    for await (const piece of encodeSafetensors(entries).content) pieces.push(piece);
    return fromPretrained(memoryFolder({ "config.json": config, "model.safetensors": new Uint8Array(Buffer.concat(pieces)) }));
  };
  await expect(without((name) => name.endsWith("q_proj.weight.nested_absmax"))).rejects.toThrow(
    /a weight that is packed is not whole, expected .*q_proj\.weight\.nested_absmax with 1 items of F32, got none\./,
  );
  await expect(without((name) => name.endsWith("up_proj.weight.quant_map"))).rejects.toThrow(/up_proj\.weight\.quant_map with 16 items of F32, got 15 of F32/);
  const model = new GPT2({ vocab_size: 65, n_positions: 16, n_embd: 32, n_layer: 1, n_head: 2 });
  await expect(saveFolder(weightsOf(model), join(dir, "gpt2"), { packing: "nf4" })).rejects.toThrow(
    "gpt2: nothing to pack, expected linear layers with weights (out, in), got a gpt2, which has none beside its head.",
  );
  await expect(saveFolder(weightsOf(model), join(dir, "gpt2"), { packing: "nf3" as never })).rejects.toThrow(
    "saveFolder: unknown packing, expected nf4 or int8, got nf3",
  );
  model.dispose();
});

test("of a mixture the layers beside its experts and routers are packed", async () => {
  const model = new Mixtral({
    vocab_size: 41,
    hidden_size: 32,
    intermediate_size: 20,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    num_local_experts: 3,
    tie_word_embeddings: false,
  });
  await saveFolder(weightsOf(model), join(dir, "mixtral"), { packing: "int8" });
  model.dispose();
  const reader = await openModelWeights(openFolder(join(dir, "mixtral")));
  await reader.close();
  const packed = [...reader.tensors.values()].flatMap(({ name, dtype }) => (dtype === "I8" ? [name] : []));
  expect(packed).toEqual(["k_proj", "o_proj", "q_proj", "v_proj"].map((name) => `model.layers.0.self_attn.${name}.weight`));
  const again = await fromPretrained(join(dir, "mixtral"));
  again.dispose();
});

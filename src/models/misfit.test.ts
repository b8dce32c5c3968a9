/** Weights beside a config of other sizes: one error with every name and shape that differs, in lists that end. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { createModel, fromPretrained, openWeights, saveGguf, saveModel } from "./index.ts";

let folder: string;
const at = (...names: string[]) => join(folder, ...names);
const LLAMA = {
  model_type: "llama",
  ...{ vocab_size: 40, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 3, num_attention_heads: 2, max_position_embeddings: 8 },
  tie_word_embeddings: false,
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "groundup-misfit-"));
  for (const [name, config] of Object.entries({
    llama: LLAMA,
    gpt2: { model_type: "gpt2", vocab_size: 40, n_embd: 16, n_layer: 2, n_head: 2, n_positions: 8 },
  })) {
    const model = createModel(config);
    await saveModel(model, at(name));
    if (name === "llama") await saveGguf(model, at("llama.gguf"), { type: "F32" });
    model.dispose();
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The weights of one model with its config changed. */
function beside(name: string, change: Record<string, unknown>): string {
  rmSync(at("changed"), { recursive: true, force: true });
  mkdirSync(at("changed"));
  writeFileSync(at("changed/model.safetensors"), readFileSync(at(name, "model.safetensors")));
  writeFileSync(at("changed/config.json"), JSON.stringify({ ...JSON.parse(readFileSync(at(name, "config.json"), "utf8")), ...change }));
  return at("changed");
}

const FIT = "the weights do not fit config.json, expected the model's own names and shapes, got ";
const ADVICE = "\nUse the config.json that came with these weights.";

test.each<[string, string, Record<string, unknown>, RegExp]>([
  ["more layers", "llama", { num_hidden_layers: 4 }, /got 9 missing:\n {2}model\.layers\.3\.self_attn\.q_proj\.weight\n(.*\n)+Use/],
  ["fewer layers", "llama", { num_hidden_layers: 1 }, /got 18 unexpected:\n {2}model\.layers\.1\./],
  ["far more layers", "llama", { num_hidden_layers: 20 }, /got 153 missing:\n( {2}model\.layers.*\n){20} {2}… and 133 more\nUse/],
  [
    "another width",
    "llama",
    { hidden_size: 32, head_dim: 16 },
    /got 30 of another shape:\n( {2}.*\n)* {2}model\.embed_tokens\.weight: expected \(40, 32\), got \(40, 16\)\n/,
  ],
  ["a far larger width", "llama", { hidden_size: 256, head_dim: 128 }, /got 30 of another shape:/],
  [
    "another vocabulary",
    "llama",
    { vocab_size: 48 },
    /got 2 of another shape:\n(?=.*\n? {2}lm_head)(?=.*\n? {2}model\.embed_tokens)( {2}\S+: expected \(48, 16\), got \(40, 16\)\n){2}Use/,
  ],
  [
    "all at once",
    "llama",
    { num_hidden_layers: 4, vocab_size: 48, attention_bias: true },
    /got 25 missing:\n(.*\n)+ {2}… and 5 more\nand 2 of another shape:\n/,
  ],
  [
    "GPT-2's vocabulary and layers",
    "gpt2",
    { vocab_size: 48, n_layer: 1 },
    /got 12 unexpected:\n(.*\n)+and 1 of another shape:\n {2}transformer\.wte\.weight: expected \(48, 16\), got \(40, 16\)\nUse/,
  ],
])("%s", async (_, name, change, lists) => {
  for (const open of [fromPretrained, openWeights]) {
    const error = (await open(beside(name, change)).catch((e) => e)) as Error;
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(lists);
    expect([error.message.includes(FIT), error.message.endsWith(ADVICE)]).toEqual([true, true]);
    expect(error.message.split("\n").length).toBeLessThan(50);
  }
});

test("a config that tells of quite another model is refused before one is made", async () => {
  await expect(fromPretrained(beside("llama", { hidden_size: 1 << 20, head_dim: 1 << 19 }))).rejects.toThrow(
    /config\.json: tells of another model than the weights beside it, expected about \d+ weights, got sizes that make \d+\. Use the config\.json/,
  );
});

test("metadata of a GGUF file", async () => {
  const content = readFileSync(at("llama.gguf"));
  const key = "llama.feed_forward_length";
  content.writeUInt32LE(28, content.indexOf(key) + key.length + 4);
  writeFileSync(at("changed.gguf"), content);
  await expect(fromPretrained(at("changed.gguf"))).rejects.toThrow(
    /changed\.gguf: the weights do not fit the metadata, .*got 9 of another shape:\n {2}blk\.0\.ffn_gate\.weight: expected \(28, 16\), got \(24, 16\)\n/,
  );
});

/** Models of the families that llama.cpp knows, from GGUF files, against transformers on the same quantised weights; and what such files can't say. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { bytesSource, openGguf } from "../formats/index.ts";
import { noGrad, scope, tensor } from "../tensor/index.ts";
import { architectureNamed, describeGguf, describeModel, fromPretrained } from "./index.ts";

const fixture = JSON.parse(readFileSync(new URL("families.gguf.fixture.json", import.meta.url), "utf8")) as {
  ids: number[];
  models: Record<string, { file: string; logits: number[] }>;
};
const dir = mkdtempSync(join(tmpdir(), "groundup-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));

test.each(Object.entries(fixture.models))("%s: transformers' logits", async (_, { file, logits }) => {
  const path = join(dir, "model.gguf");
  writeFileSync(path, Buffer.from(file, "base64"));
  const model = await fromPretrained(path, { dtype: "f32" });
  const made = scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() }))).values;
  const largest = Math.max(...logits.map(Math.abs));
  expect(made.length).toBe(logits.length);
  // The files' 7 digits, and float32.
  expect(Math.max(...logits.map((x, i) => Math.abs(x - Number(made[i]))))).toBeLessThan(4e-6 * largest);
  model.dispose();
});

test.each(Object.entries(fixture.models))("%s: what is written of the config is what the file says", async (_, { file }) => {
  const reader = await openGguf(bytesSource(new Uint8Array(Buffer.from(file, "base64")), "model.gguf"));
  const { architecture, config } = describeGguf(reader);
  const written = architecture.gguf?.metadata(config) as Record<string, GgufValue>;
  for (const [key, value] of Object.entries(written)) {
    const full = key.replace("{arch}", architecture.gguf?.architecture as string);
    // The converter leaves out the vocabulary's size and what is a reader's default.
    if (reader.metadata.has(full)) expect([full, reader.metadata.get(full)]).toEqual([full, value]);
    else expect(full).toMatch(/vocab_size|rope\.freq_base|rope\.dimension_count|head_count_kv/);
  }
});

test.each([
  ["gpt_neox", { attention_bias: false }, "GGUF, gptneox: no place for attention_bias, expected true, got false. Keep the model as a Hugging Face folder."],
  ["gpt2", { activation_function: "gelu" }, 'no place for activation_function, expected "gelu_tanh", got "gelu"'],
  ["llama", { hidden_act: "gelu_new" }, 'no place for hidden_act, expected "silu", got "gelu_tanh"'],
  ["gpt_neox", { hidden_act: "relu" }, 'no place for hidden_act, expected "gelu", got "relu"'],
  ["phi3", { hidden_act: "gelu_new" }, 'no place for hidden_act, expected "silu", got "gelu_tanh"'],
  ["olmo2", { attention_bias: true }, "no place for attention_bias, expected false, got true"],
  // llama.cpp 0.5 asks for a head of its own.
  ["olmo2", { tie_word_embeddings: true }, "no place for tie_word_embeddings, expected false, got true"],
  ["gpt_neox", { tie_word_embeddings: true }, "no place for tie_word_embeddings, expected false, got true"],
  ["bloom", { apply_residual_connection_post_layernorm: true }, "no place for apply_residual_connection_post_layernorm, expected false, got true"],
  ["falcon", { alibi: true }, "no place for alibi, expected false, got true"],
  ["falcon", { bias: true }, "no place for bias, expected false, got true"],
  ["falcon", { parallel_attn: false }, "no place for parallel_attn, expected true, got false"],
] as const)("%s with %j is not written", (model_type, more, message) => {
  const { config } = describeModel({ model_type, ...more });
  const write = () => architectureNamed(model_type, "test").gguf?.metadata(config);
  expect(write).toThrow(ConfigError);
  expect(write).toThrow(message);
});

test("llama.cpp has no OPT", () => {
  expect(architectureNamed("opt", "test").gguf).toBeUndefined();
});

/** Llama's descendants from GGUF files against transformers on the same quantised weights (llama-family.gguf.fixture.py), and what their metadata say. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { noGrad, scope, tensor } from "../tensor/index.ts";
import type { GgufForm, GgufLookup } from "./architecture.ts";
import { architectures, describeModel } from "./architectures.ts";
import { createModel, fromPretrained } from "./index.ts";

const fixture = JSON.parse(readFileSync(new URL("llama-family.gguf.fixture.json", import.meta.url), "utf8")) as {
  ids: number[];
  models: Record<string, { file: string; logits: number[] }>;
};
const dir = mkdtempSync(join(tmpdir(), "groundup-family-"));
afterAll(() => rmSync(dir, { recursive: true }));

test.each(Object.entries(fixture.models))("%s: transformers' logits", async (name, { file, logits }) => {
  const path = join(dir, `${name}.gguf`);
  writeFileSync(path, Buffer.from(file, "base64"));
  const model = await fromPretrained(path, { dtype: "f32" });
  const made = scope(() => noGrad(() => ({ values: model.forward({ inputIds: tensor([Int32Array.from(fixture.ids)]) }).logits.dataSync() }))).values;
  const largest = Math.max(...logits.map(Math.abs));
  expect(made.length).toBe(logits.length);
  expect(Math.max(...logits.map((x, i) => Math.abs(x - Number(made[i]))))).toBeLessThan(2e-6 * largest);
  model.dispose();
});

type Config = Record<string, unknown>;
const formOf = (modelType: string) => architectures[modelType].gguf as GgufForm<Config>;

/** What a reader sees of a file with this metadata, and the tensors of this config's model. */
function lookupOf(modelType: string, config: Config): GgufLookup {
  const values: Readonly<Record<string, GgufValue>> = formOf(modelType).metadata(config);
  const optional = (key: string) => values[key]?.value as number | undefined;
  const tensors = new Set<string>(config.tie_word_embeddings ? [] : ["output.weight"]);
  if (config.attention_bias) tensors.add("blk.0.attn_q.bias");
  if (config.mlp_bias) tensors.add("blk.0.ffn_up.bias");
  return {
    optional,
    number: (key) => optional(key) as number,
    text: () => undefined,
    flag: () => undefined,
    has: (name) => tensors.has(name),
    shape: () => [config.vocab_size as number, config.hidden_size as number],
  };
}

const TINY = {
  rms_norm_eps: Math.fround(1e-5),
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
};
const ROUND: [modelType: string, config: Config][] = [
  ["qwen2", { ...TINY, rope_theta: 5000, tie_word_embeddings: true }],
  ["qwen3", { ...TINY, rms_norm_eps: 0.125 }],
  ["smollm3", TINY],
  ["gemma", TINY],
  ["gemma2", { ...TINY, query_pre_attn_scalar: 6, sliding_window: 7, attn_logit_softcapping: 3, final_logit_softcapping: 7 }],
  ["gemma2", { ...TINY, num_hidden_layers: 46, head_dim: 4, query_pre_attn_scalar: 6 }],
  ["gemma3_text", { ...TINY, query_pre_attn_scalar: 6, sliding_window: 7, final_logit_softcapping: 3 }],
  ["gemma3_text", { ...TINY, num_hidden_layers: 62, head_dim: 4, query_pre_attn_scalar: 6 }],
  ["gemma3_text", { ...TINY, query_pre_attn_scalar: 6, sliding_window: null, sliding_window_pattern: 1 }],
];

test.each(ROUND)("%s, case %#: the metadata say the config, and are read back", (modelType, given) => {
  const { config } = describeModel({ model_type: modelType, ...given });
  const again = describeModel({ model_type: modelType, ...formOf(modelType).config(lookupOf(modelType, config)) });
  const { initializer_range: _, ...expected } = config;
  expect(again.config).toMatchObject(expected);
});

test("a Mistral without a window is written as a Llama, and its weights have the same names", () => {
  const mistral = { model_type: "mistral", ...TINY, sliding_window: null };
  const { config } = describeModel(mistral);
  expect(formOf("mistral").metadata(config)).toEqual(
    formOf("llama").metadata(describeModel({ ...TINY, model_type: "llama", max_position_embeddings: 131072 }).config),
  );
  expect([...formOf("mistral").names].sort()).toEqual([...formOf("llama").names].sort());
  expect(formOf("mistral").rowOrder?.("model.layers.0.self_attn.k_proj.weight", 12, config)).toEqual(
    formOf("llama").rowOrder?.("model.layers.0.self_attn.k_proj.weight", 12, config),
  );
  // A window as long as the context hides nothing.
  expect(() => formOf("mistral").metadata({ ...config, sliding_window: 131072 })).not.toThrow();
});

const GEMMA = { ...TINY, query_pre_attn_scalar: 6 };
test.each<[modelType: string, config: Config, message: string]>([
  ["qwen2", { ...TINY, use_sliding_window: true }, "GGUF, qwen2: no place for use_sliding_window, expected false, got true. Keep"],
  ["qwen3", { ...TINY, use_sliding_window: true }, "no place for use_sliding_window"],
  // llama.cpp 0.5 refuses files with these biases: it counts tensors that it did not ask for.
  ["qwen3", { ...TINY, attention_bias: true }, "no place for attention_bias, expected false, got true"],
  ["qwen3_moe", { ...TINY, attention_bias: true }, "no place for attention_bias, expected false, got true"],
  ["smollm3", { ...TINY, attention_bias: true }, "no place for attention_bias, expected false, got true"],
  ["smollm3", { ...TINY, mlp_bias: true }, "no place for mlp_bias, expected false, got true"],
  ["mistral", TINY, "GGUF, llama: no place for sliding_window, expected null, got 4096. Keep"],
  [
    "smollm3",
    { ...TINY, no_rope_layer_interval: 2 },
    "no place for no_rope_layers, expected [true,true,true,false,true,true], got [true,false,true,false,true,false]",
  ],
  ["smollm3", { ...TINY, use_sliding_window: true }, "no place for use_sliding_window"],
  ["gemma", { ...TINY, attention_bias: true }, "no place for attention_bias"],
  ["gemma", { ...TINY, hidden_act: "silu" }, 'no place for hidden_act, expected "gelu_tanh", got "silu"'],
  ["gemma2", { ...TINY, query_pre_attn_scalar: 8 }, "no place for query_pre_attn_scalar, expected 6, got 8"],
  // And where a file names no cap, it caps by its own.
  ["gemma2", { ...GEMMA, attn_logit_softcapping: null }, 'no place for attn_logit_softcapping, expected "a number", got null'],
  ["gemma2", { ...GEMMA, final_logit_softcapping: null }, 'no place for final_logit_softcapping, expected "a number", got null'],
  ["gemma2", { ...GEMMA, tie_word_embeddings: false }, "no place for tie_word_embeddings"],
  ["gemma2", { ...GEMMA, layer_types: new Array(6).fill("full_attention") }, "no place for layer_types"],
  ["gemma3_text", { ...GEMMA, sliding_window_pattern: 3 }, "no place for layer_types"],
  ["gemma3_text", { ...GEMMA, rope_local_base_freq: 20000 }, "no place for rope_local_base_freq, expected 10000, got 20000"],
])("%s: %o can't be said in a GGUF file, and is not written wrongly", (modelType, given, message) => {
  const { config } = describeModel({ model_type: modelType, ...given });
  expect(() => formOf(modelType).metadata(config)).toThrow(ConfigError);
  expect(() => formOf(modelType).metadata(config)).toThrow(message);
});

test("a Gemma 2 whose file names no caps has those of llama.cpp", () => {
  const { config } = describeModel({ model_type: "gemma2", ...GEMMA });
  const file = lookupOf("gemma2", config);
  const silent = { ...file, optional: (key: string) => (key.includes("softcapping") ? undefined : file.optional(key)) };
  expect(formOf("gemma2").config(silent)).toMatchObject({ attn_logit_softcapping: 50, final_logit_softcapping: 30 });
});

test("norms that multiply by 1 + weight are stored so, all of them and nothing else", () => {
  for (const modelType of ["gemma", "gemma2", "gemma3_text"]) {
    const model = createModel({ model_type: modelType, ...TINY });
    for (const [name, p] of model.namedParameters()) expect(formOf(modelType).added?.(name), name).toBe(p.rank === 1 ? 1 : 0);
    model.dispose();
  }
});

/** Configs of Llama's descendants: spellings, contradictions, and what their settings do. */
import { describe, expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import { encodeSafetensors } from "../formats/safetensors-write.ts";
import { memoryFolder } from "../formats/source.ts";
import { init } from "../nn/index.ts";
import { noGrad, scope, type Tensor, tensor } from "../tensor/index.ts";
import { configText, createModel, describeModel, fromPretrained, Gemma2, modelCounts, weightEntries } from "./index.ts";

const TINY = { vocab_size: 41, hidden_size: 24, intermediate_size: 20, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6 };
type Config = Record<string, unknown>;

test.each<[modelType: string, config: Config, message: string]>([
  [
    "qwen2",
    { layer_types: ["full_attention"] },
    "layer_types: names another number of layers, expected num_hidden_layers = 2 types, got 1. Change one of them.",
  ],
  ["qwen3", { layer_types: ["full_attention", "chunked_attention"] }, 'layer_types.1 is not one of its values, expected "full_attention", "sliding_attention"'],
  [
    "qwen2",
    { layer_types: ["full_attention", "sliding_attention"] },
    "sliding_window: is missing, expected the window of the sliding layers, got null. Set it.",
  ],
  ["qwen3", { num_key_value_heads: 3 }, "num_key_value_heads: does not divide num_attention_heads, expected no rest, got 3 for 4. Change one of them."],
  ["mistral", { head_dim: null, hidden_size: 25 }, "num_attention_heads: does not divide hidden_size, expected no rest, got 4 for 25. Change one of them."],
  [
    "smollm3",
    { no_rope_layers: [1] },
    "no_rope_layers: ends before the last layer, expected a 0 or 1 for each of num_hidden_layers = 2, got 1. Add the others.",
  ],
  ["gemma", { use_bidirectional_attention: true }, "use_bidirectional_attention is not one of its values, expected false, got true."],
  ["gemma2", { sliding_window: null }, "sliding_window: is missing, expected the window of the sliding layers, got null. Set it."],
  ["gemma3_text", { sliding_window: null }, "sliding_window: is missing"],
  [
    "gemma3_text",
    { rope_parameters: { sliding_attention: { rope_type: "linear", factor: 2 } } },
    'rope_parameters.sliding_attention.rope_type is not one of its values, expected "default", got "linear".',
  ],
  ["gemma3_text", { rope_parameters: { rope_theta: 5 } }, "rope_parameters.rope_theta is unknown"],
])("%s with %o is refused in words", (modelType, config, message) => {
  const create = () => createModel({ model_type: modelType, ...TINY, ...config });
  expect(create).toThrow(ConfigError);
  expect(create).toThrow(message);
});

/** The config.json files that came with the weights: every key, with its value. */
const PUBLISHED: Record<string, [config: Config, layers: number, facts: Config]> = {
  "Qwen 2.5 0.5B": [
    {
      ...{ architectures: ["Qwen2ForCausalLM"], model_type: "qwen2", attention_dropout: 0, bos_token_id: 151643, eos_token_id: 151643, hidden_act: "silu" },
      ...{ hidden_size: 896, initializer_range: 0.02, intermediate_size: 4864, max_position_embeddings: 32768, max_window_layers: 24, num_attention_heads: 14 },
      ...{ num_hidden_layers: 24, num_key_value_heads: 2, rms_norm_eps: 1e-6, rope_theta: 1e6, sliding_window: 32768, tie_word_embeddings: true },
      ...{ torch_dtype: "bfloat16", transformers_version: "4.40.1", use_cache: true, use_mrope: false, use_sliding_window: false, vocab_size: 151936 },
    },
    24,
    { rope_theta: 1e6, head_dim: null, use_sliding_window: false },
  ],
  "Qwen 3 0.6B": [
    {
      ...{ architectures: ["Qwen3ForCausalLM"], model_type: "qwen3", attention_bias: false, attention_dropout: 0, bos_token_id: 151643, eos_token_id: 151645 },
      ...{ head_dim: 128, hidden_act: "silu", hidden_size: 1024, initializer_range: 0.02, intermediate_size: 3072, max_position_embeddings: 40960 },
      ...{ max_window_layers: 28, num_attention_heads: 16, num_hidden_layers: 28, num_key_value_heads: 8, rms_norm_eps: 1e-6, rope_scaling: null },
      ...{ rope_theta: 1e6, sliding_window: null, tie_word_embeddings: true, torch_dtype: "bfloat16", transformers_version: "4.51.0", use_cache: true },
      ...{ use_sliding_window: false, vocab_size: 151936 },
    },
    28,
    { head_dim: 128, sliding_window: null },
  ],
  "Mistral 7B": [
    {
      ...{ architectures: ["MistralForCausalLM"], model_type: "mistral", bos_token_id: 1, eos_token_id: 2, hidden_act: "silu", hidden_size: 4096 },
      ...{ initializer_range: 0.02, intermediate_size: 14336, max_position_embeddings: 32768, num_attention_heads: 32, num_hidden_layers: 32 },
      ...{ num_key_value_heads: 8, rms_norm_eps: 1e-5, rope_theta: 10000, sliding_window: 4096, tie_word_embeddings: false, torch_dtype: "bfloat16" },
      ...{ transformers_version: "4.34.0.dev0", use_cache: true, vocab_size: 32000 },
    },
    32,
    { sliding_window: 4096 },
  ],
  "Gemma 2B": [
    {
      ...{ architectures: ["GemmaForCausalLM"], model_type: "gemma", attention_bias: false, attention_dropout: 0, bos_token_id: 2, eos_token_id: 1 },
      ...{ head_dim: 256, hidden_act: "gelu", hidden_size: 2048, initializer_range: 0.02, intermediate_size: 16384, max_position_embeddings: 8192 },
      ...{ num_attention_heads: 8, num_hidden_layers: 18, num_key_value_heads: 1, pad_token_id: 0, rms_norm_eps: 1e-6, rope_scaling: null },
      ...{ rope_theta: 10000, torch_dtype: "bfloat16", transformers_version: "4.38.0.dev0", use_cache: true, vocab_size: 256000 },
    },
    18,
    { hidden_act: "gelu", tie_word_embeddings: true },
  ],
  "Gemma 2 9B": [
    {
      ...{
        architectures: ["Gemma2ForCausalLM"],
        model_type: "gemma2",
        attention_bias: false,
        attention_dropout: 0,
        attn_logit_softcapping: 50,
        bos_token_id: 2,
      },
      ...{ cache_implementation: "hybrid", eos_token_id: 1, final_logit_softcapping: 30, head_dim: 256, hidden_act: "gelu_pytorch_tanh" },
      ...{ hidden_activation: "gelu_pytorch_tanh", hidden_size: 3584, initializer_range: 0.02, intermediate_size: 14336, max_position_embeddings: 8192 },
      ...{ num_attention_heads: 16, num_hidden_layers: 42, num_key_value_heads: 8, pad_token_id: 0, query_pre_attn_scalar: 256, rms_norm_eps: 1e-6 },
      ...{ rope_theta: 10000, sliding_window: 4096, sliding_window_size: 4096, torch_dtype: "bfloat16", transformers_version: "4.45.2", use_cache: true },
      ...{ vocab_size: 256000 },
    },
    42,
    { attn_logit_softcapping: 50, final_logit_softcapping: 30, sliding_window: 4096 },
  ],
  "Gemma 3 1B": [
    {
      ...{ architectures: ["Gemma3ForCausalLM"], model_type: "gemma3_text", attention_bias: false, attention_dropout: 0, attn_logit_softcapping: null },
      ...{ bos_token_id: 2, cache_implementation: "hybrid", eos_token_id: [1, 106], final_logit_softcapping: null, head_dim: 256 },
      ...{ hidden_activation: "gelu_pytorch_tanh", hidden_size: 1152, initializer_range: 0.02, intermediate_size: 6912, max_position_embeddings: 32768 },
      ...{ num_attention_heads: 4, num_hidden_layers: 26, num_key_value_heads: 1, pad_token_id: 0, query_pre_attn_scalar: 256, rms_norm_eps: 1e-6 },
      ...{ rope_local_base_freq: 10000, rope_scaling: null, rope_theta: 1e6, sliding_window: 512, sliding_window_pattern: 6, torch_dtype: "bfloat16" },
      ...{ transformers_version: "4.50.0.dev0", use_cache: true, vocab_size: 262144 },
    },
    26,
    { sliding_window_pattern: 6, sliding_window: 512 },
  ],
  // What it leaves out has transformers' defaults.
  "Gemma 3 12B": [
    {
      ...{ architectures: ["Gemma3ForConditionalGeneration"], model_type: "gemma3", boi_token_index: 255999, eoi_token_index: 256000, eos_token_id: [1, 106] },
      ...{ image_token_index: 262144, initializer_range: 0.02, mm_tokens_per_image: 256, torch_dtype: "bfloat16", vision_config: {} },
      text_config: {
        ...{ hidden_size: 3840, intermediate_size: 15360, model_type: "gemma3_text", num_attention_heads: 16, num_hidden_layers: 48, num_key_value_heads: 8 },
        ...{ rope_scaling: { factor: 8, rope_type: "linear" }, sliding_window: 1024 },
      },
    },
    48,
    { head_dim: 256, vocab_size: 262208, rope_theta: 1e6, rope_local_base_freq: 1e4, sliding_window: 1024, max_position_embeddings: 131072 },
  ],
  "SmolLM3 3B": [
    {
      ...{
        architectures: ["SmolLM3ForCausalLM"],
        model_type: "smollm3",
        attention_bias: false,
        attention_dropout: 0,
        bos_token_id: null,
        eos_token_id: 128012,
      },
      ...{ hidden_act: "silu", hidden_size: 2048, initializer_range: 0.02, intermediate_size: 11008, layer_types: new Array(36).fill("full_attention") },
      ...{ max_position_embeddings: 65536, max_window_layers: 28, mlp_bias: false, no_rope_layer_interval: 4, num_attention_heads: 16 },
      ...{ no_rope_layers: Array.from({ length: 36 }, (_, i) => (i % 4 === 3 ? 0 : 1)), num_hidden_layers: 36, num_key_value_heads: 4, pad_token_id: 128004 },
      ...{ pretraining_tp: 2, rms_norm_eps: 1e-6, rope_scaling: null, rope_theta: 5e6, sliding_window: null, tie_word_embeddings: true },
      ...{ torch_dtype: "bfloat16", transformers_version: "4.54.0.dev0", use_cache: false, use_sliding_window: false, vocab_size: 128256 },
    },
    36,
    { rope_theta: 5e6, no_rope_layer_interval: 4 },
  ],
};

test.each(Object.entries(PUBLISHED))("%s: its published config.json is read whole", (_, [published, layers, facts]) => {
  const { config, dimensions } = describeModel(published);
  expect(dimensions.layers).toBe(layers);
  expect(config).toMatchObject(facts);
});

test("Gemma 3's rotary settings in the older and in the newer spelling are one config", () => {
  const { config: older } = describeModel({
    model_type: "gemma3_text",
    rope_theta: 5e5,
    rope_local_base_freq: 5e3,
    rope_scaling: { rope_type: "linear", factor: 8 },
  });
  const rope_parameters = {
    full_attention: { rope_type: "linear", factor: 8, rope_theta: 5e5 },
    sliding_attention: { rope_type: "default", rope_theta: 5e3 },
  };
  const { config: newer } = describeModel({ model_type: "gemma3_text", rope_parameters });
  const essence = ({ rope_theta, rope_local_base_freq, rope_scaling }: Config) => [rope_theta, rope_local_base_freq, rope_scaling];
  expect(essence(older)).toEqual([5e5, 5e3, { rope_type: "linear", factor: 8 }]);
  expect(essence(newer)).toEqual([5e5, 5e3, rope_parameters.full_attention]);
});

describe("the text part of a model that sees", () => {
  const text = { ...TINY, max_position_embeddings: 24 };
  const whole = { model_type: "gemma3", text_config: { ...text, model_type: "gemma3_text", bos_token_id: 3 }, vision_config: {}, eos_token_id: [1, 2] };

  test.each<[generation: string, name: (own: string) => string]>([
    ["older", (own) => `language_model.${own}`],
    ["newer", (own) => own.replace(/^model\./, "model.language_model.")],
  ])("is opened under its %s names, and its weights for images passed over", async (generation, name) => {
    const model = createModel({ model_type: "gemma3_text", ...text, tie_word_embeddings: false });
    const image = `${generation === "older" ? "" : "model."}vision_tower.embeddings.patch_embedding.bias`;
    const own = weightEntries(model);
    const entries = [...own.map((entry) => ({ ...entry, name: name(entry.name) })), { ...(own.at(-1) as (typeof own)[0]), name: image }];
    const chunks: Uint8Array[] = [];
    for await (const chunk of encodeSafetensors(entries).content) chunks.push(chunk.slice());
    const config = { ...whole, text_config: { ...whole.text_config, tie_word_embeddings: false } };
    const files = { "config.json": JSON.stringify(config), "model.safetensors": new Uint8Array(Buffer.concat(chunks)) };
    const again = await fromPretrained(memoryFolder(files));
    expect(again.modelType).toBe("gemma3_text");
    expect(again.tokenIds).toEqual({ bos_token_id: 3, eos_token_id: [1, 2], pad_token_id: null });
    for (const [key, t] of again.stateDict()) expect(t.dataSync(), key).toEqual(model.stateDict().get(key)?.dataSync());
    model.dispose();
    again.dispose();
  });

  test("that is not there is named", () => {
    expect(() => describeModel({ model_type: "gemma3" })).toThrow(
      "config: a gemma3 without its text part, expected text_config to be an object, got null. Get the complete file.",
    );
  });
});

test("caps are written with a point, as transformers wants them", () => {
  for (const [modelType, cap] of [
    ["gemma2", 30],
    ["gemma3_text", 2.5],
  ] as const) {
    const model = createModel({ model_type: modelType, ...TINY, final_logit_softcapping: cap });
    expect(configText(model)).toContain(`\n  "final_logit_softcapping": ${cap === 30 ? "30.0" : "2.5"},\n`);
    expect(JSON.parse(configText(model))).toMatchObject({ final_logit_softcapping: cap, head_dim: 6 });
    expect(configText(model)).toContain('\n  "head_dim": 6,\n');
    model.dispose();
  }
});

test("a soft cap holds in logits, in logits of some rows, and in the loss, fused and watched", () => {
  const cap = 0.5;
  const [plain, capped] = [null, cap].map((final_logit_softcapping) => {
    const model = new Gemma2({ ...TINY, final_logit_softcapping }).eval();
    for (const p of model.parameters()) init.normal(p, { std: 0.3, stream: { seed: 7, stream: 0, position: 0 } });
    return model;
  }) as [Gemma2, Gemma2];
  scope(() => {
    const inputs = () => ({ inputIds: tensor([Int32Array.of(1, 5, 9, 40)]), labels: tensor([Int32Array.of(1, 5, 9, 40)]) });
    const run = (model: Gemma2) => noGrad(() => model.forward(inputs()));
    const expected = (run(plain).logits.dataSync() as Float32Array).map((x) => cap * Math.tanh(x / cap));
    const out = run(capped);
    const near = (a: ArrayLike<number>, b: ArrayLike<number>) => {
      expect(a.length).toBe(b.length);
      for (let i = 0; i < b.length; i++) expect(Math.abs(a[i] - b[i])).toBeLessThan(1e-6);
    };
    expect(expected.some((x) => Math.abs(x) > 0.4)).toBe(true);
    near(out.logits.dataSync() as Float32Array, expected);
    near(out.logitsOf(out.hidden.narrow(1, 2, 1)).dataSync() as Float32Array, expected.slice(2 * 41, 3 * 41));
    const loss = (out.loss as Tensor).itemSync();
    expect(loss).not.toBeCloseTo((run(plain).loss as Tensor).itemSync(), 3);
    const seen: number[] = [];
    const unhook = capped.hook("lm_head", (logits) => void seen.push(...(logits.dataSync() as Float32Array)));
    expect((run(capped).loss as Tensor).itemSync()).toBeCloseTo(loss, 6);
    unhook();
    // Who watches the head sees what it gives, before the cap.
    near(seen.slice(0, 41), (run(plain).logits.dataSync() as Float32Array).slice(0, 41));
    return undefined;
  });
  plain.dispose();
  capped.dispose();
});

test("windows save arithmetic, and no memory of keys and values", () => {
  const counts = (sliding_window: number | null) => modelCounts(describeModel({ model_type: "mistral", ...TINY, sliding_window }));
  const pairs = (flops: number) => (flops * 10 - counts(null).forwardFlops(10) * 10) / (4 * 2 * 24);
  // Of the 55 pairs of a query and a key, a window of 4 leaves 1 + 2 + 3 + 4 · 7.
  expect(pairs(counts(4).forwardFlops(10))).toBeCloseTo(34 - 55, 9);
  expect(counts(10).forwardFlops(10)).toBe(counts(null).forwardFlops(10));
  expect(counts(4).stateBytesPerToken).toBe(counts(null).stateBytesPerToken);
});

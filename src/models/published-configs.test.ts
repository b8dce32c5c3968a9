/** Configs as their makers published them, with the spellings and left-overs of their time: each is read, and tells of a model of the size that is known. */
import { expect, test } from "vitest";
import { describeModel, modelCounts } from "./index.ts";

/** LongRoPE's factors for 48 frequencies; their values do not matter here. */
const FACTORS = Array.from({ length: 48 }, (_, i) => 1 + i / 10);

test.each<[name: string, config: Record<string, unknown>, parameters: number, settings: Record<string, unknown>]>([
  [
    "Pythia 70M",
    {
      ...{ model_type: "gpt_neox", hidden_act: "gelu", hidden_size: 512, initializer_range: 0.02, intermediate_size: 2048, layer_norm_eps: 1e-5 },
      ...{ max_position_embeddings: 2048, num_attention_heads: 8, num_hidden_layers: 6, rotary_emb_base: 10000, rotary_pct: 0.25, vocab_size: 50304 },
      ...{ tie_word_embeddings: false, torch_dtype: "float16", transformers_version: "4.24.0", use_cache: true, use_parallel_residual: true },
    },
    70_426_624,
    { partial_rotary_factor: 0.25, rope_theta: 10000, attention_bias: true },
  ],
  [
    "Phi-4 mini",
    {
      ...{ model_type: "phi3", attention_bias: false, attention_dropout: 0, embd_pdrop: 0, full_attn_mod: 1, hidden_act: "silu", hidden_size: 3072 },
      ...{ initializer_range: 0.02, intermediate_size: 8192, interpolate_factor: 1, lm_head_bias: false, max_position_embeddings: 131072, mlp_bias: false },
      ...{ num_attention_heads: 24, num_hidden_layers: 32, num_key_value_heads: 8, original_max_position_embeddings: 4096, partial_rotary_factor: 0.75 },
      ...{ resid_pdrop: 0, rms_norm_eps: 1e-5, rope_scaling: { long_factor: FACTORS, short_factor: FACTORS, type: "longrope" }, rope_theta: 10000 },
      ...{ sliding_window: 262144, tie_word_embeddings: true, vocab_size: 200064 },
    },
    3_836_021_760,
    { partial_rotary_factor: 0.75, original_max_position_embeddings: 4096 },
  ],
  [
    "OLMo 2 7B",
    {
      ...{ model_type: "olmo2", attention_bias: false, attention_dropout: 0, hidden_act: "silu", hidden_size: 4096, initializer_range: 0.02 },
      ...{ intermediate_size: 11008, max_position_embeddings: 4096, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 32 },
      ...{ rms_norm_eps: 1e-6, rope_scaling: null, rope_theta: 500000, tie_word_embeddings: false, vocab_size: 100352 },
    },
    7_298_617_344,
    { rope_theta: 500000 },
  ],
  [
    "Granite 3.0 2B",
    {
      ...{ model_type: "granite", attention_bias: false, attention_dropout: 0.1, attention_multiplier: 0.015625, embedding_multiplier: 12, hidden_act: "silu" },
      ...{ hidden_size: 2048, initializer_range: 0.02, intermediate_size: 8192, logits_scaling: 8, max_position_embeddings: 4096, mlp_bias: false },
      ...{ num_attention_heads: 32, num_hidden_layers: 40, num_key_value_heads: 8, residual_multiplier: 0.22, rms_norm_eps: 1e-5, rope_scaling: null },
      ...{ rope_theta: 10000, tie_word_embeddings: true, vocab_size: 49155 },
    },
    2_533_531_648,
    { logits_scaling: 8 },
  ],
  [
    "OPT 350M",
    {
      ...{ model_type: "opt", activation_dropout: 0, activation_function: "relu", attention_dropout: 0, do_layer_norm_before: false, dropout: 0.1 },
      ...{ ffn_dim: 4096, hidden_size: 1024, init_std: 0.02, layerdrop: 0, max_position_embeddings: 2048, num_attention_heads: 16, num_hidden_layers: 24 },
      ...{ pad_token_id: 1, prefix: "</s>", vocab_size: 50272, word_embed_proj_dim: 512 },
    },
    331_196_416,
    { word_embed_proj_dim: 512 },
  ],
  [
    "BLOOM 560M",
    {
      ...{ model_type: "bloom", apply_residual_connection_post_layernorm: false, attention_dropout: 0, attention_softmax_in_fp32: true, unk_token_id: 0 },
      ...{ bias_dropout_fusion: true, hidden_dropout: 0, initializer_range: 0.02, layer_norm_epsilon: 1e-5, masked_softmax_fusion: true, n_embed: 1024 },
      ...{ n_inner: null, n_layer: 24, num_attention_heads: 16, offset_alibi: 100, pretraining_tp: 1, skip_bias_add: true, skip_bias_add_qkv: false },
      ...{ seq_length: 2048, slow_but_exact: false, vocab_size: 250880 },
    },
    559_214_592,
    { hidden_size: 1024, n_head: 16 },
  ],
  [
    "Falcon RW 1B",
    {
      ...{ model_type: "falcon", alibi: true, apply_residual_connection_post_layernorm: false, attention_dropout: 0, bias: true, hidden_dropout: 0 },
      ...{ hidden_size: 2048, initializer_range: 0.02, layer_norm_epsilon: 1e-5, multi_query: false, n_head: 32, n_layer: 24, parallel_attn: false },
      ...{ vocab_size: 50304 },
    },
    1_311_625_216,
    { num_attention_heads: 32, num_hidden_layers: 24 },
  ],
])("%s", (_, config, parameters, settings) => {
  const description = describeModel(config);
  expect(modelCounts(description).parameters.total).toBe(parameters);
  expect(description.config).toMatchObject(settings);
});

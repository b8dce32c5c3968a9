// What the check `llamacpp` converts: every parity fixture, what must be refused of them, and the same as far as GGUF files can say it.

/** Fixtures that `convert` refuses, and the setting that it names. */
export const REFUSED = {
  "bloom-post-untied": "no place for apply_residual_connection_post_layernorm",
  "falcon-alibi-in-turn": "no place for parallel_attn",
  "falcon-grouped-one-norm": "no place for bias",
  "falcon-grouped-untied": "no place for activation",
  "gemma-biases-untied": "no place for attention_bias",
  gemma2: "no place for query_pre_attn_scalar",
  "gemma2-uncapped-biases": "no place for attention_bias",
  gemma3_text: "no place for query_pre_attn_scalar",
  "gemma3_text-capped-scaled": "no place for attention_bias",
  "gpt2-gelu-untied": "no place for activation_function",
  "gpt_neox-in-turn-tied": "no place for attention_bias",
  "gpt_oss-plain-positions": "no place for layer_types",
  "llama-gelu": "no place for hidden_act",
  "llama-rope-dynamic": "stretched positions that llama.cpp does not have",
  mistral: "no place for sliding_window",
  "mixtral-window-balanced": "no place for sliding_window",
  "olmo2-gqa-tied-biases": "no place for attention_bias",
  opt: "an architecture without a GGUF form",
  "opt-bare-untied": "an architecture without a GGUF form",
  "opt-post-projected": "an architecture without a GGUF form",
  "phi3-partial-window-longrope": "no place for hidden_act",
  "qwen2-window-tied": "no place for use_sliding_window",
  "qwen3-window-biases": "no place for use_sliding_window",
  qwen3_moe: "no place for norm_topk_prob",
  "qwen3_moe-balanced-plain-layer": "no place for use_sliding_window",
  smollm3: "no place for no_rope_layers",
  "smollm3-window-biases": "no place for use_sliding_window",
};

const LONGROPE = { rope_type: "longrope", short_factor: [1, 1.1, 1.2, 1.3], long_factor: [1, 2, 3, 4], original_max_position_embeddings: 256, factor: 2 };
const LLAMA3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 12 };
/** With a ramp over several dimensions of a head of 16 items. */
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
const LONG = { max_position_embeddings: 128 };
const WIDE = { ...LONG, head_dim: 16 };
const SMOLLM3 = { num_hidden_layers: 5, layer_types: null, no_rope_layers: null, no_rope_layer_interval: 4, use_sliding_window: false };
const GEMMA3 = { num_hidden_layers: 7, layer_types: null, sliding_window_pattern: 6, _sliding_window_pattern: 6 };
const UNWINDOWED = { use_sliding_window: false, layer_types: null };

/** The refused ones without what they were refused for, and what no fixture has: [name, fixture, changes of its config, { length of the text, what is refused }]. */
export const VARIANTS = [
  ["bloom, untied", "bloom-post-untied", { apply_residual_connection_post_layernorm: false }],
  ["falcon, grouped, one norm, linear", "falcon-grouped-one-norm", { bias: false }],
  ["falcon, grouped, untied", "falcon-grouped-untied", { activation: "gelu" }],
  ["falcon, yarn", "falcon", { ...LONG, hidden_size: 64, rope_parameters: YARN }, { length: 100 }],
  ["gemma, grouped", "gemma-biases-untied", { attention_bias: false, tie_word_embeddings: true, hidden_act: "gelu_pytorch_tanh" }],
  ["gemma2, capped", "gemma2", { query_pre_attn_scalar: 6 }],
  ["gemma2, uncapped", "gemma2", { query_pre_attn_scalar: 6, attn_logit_softcapping: null }, { refused: "no place for attn_logit_softcapping" }],
  ["gemma2, yarn", "gemma2", { ...WIDE, query_pre_attn_scalar: 16, rope_parameters: YARN }, { length: 100 }],
  ["gemma2, 46 layers", "gemma2", { num_hidden_layers: 46, layer_types: null, query_pre_attn_scalar: 4, intermediate_size: 8 }],
  ["gemma3_text, seven layers", "gemma3_text", { ...GEMMA3, query_pre_attn_scalar: 6 }],
  [
    "gemma3_text, capped, linear, untied",
    "gemma3_text-capped-scaled",
    {
      ...GEMMA3,
      attention_bias: false,
      rope_parameters: { full_attention: { rope_type: "linear", factor: 3, rope_theta: 5000 }, sliding_attention: { rope_type: "default", rope_theta: 10000 } },
    },
  ],
  ["gemma3_text, yarn", "gemma3_text", { ...GEMMA3, ...WIDE, query_pre_attn_scalar: 16, rope_parameters: null, rope_scaling: YARN }, { length: 100 }],
  ["gemma3_text, 62 layers", "gemma3_text", { ...GEMMA3, num_hidden_layers: 62, query_pre_attn_scalar: 4, intermediate_size: 8 }],
  ["gpt2, untied", "gpt2-gelu-untied", { activation_function: "gelu_new", scale_attn_by_inverse_layer_idx: false, layer_norm_epsilon: 0.01 }],
  ["gpt_neox, in turn, linear", "gpt_neox-in-turn-tied", { attention_bias: true, hidden_act: "gelu", tie_word_embeddings: false }],
  ["gpt_neox, tied", "gpt_neox", { tie_word_embeddings: true }, { refused: "no place for tie_word_embeddings" }],
  ["gpt_neox, yarn", "gpt_neox", { ...LONG, hidden_size: 64, rope_parameters: { ...YARN, partial_rotary_factor: 0.5 } }, { length: 100 }],
  ["gpt_oss, plain positions", "gpt_oss-plain-positions", { attention_bias: true, layer_types: null, swiglu_alpha: 1.702, swiglu_limit: 7 }],
  ["granite, llama3", "granite", { hidden_size: 32, rope_parameters: LLAMA3 }],
  ["granite, longrope", "granite", { hidden_size: 32, max_position_embeddings: 512, rope_parameters: LONGROPE }, { length: 300 }],
  ["granite, yarn", "granite", { ...LONG, hidden_size: 64, rope_parameters: YARN }, { length: 100 }],
  ["llama, one head of keys", "llama-gelu", { hidden_act: "silu" }],
  ["llama, longrope, short text", "llama-rope-longrope", { max_position_embeddings: 512, rope_parameters: LONGROPE }, { length: 100 }],
  ["llama, longrope, long text", "llama-rope-longrope", { max_position_embeddings: 512, rope_parameters: LONGROPE }, { length: 300 }],
  ["llama, yarn, wide ramp", "llama-rope-yarn", { ...WIDE, rope_parameters: YARN }, { length: 100 }],
  ["llama, yarn, ramp of its own", "llama-rope-yarn", { ...WIDE, rope_parameters: { ...YARN, beta_fast: 4, beta_slow: 0.1 } }, { length: 100 }],
  ["llama, yarn, attention of its own", "llama-rope-yarn", { ...WIDE, rope_parameters: { ...YARN, attention_factor: 1.5 } }, { length: 100 }],
  ["mistral, no window", "mistral", { sliding_window: null }],
  ["mixtral, one expert, tied", "mixtral-window-balanced", { sliding_window: null, hidden_act: "silu" }],
  ["mixtral, llama3", "mixtral", { head_dim: 8, rope_parameters: LLAMA3 }],
  ["olmo2, grouped", "olmo2-gqa-tied-biases", { attention_bias: false, hidden_act: "silu", tie_word_embeddings: false }],
  ["olmo2, tied", "olmo2", { tie_word_embeddings: true }, { refused: "no place for tie_word_embeddings" }],
  ["olmo2, yarn", "olmo2", { ...LONG, hidden_size: 64, rope_parameters: YARN }, { length: 100 }],
  ["phi3, partial, window, longrope", "phi3-partial-window-longrope", { hidden_act: "silu" }],
  [
    "phi3, longrope of one set",
    "phi3",
    {
      hidden_size: 32,
      original_max_position_embeddings: 24,
      rope_parameters: { rope_type: "longrope", short_factor: [1, 1.5, 2, 3], long_factor: [1, 1.5, 2, 3] },
    },
  ],
  ["qwen2, tied", "qwen2-window-tied", UNWINDOWED],
  ["qwen2, yarn", "qwen2", { ...LONG, hidden_size: 64, rope_parameters: YARN }, { length: 100 }],
  ["qwen2, llama3", "qwen2", { hidden_size: 32, rope_parameters: LLAMA3 }, { refused: "no place for rope_type" }],
  ["qwen2, longrope", "qwen2", { hidden_size: 32, rope_parameters: LONGROPE }, { refused: "no place for rope_type" }],
  ["qwen3, tied", "qwen3-window-biases", { ...UNWINDOWED, attention_bias: false }],
  ["qwen3, biases", "qwen3", { attention_bias: true }, { refused: "no place for attention_bias" }],
  ["qwen3_moe, normed", "qwen3_moe", { norm_topk_prob: true }],
  ["qwen3_moe, every layer", "qwen3_moe-balanced-plain-layer", { use_sliding_window: false, decoder_sparse_step: 1, attention_bias: false }],
  ["qwen3_moe, biases", "qwen3_moe", { norm_topk_prob: true, attention_bias: true }, { refused: "no place for attention_bias" }],
  ["smollm3, five layers", "smollm3", SMOLLM3],
  ["smollm3, untied", "smollm3-window-biases", { ...SMOLLM3, attention_bias: false, mlp_bias: false }],
  ["smollm3, biases", "smollm3-window-biases", SMOLLM3, { refused: "no place for attention_bias" }],
  ["smollm3, yarn", "smollm3", { ...SMOLLM3, ...LONG, hidden_size: 64, rope_parameters: YARN }, { length: 100 }],
];

// What llama.cpp computes in another way by its own choice, and what a wrong setting would change: the check `llamacpp` allows the first and must notice the second.
import { tensorFrom } from "groundup";

/** Rounded to float16, to even: 11 binary places from 2⁻¹⁴ on, multiples of 2⁻²⁴ below. */
function toHalf(x) {
  if (Math.abs(x) < 2 ** -14) return (x * 2 ** 24 + 1.5 * 2 ** 52 - 1.5 * 2 ** 52) * 2 ** -24;
  const cut = x * (2 ** 42 + 1);
  return cut - (cut - x);
}

const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * x * (1 + 0.044715 * x * x)));

/** llama.cpp's GELU, for every family and either form: a table, of arguments rounded to float16 the tanh form rounded to float16. */
const geluTable = (x) => (x <= -10 ? 0 : x >= 10 ? x : toHalf(geluTanh(toHalf(x))));

/** The layer in front of an activation by family, and the point behind it. */
const ACTIVATED = {
  bloom: ["dense_h_to_4h", "neurons"],
  falcon: ["dense_h_to_4h", "neurons"],
  gemma: ["gate_proj", "activation"],
  gemma2: ["gate_proj", "activation"],
  gemma3_text: ["gate_proj", "activation"],
  gpt2: ["c_fc", "neurons"],
  gpt_neox: ["dense_h_to_4h", "neurons"],
};

/** Whether llama.cpp looks a family's activation up. */
export const looksUp = (modelType) => modelType in ACTIVATED;

/** Puts the table into a model in place of its own activation. */
export function lookUpGelu(model) {
  const [layer, point] = ACTIVATED[model.modelType];
  let before;
  model.hook(`**.mlp.${layer}`, (t) => {
    before = t;
  });
  model.hook(`**.mlp.${point}`, () => tensorFrom(Float32Array.from(before.dataSync(), geluTable), before.shape));
}

/**
 * Settings that llama.cpp takes otherwise than the file says: what it computes, why, and how many positions that leaves alone. Null where it computes what is said.
 */
export function peerChanges({ model_type, ...config }) {
  if (model_type === "phi3" && config.sliding_window !== null)
    return { changes: { sliding_window: null }, positions: config.sliding_window, why: "no windows in its Phi-3 (pull request 13676)" };
  if (model_type === "gpt_oss" && config.rope_scaling?.truncate === false)
    return { changes: { rope_scaling: { ...config.rope_scaling, truncate: true } }, why: "yarn's ramp in whole dimensions" };
  const { beta_fast, beta_slow, ...rest } = config.rope_scaling ?? {};
  if (beta_fast !== undefined || beta_slow !== undefined) return { changes: { rope_scaling: rest }, why: "yarn's ramp always from 32 to 1 turns" };
  return null;
}

const by = (factor) => (value) => value * factor;
const scaled = (p) => {
  if ((p?.rope_type ?? p?.type ?? "default") === "default") return undefined;
  if (p.short_factor === undefined) return { ...p, factor: p.factor * 1.1 };
  return { ...p, short_factor: p.short_factor.map(by(1.1)), long_factor: p.long_factor.map(by(1.1)) };
};
const other = (names) => (value) => names.find((name) => !value.startsWith(name.slice(0, 4))) ?? names.at(-1);

/** Of each setting that changes the arithmetic another value that is near; undefined where there is none. */
const CHANGED = {
  layer_norm_epsilon: by(0.1),
  layer_norm_eps: by(0.1),
  rms_norm_eps: by(0.1),
  rope_theta: by(0.1),
  // Two items that turn have one frequency, 1, whatever the base.
  rotary_emb_base: (base, { rotary_pct, hidden_size, num_attention_heads }) => ((rotary_pct * hidden_size) / num_attention_heads > 2 ? base * 0.1 : undefined),
  rotary_pct: (share) => (share > 0.5 ? 0.5 : 2 * share),
  rope_local_base_freq: by(0.1),
  rope_scaling: scaled,
  partial_rotary_factor: (share, { rope_scaling: p }) => (p?.short_factor === undefined ? (share > 0.5 ? 0.5 : 2 * share) : undefined),
  hidden_act: other(["silu", "gelu_new"]),
  hidden_activation: other(["silu", "gelu_new"]),
  activation_function: () => "gelu",
  activation: () => "relu",
  sliding_window: (window, { use_sliding_window }) => (use_sliding_window === false ? undefined : window + 1),
  layer_types: (types) => (new Set(types).size > 1 ? types.toReversed() : undefined),
  sliding_window_pattern: (pattern) => pattern - 1,
  attn_logit_softcapping: by(1.02),
  final_logit_softcapping: by(1.02),
  query_pre_attn_scalar: (scalar) => scalar + 1,
  attention_multiplier: by(1.02),
  embedding_multiplier: by(1.02),
  residual_multiplier: by(1.02),
  logits_scaling: by(1.02),
  scale_attn_weights: () => false,
  scale_attn_by_inverse_layer_idx: () => true,
  use_parallel_residual: (beside) => !beside,
  no_rope_layer_interval: (interval) => interval - 1,
  num_experts_per_tok: (chosen, { num_experts: experts, num_local_experts: count = experts }) => (chosen === count ? chosen - 1 : chosen + 1),
  norm_topk_prob: () => false,
  swiglu_alpha: by(1.02),
  swiglu_limit: by(0.1),
};

/** Configs that differ from this one in a single setting: [setting, config]. */
export function nearConfigs(config) {
  return Object.entries(CHANGED).flatMap(([key, change]) => {
    const value = config[key] ?? null;
    const changed = value === null ? undefined : change(value, config);
    return changed === undefined ? [] : [[key, { ...config, [key]: changed }]];
  });
}

/** Every model against transformers in float64 (make_models.py): logits, loss, every gradient. Our error may be 4 × that of PyTorch's own float32, plus 1e-6 of the largest value. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openFile, openFolder, openSafetensors, readConfigJson } from "../../src/formats/index.ts";
import { type Tensor, tensorFrom } from "../../src/index.ts";
import { createModel, fromPretrained, loadWeights } from "../../src/models/index.ts";

const root = fileURLToPath(new URL("../fixtures/models/", import.meta.url));

async function reference(name: string) {
  const reader = await openSafetensors(await openFile(`${root}${name}/reference.safetensors`));
  const arrays = new Map<string, Float64Array | Int32Array>();
  const shapes = new Map<string, readonly number[]>();
  for (const [key, info] of reader.tensors) {
    const { data } = await reader.read(key);
    arrays.set(key, info.dtype === "I32" ? new Int32Array(data.buffer) : new Float64Array(data.buffer));
    shapes.set(key, info.shape);
  }
  await reader.close();
  const errors = JSON.parse(reader.metadata.float32_errors as string) as Record<string, number>;
  const ids = (key: string): Tensor => tensorFrom(arrays.get(key) as Int32Array, shapes.get(key) as number[]);
  return { arrays, errors, ids };
}

function largest(xs: ArrayLike<number>): number {
  let m = 0;
  for (let i = 0; i < xs.length; i++) m = Math.max(m, Math.abs(xs[i] as number));
  return m;
}

function expectWithin(actual: ArrayLike<number>, exact: ArrayLike<number>, allowed: number, what: string): void {
  expect(actual.length, what).toBe(exact.length);
  let worst = 0;
  for (let i = 0; i < exact.length; i++) worst = Math.max(worst, Math.abs((actual[i] as number) - (exact[i] as number)));
  expect(worst, `${what}: largest error, allowed ${allowed}`).toBeLessThanOrEqual(allowed);
}

describe.each(readdirSync(root))("%s", (name) => {
  test("logits, loss and every gradient", async () => {
    const { arrays, errors, ids } = await reference(name);
    const model = await fromPretrained(root + name);
    const { logits, loss } = model.forward({ inputIds: ids("input_ids"), labels: ids("labels") });
    (loss as Tensor).backward();
    const check = (key: string, actual: ArrayLike<number>, scale: number) =>
      expectWithin(actual, arrays.get(key) as Float64Array, 4 * (errors[key] as number) + 1e-6 * scale, key);
    check("logits", await logits.data(), largest(arrays.get("logits") as Float64Array));
    check("loss", [await (loss as Tensor).item()], (arrays.get("loss") as Float64Array)[0] as number);
    const gradients = [...arrays.keys()].filter((k) => k.startsWith("grad."));
    const scale = Math.max(...gradients.map((k) => largest(arrays.get(k) as Float64Array)));
    expect([...model.namedParameters()].map(([n]) => `grad.${n}`).sort()).toEqual(gradients.sort());
    for (const [n, p] of model.namedParameters()) check(`grad.${n}`, await (p.grad as Tensor).data(), scale);
    model.dispose();
  });
});

/** A fixture counts only if it notices: each of these changes must move the logits far beyond what is allowed. */
const LONGROPE = { rope_type: "longrope", factor: 3, short_factor: [1, 1.1], long_factor: [1.5, 3] };
const changes: [fixture: string, key: string, value: unknown, more?: Record<string, unknown>][] = [
  ["gpt2", "layer_norm_epsilon", 1e-5],
  ["gpt2", "activation_function", "gelu"],
  ["gpt2", "scale_attn_weights", false],
  ["gpt2-gelu-untied", "scale_attn_by_inverse_layer_idx", false],
  ["llama", "rms_norm_eps", 1e-6],
  ["llama", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["llama-gelu", "hidden_act", "silu"],
  ["llama-rope-linear", "rope_parameters", { rope_type: "linear", factor: 2.1, rope_theta: 10000 }],
  ["llama-rope-dynamic", "rope_parameters", { rope_type: "dynamic", factor: 2.1, rope_theta: 10000 }],
  [
    "llama-rope-yarn",
    "rope_parameters",
    { rope_type: "yarn", factor: 4.1, rope_theta: 10000, original_max_position_embeddings: 6, beta_fast: 4, beta_slow: 0.1 },
  ],
  [
    "llama-rope-llama3",
    "rope_parameters",
    { rope_type: "llama3", factor: 8, rope_theta: 10000, low_freq_factor: 1, high_freq_factor: 5, original_max_position_embeddings: 12 },
  ],
  [
    "llama-rope-longrope",
    "rope_parameters",
    { rope_type: "longrope", factor: 2, rope_theta: 10000, original_max_position_embeddings: 12, short_factor: [1, 1, 1, 1], long_factor: [1, 2, 3, 4.1] },
  ],
  ["qwen2", "rms_norm_eps", 1e-6],
  ["qwen2", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["qwen2-window-tied", "sliding_window", 6],
  ["qwen2-window-tied", "layer_types", ["full_attention", "full_attention"]],
  ["qwen3", "rms_norm_eps", 1e-6],
  ["qwen3", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["qwen3-window-biases", "sliding_window", 6],
  ["qwen3-window-biases", "layer_types", ["full_attention", "full_attention"]],
  ["mistral", "rms_norm_eps", 1e-6],
  ["mistral", "sliding_window", 6],
  ["mistral-full-tied", "sliding_window", 10],
  ["mistral-full-tied", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["gemma", "rms_norm_eps", 1e-6],
  ["gemma", "hidden_act", "silu"],
  ["gemma", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["gemma2", "rms_norm_eps", 1e-6],
  ["gemma2", "hidden_activation", "silu"],
  ["gemma2", "query_pre_attn_scalar", 6],
  ["gemma2", "attn_logit_softcapping", 1.6],
  ["gemma2", "final_logit_softcapping", 2.1],
  ["gemma2", "sliding_window", 6],
  ["gemma2-uncapped-biases", "layer_types", null],
  ["gemma3_text", "rms_norm_eps", 1e-6],
  ["gemma3_text", "hidden_activation", "silu"],
  ["gemma3_text", "query_pre_attn_scalar", 6],
  ["gemma3_text", "sliding_window", 6],
  ["gemma3_text", "rope_parameters", { full_attention: { rope_theta: 9e5 }, sliding_attention: { rope_theta: 1e4 } }],
  ["gemma3_text", "rope_parameters", { full_attention: { rope_theta: 1e6 }, sliding_attention: { rope_theta: 9e3 } }],
  ["gemma3_text-capped-scaled", "final_logit_softcapping", 2.1],
  [
    "gemma3_text-capped-scaled",
    "rope_parameters",
    { full_attention: { rope_type: "linear", factor: 3.1, rope_theta: 5000 }, sliding_attention: { rope_theta: 50 } },
  ],
  ["gemma3_text-capped-scaled", "layer_types", ["sliding_attention", "sliding_attention"]],
  ["mixtral", "rms_norm_eps", 1e-6],
  ["mixtral", "num_experts_per_tok", 1],
  ["mixtral", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["mixtral-window-balanced", "sliding_window", 6],
  ["mixtral-window-balanced", "hidden_act", "silu"],
  ["qwen3_moe", "norm_topk_prob", true],
  ["qwen3_moe", "num_experts_per_tok", 3],
  ["qwen3_moe", "rms_norm_eps", 1e-6],
  ["qwen3_moe-balanced-plain-layer", "sliding_window", 6],
  ["qwen3_moe-balanced-plain-layer", "norm_topk_prob", false],
  ["gpt_oss", "sliding_window", 6],
  ["gpt_oss", "swiglu_alpha", 1.6],
  ["gpt_oss", "rms_norm_eps", 1e-6],
  ["gpt_oss", "layer_types", ["full_attention", "sliding_attention"]],
  ["gpt_oss-plain-positions", "swiglu_limit", 0.4],
  ["gpt_oss-plain-positions", "rope_parameters", { rope_type: "default", rope_theta: 600 }],
  ["smollm3", "rms_norm_eps", 1e-6],
  ["smollm3", "no_rope_layers", [0, 1]],
  ["smollm3", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["smollm3-window-biases", "sliding_window", 6],
  ["smollm3-window-biases", "layer_types", ["full_attention", "full_attention"]],
  ["phi3", "rms_norm_eps", 1e-6],
  ["phi3", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["phi3-partial-window-longrope", "sliding_window", 6],
  ["phi3-partial-window-longrope", "rope_parameters", { ...LONGROPE, long_factor: [1.5, 3.1] }],
  ["phi3-partial-window-longrope", "rope_parameters", { ...LONGROPE, factor: 2 }],
  ["phi3-partial-window-longrope", "original_max_position_embeddings", 20, { rope_parameters: { ...LONGROPE, original_max_position_embeddings: 20 } }],
  [
    "phi3-partial-window-longrope",
    "partial_rotary_factor",
    0.25,
    { rope_parameters: { rope_type: "longrope", factor: 3, short_factor: [1], long_factor: [1.5] } },
  ],
  ["phi3-partial-window-longrope", "hidden_act", "silu"],
  ["gpt_neox", "layer_norm_eps", 1e-5],
  ["gpt_neox", "hidden_act", "gelu_new"],
  ["gpt_neox", "use_parallel_residual", false],
  ["gpt_neox", "rope_parameters", { rope_type: "default", rope_theta: 10000, partial_rotary_factor: 0.5 }],
  ["gpt_neox-in-turn-tied", "rope_parameters", { rope_type: "linear", factor: 2, rope_theta: 400, partial_rotary_factor: 0.75 }],
  ["gpt_neox-in-turn-tied", "use_parallel_residual", true],
  ["gpt_neox-in-turn-tied", "rope_parameters", { rope_type: "linear", factor: 2.1, rope_theta: 500, partial_rotary_factor: 0.75 }],
  ["olmo2", "rms_norm_eps", 1e-6],
  ["olmo2-gqa-tied-biases", "rope_parameters", { rope_type: "default", rope_theta: 400 }],
  ["olmo2-gqa-tied-biases", "hidden_act", "silu"],
  ["granite", "rms_norm_eps", 1e-6],
  ["granite-multipliers", "embedding_multiplier", 3.01],
  ["granite-multipliers", "attention_multiplier", 0.31],
  ["granite-multipliers", "residual_multiplier", 0.41],
  ["granite-multipliers", "logits_scaling", 1.71],
  ["opt", "activation_function", "gelu"],
  ["opt-post-projected", "do_layer_norm_before", true, { _remove_final_layer_norm: true }],
  ["opt-bare-untied", "_remove_final_layer_norm", false],
  ["bloom", "layer_norm_epsilon", 1e-5],
  ["bloom", "apply_residual_connection_post_layernorm", true],
  ["bloom-post-untied", "apply_residual_connection_post_layernorm", false],
  ["falcon", "layer_norm_epsilon", 1e-5],
  ["falcon", "activation", "gelu_new"],
  ["falcon", "rope_parameters", { rope_type: "default", rope_theta: 9000 }],
  ["falcon-grouped-one-norm", "rope_parameters", { rope_type: "linear", factor: 2.1, rope_theta: 500 }],
  ["falcon-alibi-in-turn", "alibi", false],
];

test.each(changes)("%s notices another %s", async (name, key, value, more = {}) => {
  const { arrays, errors, ids } = await reference(name);
  const folder = openFolder(root + name);
  const model = createModel({ ...(await readConfigJson(folder)), [key]: value, ...more });
  await loadWeights(model, folder);
  const actual = await model.forward({ inputIds: ids("input_ids") }).logits.data();
  const exact = arrays.get("logits") as Float64Array;
  const worst = exact.reduce((m, x, i) => Math.max(m, Math.abs(x - (actual[i] as number))), 0);
  expect(worst).toBeGreaterThan(10 * (4 * (errors.logits as number) + 1e-6 * largest(exact)));
  model.dispose();
});

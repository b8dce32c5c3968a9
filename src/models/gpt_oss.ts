/**
 * gpt-oss (OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025): every MLP a mixture of experts with clamped gated units, attention with sinks, every second layer with a
 * window. Property names and shapes are those of transformers; gate and up alternate in one matrix, and matrices of experts are (in, out).
 */
import * as z from "zod";
import { u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import {
  ATTENTION_POINTS,
  type AttendOptions,
  attend,
  Embedding,
  type ForwardContext,
  init,
  Linear,
  Module,
  mixExperts,
  parameter,
  RMSNorm,
  RouteRecord,
  routeTokens,
  through,
} from "../nn/index.ts";
import { groupedLinear, rope, type Tensor, zeros } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { checkExperts, configKeys, depth, epsilon, experts, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { FAMILY_NAMES, ggufSizes, sizesFromGguf } from "./llama-family.gguf.ts";
import {
  checkHeads,
  checkLayerTypes,
  familyDimensions,
  familyShape,
  initialise,
  layerTypes,
  longestSequence,
  ROPE_SPELLINGS,
  ropeJson,
  windowsOf,
} from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a gpt-oss may hold. */
export const gptOssConfigSchema = z
  .strictObject({
    vocab_size: size.default(201088),
    hidden_size: size.default(2880),
    /** Neurons of one expert. */
    intermediate_size: size.default(2880),
    num_hidden_layers: depth.default(36),
    num_attention_heads: size.default(64),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(8),
    head_dim: size.nullable().default(64),
    max_position_embeddings: size.default(131072),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-5),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(150000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema
      .nullable()
      .default({ rope_type: "yarn", factor: 32, beta_fast: 32, beta_slow: 1, truncate: false, original_max_position_embeddings: 4096 }),
    attention_bias: z.boolean().default(true),
    /** How many positions a query of a sliding layer sees, its own included. */
    sliding_window: size.nullable().default(128),
    /** Null is in turns, a sliding one first. */
    layer_types: layerTypes,
    attention_dropout: probability.default(0),
    num_local_experts: experts.default(128),
    /** Experts that each token visits. */
    num_experts_per_tok: experts.default(4),
    /** What the gate is multiplied by inside of its sigmoid. */
    swiglu_alpha: z.number().positive().default(1.702),
    /** Gates are cut off above it, what they let through on both sides. */
    swiglu_limit: z.number().positive().default(7),
    /** Whether the loss has the balance loss in it. */
    output_router_logits: z.boolean().default(false),
    /** What the balance loss is multiplied by. */
    router_aux_loss_coef: z.number().nonnegative().default(0.001),
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkLayerTypes(config, ctx);
    checkExperts(config, ctx);
  });
/** `config.json` of a gpt-oss, checked, with its defaults. */
export type GptOssConfig = z.output<typeof gptOssConfigSchema>;

const keys = configKeys(gptOssConfigSchema, { num_local_experts: ["num_experts"], num_experts_per_tok: ["experts_per_token"], ...ROPE_SPELLINGS }, [
  "hidden_act",
  "initial_context_length",
]);

const windows = (config: GptOssConfig) => windowsOf(config, (layer) => layer % 2 === 0);

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  /** (heads). */
  sinks: Tensor;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;

  constructor(config: GptOssConfig, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const window = windows(config)[layer] ?? null;
    this.options = window === null ? {} : { window };
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    const bias = config.attention_bias;
    this.q_proj = new Linear(hidden, heads * headDim, { bias });
    this.k_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.v_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.o_proj = new Linear(heads * headDim, hidden, { bias });
    this.sinks = parameter(init.normal(zeros([heads]), { std: config.initializer_range }));
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const [b, t] = x.shape as [number, number];
    const { heads, kvHeads, headDim } = this.sizes;
    const split = (y: Tensor, n: number) => y.reshape([b, t, n, headDim]); // (B, T, H, D)
    const q = rope(split(this.q_proj.forward(x), heads), turn.cos, turn.sin, turn.rows);
    const k = rope(split(this.k_proj.forward(x), kvHeads), turn.cos, turn.sin, turn.rows);
    const v = split(this.v_proj.forward(x), kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      ...this.options,
      sinks: this.sinks,
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.fused(this.see("heads", y).reshape([b, t, heads * headDim]), { residual });
  }
}

class Experts extends Module {
  /** (experts, hidden, 2 · inner): columns of gate and up in turns. */
  gate_up_proj: Tensor;
  gate_up_proj_bias: Tensor;
  /** (experts, inner, hidden). */
  down_proj: Tensor;
  down_proj_bias: Tensor;
  private readonly alpha: number;
  private readonly limit: number;

  constructor({ num_local_experts: n, hidden_size: c, intermediate_size: inner, swiglu_alpha, swiglu_limit, initializer_range: std }: GptOssConfig) {
    super();
    this.gate_up_proj = parameter(init.normal(zeros([n, c, 2 * inner]), { std }));
    this.gate_up_proj_bias = parameter(zeros([n, 2 * inner]));
    this.down_proj = parameter(init.normal(zeros([n, inner, c]), { std }));
    this.down_proj_bias = parameter(zeros([n, c]));
    this.alpha = swiglu_alpha;
    this.limit = swiglu_limit;
  }

  override get points() {
    return ["activation", "neurons"];
  }

  /** Rows sorted by expert (n, C), and how many each has → (n, C). */
  override forward(rows: Tensor, counts: Int32Array): Tensor {
    const { limit } = this;
    const both = groupedLinear(rows, this.gate_up_proj, counts, this.gate_up_proj_bias, { transposed: true });
    const pairs = both.reshape([both.shape[0] as number, -1, 2]); // (n, I, 2)
    const part = (i: number) => pairs.narrow(2, i, 1).reshape([pairs.shape[0] as number, -1]); // (n, I)
    const gate = part(0).clamp(Number.NEGATIVE_INFINITY, limit);
    const up = part(1).clamp(-limit, limit);
    const activation = this.see("activation", gate.mul(gate.mul(this.alpha).sigmoid()));
    const neurons = this.see("neurons", up.add(1).mul(activation));
    return groupedLinear(neurons, this.down_proj, counts, this.down_proj_bias, { transposed: true });
  }
}

class MLP extends Module {
  router: Linear;
  experts: Experts;
  private readonly count: number;
  private readonly topK: number;

  constructor(config: GptOssConfig) {
    super();
    this.router = new Linear(config.hidden_size, config.num_local_experts);
    this.experts = new Experts(config);
    this.count = config.num_local_experts;
    this.topK = config.num_experts_per_tok;
  }

  /** x (B, T, C) → residual + what the experts say (B, T, C); where tokens went is added to `record`. */
  override forward(x: Tensor, residual: Tensor, record: RouteRecord): Tensor {
    const rows = x.reshape([-1, x.shape.at(-1) as number]); // (B·T, C)
    const routes = routeTokens(this.router.forward(rows), { topK: this.topK, weights: "normalized" });
    record.routes.push(routes);
    return residual.add(mixExperts(rows, routes, this.count, (sorted, counts) => this.experts.forward(sorted, counts)).reshape(x.shape));
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: GptOssConfig, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, record: RouteRecord): Tensor {
    const y = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx, x);
    return this.mlp.forward(this.post_attention_layernorm.forward(y), y, record);
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;

  constructor(config: GptOssConfig) {
    super();
    const { headDim: rotary, context } = familyDimensions(config);
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    this.rope = new RopeTables(config.rope_parameters, { rotary, context, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[], record: RouteRecord): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const x = this.embed_tokens.forward(ids); // (B, T, C)
    return this.norm.forward(through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx, record)));
  }
}

/**
 * gpt-oss with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class GptOss extends CausalLM {
  readonly architecture: Architecture = gptOss;
  readonly config: GptOssConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<GptOssConfig> = {}) {
    super();
    this.config = parseModelConfig(gptOssConfigSchema, keys, config as never, "GptOss");
    this.dimensions = familyDimensions(this.config);
    const { hidden_size, vocab_size } = this.config;
    this.model = new Model(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    initialise(this, this.config.initializer_range);
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, longestSequence(this.config.rope_parameters, this.dimensions.context));
    const record = new RouteRecord();
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences, record);
    const { output_router_logits, router_aux_loss_coef } = this.config;
    const output = outputOf(hidden, this.lm_head?.weight ?? this.model.embed_tokens.weight, inputs, this.watchingHead());
    return output.routed(record.routes, output_router_logits ? router_aux_loss_coef : null);
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_parameters, layer_types, ...rest } = this.config;
    return {
      architectures: ["GptOssForCausalLM"],
      model_type: "gpt_oss",
      ...rest,
      layer_types: windows(this.config).map((window, i) => layer_types?.[i] ?? (window === null ? "full_attention" : "sliding_attention")),
      num_key_value_heads: this.dimensions.kvHeads,
      head_dim: this.dimensions.headDim,
      // Readers take a missing scaling for the published one, so that none has to be said in the newer spelling.
      ...(longestSequence(rope_parameters, 0) === 0 ? { rope_parameters: { rope_type: "default", rope_theta } } : ropeJson(rope_theta, rope_parameters)),
    };
  }
}

/** Trained values by part, arithmetic and state of a gpt-oss of this config. Nothing is allocated. */
export function gptOssCounts(config: GptOssConfig): ModelCounts {
  const { vocabulary, hidden: c, layers, heads, kvHeads, headDim } = familyDimensions(config);
  const { intermediate_size: inner, num_local_experts: n, num_experts_per_tok: chosen, attention_bias, tie_word_embeddings } = config;
  const [q, kv, table] = [heads * headDim, kvHeads * headDim, vocabulary * c];
  const attention = 2 * c * q + 2 * c * kv;
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * (attention + heads + (attention_bias ? q + 2 * kv + c : 0)),
      mlp: layers * (n * (c + 1) + n * (3 * c * inner + 2 * inner + c)),
      norms: (2 * layers + 1) * c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + n * c + 3 * chosen * c * inner) + table,
    queries: layers * q,
    kept: 2 * layers * kv,
    windows: windows(config),
  });
}

function savedPerRow(config: GptOssConfig, length: number): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = familyDimensions(config);
  const { intermediate_size: inner, num_local_experts: n, num_experts_per_tok: chosen } = config;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.attention_dropout, length, softcap: false });
  // The composed attention of dropout has a sink beside the scores. For each expert that a token visits: its row, there and back; six results on the way to its
  // neurons, and which of two were cut off, a byte each; its share, its number, and its two places. And the router's scores.
  const sinks = config.attention_dropout > 0 ? heads : 0;
  return {
    layer: 2 * (2 * c + 1) + (q + 2 * kv) + attention.layer + sinks + chosen * (2 * c + 6.5 * inner + 4) + n,
    gradients: Math.max(4 * chosen * inner, attention.gradients),
    widest: chosen * Math.max(2 * inner, c),
    evaluated: 2 * c + 6 * q + 3 * kv + 8 * chosen * inner,
  };
}

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 64,
  num_local_experts: 3,
  num_experts_per_tok: 2,
  rope_parameters: null,
};

const EXPERT_MATRICES = /\.experts\.(gate_up|down)_proj$/;

export const gptOss = defineArchitecture<GptOssConfig>({
  modelType: "gpt_oss",
  schema: gptOssConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  floats: ["swiglu_alpha", "swiglu_limit", "router_aux_loss_coef"],
  weights: {
    base: "model.",
    tied: ["lm_head.weight"],
    names: [[/rotary_emb\.inv_freq$/, null]],
    mxfp4: { of: EXPERT_MATRICES, others: ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"] },
  },
  gguf: {
    architecture: "gpt-oss",
    exactRamp: true,
    config: (file) => ({
      ...sizesFromGguf(file),
      intermediate_size: file.number("{arch}.expert_feed_forward_length"),
      attention_bias: file.has("blk.0.attn_q.bias"),
      sliding_window: file.optional("{arch}.attention.sliding_window") ?? null,
      num_local_experts: file.number("{arch}.expert_count"),
      num_experts_per_tok: file.number("{arch}.expert_used_count"),
      rope_parameters: null,
    }),
    metadata: (config) => {
      const inTurns = windowsOf({ ...config, layer_types: null }, (layer) => layer % 2 === 0);
      checkSayable("gpt-oss", "layer_types", inTurns, windows(config));
      checkSayable("gpt-oss", "sliding_window", config.sliding_window ?? "a number", config.sliding_window);
      checkSayable("gpt-oss", "attention_bias", true, config.attention_bias);
      checkSayable("gpt-oss", "tie_word_embeddings", false, config.tie_word_embeddings);
      checkSayable("gpt-oss", "swiglu_alpha", 1.702, config.swiglu_alpha);
      checkSayable("gpt-oss", "swiglu_limit", 7, config.swiglu_limit);
      return {
        ...ggufSizes(config),
        "{arch}.attention.sliding_window": u32(config.sliding_window as number),
        "{arch}.expert_feed_forward_length": u32(config.intermediate_size),
        "{arch}.expert_count": u32(config.num_local_experts),
        "{arch}.expert_used_count": u32(config.num_experts_per_tok),
      };
    },
    names: [
      ...FAMILY_NAMES,
      ["blk.{i}.attn_sinks.weight", "model.layers.{i}.self_attn.sinks"],
      ["blk.{i}.post_attention_norm", "model.layers.{i}.post_attention_layernorm"],
      ["blk.{i}.ffn_gate_inp", "model.layers.{i}.mlp.router"],
      ["blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj 0::2"],
      ["blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj 1::2"],
      ["blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.down_proj"],
      ["blk.{i}.ffn_gate_exps.bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias 0::2"],
      ["blk.{i}.ffn_up_exps.bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias 1::2"],
      ["blk.{i}.ffn_down_exps.bias", "model.layers.{i}.mlp.experts.down_proj_bias"],
    ],
    transposed: (name) => EXPERT_MATRICES.test(name),
  },
  dimensions: familyDimensions,
  create: (config) => new GptOss(config),
  counts: gptOssCounts,
  savedPerRow,
  shapedBy: (shape) => ({
    ...familyShape(shape),
    head_dim: shape.width / shape.heads,
    intermediate_size: 64 * Math.ceil(shape.width / 128),
    num_local_experts: 8,
    num_experts_per_tok: 2,
  }),
  samples: [
    { ...TINY, sliding_window: 5 },
    { ...TINY, num_key_value_heads: null, attention_bias: false, tie_word_embeddings: true },
    { ...TINY, num_experts_per_tok: 1, attention_dropout: 0.1, swiglu_limit: 0.1 },
  ],
});

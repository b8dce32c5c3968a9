/**
 * Qwen 3's mixtures of experts (Yang et al., "Qwen3 Technical Report", 2025): Qwen 3's attention, and in most layers many small experts of which each token visits a few.
 * Property names are those of transformers; weight files have a tensor for each expert.
 */
import * as z from "zod";
import { u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, type AttendOptions, attend, Embedding, type ForwardContext, Linear, Module, RMSNorm, RouteRecord, through } from "../nn/index.ts";
import { rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { checkExperts, configKeys, depth, epsilon, experts, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { EXPERT_NAMES, expertParts, initialiseExperts, SparseMLP } from "./gated-experts.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { MLP } from "./llama.ts";
import { FAMILY_NAMES, ggufSizes, HEAD_NORM_NAMES, sizesFromGguf } from "./llama-family.gguf.ts";
import { checkHeads, familyCounts, familyDimensions, familySaved, familyShape, initialise, longestSequence, ROPE_SPELLINGS, ropeJson } from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Qwen 3 MoE may hold. */
export const qwen3MoeConfigSchema = z
  .strictObject({
    vocab_size: size.default(151936),
    hidden_size: size.default(2048),
    /** Neurons of layers without experts. */
    intermediate_size: size.default(6144),
    num_hidden_layers: depth.default(24),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(4),
    /** Null is hidden_size / num_attention_heads. */
    head_dim: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(32768),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(false),
    /** Whether `sliding_window` counts. */
    use_sliding_window: z.boolean().default(false),
    /** How many positions a query sees, its own included. */
    sliding_window: size.nullable().default(4096),
    attention_dropout: probability.default(0),
    num_local_experts: experts.default(128),
    /** Experts that each token visits. */
    num_experts_per_tok: experts.default(8),
    /** Neurons of one expert. */
    moe_intermediate_size: size.default(768),
    /** Whether the shares of the chosen experts add up to 1. */
    norm_topk_prob: z.boolean().default(false),
    /** Every so many layers has experts: those whose number, from 1, is a multiple of it. */
    decoder_sparse_step: size.default(1),
    /** Layers without experts, from 0. */
    mlp_only_layers: z.array(z.int().min(0)).nullable().default(null),
    /** Whether the loss has the balance loss in it. */
    output_router_logits: z.boolean().default(false),
    /** What the balance loss is multiplied by. */
    router_aux_loss_coef: z.number().nonnegative().default(0.001),
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkExperts(config, ctx);
  });
/** `config.json` of a Qwen 3 MoE, checked, with its defaults. */
export type Qwen3MoeConfig = z.output<typeof qwen3MoeConfigSchema>;

const keys = configKeys(qwen3MoeConfigSchema, { hidden_act: ["hidden_activation"], num_local_experts: ["num_experts"], ...ROPE_SPELLINGS }, [
  "max_window_layers",
]);

const windowOf = ({ use_sliding_window, sliding_window }: Qwen3MoeConfig): number | null => (use_sliding_window ? sliding_window : null);
const isSparse = ({ mlp_only_layers, decoder_sparse_step }: Qwen3MoeConfig, layer: number): boolean =>
  mlp_only_layers?.includes(layer) !== true && (layer + 1) % decoder_sparse_step === 0;

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  q_norm: RMSNorm;
  k_norm: RMSNorm;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;

  constructor(config: Qwen3MoeConfig, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const window = windowOf(config);
    this.options = window === null ? {} : { window };
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    const [bias, eps] = [config.attention_bias, config.rms_norm_eps];
    this.q_proj = new Linear(hidden, heads * headDim, { bias });
    this.k_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.v_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.o_proj = new Linear(heads * headDim, hidden, { bias });
    this.q_norm = new RMSNorm(headDim, { eps });
    this.k_norm = new RMSNorm(headDim, { eps });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const [b, t] = x.shape as [number, number];
    const { heads, kvHeads, headDim } = this.sizes;
    const split = (y: Tensor, n: number) => y.reshape([b, t, n, headDim]); // (B, T, H, D)
    const q = rope(this.q_norm.forward(split(this.q_proj.forward(x), heads)), turn.cos, turn.sin, turn.rows);
    const k = rope(this.k_norm.forward(split(this.k_proj.forward(x), kvHeads)), turn.cos, turn.sin, turn.rows);
    const v = split(this.v_proj.forward(x), kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      ...this.options,
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.fused(this.see("heads", y).reshape([b, t, heads * headDim]), { residual });
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP | SparseMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: Qwen3MoeConfig, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    const { num_local_experts, moe_intermediate_size: inner, num_experts_per_tok: topK, norm_topk_prob } = config;
    const sizes = { experts: num_local_experts, hidden: config.hidden_size, inner };
    this.mlp = isSparse(config, layer)
      ? new SparseMLP(sizes, GATED_ACTIVATIONS[config.hidden_act], { topK, weights: norm_topk_prob ? "normalized" : "softmax" })
      : new MLP({ ...config, mlp_bias: false });
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, record: RouteRecord): Tensor {
    const y = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx, x);
    const z = this.post_attention_layernorm.forward(y);
    return this.mlp instanceof MLP ? this.mlp.forward(z, y) : this.mlp.forward(z, y, record);
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;

  constructor(config: Qwen3MoeConfig) {
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
 * Qwen 3 MoE with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Qwen3Moe extends CausalLM {
  readonly architecture: Architecture = qwen3Moe;
  readonly config: Qwen3MoeConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Qwen3MoeConfig> = {}) {
    super();
    this.config = parseModelConfig(qwen3MoeConfigSchema, keys, config as never, "Qwen3Moe");
    this.dimensions = familyDimensions(this.config);
    const { hidden_size, vocab_size } = this.config;
    this.model = new Model(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    initialise(this, this.config.initializer_range);
    initialiseExperts(this, this.config.initializer_range);
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, longestSequence(this.config.rope_parameters, this.dimensions.context));
    const record = new RouteRecord();
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences, record);
    const { output_router_logits, router_aux_loss_coef } = this.config;
    const output = outputOf(hidden, this.lm_head?.weight ?? this.model.embed_tokens.weight, inputs, this.watchingHead());
    return output.routed(record.routes, output_router_logits && record.routes.length > 0 ? router_aux_loss_coef : null);
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_parameters, num_local_experts, mlp_only_layers, ...rest } = this.config;
    return {
      architectures: ["Qwen3MoeForCausalLM"],
      model_type: "qwen3_moe",
      ...rest,
      // The older spelling, which both generations of readers know.
      num_experts: num_local_experts,
      mlp_only_layers: mlp_only_layers ?? [],
      num_key_value_heads: this.dimensions.kvHeads,
      head_dim: this.dimensions.headDim,
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const parts = (config: Qwen3MoeConfig) => ({
  qkvBias: config.attention_bias,
  outputBias: config.attention_bias,
  qkNorm: true,
  windows: [windowOf(config)],
  mixture: {
    experts: config.num_local_experts,
    perToken: config.num_experts_per_tok,
    inner: config.moe_intermediate_size,
    normalized: config.norm_topk_prob,
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => isSparse(config, i)).filter(Boolean).length,
  },
});

/** Trained values by part, arithmetic and state of a Qwen 3 MoE of this config. Nothing is allocated. */
export const qwen3MoeCounts = (config: Qwen3MoeConfig) => familyCounts(config, parts(config));

/** The mixture of a model of a chosen size. */
const SPARSE = { num_local_experts: 8, num_experts_per_tok: 2 };

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  num_local_experts: 3,
  num_experts_per_tok: 2,
  moe_intermediate_size: 12,
};

export const qwen3Moe = defineArchitecture<Qwen3MoeConfig>({
  modelType: "qwen3_moe",
  schema: qwen3MoeConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  floats: ["router_aux_loss_coef"],
  weights: {
    base: "model.",
    tied: ["lm_head.weight"],
    names: [[/rotary_emb\.inv_freq$/, null]],
    parts: expertParts("mlp", { gate: "gate_proj", up: "up_proj", down: "down_proj" }),
  },
  gguf: {
    architecture: "qwen3moe",
    config: (file) => ({
      ...sizesFromGguf(file),
      attention_bias: file.has("blk.0.attn_q.bias"),
      moe_intermediate_size: file.number("{arch}.expert_feed_forward_length"),
      num_local_experts: file.number("{arch}.expert_count"),
      num_experts_per_tok: file.number("{arch}.expert_used_count"),
      norm_topk_prob: true,
    }),
    metadata: (config) => {
      checkSayable("qwen3moe", "use_sliding_window", false, config.use_sliding_window);
      checkSayable("qwen3moe", "attention_bias", false, config.attention_bias);
      checkSayable("qwen3moe", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
      checkSayable("qwen3moe", "norm_topk_prob", true, config.norm_topk_prob);
      checkSayable("qwen3moe", "decoder_sparse_step", 1, config.decoder_sparse_step);
      checkSayable("qwen3moe", "mlp_only_layers", null, config.mlp_only_layers?.length ? config.mlp_only_layers : null);
      return {
        ...ggufSizes(config),
        "{arch}.expert_feed_forward_length": u32(config.moe_intermediate_size),
        "{arch}.expert_count": u32(config.num_local_experts),
        "{arch}.expert_used_count": u32(config.num_experts_per_tok),
      };
    },
    names: [...FAMILY_NAMES, ...HEAD_NORM_NAMES, ...EXPERT_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
  },
  dimensions: familyDimensions,
  create: (config) => new Qwen3Moe(config),
  counts: qwen3MoeCounts,
  savedPerRow: (config, length) => familySaved(config, length, parts(config)),
  shapedBy: (shape) => ({ ...familyShape(shape), head_dim: shape.width / shape.heads, ...SPARSE, moe_intermediate_size: 64 * Math.ceil(shape.width / 128) }),
  samples: [
    { ...TINY },
    { ...TINY, num_key_value_heads: null, head_dim: 10, tie_word_embeddings: true, attention_bias: true, attention_dropout: 0.1, norm_topk_prob: true },
    { ...TINY, head_dim: 8, use_sliding_window: true, sliding_window: 5, num_experts_per_tok: 1 },
    { ...TINY, head_dim: 8, norm_topk_prob: true },
  ],
});

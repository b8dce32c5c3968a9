/**
 * Mixtral (Jiang et al., "Mixtral of Experts", 2024, arXiv:2401.04088): Mistral whose MLP is a mixture of experts, two of eight for each token. Property names are
 * those of transformers; weight files have a tensor for each expert.
 */
import * as z from "zod";
import { u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, type AttendOptions, attend, Embedding, type ForwardContext, Linear, Module, RMSNorm, RouteRecord, through } from "../nn/index.ts";
import { rand, rope, streams, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { checkExperts, configKeys, depth, epsilon, experts, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { EXPERT_NAMES, expertParts, initialiseExperts, SparseMLP } from "./gated-experts.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { FAMILY_NAMES, ggufSizes, sizesFromGguf, turnedRows } from "./llama-family.gguf.ts";
import { checkHeads, familyCounts, familyDimensions, familySaved, familyShape, initialise, longestSequence, ROPE_SPELLINGS, ropeJson } from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Mixtral may hold. */
export const mixtralConfigSchema = z
  .strictObject({
    vocab_size: size.default(32000),
    hidden_size: size.default(4096),
    /** Neurons of one expert. */
    intermediate_size: size.default(14336),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(8),
    /** Null is hidden_size / num_attention_heads. */
    head_dim: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(131072),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-5),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(1000000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    /** How many positions a query sees, its own included; null is all. */
    sliding_window: size.nullable().default(null),
    attention_dropout: probability.default(0),
    num_local_experts: experts.default(8),
    /** Experts that each token visits. */
    num_experts_per_tok: experts.default(2),
    /** Whether the loss has the balance loss in it. */
    output_router_logits: z.boolean().default(false),
    /** What the balance loss is multiplied by. */
    router_aux_loss_coef: z.number().nonnegative().default(0.001),
    /** While training, what a mixture reads is multiplied by random numbers up to so far from 1. */
    router_jitter_noise: probability.default(0),
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkExperts(config, ctx);
  });
/** `config.json` of a Mixtral, checked, with its defaults. */
export type MixtralConfig = z.output<typeof mixtralConfigSchema>;

const keys = configKeys(mixtralConfigSchema, { hidden_act: ["hidden_activation"], ...ROPE_SPELLINGS });

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;

  constructor(config: MixtralConfig, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const { sliding_window: window } = config;
    this.options = window === null ? {} : { window };
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    const bias = false;
    this.q_proj = new Linear(hidden, heads * headDim, { bias });
    this.k_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.v_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.o_proj = new Linear(heads * headDim, hidden, { bias });
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
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.fused(this.see("heads", y).reshape([b, t, heads * headDim]), { residual });
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: SparseMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;
  private readonly jitter: number;

  constructor(config: MixtralConfig, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    const sizes = { experts: config.num_local_experts, hidden: config.hidden_size, inner: config.intermediate_size };
    this.mlp = new SparseMLP(sizes, GATED_ACTIVATIONS[config.hidden_act], { topK: config.num_experts_per_tok, weights: "normalized" });
    this.jitter = config.router_jitter_noise;
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, record: RouteRecord): Tensor {
    const y = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx, x);
    const z = this.post_attention_layernorm.forward(y);
    const noise =
      ctx.training && this.jitter > 0
        ? rand(z.shape, { stream: streams.dropout })
            .mul(2 * this.jitter)
            .add(1 - this.jitter)
        : null;
    return this.mlp.forward(noise === null ? z : z.mul(noise), y, record);
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;

  constructor(config: MixtralConfig) {
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
 * Mixtral with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Mixtral extends CausalLM {
  readonly architecture: Architecture = mixtral;
  readonly config: MixtralConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<MixtralConfig> = {}) {
    super();
    this.config = parseModelConfig(mixtralConfigSchema, keys, config as never, "Mixtral");
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
    return output.routed(record.routes, output_router_logits ? router_aux_loss_coef : null);
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_parameters, ...rest } = this.config;
    return {
      architectures: ["MixtralForCausalLM"],
      model_type: "mixtral",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      head_dim: this.dimensions.headDim,
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const mixtureOf = (config: MixtralConfig) => ({
  experts: config.num_local_experts,
  perToken: config.num_experts_per_tok,
  inner: config.intermediate_size,
  layers: config.num_hidden_layers,
  normalized: true,
});

/** Trained values by part, arithmetic and state of a Mixtral of this config. Nothing is allocated. */
export const mixtralCounts = (config: MixtralConfig) => familyCounts(config, { windows: [config.sliding_window], mixture: mixtureOf(config) });

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
};

export const mixtral = defineArchitecture<MixtralConfig>({
  modelType: "mixtral",
  schema: mixtralConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  floats: ["router_aux_loss_coef", "router_jitter_noise"],
  weights: {
    base: "model.",
    tied: ["lm_head.weight"],
    names: [
      [/rotary_emb\.inv_freq$/, null],
      [/\.block_sparse_moe\.gate\./, ".mlp.gate."],
    ],
    parts: expertParts("block_sparse_moe", { gate: "w1", up: "w3", down: "w2" }),
  },
  gguf: {
    architecture: "llama",
    stretched: ["linear", "yarn", "llama3", "longrope"],
    matches: (file) => (file.optional("{arch}.expert_count") ?? 0) > 0,
    config: (file) => ({
      ...sizesFromGguf(file),
      num_local_experts: file.number("{arch}.expert_count"),
      num_experts_per_tok: file.number("{arch}.expert_used_count"),
    }),
    metadata: (config) => {
      checkSayable("llama", "sliding_window", null, config.sliding_window);
      checkSayable("llama", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
      return {
        ...ggufSizes(config),
        "{arch}.expert_count": u32(config.num_local_experts),
        "{arch}.expert_used_count": u32(config.num_experts_per_tok),
      };
    },
    names: [...FAMILY_NAMES, ...EXPERT_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
    rowOrder: turnedRows,
  },
  dimensions: familyDimensions,
  create: (config) => new Mixtral(config),
  counts: mixtralCounts,
  savedPerRow: (config, length) => familySaved(config, length, { mixture: mixtureOf(config) }),
  shapedBy: (shape) => ({ ...familyShape(shape), intermediate_size: 64 * Math.ceil(shape.width / 128), num_local_experts: 8 }),
  samples: [
    { ...TINY, sliding_window: null },
    { ...TINY, num_key_value_heads: null, head_dim: 10, tie_word_embeddings: true, attention_dropout: 0.1 },
    { ...TINY, sliding_window: 5, num_experts_per_tok: 1, num_local_experts: 4 },
  ],
});

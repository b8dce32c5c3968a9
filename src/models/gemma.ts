/**
 * Gemma (Gemma Team, "Gemma: Open Models Based on Gemini Research and Technology", 2024): Llama with heads of a size of their own, a GELU in the gated unit, norms
 * that multiply by 1 + weight, and embeddings times √hidden_size. The MLP is Llama's. Property names are the names in the weight file.
 */
import * as z from "zod";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, Linear, Module, projections, RMSNorm, through } from "../nn/index.ts";
import { rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { MLP } from "./llama.ts";
import { FAMILY_NAMES, ggufSizes, sizesFromGguf, unitOffset } from "./llama-family.gguf.ts";
import {
  causalOnly,
  checkHeads,
  familyCounts,
  familyDimensions,
  familySaved,
  familyShape,
  initialise,
  longestSequence,
  ROPE_SPELLINGS,
  ropeJson,
} from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Gemma may hold. */
export const gemmaConfigSchema = z
  .strictObject({
    vocab_size: size.default(256000),
    hidden_size: size.default(3072),
    intermediate_size: size.default(24576),
    num_hidden_layers: depth.default(28),
    num_attention_heads: size.default(16),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(16),
    head_dim: size.default(256),
    /** The first files say gelu and mean its tanh form. */
    hidden_act: z.enum(["gelu", ...(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[])]).default("gelu_pytorch_tanh"),
    max_position_embeddings: size.default(8192),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(true),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(false),
    use_bidirectional_attention: causalOnly,
    attention_dropout: probability.default(0),
  })
  .superRefine(checkHeads);
/** `config.json` of a Gemma, checked, with its defaults. */
export type GemmaConfig = z.output<typeof gemmaConfigSchema>;

const keys = configKeys(gemmaConfigSchema, ROPE_SPELLINGS, ["hidden_activation"]);

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly dropout: number;

  constructor(config: GemmaConfig, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    const bias = config.attention_bias;
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
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(split(query, heads), turn.cos, turn.sin, turn.rows);
    const k = rope(split(key, kvHeads), turn.cos, turn.sin, turn.rows);
    const v = split(value, kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.fused(this.see("heads", y).reshape([b, t, heads * headDim]), { residual });
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: GemmaConfig, layer: number) {
    super();
    const norm = { eps: config.rms_norm_eps, unitOffset: true };
    const hidden_act = config.hidden_act === "gelu" ? "gelu_pytorch_tanh" : config.hidden_act;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP({ ...config, hidden_act, mlp_bias: false });
    this.input_layernorm = new RMSNorm(config.hidden_size, norm);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, norm);
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const y = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx, x);
    return this.mlp.forward(this.post_attention_layernorm.forward(y), y);
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;
  private readonly scale: number;

  constructor(config: GemmaConfig) {
    super();
    const { headDim: rotary, context } = familyDimensions(config);
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps, unitOffset: true });
    this.scale = Math.sqrt(config.hidden_size);
    this.rope = new RopeTables(config.rope_parameters, { rotary, context, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    let x = this.embed_tokens.forward(ids).mul(this.scale); // (B, T, C)
    x = through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx));
    return this.norm.forward(x);
  }
}

/**
 * Gemma with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Gemma extends CausalLM {
  readonly architecture: Architecture = gemma;
  readonly config: GemmaConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<GemmaConfig> = {}) {
    super();
    this.config = parseModelConfig(gemmaConfigSchema, keys, config as never, "Gemma");
    this.dimensions = familyDimensions(this.config);
    const { hidden_size, vocab_size } = this.config;
    this.model = new Model(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    initialise(this, this.config.initializer_range);
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, longestSequence(this.config.rope_parameters, this.dimensions.context));
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences);
    return outputOf(hidden, this.lm_head?.weight ?? this.model.embed_tokens.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_parameters, use_bidirectional_attention: _, ...rest } = this.config;
    return {
      architectures: ["GemmaForCausalLM"],
      model_type: "gemma",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

/** Trained values by part, arithmetic and state of a Gemma of this config. Nothing is allocated. */
export const gemmaCounts = (config: GemmaConfig) => familyCounts(config, { qkvBias: config.attention_bias, outputBias: config.attention_bias });

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
};

export const gemma = defineArchitecture<GemmaConfig>({
  modelType: "gemma",
  schema: gemmaConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "gemma",
    config: sizesFromGguf,
    metadata: (config) => {
      checkSayable("gemma", "attention_bias", false, config.attention_bias);
      checkSayable("gemma", "tie_word_embeddings", true, config.tie_word_embeddings);
      checkSayable("gemma", "hidden_act", "gelu_tanh", config.hidden_act === "gelu" ? "gelu_tanh" : GATED_ACTIVATIONS[config.hidden_act]);
      return ggufSizes(config);
    },
    names: [...FAMILY_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
    added: unitOffset,
  },
  dimensions: familyDimensions,
  create: (config) => new Gemma(config),
  counts: gemmaCounts,
  savedPerRow: (config, length) => familySaved(config, length),
  shapedBy: (shape) => ({ ...familyShape(shape), head_dim: shape.width / shape.heads }),
  samples: [
    { ...TINY, head_dim: 10 },
    { ...TINY, num_key_value_heads: null, head_dim: 6, tie_word_embeddings: false, attention_bias: true },
  ],
});

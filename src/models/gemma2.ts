/**
 * Gemma 2 (Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024): Gemma with norms behind attention and MLP too, soft caps on scores and
 * logits, a scale of scores of its own, and a window in every other layer. The MLP is Llama's. Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, type AttendOptions, attend, Embedding, type ForwardContext, Linear, Module, projections, RMSNorm, through } from "../nn/index.ts";
import { rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { MLP } from "./llama.ts";
import { FAMILY_NAMES, ggufSizes, POST_NORM_NAMES, sizesFromGguf, unitOffset } from "./llama-family.gguf.ts";
import {
  causalOnly,
  checkHeads,
  checkLayerTypes,
  familyCounts,
  familyDimensions,
  familySaved,
  familyShape,
  initialise,
  type LayerType,
  layerTypes,
  longestSequence,
  ROPE_SPELLINGS,
  ropeJson,
  windowsOf,
} from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Gemma 2 may hold. */
export const gemma2ConfigSchema = z
  .strictObject({
    vocab_size: size.default(256000),
    hidden_size: size.default(2304),
    intermediate_size: size.default(9216),
    num_hidden_layers: depth.default(26),
    num_attention_heads: size.default(8),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(4),
    head_dim: size.default(256),
    hidden_activation: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("gelu_pytorch_tanh"),
    max_position_embeddings: size.default(8192),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(true),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(false),
    attention_dropout: probability.default(0),
    /** Scores are divided by its root, where Llama takes head_dim. */
    query_pre_attn_scalar: size.default(256),
    /** Scores are cap·tanh(score/cap); null is no cap. */
    attn_logit_softcapping: z.number().positive().nullable().default(50),
    /** The same of the logits. */
    final_logit_softcapping: z.number().positive().nullable().default(30),
    /** How many positions a query of a sliding layer sees, its own included. */
    sliding_window: size.nullable().default(4096),
    /** Null is every other layer, the first one sliding. */
    layer_types: layerTypes,
    use_bidirectional_attention: causalOnly,
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkLayerTypes({ ...config, layer_types: kinds(config) }, ctx);
  });
/** `config.json` of a Gemma 2, checked, with its defaults. */
export type Gemma2Config = z.output<typeof gemma2ConfigSchema>;

// The others are older names, which transformers passes over too.
const keys = configKeys(gemma2ConfigSchema, ROPE_SPELLINGS, ["hidden_act", "sliding_window_size", "cache_implementation"]);

/** What each layer sees. */
const kinds = ({ layer_types, num_hidden_layers }: { layer_types: LayerType[] | null; num_hidden_layers: number }): LayerType[] =>
  layer_types ?? Array.from({ length: num_hidden_layers }, (_, i) => (i % 2 === 0 ? "sliding_attention" : "full_attention"));
const windows = (config: Gemma2Config) => windowsOf({ ...config, layer_types: kinds(config) });

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;

  constructor(config: Gemma2Config, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const { attn_logit_softcapping: softcap, query_pre_attn_scalar, attention_bias: bias } = config;
    const window = windows(config)[layer] ?? null;
    this.options = { scale: query_pre_attn_scalar ** -0.5, ...(softcap === null ? {} : { softcap }), ...(window === null ? {} : { window }) };
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    this.q_proj = new Linear(hidden, heads * headDim, { bias });
    this.k_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.v_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.o_proj = new Linear(heads * headDim, hidden, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → (B, T, C), added to nothing yet: a norm comes first. */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const [b, t] = x.shape as [number, number];
    const { heads, kvHeads, headDim } = this.sizes;
    const split = (y: Tensor, n: number) => y.reshape([b, t, n, headDim]); // (B, T, H, D)
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(split(query, heads), turn.cos, turn.sin, turn.rows);
    const k = rope(split(key, kvHeads), turn.cos, turn.sin, turn.rows);
    const v = split(value, kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      ...this.options,
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.forward(this.see("heads", y).reshape([b, t, heads * headDim]));
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;
  pre_feedforward_layernorm: RMSNorm;
  post_feedforward_layernorm: RMSNorm;

  constructor(config: Gemma2Config, layer: number) {
    super();
    const norm = { eps: config.rms_norm_eps, unitOffset: true };
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP({ ...config, hidden_act: config.hidden_activation, mlp_bias: false });
    this.input_layernorm = new RMSNorm(config.hidden_size, norm);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, norm);
    this.pre_feedforward_layernorm = new RMSNorm(config.hidden_size, norm);
    this.post_feedforward_layernorm = new RMSNorm(config.hidden_size, norm);
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const attended = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx);
    const y = x.add(this.post_attention_layernorm.forward(attended));
    const fed = this.mlp.forward(this.pre_feedforward_layernorm.forward(y), null);
    return y.add(this.post_feedforward_layernorm.forward(fed));
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;
  private readonly scale: number;

  constructor(config: Gemma2Config) {
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
 * Gemma 2 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Gemma2 extends CausalLM {
  readonly architecture: Architecture = gemma2;
  readonly config: Gemma2Config;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Gemma2Config> = {}) {
    super();
    this.config = parseModelConfig(gemma2ConfigSchema, keys, config as never, "Gemma2");
    this.dimensions = familyDimensions(this.config);
    const { hidden_size, vocab_size } = this.config;
    this.model = new Model(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    initialise(this, this.config.initializer_range);
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const { rope_parameters, final_logit_softcapping } = this.config;
    const ctx = contextOf(inputs, this.training, longestSequence(rope_parameters, this.dimensions.context));
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences);
    const weight = this.lm_head?.weight ?? this.model.embed_tokens.weight;
    return outputOf(hidden, weight, inputs, this.watchingHead(), { softcap: final_logit_softcapping ?? undefined });
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_parameters, use_bidirectional_attention: _, layer_types, ...rest } = this.config;
    return {
      architectures: ["Gemma2ForCausalLM"],
      model_type: "gemma2",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      // Only where it says more than the other keys: older readers do not know it.
      ...(layer_types === null ? {} : { layer_types }),
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const parts = (config: Gemma2Config) => ({
  qkvBias: config.attention_bias,
  outputBias: config.attention_bias,
  postNorms: true,
  softcap: config.attn_logit_softcapping !== null,
  windows: windows(config),
});

/** Trained values by part, arithmetic and state of a Gemma 2 of this config. Nothing is allocated. */
export const gemma2Counts = (config: Gemma2Config) => familyCounts(config, parts(config));

type ScaleSizes = Pick<Gemma2Config, "num_hidden_layers" | "hidden_size" | "num_attention_heads" | "head_dim">;
/** llama.cpp knows the scale of the scores by the number of layers: the model of 27 billion weights has 46, and the width for each head where others have head_dim. */
const ggufScalar = ({ num_hidden_layers, hidden_size, num_attention_heads, head_dim }: ScaleSizes) =>
  num_hidden_layers === 46 ? Math.floor(hidden_size / num_attention_heads) : head_dim;

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  max_position_embeddings: 64,
};

export const gemma2 = defineArchitecture<Gemma2Config>({
  modelType: "gemma2",
  schema: gemma2ConfigSchema,
  keys,
  floats: ["attn_logit_softcapping", "final_logit_softcapping"],
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "gemma2",
    config: (file) => {
      const sizes = sizesFromGguf(file);
      return {
        ...sizes,
        query_pre_attn_scalar: ggufScalar(sizes),
        attn_logit_softcapping: file.optional("{arch}.attn_logit_softcapping") ?? 50,
        final_logit_softcapping: file.optional("{arch}.final_logit_softcapping") ?? 30,
        sliding_window: file.optional("{arch}.attention.sliding_window") ?? 4096,
      };
    },
    metadata: (config) => {
      const { attn_logit_softcapping: scores, final_logit_softcapping: logits } = config;
      checkSayable("gemma2", "attention_bias", false, config.attention_bias);
      checkSayable("gemma2", "tie_word_embeddings", true, config.tie_word_embeddings);
      checkSayable("gemma2", "hidden_activation", "gelu_tanh", GATED_ACTIVATIONS[config.hidden_activation]);
      checkSayable("gemma2", "query_pre_attn_scalar", ggufScalar(config), config.query_pre_attn_scalar);
      // Without these keys readers cap by 50 and 30.
      checkSayable("gemma2", "attn_logit_softcapping", scores ?? "a number", scores);
      checkSayable("gemma2", "final_logit_softcapping", logits ?? "a number", logits);
      checkSayable("gemma2", "layer_types", kinds({ ...config, layer_types: null }), kinds(config));
      return {
        ...ggufSizes(config),
        "{arch}.attn_logit_softcapping": f32(scores as number),
        "{arch}.final_logit_softcapping": f32(logits as number),
        "{arch}.attention.sliding_window": u32(config.sliding_window as number),
      };
    },
    names: [...FAMILY_NAMES, ...POST_NORM_NAMES],
    added: unitOffset,
  },
  dimensions: familyDimensions,
  create: (config) => new Gemma2(config),
  counts: gemma2Counts,
  savedPerRow: (config, length) => familySaved(config, length, parts(config)),
  shapedBy: (shape) => ({ ...familyShape(shape), head_dim: shape.width / shape.heads, query_pre_attn_scalar: shape.width / shape.heads }),
  samples: [
    { ...TINY, head_dim: 10, query_pre_attn_scalar: 7, sliding_window: 5 },
    { ...TINY, num_key_value_heads: null, tie_word_embeddings: false, attention_bias: true, final_logit_softcapping: null, attn_logit_softcapping: null },
    { ...TINY, attention_dropout: 0.1 },
  ],
});

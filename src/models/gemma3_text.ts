/**
 * Gemma 3's text model (Gemma Team, "Gemma 3 Technical Report", 2025): Gemma 2 with norms over the items of query and key heads in place of soft caps, five sliding
 * layers for each one that sees everything, and a rotary base for each of the two kinds. The MLP is Llama's. Property names are the names in the weight file.
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
import { FAMILY_NAMES, ggufSizes, HEAD_NORM_NAMES, POST_NORM_NAMES, sizesFromGguf, unitOffset } from "./llama-family.gguf.ts";
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
  ropeJson,
  windowsOf,
} from "./llama-family.ts";
import { type RopeParameters, type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** Rotary settings of sliding layers, which nothing stretches. */
const unstretched = z.strictObject({
  rope_theta: z.number().positive().optional(),
  rope_type: z.literal("default").optional(),
  partial_rotary_factor: z.literal(1).optional(),
});

/** What `config.json` of a Gemma 3 may hold: that of `gemma3_text`, which is the `text_config` of a `gemma3`. */
export const gemma3TextConfigSchema = z
  .strictObject({
    vocab_size: size.default(262208),
    hidden_size: size.default(2304),
    intermediate_size: size.default(9216),
    num_hidden_layers: depth.default(26),
    num_attention_heads: size.default(8),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(4),
    head_dim: size.default(256),
    hidden_activation: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("gelu_pytorch_tanh"),
    max_position_embeddings: size.default(131072),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(true),
    /** The base of the layers that see everything. */
    rope_theta: z.number().positive().default(1000000),
    /** That of the sliding ones. */
    rope_local_base_freq: z.number().positive().default(10000),
    /** How the frequencies of the layers that see everything are stretched for longer contexts; null is not at all. */
    rope_scaling: ropeParametersSchema.nullable().default(null),
    /** The newer spelling of the three keys before. */
    rope_parameters: z.strictObject({ full_attention: ropeParametersSchema.nullish(), sliding_attention: unstretched.nullish() }).nullable().default(null),
    attention_bias: z.boolean().default(false),
    attention_dropout: probability.default(0),
    /** Scores are divided by its root, where Llama takes head_dim. */
    query_pre_attn_scalar: size.default(256),
    /** Logits are cap·tanh(logit/cap); null is no cap. */
    final_logit_softcapping: z.number().positive().nullable().default(null),
    /** How many positions a query of a sliding layer sees, its own included. */
    sliding_window: size.nullable().default(4096),
    /** One layer in so many, the last of them, sees everything. */
    sliding_window_pattern: size.default(6),
    /** Null is as sliding_window_pattern says. */
    layer_types: layerTypes,
    use_bidirectional_attention: causalOnly,
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkLayerTypes({ ...config, layer_types: kinds(config) }, ctx);
  });
/** `config.json` of a Gemma 3, checked, with its defaults. */
export type Gemma3TextConfig = z.output<typeof gemma3TextConfigSchema>;

const keys = configKeys(
  gemma3TextConfigSchema,
  {
    rope_theta: ["rope_parameters.full_attention.rope_theta"],
    rope_local_base_freq: ["rope_parameters.sliding_attention.rope_theta"],
    rope_scaling: ["rope_parameters.full_attention"],
    sliding_window_pattern: ["_sliding_window_pattern"],
  },
  // The cap on scores is Gemma 2's; configs name it, and nothing reads it.
  ["hidden_act", "attn_logit_softcapping", "cache_implementation"],
);

/** What each layer sees. */
const kinds = (config: { layer_types: LayerType[] | null; num_hidden_layers: number; sliding_window_pattern: number }): LayerType[] =>
  config.layer_types ??
  Array.from({ length: config.num_hidden_layers }, (_, i) => ((i + 1) % config.sliding_window_pattern === 0 ? "full_attention" : "sliding_attention"));
const windows = (config: Gemma3TextConfig) => windowsOf({ ...config, layer_types: kinds(config) });

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

  constructor(config: Gemma3TextConfig, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const { query_pre_attn_scalar, attention_bias: bias, rms_norm_eps: eps } = config;
    const window = windows(config)[layer] ?? null;
    this.options = { scale: query_pre_attn_scalar ** -0.5, ...(window === null ? {} : { window }) };
    const { hidden, heads, kvHeads, headDim } = this.sizes;
    this.q_proj = new Linear(hidden, heads * headDim, { bias });
    this.k_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.v_proj = new Linear(hidden, kvHeads * headDim, { bias });
    this.o_proj = new Linear(heads * headDim, hidden, { bias });
    this.q_norm = new RMSNorm(headDim, { eps, unitOffset: true });
    this.k_norm = new RMSNorm(headDim, { eps, unitOffset: true });
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
    const q = rope(this.q_norm.forward(split(query, heads)), turn.cos, turn.sin, turn.rows);
    const k = rope(this.k_norm.forward(split(key, kvHeads)), turn.cos, turn.sin, turn.rows);
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

  constructor(config: Gemma3TextConfig, layer: number) {
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
  /** What each layer sees, and so which of the two tables it turns by. */
  private readonly kinds: readonly LayerType[];
  private readonly rope: RopeTables;
  private readonly localRope: RopeTables;
  private readonly scale: number;

  constructor(config: Gemma3TextConfig) {
    super();
    const { headDim: rotary, context } = familyDimensions(config);
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps, unitOffset: true });
    this.scale = Math.sqrt(config.hidden_size);
    this.kinds = kinds(config);
    this.rope = new RopeTables(config.rope_scaling, { rotary, context, theta: config.rope_theta });
    this.localRope = new RopeTables(null, { rotary, context, theta: config.rope_local_base_freq });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turns = { full_attention: this.rope.of(ctx.positions, sequences), sliding_attention: this.localRope.of(ctx.positions, sequences) };
    let x = this.embed_tokens.forward(ids).mul(this.scale); // (B, T, C)
    x = through(this.layers, x, (layer, x, i) => layer.forward(x, turns[this.kinds[i] as LayerType], ctx));
    return this.norm.forward(x);
  }
}

/**
 * Gemma 3's text model with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Gemma3Text extends CausalLM {
  readonly architecture: Architecture = gemma3Text;
  readonly config: Gemma3TextConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Gemma3TextConfig> = {}) {
    super();
    this.config = parseModelConfig(gemma3TextConfigSchema, keys, config as never, "Gemma3Text");
    this.dimensions = familyDimensions(this.config);
    const { hidden_size, vocab_size } = this.config;
    this.model = new Model(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    initialise(this, this.config.initializer_range);
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const { rope_scaling, final_logit_softcapping } = this.config;
    const ctx = contextOf(inputs, this.training, longestSequence(rope_scaling, this.dimensions.context));
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences);
    const weight = this.lm_head?.weight ?? this.model.embed_tokens.weight;
    return outputOf(hidden, weight, inputs, this.watchingHead(), { softcap: final_logit_softcapping ?? undefined });
  }

  configJson(): Record<string, unknown> {
    const { rope_theta, rope_scaling, rope_parameters: _, use_bidirectional_attention: __, layer_types, ...rest } = this.config;
    return {
      architectures: ["Gemma3ForCausalLM"],
      model_type: "gemma3_text",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      // Only where it says more than the other keys: older readers do not know it.
      ...(layer_types === null ? {} : { layer_types }),
      ...ropeJson(rope_theta, rope_scaling),
    };
  }
}

const parts = (config: Gemma3TextConfig) => ({
  qkvBias: config.attention_bias,
  outputBias: config.attention_bias,
  qkNorm: true,
  postNorms: true,
  windows: windows(config),
});

/** Trained values by part, arithmetic and state of a Gemma 3 of this config. Nothing is allocated. */
export const gemma3TextCounts = (config: Gemma3TextConfig) => familyCounts(config, parts(config));

type ScaleSizes = Pick<Gemma3TextConfig, "num_hidden_layers" | "hidden_size" | "num_attention_heads" | "head_dim">;
/** llama.cpp knows the scale of the scores by the number of layers: the model of 27 billion weights has 62, and the width for each head where others have head_dim. */
const ggufScalar = ({ num_hidden_layers, hidden_size, num_attention_heads, head_dim }: ScaleSizes) =>
  num_hidden_layers === 62 ? Math.floor(hidden_size / num_attention_heads) : head_dim;

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

const LINEAR: RopeParameters = { rope_type: "linear", factor: 8 };

export const gemma3Text = defineArchitecture<Gemma3TextConfig>({
  modelType: "gemma3_text",
  textOf: ["gemma3"],
  schema: gemma3TextConfigSchema,
  keys,
  floats: ["final_logit_softcapping"],
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: {
    base: "model.",
    tied: ["lm_head.weight"],
    names: [
      [/rotary_emb\.inv_freq$/, null],
      // A gemma3's parts that see, and both generations of names of the part that speaks.
      [/^(model\.)?(vision_tower|multi_modal_projector)\./, null],
      [/^model\.language_model\./, "model."],
      [/^language_model\./, ""],
    ],
  },
  gguf: {
    architecture: "gemma3",
    ropeKey: "rope_scaling",
    config: (file) => {
      const sizes = sizesFromGguf(file);
      const window = file.optional("{arch}.attention.sliding_window") ?? null;
      return {
        ...sizes,
        query_pre_attn_scalar: ggufScalar(sizes),
        final_logit_softcapping: file.optional("{arch}.final_logit_softcapping") ?? null,
        rope_local_base_freq: file.optional("{arch}.rope.freq_base_swa") ?? 10000,
        sliding_window: window,
        // Without a window every layer sees everything.
        sliding_window_pattern: window === null ? 1 : (file.optional("{arch}.attention.sliding_window_pattern") ?? 6),
      };
    },
    metadata: (config) => {
      const { final_logit_softcapping: logits, sliding_window: window, rope_local_base_freq } = config;
      checkSayable("gemma3", "attention_bias", false, config.attention_bias);
      checkSayable("gemma3", "hidden_activation", "gelu_tanh", GATED_ACTIVATIONS[config.hidden_activation]);
      checkSayable("gemma3", "query_pre_attn_scalar", ggufScalar(config), config.query_pre_attn_scalar);
      const pattern = kinds(config).includes("sliding_attention") ? 6 : 1;
      checkSayable("gemma3", "layer_types", kinds({ ...config, layer_types: null, sliding_window_pattern: pattern }), kinds(config));
      // llama.cpp's readers take this one for granted.
      checkSayable("gemma3", "rope_local_base_freq", 10000, rope_local_base_freq);
      return {
        ...ggufSizes(config),
        ...(logits === null ? {} : { "{arch}.final_logit_softcapping": f32(logits) }),
        ...(pattern === 1 || window === null ? {} : { "{arch}.attention.sliding_window": u32(window) }),
      };
    },
    names: [...FAMILY_NAMES, ...HEAD_NORM_NAMES, ...POST_NORM_NAMES],
    added: unitOffset,
  },
  dimensions: familyDimensions,
  create: (config) => new Gemma3Text(config),
  counts: gemma3TextCounts,
  savedPerRow: (config, length) => familySaved(config, length, parts(config)),
  shapedBy: (shape) => ({ ...familyShape(shape), head_dim: shape.width / shape.heads, query_pre_attn_scalar: shape.width / shape.heads }),
  samples: [
    { ...TINY, head_dim: 10, query_pre_attn_scalar: 7, sliding_window: 5, sliding_window_pattern: 2 },
    { ...TINY, num_key_value_heads: null, tie_word_embeddings: false, attention_bias: true, final_logit_softcapping: 3, rope_scaling: LINEAR },
    { ...TINY, attention_dropout: 0.1 },
  ],
});

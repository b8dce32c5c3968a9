/**
 * Qwen 3 (Yang et al., "Qwen3 Technical Report", 2025): Llama with a norm over the items of each query and key head before they turn, and on request a window in
 * the layers from `max_window_layers` on. The MLP is Llama's. Property names are the names in the weight file.
 */
import * as z from "zod";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, type AttendOptions, attend, Embedding, type ForwardContext, Linear, Module, projections, RMSNorm, through } from "../nn/index.ts";
import { rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { MLP } from "./llama.ts";
import { FAMILY_NAMES, ggufSizes, HEAD_NORM_NAMES, sizesFromGguf } from "./llama-family.gguf.ts";
import {
  checkHeads,
  checkLayerTypes,
  familyCounts,
  familyDimensions,
  familySaved,
  familyShape,
  initialise,
  layerTypes,
  longestSequence,
  ROPE_SPELLINGS,
  ropeJson,
  windowsOf,
} from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Qwen 3 may hold. */
export const qwen3ConfigSchema = z
  .strictObject({
    vocab_size: size.default(151936),
    hidden_size: size.default(4096),
    intermediate_size: size.default(22016),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(32),
    /** Null is hidden_size / num_attention_heads. */
    head_dim: size.nullable().default(128),
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
    /** How many positions a query of a sliding layer sees, its own included. */
    sliding_window: size.nullable().default(4096),
    /** The first layer that slides, where layer_types does not say. */
    max_window_layers: z.int().min(0).default(28),
    layer_types: layerTypes,
    attention_dropout: probability.default(0),
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkLayerTypes({ ...config, sliding_window: windowOf(config) }, ctx);
  });
/** `config.json` of a Qwen 3, checked, with its defaults. */
export type Qwen3Config = z.output<typeof qwen3ConfigSchema>;

const keys = configKeys(qwen3ConfigSchema, { hidden_act: ["hidden_activation"], ...ROPE_SPELLINGS });

const windowOf = ({ use_sliding_window, sliding_window }: Qwen3Config): number | null => (use_sliding_window ? sliding_window : null);
const windows = (config: Qwen3Config) => windowsOf({ ...config, sliding_window: windowOf(config) }, (layer) => layer >= config.max_window_layers);

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

  constructor(config: Qwen3Config, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    const window = windows(config)[layer] ?? null;
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
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(this.q_norm.forward(split(query, heads)), turn.cos, turn.sin, turn.rows);
    const k = rope(this.k_norm.forward(split(key, kvHeads)), turn.cos, turn.sin, turn.rows);
    const v = split(value, kvHeads);
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
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: Qwen3Config, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP({ ...config, mlp_bias: false });
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
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

  constructor(config: Qwen3Config) {
    super();
    const { headDim: rotary, context } = familyDimensions(config);
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    this.rope = new RopeTables(config.rope_parameters, { rotary, context, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const x = this.embed_tokens.forward(ids); // (B, T, C)
    return this.norm.forward(through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx)));
  }
}

/**
 * Qwen 3 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Qwen3 extends CausalLM {
  readonly architecture: Architecture = qwen3;
  readonly config: Qwen3Config;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Qwen3Config> = {}) {
    super();
    this.config = parseModelConfig(qwen3ConfigSchema, keys, config as never, "Qwen3");
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
    const { rope_theta, rope_parameters, layer_types, ...rest } = this.config;
    return {
      architectures: ["Qwen3ForCausalLM"],
      model_type: "qwen3",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      head_dim: this.dimensions.headDim,
      // Only where it says more than the other keys: older readers do not know it.
      ...(layer_types === null ? {} : { layer_types }),
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const parts = (config: Qwen3Config) => ({ qkvBias: config.attention_bias, outputBias: config.attention_bias, qkNorm: true, windows: windows(config) });

/** Trained values by part, arithmetic and state of a Qwen 3 of this config. Nothing is allocated. */
export const qwen3Counts = (config: Qwen3Config) => familyCounts(config, parts(config));

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

export const qwen3 = defineArchitecture<Qwen3Config>({
  modelType: "qwen3",
  schema: qwen3ConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "qwen3",
    config: (file) => ({ ...sizesFromGguf(file), attention_bias: file.has("blk.0.attn_q.bias") }),
    metadata: (config) => {
      checkSayable("qwen3", "use_sliding_window", false, config.use_sliding_window);
      checkSayable("qwen3", "attention_bias", false, config.attention_bias);
      checkSayable("qwen3", "hidden_act", "silu", config.hidden_act);
      return ggufSizes(config);
    },
    names: [...FAMILY_NAMES, ...HEAD_NORM_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
  },
  dimensions: familyDimensions,
  create: (config) => new Qwen3(config),
  counts: qwen3Counts,
  savedPerRow: (config, length) => familySaved(config, length, parts(config)),
  shapedBy: (shape) => ({ ...familyShape(shape), head_dim: shape.width / shape.heads }),
  samples: [
    { ...TINY, head_dim: null },
    { ...TINY, num_key_value_heads: null, head_dim: 10, tie_word_embeddings: true, attention_bias: true, attention_dropout: 0.1 },
    { ...TINY, head_dim: 8, use_sliding_window: true, sliding_window: 5, max_window_layers: 1 },
  ],
});

/**
 * SmolLM3 (Bakouch et al., "SmolLM3: smol, multilingual, long-context reasoner", 2025): Llama in which every fourth layer does not turn its queries and keys
 * (NoPE; Yang et al., "Rope to Nope and Back Again", 2025). The MLP is Llama's. Property names are the names in the weight file.
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
import { FAMILY_NAMES, ggufSizes, sizesFromGguf, turnedRows } from "./llama-family.gguf.ts";
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

/** What `config.json` of a SmolLM3 may hold. */
export const smolLM3ConfigSchema = z
  .strictObject({
    vocab_size: size.default(128256),
    hidden_size: size.default(2048),
    intermediate_size: size.default(11008),
    num_hidden_layers: depth.default(36),
    num_attention_heads: size.default(16),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(4),
    /** Null is hidden_size / num_attention_heads. */
    head_dim: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(32768),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(true),
    rope_theta: z.number().positive().default(2000000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    /** Whether `sliding_window` counts. */
    use_sliding_window: z.boolean().default(false),
    /** How many positions a query of a sliding layer sees, its own included. */
    sliding_window: size.nullable().default(null),
    /** Without it the layers slide that do not turn. */
    layer_types: layerTypes,
    /** For each layer 1 where it turns queries and keys, 0 where it does not; null follows no_rope_layer_interval. */
    no_rope_layers: z
      .array(z.union([z.literal(0), z.literal(1)]))
      .nullable()
      .default(null),
    /** One layer in so many, the last of them, does not turn. */
    no_rope_layer_interval: size.default(4),
    attention_bias: z.boolean().default(false),
    mlp_bias: z.boolean().default(false),
    attention_dropout: probability.default(0),
  })
  .superRefine((config, ctx) => {
    checkHeads(config, ctx);
    checkLayerTypes({ ...config, sliding_window: windowOf(config) }, ctx);
    const { no_rope_layers: turning, num_hidden_layers: layers } = config;
    if (turning !== null && turning.length < layers)
      ctx.addIssue({
        code: "custom",
        path: ["no_rope_layers"],
        message: `ends before the last layer, expected a 0 or 1 for each of num_hidden_layers = ${layers}, got ${turning.length}. Add the others.`,
      });
  });
/** `config.json` of a SmolLM3, checked, with its defaults. */
export type SmolLM3Config = z.output<typeof smolLM3ConfigSchema>;

// The published config names max_window_layers too, which is Qwen's.
const keys = configKeys(smolLM3ConfigSchema, { hidden_act: ["hidden_activation"], ...ROPE_SPELLINGS }, ["max_window_layers"]);

const windowOf = ({ use_sliding_window, sliding_window }: SmolLM3Config): number | null => (use_sliding_window ? sliding_window : null);
const turns = ({ no_rope_layers, no_rope_layer_interval }: SmolLM3Config, layer: number): boolean =>
  no_rope_layers === null ? (layer + 1) % no_rope_layer_interval !== 0 : no_rope_layers[layer] === 1;
const windows = (config: SmolLM3Config) => windowsOf({ ...config, sliding_window: windowOf(config) }, (layer) => !turns(config, layer));

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;
  private readonly turns: boolean;

  constructor(config: SmolLM3Config, layer: number) {
    super();
    this.sizes = familyDimensions(config);
    this.layer = layer;
    this.dropout = config.attention_dropout;
    this.turns = turns(config, layer);
    const window = windows(config)[layer] ?? null;
    this.options = window === null ? {} : { window };
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
    const turned = (y: Tensor) => (this.turns ? rope(y, turn.cos, turn.sin, turn.rows) : y);
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = turned(split(query, heads));
    const k = turned(split(key, kvHeads));
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

  constructor(config: SmolLM3Config, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP(config);
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

  constructor(config: SmolLM3Config) {
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
 * SmolLM3 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class SmolLM3 extends CausalLM {
  readonly architecture: Architecture = smollm3;
  readonly config: SmolLM3Config;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<SmolLM3Config> = {}) {
    super();
    this.config = parseModelConfig(smolLM3ConfigSchema, keys, config as never, "SmolLM3");
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
    const { rope_theta, rope_parameters, head_dim, layer_types, no_rope_layers, ...rest } = this.config;
    return {
      architectures: ["SmolLM3ForCausalLM"],
      model_type: "smollm3",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      // Only where they say more than the other keys.
      ...(head_dim === null ? {} : { head_dim }),
      ...(no_rope_layers === null ? {} : { no_rope_layers }),
      ...(layer_types === null ? {} : { layer_types }),
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const parts = (config: SmolLM3Config) => ({
  qkvBias: config.attention_bias,
  outputBias: config.attention_bias,
  mlpBias: config.mlp_bias,
  windows: windows(config),
});

/** Trained values by part, arithmetic and state of a SmolLM3 of this config. Nothing is allocated. */
export const smolLM3Counts = (config: SmolLM3Config) => familyCounts(config, parts(config));

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

export const smollm3 = defineArchitecture<SmolLM3Config>({
  modelType: "smollm3",
  schema: smolLM3ConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "smollm3",
    config: (file) => ({ ...sizesFromGguf(file), attention_bias: file.has("blk.0.attn_q.bias"), mlp_bias: file.has("blk.0.ffn_up.bias") }),
    metadata: (config) => {
      checkSayable("smollm3", "use_sliding_window", false, config.use_sliding_window);
      checkSayable("smollm3", "attention_bias", false, config.attention_bias);
      checkSayable("smollm3", "mlp_bias", false, config.mlp_bias);
      checkSayable("smollm3", "hidden_act", "silu", config.hidden_act);
      const layers = Array.from({ length: config.num_hidden_layers }, (_, i) => i);
      checkSayable(
        "smollm3",
        "no_rope_layers",
        layers.map((i) => (i + 1) % 4 !== 0),
        layers.map((i) => turns(config, i)),
      );
      return ggufSizes(config);
    },
    names: [...FAMILY_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
    rowOrder: turnedRows,
  },
  dimensions: familyDimensions,
  create: (config) => new SmolLM3(config),
  counts: smolLM3Counts,
  savedPerRow: (config, length) => familySaved(config, length),
  shapedBy: familyShape,
  samples: [
    TINY,
    { ...TINY, num_key_value_heads: null, head_dim: 10, tie_word_embeddings: false, attention_bias: true, mlp_bias: true, attention_dropout: 0.1 },
    { ...TINY, no_rope_layer_interval: 2, use_sliding_window: true, sliding_window: 5 },
  ],
});

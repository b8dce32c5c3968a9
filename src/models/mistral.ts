/**
 * Mistral (Jiang et al., "Mistral 7B", 2023): Llama whose queries see a window of the last positions in every layer; later ones have none. The MLP is Llama's.
 * Property names are the names in the weight file.
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
import { checkHeads, familyCounts, familyDimensions, familySaved, familyShape, initialise, longestSequence, ROPE_SPELLINGS, ropeJson } from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Mistral may hold. */
export const mistralConfigSchema = z
  .strictObject({
    vocab_size: size.default(32000),
    hidden_size: size.default(4096),
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
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    /** How many positions a query sees, its own included; null is all. */
    sliding_window: size.nullable().default(4096),
    attention_dropout: probability.default(0),
  })
  .superRefine(checkHeads);
/** `config.json` of a Mistral, checked, with its defaults. */
export type MistralConfig = z.output<typeof mistralConfigSchema>;

const keys = configKeys(mistralConfigSchema, { hidden_act: ["hidden_activation"], ...ROPE_SPELLINGS });

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly sizes: ModelDimensions;
  private readonly layer: number;
  private readonly options: AttendOptions;
  private readonly dropout: number;

  constructor(config: MistralConfig, layer: number) {
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
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(split(query, heads), turn.cos, turn.sin, turn.rows);
    const k = rope(split(key, kvHeads), turn.cos, turn.sin, turn.rows);
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

  constructor(config: MistralConfig, layer: number) {
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

  constructor(config: MistralConfig) {
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
 * Mistral with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are transformers'.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Mistral extends CausalLM {
  readonly architecture: Architecture = mistral;
  readonly config: MistralConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<MistralConfig> = {}) {
    super();
    this.config = parseModelConfig(mistralConfigSchema, keys, config as never, "Mistral");
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
    const { rope_theta, rope_parameters, ...rest } = this.config;
    return {
      architectures: ["MistralForCausalLM"],
      model_type: "mistral",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      head_dim: this.dimensions.headDim,
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

/** Trained values by part, arithmetic and state of a Mistral of this config. Nothing is allocated. */
export const mistralCounts = (config: MistralConfig) => familyCounts(config, { windows: [config.sliding_window] });

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

export const mistral = defineArchitecture<MistralConfig>({
  modelType: "mistral",
  schema: mistralConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  // Such files name themselves "llama", and opened they are one.
  gguf: {
    architecture: "llama",
    stretched: ["linear", "yarn", "llama3", "longrope"],
    // Files of Llama and Mistral say nothing of which they are: they open as Llama.
    matches: () => false,
    config: sizesFromGguf,
    metadata: (config) => {
      // Llama's readers know no window: one that hides nothing may go.
      const { sliding_window: window, max_position_embeddings: context } = config;
      checkSayable("llama", "sliding_window", null, window !== null && window < context ? window : null);
      checkSayable("llama", "hidden_act", "silu", config.hidden_act);
      return ggufSizes(config);
    },
    names: [...FAMILY_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
    rowOrder: turnedRows,
  },
  dimensions: familyDimensions,
  create: (config) => new Mistral(config),
  counts: mistralCounts,
  savedPerRow: (config, length) => familySaved(config, length),
  shapedBy: familyShape,
  samples: [
    { ...TINY, sliding_window: null },
    { ...TINY, num_key_value_heads: null, head_dim: 10, tie_word_embeddings: true, attention_dropout: 0.1 },
    { ...TINY, sliding_window: 5 },
  ],
});

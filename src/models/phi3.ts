/**
 * Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama's parts with one matrix for queries, keys and values and one for the gate and what it opens, heads of which a
 * part may turn, LongRoPE, a window. No biases. Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, Linear, Module, RMSNorm, through } from "../nn/index.ts";
import { type GatedActivation, gated, rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, doesNotDivide, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { inThreeParts } from "./fused-heads.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { addLinear } from "./residual.ts";
import {
  type PartialRopeParameters,
  partialRopeParametersSchema,
  partialRotaryFactor,
  type RopeRows,
  RopeTables,
  rotaryOf,
  type SequenceLength,
  servedPositions,
  shareThatTurns,
  writtenRopeScaling,
} from "./rope-tables.ts";

/** What `config.json` of a Phi-3 may hold. */
export const phi3ConfigSchema = z
  .strictObject({
    vocab_size: size.default(32064),
    hidden_size: size.default(3072),
    intermediate_size: size.default(8192),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(4096),
    /** Where LongRoPE changes from its short factors to its long ones. */
    original_max_position_embeddings: size.default(4096),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-5),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(10000),
    /** LongRoPE's factors; null is none. Also read as rope_scaling. */
    rope_parameters: partialRopeParametersSchema.nullable().default(null),
    /** The share of each head that turns. */
    partial_rotary_factor: partialRotaryFactor.default(1),
    /** A token sees this many of the last ones, itself included; null is all. */
    sliding_window: size.nullable().default(null),
    resid_pdrop: probability.default(0),
    attention_dropout: probability.default(0),
  })
  .superRefine(({ hidden_size, num_attention_heads: heads, num_key_value_heads, rope_parameters }, ctx) => {
    const kvHeads = num_key_value_heads ?? heads;
    if (hidden_size % heads !== 0) ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: doesNotDivide("hidden_size", hidden_size, heads) });
    if (heads % kvHeads !== 0) ctx.addIssue({ code: "custom", path: ["num_key_value_heads"], message: doesNotDivide("num_attention_heads", heads, kvHeads) });
    const kind = rope_parameters?.rope_type ?? rope_parameters?.type ?? "default";
    if (!["default", "longrope", "su"].includes(kind))
      ctx.addIssue({
        code: "custom",
        path: ["rope_parameters"],
        message: `not a type that Phi-3 has, expected default or longrope, got ${kind}. Change rope_type.`,
      });
  });
/** `config.json` of a Phi-3, checked, with its defaults. */
export type Phi3Config = z.output<typeof phi3ConfigSchema>;

const keys = configKeys(
  phi3ConfigSchema,
  {
    hidden_act: ["hidden_activation"],
    rope_theta: ["rope_parameters.rope_theta", "rope_scaling.rope_theta"],
    rope_parameters: ["rope_scaling"],
    partial_rotary_factor: ["rope_parameters.partial_rotary_factor", "rope_scaling.partial_rotary_factor"],
    original_max_position_embeddings: ["rope_parameters.original_max_position_embeddings", "rope_scaling.original_max_position_embeddings"],
  },
  // transformers' model drops nothing of the embeddings, whatever embd_pdrop says; the rest is what older configs have, false or null in all of them.
  ["embd_pdrop", "attention_bias", "lm_head_bias", "mlp_bias", "interpolate_factor", "full_attn_mod"],
);

class Attention extends Module {
  qkv_proj: Linear;
  o_proj: Linear;
  private readonly config: Phi3Config;
  private readonly heads: number;
  private readonly kvHeads: number;
  private readonly headDim: number;
  private readonly layer: number;

  constructor(config: Phi3Config, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { heads, kvHeads, headDim, hidden } = dimensionsOf(config);
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.qkv_proj = new Linear(hidden, (heads + 2 * kvHeads) * headDim, { bias: false });
    this.o_proj = new Linear(heads * headDim, hidden, { bias: false });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const { attention_dropout, resid_pdrop, sliding_window, partial_rotary_factor } = this.config;
    const [b, t] = x.shape as [number, number];
    const rotary = rotaryOf(this.headDim, partial_rotary_factor);
    const [q, k, v] = inThreeParts(this.qkv_proj.forward(x), this.heads, this.kvHeads, this.headDim); // (B, T, H, D), (B, T, K, D) twice
    const turned = (y: Tensor) => rope(y, turn.cos, turn.sin, turn.rows, { rotary });
    const y = attend(this.see("q", turned(q)), this.see("k", turned(k)), this.see("v", v), ctx, this.layer, {
      ...(sliding_window === null ? {} : { window: sliding_window }),
      dropout: ctx.training ? attention_dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    const joined = this.see("heads", y).reshape([b, t, this.heads * this.headDim]);
    return addLinear(this.o_proj, joined, residual, ctx.training ? resid_pdrop : 0);
  }
}

class MLP extends Module {
  gate_up_proj: Linear;
  down_proj: Linear;
  private readonly inner: number;
  private readonly drop: number;
  private readonly activation: GatedActivation;

  constructor({ hidden_size, intermediate_size, hidden_act, resid_pdrop }: Phi3Config) {
    super();
    this.inner = intermediate_size;
    this.drop = resid_pdrop;
    this.gate_up_proj = new Linear(hidden_size, 2 * intermediate_size, { bias: false });
    this.down_proj = new Linear(intermediate_size, hidden_size, { bias: false });
    this.activation = GATED_ACTIVATIONS[hidden_act];
  }

  override get points() {
    return ["activation", "neurons"];
  }

  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const [gate, up] = this.gate_up_proj.forward(x).split([this.inner, this.inner], -1) as [Tensor, Tensor]; // (B, T, I) each
    const neurons = this.see("neurons", gated(gate, up, this.activation, this.watching("activation"))); // (B, T, I)
    return addLinear(this.down_proj, neurons, residual, ctx.training ? this.drop : 0);
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: Phi3Config, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const y = this.self_attn.forward(this.input_layernorm.forward(x), turn, ctx, x);
    return this.mlp.forward(this.post_attention_layernorm.forward(y), ctx, y);
  }
}

/** The rotary setting with the length that LongRoPE counts from, which has a key of its own here. */
const ropeOf = ({ rope_parameters, original_max_position_embeddings }: Phi3Config): PartialRopeParameters | null =>
  rope_parameters && { ...rope_parameters, original_max_position_embeddings };

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;

  constructor(config: Phi3Config) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    const rotary = rotaryOf(dimensionsOf(config).headDim, config.partial_rotary_factor);
    this.rope = new RopeTables(ropeOf(config), { rotary, context: config.max_position_embeddings, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const x = this.embed_tokens.forward(ids); // (B, T, C)
    return this.norm.forward(through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx)));
  }
}

/**
 * Phi-3 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are Phi-3 mini's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Phi3 extends CausalLM {
  readonly architecture: Architecture = phi3;
  readonly config: Phi3Config;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Phi3Config> = {}) {
    super();
    this.config = parseModelConfig(phi3ConfigSchema, keys, config as never, "Phi3");
    this.dimensions = dimensionsOf(this.config);
    const { hidden_size, vocab_size, tie_word_embeddings } = this.config;
    this.model = new Model(this.config);
    this.lm_head = tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    for (const [, p] of this.namedParameters()) if (p.rank === 2) init.normal(p, { std: this.config.initializer_range });
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, servedPositions(this.config.rope_parameters, this.dimensions.context));
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences);
    return outputOf(hidden, this.lm_head?.weight ?? this.model.embed_tokens.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    const { rope_parameters, ...rest } = this.config;
    const { original_max_position_embeddings: _, ...scaling } = writtenRopeScaling(rope_parameters) ?? {};
    return {
      architectures: ["Phi3ForCausalLM"],
      model_type: "phi3",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      rope_scaling: "rope_type" in scaling ? scaling : null,
    };
  }
}

function dimensionsOf(config: Phi3Config): ModelDimensions {
  const { vocab_size, hidden_size, num_hidden_layers, num_attention_heads: heads, num_key_value_heads, max_position_embeddings } = config;
  return {
    vocabulary: vocab_size,
    hidden: hidden_size,
    layers: num_hidden_layers,
    heads,
    kvHeads: num_key_value_heads ?? heads,
    headDim: hidden_size / heads,
    context: max_position_embeddings,
  };
}

/** Trained values by part, arithmetic and state of a Phi-3 of this config: 3,821,079,552 parameters with the defaults. Nothing is allocated. */
export function phi3Counts(config: Phi3Config): ModelCounts {
  const { vocabulary, hidden: c, layers, kvHeads, headDim } = dimensionsOf(config);
  const [kv, table] = [kvHeads * headDim, vocabulary * c];
  const [attention, mlp] = [2 * c * c + 2 * c * kv, 3 * c * config.intermediate_size];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * attention,
      mlp: layers * mlp,
      norms: (2 * layers + 1) * c,
      head: config.tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * kv,
    windows: [config.sliding_window],
  });
}

function savedPerRow(config: Phi3Config, length: number): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
  const [kv, inner] = [kvHeads * headDim, config.intermediate_size];
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.attention_dropout, length });
  // Each norm's input, its result and its root; q and k turned, and v; attention; gate, up and their product. The fused results are gone.
  return {
    layer: 2 * (2 * c + 1) + (c + 2 * kv) + attention.layer + 3 * inner,
    gradients: Math.max(4 * inner, 2 * (c + 2 * kv), attention.gradients),
    widest: 2 * inner,
    evaluated: 8 * c + 5 * kv + 5 * inner,
  };
}

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 32,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 64,
};

export const phi3 = defineArchitecture<Phi3Config>({
  modelType: "phi3",
  schema: phi3ConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "phi3",
    stretched: ["longrope"],
    rotary: (config) => rotaryOf(dimensionsOf(config).headDim, config.partial_rotary_factor),
    config: (file) => {
      const heads = file.number("{arch}.attention.head_count");
      const hidden = file.number("{arch}.embedding_length");
      return {
        vocab_size: file.shape("token_embd.weight")[0],
        hidden_size: hidden,
        intermediate_size: file.number("{arch}.feed_forward_length"),
        num_hidden_layers: file.number("{arch}.block_count"),
        num_attention_heads: heads,
        num_key_value_heads: file.optional("{arch}.attention.head_count_kv") ?? heads,
        max_position_embeddings: file.number("{arch}.context_length"),
        original_max_position_embeddings: file.optional("{arch}.rope.scaling.original_context_length") ?? file.number("{arch}.context_length"),
        rms_norm_eps: file.number("{arch}.attention.layer_norm_rms_epsilon"),
        rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
        partial_rotary_factor: shareThatTurns(file.optional("{arch}.rope.dimension_count") ?? hidden / heads, hidden / heads),
        // Files of models without a window say 0.
        sliding_window: file.optional("{arch}.attention.sliding_window") || null,
        tie_word_embeddings: !file.has("output.weight"),
      };
    },
    metadata: (config) => {
      checkSayable("phi3", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
      const { kvHeads, headDim } = dimensionsOf(config);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.embedding_length": u32(config.hidden_size),
        "{arch}.feed_forward_length": u32(config.intermediate_size),
        "{arch}.block_count": u32(config.num_hidden_layers),
        "{arch}.attention.head_count": u32(config.num_attention_heads),
        "{arch}.attention.head_count_kv": u32(kvHeads),
        "{arch}.attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
        "{arch}.attention.sliding_window": u32(config.sliding_window ?? 0),
        "{arch}.context_length": u32(config.max_position_embeddings),
        "{arch}.rope.dimension_count": u32(rotaryOf(headDim, config.partial_rotary_factor)),
        "{arch}.rope.freq_base": f32(config.rope_theta),
        "{arch}.rope.scaling.original_context_length": u32(config.original_max_position_embeddings),
      };
    },
    names: [
      ["token_embd", "model.embed_tokens"],
      ["output_norm", "model.norm"],
      ["output", "lm_head"],
      ["blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"],
      ["blk.{i}.attn_qkv", "model.layers.{i}.self_attn.qkv_proj"],
      ["blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"],
      ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"],
      ["blk.{i}.ffn_up", "model.layers.{i}.mlp.gate_up_proj"],
      ["blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"],
    ],
  },
  dimensions: dimensionsOf,
  create: (config) => new Phi3(config),
  counts: phi3Counts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({
    num_hidden_layers: layers,
    hidden_size: width,
    num_attention_heads: heads,
    num_key_value_heads: heads,
    // The gated MLP's 8/3 of the width costs what the plain one's 4 does (Shazeer 2020).
    intermediate_size: 64 * Math.ceil((8 * width) / 3 / 64),
  }),
  samples: [
    { ...TINY, num_key_value_heads: 2, partial_rotary_factor: 0.75 },
    { ...TINY, tie_word_embeddings: true, sliding_window: 5 },
    { ...TINY, num_key_value_heads: 1, attention_dropout: 0.1, resid_pdrop: 0.1 },
  ],
});

/**
 * Falcon (Almazrouei et al. 2023): attention and MLP side by side, one key and value head (7B) or a few (40B, Falcon 2), rotary positions; the RW models instead have
 * both in turn, as many key heads as query heads, and penalties on far keys (ALiBi). Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, LayerNorm, Linear, Module, through } from "../nn/index.ts";
import { dropout, rope, type Tensor } from "../tensor/index.ts";
import { alibiSlopes, bf16Slopes, slopesBuffer } from "./alibi.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { ACTIVATIONS, configKeys, depth, doesNotDivide, epsilon, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { inGroups } from "./fused-heads.ts";
import { partsOfGroups } from "./gguf-names.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { addLinear, addMlp } from "./residual.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength, servedPositions, writtenRopeScaling } from "./rope-tables.ts";

/** What `config.json` of a Falcon may hold. */
export const falconConfigSchema = z
  .strictObject({
    vocab_size: size.default(65024),
    hidden_size: size.default(4544),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(71),
    /** Key and value heads of the new decoder; null is as many as query heads. The old one has 1 or, without multi_query, as many. */
    num_kv_heads: size.nullable().default(null),
    /** Width of the MLP; null is 4·hidden_size. */
    ffn_hidden_size: size.nullable().default(null),
    /** The decoder of Falcon 40B, in which query heads share keys in groups. */
    new_decoder_architecture: z.boolean().default(false),
    /** One key and value head for all queries; without effect in the new decoder. */
    multi_query: z.boolean().default(true),
    /** Attention and MLP side by side; false is one after the other. */
    parallel_attn: z.boolean().default(true),
    /** The norms of the new decoder, one for both parts or one for each; null is 2. */
    num_ln_in_parallel_attn: z
      .union([z.literal(1), z.literal(2)])
      .nullable()
      .default(null),
    /** Penalties on far keys in place of rotary positions. */
    alibi: z.boolean().default(false),
    bias: z.boolean().default(false),
    activation: z.enum(Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[]).default("gelu"),
    layer_norm_epsilon: epsilon.default(1e-5),
    initializer_range: initialiserRange.default(0.02),
    hidden_dropout: probability.default(0),
    attention_dropout: probability.default(0),
    max_position_embeddings: size.default(2048),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine((config, ctx) => {
    const { hidden_size, num_attention_heads: heads, num_kv_heads, new_decoder_architecture: renewed, multi_query, parallel_attn } = config;
    const refuse = (path: string, message: string) => ctx.addIssue({ code: "custom", path: [path], message });
    if (hidden_size % heads !== 0) refuse("num_attention_heads", doesNotDivide("hidden_size", hidden_size, heads));
    if (renewed && heads % (num_kv_heads ?? heads) !== 0) refuse("num_kv_heads", doesNotDivide("num_attention_heads", heads, num_kv_heads ?? heads));
    if (!renewed && !multi_query && (num_kv_heads ?? heads) !== heads)
      refuse(
        "num_kv_heads",
        `another number than of query heads, expected ${heads} without multi_query and new_decoder_architecture, got ${num_kv_heads}. Remove it.`,
      );
    if (renewed && !parallel_attn)
      refuse("parallel_attn", "contradicts new_decoder_architecture, which has both parts side by side, expected true, got false. Change one of them.");
    if (!renewed && config.num_ln_in_parallel_attn === 2)
      refuse("num_ln_in_parallel_attn", "two norms without new_decoder_architecture, expected 1 or null, got 2. Change one of them.");
  });
/** `config.json` of a Falcon, checked, with its defaults. */
export type FalconConfig = z.output<typeof falconConfigSchema>;

const keys = configKeys(
  falconConfigSchema,
  {
    hidden_size: ["n_embed"],
    num_hidden_layers: ["n_layer"],
    num_attention_heads: ["n_head"],
    num_kv_heads: ["n_head_kv"],
    rope_theta: ["rope_parameters.rope_theta", "rope_scaling.rope_theta"],
    rope_parameters: ["rope_scaling"],
  },
  // Of the code before Falcon came to transformers.
  ["apply_residual_connection_post_layernorm", "ff_factor"],
);

/** What positions act by: rotary tables, or slopes. */
interface Places {
  turn: RopeRows | null;
  slopes: Tensor | null;
}

class Attention extends Module {
  query_key_value: Linear;
  dense: Linear;
  private readonly config: FalconConfig;
  private readonly kvHeads: number;
  private readonly layer: number;

  constructor(config: FalconConfig, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { hidden: c, heads, kvHeads } = dimensionsOf(config);
    this.kvHeads = kvHeads;
    this.query_key_value = new Linear(c, (c / heads) * (heads + 2 * kvHeads), { bias: config.bias });
    this.dense = new Linear(c, c, { bias: config.bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → attention (B, T, C), added to `residual` where there is one; `drop` of it is dropped before. */
  override forward(x: Tensor, { turn, slopes }: Places, ctx: ForwardContext, residual: Tensor | null, drop: number): Tensor {
    const { hidden_size: c, num_attention_heads: heads, attention_dropout } = this.config;
    const [q, k, v] = inGroups(this.query_key_value.forward(x), heads, this.kvHeads, c / heads); // (B, T, H, D), (B, T, K, D) twice
    const turned = (y: Tensor) => (turn === null ? y : rope(y, turn.cos, turn.sin, turn.rows));
    const y = attend(this.see("q", turned(q)), this.see("k", turned(k)), this.see("v", v), ctx, this.layer, {
      // transformers drops probabilities in the RW models only.
      ...(slopes === null ? {} : { slopes, dropout: ctx.training ? attention_dropout : 0 }),
      watch: this.watching("scores", "probabilities"),
    });
    const joined = this.see("heads", y).reshape(x.shape);
    return residual === null ? this.dense.forward(joined) : addLinear(this.dense, joined, residual, drop);
  }
}

class MLP extends Module {
  dense_h_to_4h: Linear;
  dense_4h_to_h: Linear;
  private readonly activation: FalconConfig["activation"];

  constructor(config: FalconConfig) {
    super();
    const { hidden_size, bias } = config;
    this.activation = config.activation;
    this.dense_h_to_4h = new Linear(hidden_size, innerOf(config), { bias });
    this.dense_4h_to_h = new Linear(innerOf(config), hidden_size, { bias });
  }

  override get points() {
    return ["neurons"];
  }

  override forward(x: Tensor, residual: Tensor, drop: number): Tensor {
    return addMlp(this, this.dense_h_to_4h, this.dense_4h_to_h, x, { activation: ACTIVATIONS[this.activation], residual, drop });
  }
}

class DecoderLayer extends Module {
  self_attention: Attention;
  mlp: MLP;
  /** Before both parts, or before attention where they come in turn. */
  input_layernorm: LayerNorm | null;
  /** Before the MLP where it comes after attention. */
  post_attention_layernorm: LayerNorm | null;
  /** Before attention and before the MLP, where each has its own. */
  ln_attn: LayerNorm | null;
  ln_mlp: LayerNorm | null;
  private readonly config: FalconConfig;

  constructor(config: FalconConfig, layer: number) {
    super();
    this.config = config;
    this.self_attention = new Attention(config, layer);
    this.mlp = new MLP(config);
    const norm = () => new LayerNorm(config.hidden_size, { eps: config.layer_norm_epsilon });
    const two = hasTwoNorms(config);
    this.input_layernorm = two ? null : norm();
    this.post_attention_layernorm = config.parallel_attn ? null : norm();
    this.ln_attn = two ? norm() : null;
    this.ln_mlp = two ? norm() : null;
  }

  override forward(x: Tensor, places: Places, ctx: ForwardContext): Tensor {
    const [drop, dropAttention] = ctx.training ? [this.config.hidden_dropout, this.config.attention_dropout] : [0, 0];
    const read = (this.ln_attn ?? (this.input_layernorm as LayerNorm)).forward(x);
    if (this.post_attention_layernorm !== null) {
      const y = this.self_attention.forward(read, places, ctx, x, dropAttention);
      return this.mlp.forward(this.post_attention_layernorm.forward(y), y, drop);
    }
    const readByMlp = this.ln_mlp?.forward(x) ?? read;
    if (drop === 0) return this.mlp.forward(readByMlp, this.self_attention.forward(read, places, ctx, x, 0), 0);
    // What both give is dropped together.
    return x.add(dropout(this.mlp.forward(readByMlp, this.self_attention.forward(read, places, ctx, null, 0), 0), drop));
  }
}

class Transformer extends Module {
  word_embeddings: Embedding;
  h: DecoderLayer[];
  ln_f: LayerNorm;
  private readonly rope: RopeTables | null;
  private readonly slopes: Tensor | null;

  constructor(config: FalconConfig) {
    super();
    const { hidden_size, num_attention_heads: heads } = config;
    this.word_embeddings = new Embedding(config.vocab_size, hidden_size);
    this.h = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.ln_f = new LayerNorm(hidden_size, { eps: config.layer_norm_epsilon });
    const shape = { rotary: hidden_size / heads, context: config.max_position_embeddings, theta: config.rope_theta };
    this.rope = config.alibi ? null : new RopeTables(config.rope_parameters, shape);
    // Penalties are added before the scores are scaled, so that they are scaled too; their slopes are rounded to bfloat16. (transformers rounds the penalties as well,
    // which moves those of keys beyond 256 positions by up to 1/256 of their size.)
    this.slopes = config.alibi ? slopesBuffer(bf16Slopes(alibiSlopes(heads)).map((slope) => slope / Math.sqrt(hidden_size / heads))) : null;
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const places = { turn: this.rope?.of(ctx.positions, sequences) ?? null, slopes: this.slopes };
    let x = this.word_embeddings.forward(ids); // (B, T, C)
    x = through(this.h, x, (layer, x) => layer.forward(x, places, ctx));
    return this.ln_f.forward(x);
  }
}

/**
 * Falcon with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are Falcon 7B's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Falcon extends CausalLM {
  readonly architecture: Architecture = falcon;
  readonly config: FalconConfig;
  readonly dimensions: ModelDimensions;
  transformer: Transformer;
  lm_head: Linear | null;

  constructor(config: Partial<FalconConfig> = {}) {
    super();
    this.config = parseModelConfig(falconConfigSchema, keys, config as never, "Falcon");
    this.dimensions = dimensionsOf(this.config);
    const { hidden_size, vocab_size, tie_word_embeddings } = this.config;
    this.transformer = new Transformer(this.config);
    this.lm_head = tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    for (const [name, p] of this.namedParameters()) {
      if (p.rank === 2) init.normal(p, { std: this.config.initializer_range });
      else if (name.endsWith(".bias")) init.normal(p, { std: 0 });
    }
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const { alibi, rope_parameters } = this.config;
    const ctx = contextOf(inputs, this.training, alibi ? Number.POSITIVE_INFINITY : servedPositions(rope_parameters, this.dimensions.context));
    const hidden = this.transformer.forward(inputs.inputIds, ctx, ctx.sequences);
    return outputOf(hidden, this.lm_head?.weight ?? this.transformer.word_embeddings.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    const { rope_parameters, ...rest } = this.config;
    return {
      architectures: ["FalconForCausalLM"],
      model_type: "falcon",
      ...rest,
      num_kv_heads: this.dimensions.kvHeads,
      ffn_hidden_size: innerOf(this.config),
      rope_scaling: writtenRopeScaling(rope_parameters),
    };
  }
}

const innerOf = ({ ffn_hidden_size, hidden_size }: FalconConfig): number => ffn_hidden_size ?? 4 * hidden_size;

const hasTwoNorms = ({ new_decoder_architecture, num_ln_in_parallel_attn }: FalconConfig): boolean =>
  new_decoder_architecture && (num_ln_in_parallel_attn ?? 2) === 2;

function dimensionsOf(config: FalconConfig): ModelDimensions {
  const { num_attention_heads: heads, new_decoder_architecture, multi_query } = config;
  return {
    vocabulary: config.vocab_size,
    hidden: config.hidden_size,
    layers: config.num_hidden_layers,
    heads,
    kvHeads: new_decoder_architecture ? (config.num_kv_heads ?? heads) : multi_query ? 1 : heads,
    headDim: config.hidden_size / heads,
    context: config.max_position_embeddings,
  };
}

/** Trained values by part, arithmetic and state of a Falcon of this config: 6,921,720,704 parameters with the defaults. Nothing is allocated. */
export function falconCounts(config: FalconConfig): ModelCounts {
  const { vocabulary, hidden: c, layers, kvHeads, headDim } = dimensionsOf(config);
  const [inner, kv, table] = [innerOf(config), kvHeads * headDim, vocabulary * c];
  const [attention, mlp] = [2 * c * c + 2 * c * kv, 2 * c * inner];
  const norms = hasTwoNorms(config) || !config.parallel_attn ? 2 : 1;
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary, or penalties
      attention: layers * (attention + (config.bias ? 2 * c + 2 * kv : 0)),
      mlp: layers * (mlp + (config.bias ? inner + c : 0)),
      norms: (norms * layers + 1) * 2 * c,
      head: config.tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * kv,
  });
}

function savedPerRow(config: FalconConfig, length: number): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
  const [inner, kv] = [innerOf(config), kvHeads * headDim];
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.alibi ? config.attention_dropout : 0, length });
  // The norms' inputs, and each one's result, mean and deviation; q, k and v; attention; the MLP: its neurons and the slope of their activation.
  const norms = (config.parallel_attn ? c : 2 * c) + (hasTwoNorms(config) || !config.parallel_attn ? 2 : 1) * (c + 2);
  return {
    layer: norms + (c + 2 * kv) + attention.layer + 2 * inner,
    gradients: Math.max(2 * (c + 2 * kv), attention.gradients),
    widest: Math.max(inner, c + 2 * kv),
    evaluated: 9 * c + 6 * kv + inner,
  };
}

/** What the samples have in common. */
const TINY = { vocab_size: 41, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, max_position_embeddings: 64 };

export const falcon = defineArchitecture<FalconConfig>({
  modelType: "falcon",
  schema: falconConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "transformer.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$|rotary\.inv_freq$/, null]] },
  gguf: {
    architecture: "falcon",
    config: (file) => {
      const heads = file.number("{arch}.attention.head_count");
      const kvHeads = file.optional("{arch}.attention.head_count_kv") ?? 1;
      const two = file.has("blk.0.attn_norm_2.weight");
      return {
        vocab_size: file.shape("token_embd.weight")[0],
        hidden_size: file.number("{arch}.embedding_length"),
        ffn_hidden_size: file.number("{arch}.feed_forward_length"),
        num_hidden_layers: file.number("{arch}.block_count"),
        num_attention_heads: heads,
        // One head of keys for all is the old decoder where one norm serves both parts.
        ...(kvHeads === 1 && !two ? {} : { new_decoder_architecture: true, num_kv_heads: kvHeads, num_ln_in_parallel_attn: two ? 2 : 1 }),
        max_position_embeddings: file.number("{arch}.context_length"),
        layer_norm_epsilon: file.number("{arch}.attention.layer_norm_epsilon"),
        rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
        tie_word_embeddings: !file.has("output.weight"),
      };
    },
    metadata: (config) => {
      checkSayable("falcon", "parallel_attn", true, config.parallel_attn);
      checkSayable("falcon", "alibi", false, config.alibi);
      checkSayable("falcon", "bias", false, config.bias);
      checkSayable("falcon", "activation", "gelu", ACTIVATIONS[config.activation]);
      const { heads, kvHeads } = dimensionsOf(config);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.context_length": u32(config.max_position_embeddings),
        "{arch}.embedding_length": u32(config.hidden_size),
        "{arch}.feed_forward_length": u32(innerOf(config)),
        "{arch}.block_count": u32(config.num_hidden_layers),
        "{arch}.attention.head_count": u32(heads),
        "{arch}.attention.head_count_kv": u32(kvHeads),
        "{arch}.attention.layer_norm_epsilon": f32(config.layer_norm_epsilon),
        "{arch}.rope.freq_base": f32(config.rope_theta),
      };
    },
    names: [
      ["token_embd", "transformer.word_embeddings"],
      ["output_norm", "transformer.ln_f"],
      ["output", "lm_head"],
      ["blk.{i}.attn_norm", "transformer.h.{i}.input_layernorm"],
      ["blk.{i}.attn_norm", "transformer.h.{i}.ln_mlp"],
      ["blk.{i}.attn_norm_2", "transformer.h.{i}.ln_attn"],
      ["blk.{i}.attn_qkv", "transformer.h.{i}.self_attention.query_key_value"],
      ["blk.{i}.attn_output", "transformer.h.{i}.self_attention.dense"],
      ["blk.{i}.ffn_up", "transformer.h.{i}.mlp.dense_h_to_4h"],
      ["blk.{i}.ffn_down", "transformer.h.{i}.mlp.dense_4h_to_h"],
    ],
    rowOrder: (name, _rows, config) => {
      const { heads, kvHeads, headDim } = dimensionsOf(config);
      return name.includes(".query_key_value.") ? partsOfGroups(heads, kvHeads, headDim) : null;
    },
  },
  dimensions: dimensionsOf,
  create: (config) => new Falcon(config),
  counts: falconCounts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({ num_hidden_layers: layers, hidden_size: width, num_attention_heads: heads, ffn_hidden_size: 4 * width }),
  samples: [
    TINY,
    { ...TINY, new_decoder_architecture: true, num_kv_heads: 2, tie_word_embeddings: false, hidden_dropout: 0.1 },
    { ...TINY, new_decoder_architecture: true, num_kv_heads: 2, num_ln_in_parallel_attn: 1 },
    { ...TINY, alibi: true, parallel_attn: false, multi_query: false, bias: true, attention_dropout: 0.1, ffn_hidden_size: 40 },
  ],
});

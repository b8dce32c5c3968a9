/**
 * OLMo 2 (OLMo team 2024): Llama's parts, but attention and MLP read the residual stream as it is, and what they add is normalised; queries and keys are normalised
 * over all heads together. Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, Linear, Module, projections, RMSNorm, through } from "../nn/index.ts";
import { type GatedActivation, gated, rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, doesNotDivide, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength, servedPositions, writtenRopeScaling } from "./rope-tables.ts";

/** What `config.json` of an OLMo 2 may hold. */
export const olmo2ConfigSchema = z
  .strictObject({
    vocab_size: size.default(50304),
    hidden_size: size.default(4096),
    intermediate_size: size.default(11008),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(2048),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-5),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(false),
    attention_dropout: probability.default(0),
  })
  .superRefine(({ hidden_size, num_attention_heads: heads, num_key_value_heads }, ctx) => {
    const kvHeads = num_key_value_heads ?? heads;
    if (hidden_size % heads !== 0) ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: doesNotDivide("hidden_size", hidden_size, heads) });
    if (heads % kvHeads !== 0) ctx.addIssue({ code: "custom", path: ["num_key_value_heads"], message: doesNotDivide("num_attention_heads", heads, kvHeads) });
  });
/** `config.json` of an OLMo 2, checked, with its defaults. */
export type Olmo2Config = z.output<typeof olmo2ConfigSchema>;

const keys = configKeys(olmo2ConfigSchema, {
  hidden_act: ["hidden_activation"],
  rope_theta: ["rope_parameters.rope_theta", "rope_scaling.rope_theta"],
  rope_parameters: ["rope_scaling"],
});

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  q_norm: RMSNorm;
  k_norm: RMSNorm;
  private readonly heads: number;
  private readonly kvHeads: number;
  private readonly headDim: number;
  private readonly layer: number;
  private readonly dropout: number;

  constructor(config: Olmo2Config, layer: number) {
    super();
    const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
    const { attention_bias: bias, rms_norm_eps: eps } = config;
    this.layer = layer;
    this.dropout = config.attention_dropout;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.q_proj = new Linear(c, c, { bias });
    this.k_proj = new Linear(c, kvHeads * headDim, { bias });
    this.v_proj = new Linear(c, kvHeads * headDim, { bias });
    this.o_proj = new Linear(c, c, { bias });
    this.q_norm = new RMSNorm(c, { eps });
    this.k_norm = new RMSNorm(kvHeads * headDim, { eps });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → attention (B, T, C), not yet normalised. */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const [b, t] = x.shape as [number, number];
    const heads = (y: Tensor, n: number) => y.reshape([b, t, n, this.headDim]); // (B, T, H, D)
    // Normalised as one row of all heads, then cut into them.
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(heads(this.q_norm.forward(query), this.heads), turn.cos, turn.sin, turn.rows);
    const k = rope(heads(this.k_norm.forward(key), this.kvHeads), turn.cos, turn.sin, turn.rows);
    const v = heads(value, this.kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.forward(this.see("heads", y).reshape(x.shape));
  }
}

class MLP extends Module {
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
  private readonly activation: GatedActivation;

  constructor({ hidden_size, intermediate_size, hidden_act }: Olmo2Config) {
    super();
    this.gate_proj = new Linear(hidden_size, intermediate_size, { bias: false });
    this.up_proj = new Linear(hidden_size, intermediate_size, { bias: false });
    this.down_proj = new Linear(intermediate_size, hidden_size, { bias: false });
    this.activation = GATED_ACTIVATIONS[hidden_act];
  }

  override get points() {
    return ["activation", "neurons"];
  }

  override forward(x: Tensor): Tensor {
    const [gate, up] = projections(x, [this.gate_proj, this.up_proj]) as [Tensor, Tensor];
    const neurons = gated(gate, up, this.activation, this.watching("activation")); // (B, T, I)
    return this.down_proj.forward(this.see("neurons", neurons));
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  post_attention_layernorm: RMSNorm;
  post_feedforward_layernorm: RMSNorm;

  constructor(config: Olmo2Config, layer: number) {
    super();
    const eps = config.rms_norm_eps;
    this.self_attn = new Attention(config, layer);
    this.mlp = new MLP(config);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, { eps });
    this.post_feedforward_layernorm = new RMSNorm(config.hidden_size, { eps });
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const y = x.add(this.post_attention_layernorm.forward(this.self_attn.forward(x, turn, ctx)));
    return y.add(this.post_feedforward_layernorm.forward(this.mlp.forward(y)));
  }
}

class Model extends Module {
  embed_tokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  private readonly rope: RopeTables;

  constructor(config: Olmo2Config) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    const rotary = config.hidden_size / config.num_attention_heads;
    this.rope = new RopeTables(config.rope_parameters, { rotary, context: config.max_position_embeddings, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const x = this.embed_tokens.forward(ids); // (B, T, C)
    return this.norm.forward(through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx)));
  }
}

/**
 * OLMo 2 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are OLMo 2 7B's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Olmo2 extends CausalLM {
  readonly architecture: Architecture = olmo2;
  readonly config: Olmo2Config;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<Olmo2Config> = {}) {
    super();
    this.config = parseModelConfig(olmo2ConfigSchema, keys, config as never, "Olmo2");
    this.dimensions = dimensionsOf(this.config);
    const { hidden_size, vocab_size, tie_word_embeddings } = this.config;
    this.model = new Model(this.config);
    this.lm_head = tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    for (const [name, p] of this.namedParameters()) {
      if (p.rank === 2) init.normal(p, { std: this.config.initializer_range });
      else if (name.endsWith(".bias")) init.normal(p, { std: 0 });
    }
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, servedPositions(this.config.rope_parameters, this.dimensions.context));
    const hidden = this.model.forward(inputs.inputIds, ctx, ctx.sequences);
    return outputOf(hidden, this.lm_head?.weight ?? this.model.embed_tokens.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    const { rope_parameters, ...rest } = this.config;
    return {
      architectures: ["Olmo2ForCausalLM"],
      model_type: "olmo2",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      rope_scaling: writtenRopeScaling(rope_parameters),
    };
  }
}

function dimensionsOf(config: Olmo2Config): ModelDimensions {
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

/** Trained values by part, arithmetic and state of an OLMo 2 of this config: 6,888,357,888 parameters with the defaults. Nothing is allocated. */
export function olmo2Counts(config: Olmo2Config): ModelCounts {
  const { vocabulary, hidden: c, layers, kvHeads, headDim } = dimensionsOf(config);
  const { intermediate_size: inner, attention_bias, tie_word_embeddings } = config;
  const [kv, table] = [kvHeads * headDim, vocabulary * c];
  const [attention, mlp] = [2 * c * c + 2 * c * kv, 3 * c * inner];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * (attention + (attention_bias ? 2 * c + 2 * kv : 0)),
      mlp: layers * mlp,
      norms: layers * (3 * c + kv) + c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * kv,
  });
}

function savedPerRow(config: Olmo2Config, length: number): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
  const [kv, inner] = [kvHeads * headDim, config.intermediate_size];
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.attention_dropout, length });
  // The inputs of both parts; q and k before their norms, with the roots, and turned; v; attention; gate, up and their product; what both norms normalise, with its root.
  return {
    layer: 2 * c + (2 * c + 1) + (2 * kv + 1) + kv + attention.layer + 3 * inner + 2 * (c + 1),
    gradients: Math.max(2 * inner, attention.gradients),
    widest: inner,
    evaluated: 10 * c + 5 * kv + 3 * inner,
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

export const olmo2 = defineArchitecture<Olmo2Config>({
  modelType: "olmo2",
  schema: olmo2ConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "olmo2",
    config: (file) => {
      const heads = file.number("{arch}.attention.head_count");
      return {
        vocab_size: file.shape("token_embd.weight")[0],
        hidden_size: file.number("{arch}.embedding_length"),
        intermediate_size: file.number("{arch}.feed_forward_length"),
        num_hidden_layers: file.number("{arch}.block_count"),
        num_attention_heads: heads,
        num_key_value_heads: file.optional("{arch}.attention.head_count_kv") ?? heads,
        max_position_embeddings: file.number("{arch}.context_length"),
        rms_norm_eps: file.number("{arch}.attention.layer_norm_rms_epsilon"),
        rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
        tie_word_embeddings: !file.has("output.weight"),
      };
    },
    metadata: (config) => {
      checkSayable("olmo2", "attention_bias", false, config.attention_bias);
      checkSayable("olmo2", "tie_word_embeddings", false, config.tie_word_embeddings);
      checkSayable("olmo2", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
      const { kvHeads, headDim } = dimensionsOf(config);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.embedding_length": u32(config.hidden_size),
        "{arch}.feed_forward_length": u32(config.intermediate_size),
        "{arch}.block_count": u32(config.num_hidden_layers),
        "{arch}.attention.head_count": u32(config.num_attention_heads),
        "{arch}.attention.head_count_kv": u32(kvHeads),
        "{arch}.context_length": u32(config.max_position_embeddings),
        "{arch}.attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
        "{arch}.rope.dimension_count": u32(headDim),
        "{arch}.rope.freq_base": f32(config.rope_theta),
      };
    },
    names: [
      ["token_embd", "model.embed_tokens"],
      ["output_norm", "model.norm"],
      ["output", "lm_head"],
      ["blk.{i}.attn_q", "model.layers.{i}.self_attn.q_proj"],
      ["blk.{i}.attn_k", "model.layers.{i}.self_attn.k_proj"],
      ["blk.{i}.attn_v", "model.layers.{i}.self_attn.v_proj"],
      ["blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"],
      ["blk.{i}.attn_q_norm", "model.layers.{i}.self_attn.q_norm"],
      ["blk.{i}.attn_k_norm", "model.layers.{i}.self_attn.k_norm"],
      ["blk.{i}.post_attention_norm", "model.layers.{i}.post_attention_layernorm"],
      ["blk.{i}.ffn_gate", "model.layers.{i}.mlp.gate_proj"],
      ["blk.{i}.ffn_up", "model.layers.{i}.mlp.up_proj"],
      ["blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"],
      ["blk.{i}.post_ffw_norm", "model.layers.{i}.post_feedforward_layernorm"],
    ],
  },
  dimensions: dimensionsOf,
  create: (config) => new Olmo2(config),
  counts: olmo2Counts,
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
    { ...TINY, num_key_value_heads: 2 },
    { ...TINY, attention_bias: true, tie_word_embeddings: true },
    { ...TINY, num_key_value_heads: 2, attention_dropout: 0.1 },
  ],
});

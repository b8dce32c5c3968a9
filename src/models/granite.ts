/**
 * Granite 3 (Granite team, IBM 2024): Llama's parts with four numbers that Llama does not have, on the embeddings, on what each part adds, on the scores of attention
 * (in place of 1/√dim) and under the logits. They keep learning rates alike across widths (Yang et al. 2022). Property names are the names in the weight file.
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
import { neighbouringHalves } from "./gguf-names.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength, servedPositions, writtenRopeScaling } from "./rope-tables.ts";

const multiplier = z.number().positive().default(1);

/** What `config.json` of a Granite may hold. */
export const graniteConfigSchema = z
  .strictObject({
    vocab_size: size.default(32000),
    hidden_size: size.default(4096),
    intermediate_size: size.default(11008),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(null),
    hidden_act: z.enum(Object.keys(GATED_ACTIVATIONS) as (keyof typeof GATED_ACTIVATIONS)[]).default("silu"),
    max_position_embeddings: size.default(2048),
    initializer_range: initialiserRange.default(0.02),
    rms_norm_eps: epsilon.default(1e-6),
    tie_word_embeddings: z.boolean().default(false),
    rope_theta: z.number().positive().default(10000),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: ropeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(false),
    mlp_bias: z.boolean().default(false),
    attention_dropout: probability.default(0),
    /** Multiplies the embeddings. */
    embedding_multiplier: multiplier,
    /** Multiplies the scores of attention. */
    attention_multiplier: multiplier,
    /** Multiplies what attention and MLP add. */
    residual_multiplier: multiplier,
    /** Divides the logits. */
    logits_scaling: multiplier,
  })
  .superRefine(({ hidden_size, num_attention_heads: heads, num_key_value_heads }, ctx) => {
    const kvHeads = num_key_value_heads ?? heads;
    if (hidden_size % heads !== 0) ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: doesNotDivide("hidden_size", hidden_size, heads) });
    if (heads % kvHeads !== 0) ctx.addIssue({ code: "custom", path: ["num_key_value_heads"], message: doesNotDivide("num_attention_heads", heads, kvHeads) });
  });
/** `config.json` of a Granite, checked, with its defaults. */
export type GraniteConfig = z.output<typeof graniteConfigSchema>;

const keys = configKeys(graniteConfigSchema, {
  hidden_act: ["hidden_activation"],
  rope_theta: ["rope_parameters.rope_theta", "rope_scaling.rope_theta"],
  rope_parameters: ["rope_scaling"],
});

/** residual + by · layer(x), in one pass where nothing is scaled. */
const addScaled = (layer: Linear, x: Tensor, residual: Tensor, by: number): Tensor =>
  by === 1 ? layer.fused(x, { residual }) : residual.add(layer.forward(x).mul(by));

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly config: GraniteConfig;
  private readonly heads: number;
  private readonly kvHeads: number;
  private readonly headDim: number;
  private readonly layer: number;

  constructor(config: GraniteConfig, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
    const { attention_bias: bias } = config;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = headDim;
    this.q_proj = new Linear(c, c, { bias });
    this.k_proj = new Linear(c, kvHeads * headDim, { bias });
    this.v_proj = new Linear(c, kvHeads * headDim, { bias });
    this.o_proj = new Linear(c, c, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + residual_multiplier · attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const { attention_multiplier: scale, attention_dropout, residual_multiplier } = this.config;
    const [b, t] = x.shape as [number, number];
    const heads = (y: Tensor, n: number) => y.reshape([b, t, n, this.headDim]); // (B, T, H, D)
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(heads(query, this.heads), turn.cos, turn.sin, turn.rows);
    const k = rope(heads(key, this.kvHeads), turn.cos, turn.sin, turn.rows);
    const v = heads(value, this.kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      scale,
      dropout: ctx.training ? attention_dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return addScaled(this.o_proj, this.see("heads", y).reshape(x.shape), residual, residual_multiplier);
  }
}

class MLP extends Module {
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
  private readonly activation: GatedActivation;
  private readonly multiplier: number;

  constructor({ hidden_size, intermediate_size, mlp_bias: bias, hidden_act, residual_multiplier }: GraniteConfig) {
    super();
    this.gate_proj = new Linear(hidden_size, intermediate_size, { bias });
    this.up_proj = new Linear(hidden_size, intermediate_size, { bias });
    this.down_proj = new Linear(intermediate_size, hidden_size, { bias });
    this.activation = GATED_ACTIVATIONS[hidden_act];
    this.multiplier = residual_multiplier;
  }

  override get points() {
    return ["activation", "neurons"];
  }

  override forward(x: Tensor, residual: Tensor): Tensor {
    const [gate, up] = projections(x, [this.gate_proj, this.up_proj]) as [Tensor, Tensor];
    const neurons = gated(gate, up, this.activation, this.watching("activation")); // (B, T, I)
    return addScaled(this.down_proj, this.see("neurons", neurons), residual, this.multiplier);
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: GraniteConfig, layer: number) {
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
  private readonly config: GraniteConfig;

  constructor(config: GraniteConfig) {
    super();
    this.config = config;
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    const rotary = config.hidden_size / config.num_attention_heads;
    this.rope = new RopeTables(config.rope_parameters, { rotary, context: config.max_position_embeddings, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const { embedding_multiplier, logits_scaling } = this.config;
    let x = this.embed_tokens.forward(ids).mul(embedding_multiplier); // (B, T, C)
    x = through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx));
    // The head is linear: hidden states that are divided give logits that are divided, whoever computes them.
    return this.norm.forward(x).mul(1 / logits_scaling);
  }
}

/**
 * Granite with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are a Llama 7B's, without multipliers.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Granite extends CausalLM {
  readonly architecture: Architecture = granite;
  readonly config: GraniteConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<GraniteConfig> = {}) {
    super();
    this.config = parseModelConfig(graniteConfigSchema, keys, config as never, "Granite");
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
      architectures: ["GraniteForCausalLM"],
      model_type: "granite",
      ...rest,
      num_key_value_heads: this.dimensions.kvHeads,
      rope_scaling: writtenRopeScaling(rope_parameters),
    };
  }
}

function dimensionsOf(config: GraniteConfig): ModelDimensions {
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

/** Trained values by part, arithmetic and state of a Granite of this config: 6,738,415,616 parameters with the defaults. Nothing is allocated. */
export function graniteCounts(config: GraniteConfig): ModelCounts {
  const { vocabulary, hidden: c, layers, kvHeads, headDim } = dimensionsOf(config);
  const { intermediate_size: inner, attention_bias, mlp_bias, tie_word_embeddings } = config;
  const [kv, table] = [kvHeads * headDim, vocabulary * c];
  const [attention, mlp] = [2 * c * c + 2 * c * kv, 3 * c * inner];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * (attention + (attention_bias ? 2 * c + 2 * kv : 0)),
      mlp: layers * (mlp + (mlp_bias ? 2 * inner + c : 0)),
      norms: (2 * layers + 1) * c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * kv,
  });
}

function savedPerRow(config: GraniteConfig, length: number): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = dimensionsOf(config);
  const [kv, inner] = [kvHeads * headDim, config.intermediate_size];
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.attention_dropout, length });
  // Each norm's input, its result and its root; q and k turned, and v; attention; gate, up and their product; what both parts give, where it is multiplied.
  return {
    layer: 2 * (2 * c + 1) + (c + 2 * kv) + attention.layer + 3 * inner + (config.residual_multiplier === 1 ? 0 : 2 * c),
    gradients: Math.max(2 * inner, attention.gradients),
    widest: inner,
    evaluated: 9 * c + 3 * kv + 3 * inner,
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

export const granite = defineArchitecture<GraniteConfig>({
  modelType: "granite",
  schema: graniteConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "granite",
    stretched: ["linear", "yarn", "llama3", "longrope"],
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
        rms_norm_eps: file.number("{arch}.attention.layer_norm_rms_epsilon"),
        rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
        tie_word_embeddings: !file.has("output.weight"),
        attention_bias: file.has("blk.0.attn_q.bias"),
        mlp_bias: file.has("blk.0.ffn_up.bias"),
        embedding_multiplier: file.optional("{arch}.embedding_scale") ?? 1,
        attention_multiplier: file.optional("{arch}.attention.scale") ?? 1 / Math.sqrt(hidden / heads),
        residual_multiplier: file.optional("{arch}.residual_scale") ?? 1,
        logits_scaling: file.optional("{arch}.logit_scale") ?? 1,
      };
    },
    metadata: (config) => {
      checkSayable("granite", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
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
        "{arch}.embedding_scale": f32(config.embedding_multiplier),
        "{arch}.attention.scale": f32(config.attention_multiplier),
        "{arch}.residual_scale": f32(config.residual_multiplier),
        "{arch}.logit_scale": f32(config.logits_scaling),
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
      ["blk.{i}.ffn_gate", "model.layers.{i}.mlp.gate_proj"],
      ["blk.{i}.ffn_up", "model.layers.{i}.mlp.up_proj"],
      ["blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"],
      ["blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"],
      ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"],
    ],
    rowOrder: (name, rows, config) => {
      const { heads, kvHeads } = dimensionsOf(config);
      return name.includes(".q_proj.") ? neighbouringHalves(rows, heads) : name.includes(".k_proj.") ? neighbouringHalves(rows, kvHeads) : null;
    },
  },
  dimensions: dimensionsOf,
  create: (config) => new Granite(config),
  counts: graniteCounts,
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
    { ...TINY, attention_bias: true, mlp_bias: true, tie_word_embeddings: true },
    { ...TINY, embedding_multiplier: 3, attention_multiplier: 0.2, residual_multiplier: 0.4, logits_scaling: 5 },
    { ...TINY, num_key_value_heads: 2, attention_dropout: 0.1 },
  ],
});

/**
 * OPT (Zhang et al. 2022): learned positions, ReLU, biases, the norms before each part or (350M) behind it, embeddings that may be narrower than the model.
 * Property names are the names in the weight file. GGUF files have no form for it.
 */
import * as z from "zod";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, LayerNorm, Linear, Module, through } from "../nn/index.ts";
import { layerNorm, type Tensor } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { ACTIVATIONS, configKeys, depth, doesNotDivide, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { addLinear, addMlp } from "./residual.ts";

/** What `config.json` of an OPT may hold. */
export const optConfigSchema = z
  .strictObject({
    vocab_size: size.default(50272),
    hidden_size: size.default(768),
    num_hidden_layers: depth.default(12),
    ffn_dim: size.default(3072),
    num_attention_heads: size.default(12),
    max_position_embeddings: size.default(2048),
    /** Norms before attention and MLP; false is behind them, as in OPT 350M. */
    do_layer_norm_before: z.boolean().default(true),
    /** No norm behind the last layer, where models of before transformers 4.20.1 had none. */
    _remove_final_layer_norm: z.boolean().default(false),
    /** Width of the embeddings; null is hidden_size. */
    word_embed_proj_dim: size.nullable().default(null),
    activation_function: z.enum(Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[]).default("relu"),
    dropout: probability.default(0.1),
    attention_dropout: probability.default(0),
    /** Whole layers are never dropped here, as published. */
    layerdrop: z.literal(0).default(0),
    init_std: initialiserRange.default(0.02),
    enable_bias: z.boolean().default(true),
    /** Whether norms have weights and biases. */
    layer_norm_elementwise_affine: z.boolean().default(true),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine(({ hidden_size, num_attention_heads: heads }, ctx) => {
    if (hidden_size % heads !== 0) ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: doesNotDivide("hidden_size", hidden_size, heads) });
  });
/** `config.json` of an OPT, checked, with its defaults. */
export type OPTConfig = z.output<typeof optConfigSchema>;

// activation_dropout and output_projection are of the code that OPT was trained with.
const keys = configKeys(optConfigSchema, {}, ["activation_dropout", "output_projection"]);

/** Position 0 has row 2: in the code that OPT was trained with, the rows before were kept for padding. */
const OFFSET = 2;

class LearnedPositions extends Embedding {
  constructor(count: number, dim: number) {
    super(count + OFFSET, dim);
  }

  /** positions i32 (…) → (…, dim). */
  override forward(positions: Tensor): Tensor {
    return super.forward(positions.add(OFFSET));
  }
}

/** A norm without weights: (x − mean)/√(variance + 1e-5). */
class BareNorm extends Module {
  override forward(x: Tensor): Tensor {
    return layerNorm(x);
  }
}

const normOf = ({ hidden_size, layer_norm_elementwise_affine }: OPTConfig): LayerNorm | BareNorm =>
  layer_norm_elementwise_affine ? new LayerNorm(hidden_size) : new BareNorm();

class Attention extends Module {
  k_proj: Linear;
  v_proj: Linear;
  q_proj: Linear;
  out_proj: Linear;
  private readonly config: OPTConfig;
  private readonly layer: number;

  constructor(config: OPTConfig, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { hidden_size: c, enable_bias: bias } = config;
    this.k_proj = new Linear(c, c, { bias });
    this.v_proj = new Linear(c, c, { bias });
    this.q_proj = new Linear(c, c, { bias });
    this.out_proj = new Linear(c, c, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const { hidden_size: c, num_attention_heads: n, attention_dropout, dropout } = this.config;
    const [b, t] = x.shape as [number, number];
    const heads = (projection: Linear) => projection.forward(x).reshape([b, t, n, c / n]); // (B, T, H, D)
    const [q, k, v] = [this.see("q", heads(this.q_proj)), this.see("k", heads(this.k_proj)), this.see("v", heads(this.v_proj))];
    const watch = this.watching("scores", "probabilities");
    const y = attend(q, k, v, ctx, this.layer, { dropout: ctx.training ? attention_dropout : 0, watch });
    return addLinear(this.out_proj, this.see("heads", y).reshape([b, t, c]), residual, ctx.training ? dropout : 0);
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  self_attn_layer_norm: LayerNorm | BareNorm;
  fc1: Linear;
  fc2: Linear;
  final_layer_norm: LayerNorm | BareNorm;
  private readonly config: OPTConfig;

  constructor(config: OPTConfig, layer: number) {
    super();
    this.config = config;
    const { hidden_size, ffn_dim, enable_bias: bias } = config;
    this.self_attn = new Attention(config, layer);
    this.self_attn_layer_norm = normOf(config);
    this.fc1 = new Linear(hidden_size, ffn_dim, { bias });
    this.fc2 = new Linear(ffn_dim, hidden_size, { bias });
    this.final_layer_norm = normOf(config);
  }

  override get points() {
    return ["neurons"];
  }

  override forward(x: Tensor, ctx: ForwardContext): Tensor {
    const { do_layer_norm_before: before, activation_function, dropout } = this.config;
    const options = { activation: ACTIVATIONS[activation_function], drop: ctx.training ? dropout : 0 };
    if (before) {
      const y = this.self_attn.forward(this.self_attn_layer_norm.forward(x), ctx, x);
      return addMlp(this, this.fc1, this.fc2, this.final_layer_norm.forward(y), { ...options, residual: y });
    }
    const y = this.self_attn_layer_norm.forward(this.self_attn.forward(x, ctx, x));
    return this.final_layer_norm.forward(addMlp(this, this.fc1, this.fc2, y, { ...options, residual: y }));
  }
}

class Decoder extends Module {
  embed_tokens: Embedding;
  embed_positions: LearnedPositions;
  project_in: Linear | null;
  project_out: Linear | null;
  final_layer_norm: LayerNorm | BareNorm | null;
  layers: DecoderLayer[];

  constructor(config: OPTConfig) {
    super();
    const { vocab_size, hidden_size: c, max_position_embeddings, num_hidden_layers, do_layer_norm_before, _remove_final_layer_norm } = config;
    const e = embeddingWidth(config);
    this.embed_tokens = new Embedding(vocab_size, e);
    this.embed_positions = new LearnedPositions(max_position_embeddings, c);
    this.project_in = e === c ? null : new Linear(e, c, { bias: false });
    this.project_out = e === c ? null : new Linear(c, e, { bias: false });
    this.final_layer_norm = do_layer_norm_before && !_remove_final_layer_norm ? normOf(config) : null;
    this.layers = Array.from({ length: num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
  }

  override forward(ids: Tensor, ctx: ForwardContext): Tensor {
    const tokens = this.embed_tokens.forward(ids); // (B, T, E)
    let x = (this.project_in?.forward(tokens) ?? tokens).add(this.embed_positions.forward(ctx.positions.reshape(ids.shape))); // (B, T, C)
    x = through(this.layers, x, (layer, x) => layer.forward(x, ctx));
    x = this.final_layer_norm?.forward(x) ?? x;
    return this.project_out?.forward(x) ?? x; // (B, T, E)
  }
}

class Model extends Module {
  decoder: Decoder;

  constructor(config: OPTConfig) {
    super();
    this.decoder = new Decoder(config);
  }

  override forward(ids: Tensor, ctx: ForwardContext): Tensor {
    return this.decoder.forward(ids, ctx);
  }
}

/**
 * OPT with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are OPT 125M's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class OPT extends CausalLM {
  readonly architecture: Architecture = opt;
  readonly config: OPTConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<OPTConfig> = {}) {
    super();
    this.config = parseModelConfig(optConfigSchema, keys, config, "OPT");
    this.dimensions = dimensionsOf(this.config);
    const { vocab_size, tie_word_embeddings } = this.config;
    this.model = new Model(this.config);
    this.lm_head = tie_word_embeddings ? null : new Linear(embeddingWidth(this.config), vocab_size, { bias: false });
    for (const [name, p] of this.namedParameters()) {
      if (p.rank === 2) init.normal(p, { std: this.config.init_std });
      else if (name.endsWith(".bias")) init.normal(p, { std: 0 });
    }
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const hidden = this.model.forward(inputs.inputIds, contextOf(inputs, this.training, this.dimensions.context));
    return outputOf(hidden, this.lm_head?.weight ?? this.model.decoder.embed_tokens.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    return { architectures: ["OPTForCausalLM"], model_type: "opt", ...this.config, word_embed_proj_dim: embeddingWidth(this.config) };
  }
}

const embeddingWidth = ({ word_embed_proj_dim, hidden_size }: OPTConfig): number => word_embed_proj_dim ?? hidden_size;

function dimensionsOf(config: OPTConfig): ModelDimensions {
  const { vocab_size, hidden_size, num_hidden_layers, num_attention_heads: heads, max_position_embeddings } = config;
  return {
    vocabulary: vocab_size,
    hidden: hidden_size,
    layers: num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim: hidden_size / heads,
    context: max_position_embeddings,
  };
}

/** Trained values by part, arithmetic and state of an OPT of this config: 125,239,296 parameters with the defaults. Nothing is allocated. */
export function optCounts(config: OPTConfig): ModelCounts {
  const { vocab_size, hidden_size: c, num_hidden_layers: layers, ffn_dim: inner, enable_bias, layer_norm_elementwise_affine: affine } = config;
  const e = embeddingWidth(config);
  const projection = e === c ? 0 : e * c;
  const [attention, mlp, table] = [4 * c * c, 2 * c * inner, vocab_size * e];
  const norms = 2 * layers + (config.do_layer_norm_before && !config._remove_final_layer_norm ? 1 : 0);
  return countsFrom({
    parameters: {
      embedding: table + projection,
      positions: (config.max_position_embeddings + OFFSET) * c,
      attention: layers * (attention + (enable_bias ? 4 * c : 0)),
      mlp: layers * (mlp + (enable_bias ? inner + c : 0)),
      norms: affine ? norms * 2 * c : 0,
      head: (config.tie_word_embeddings ? 0 : table) + projection,
    },
    multiplied: layers * (attention + mlp) + table + 2 * projection,
    queries: layers * c,
    kept: 2 * layers * c,
  });
}

function savedPerRow({ hidden_size: c, num_attention_heads: heads, ffn_dim: inner, attention_dropout }: OPTConfig, length: number): SavedPerRow {
  const attention = attentionPerRow({ heads, kvHeads: heads, headDim: c / heads, dropout: attention_dropout, length });
  // Each norm's input, result, mean and deviation; q, k and v; attention; the MLP: its neurons and the slope of their activation.
  return {
    layer: 2 * (2 * c + 2) + 3 * c + attention.layer + 2 * inner,
    gradients: Math.max(3 * c, attention.gradients),
    widest: inner,
    evaluated: 12 * c + inner,
  };
}

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 32,
  ffn_dim: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 64,
};

export const opt = defineArchitecture<OPTConfig>({
  modelType: "opt",
  schema: optConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: { base: "model.", tied: ["lm_head.weight"], names: [] },
  dimensions: dimensionsOf,
  create: (config) => new OPT(config),
  counts: optCounts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({ num_hidden_layers: layers, hidden_size: width, num_attention_heads: heads, ffn_dim: 4 * width }),
  samples: [
    TINY,
    { ...TINY, do_layer_norm_before: false, word_embed_proj_dim: 16 },
    { ...TINY, _remove_final_layer_norm: true, word_embed_proj_dim: 16, tie_word_embeddings: false },
    { ...TINY, enable_bias: false, layer_norm_elementwise_affine: false, attention_dropout: 0.1 },
  ],
});

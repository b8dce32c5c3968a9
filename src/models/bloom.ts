/**
 * BLOOM (BigScience 2022): no position table but a penalty on far keys (ALiBi), a norm behind the embeddings, layer norms, GELU and biases. It takes sequences of any
 * length. Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, LayerNorm, Linear, Module, through } from "../nn/index.ts";
import type { Tensor } from "../tensor/index.ts";
import { alibiSlopes, slopesBuffer } from "./alibi.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, doesNotDivide, epsilon, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { inGroups } from "./fused-heads.ts";
import { partsOfGroups } from "./gguf-names.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { addLinear, addMlp } from "./residual.ts";

/** What `config.json` of a BLOOM may hold. */
export const bloomConfigSchema = z
  .strictObject({
    vocab_size: size.default(250880),
    hidden_size: size.default(64),
    n_layer: depth.default(2),
    n_head: size.default(8),
    /** The length of the sequences that it was trained on. Longer ones are served too. */
    seq_length: size.default(2048),
    layer_norm_epsilon: epsilon.default(1e-5),
    initializer_range: initialiserRange.default(0.02),
    /** What each part adds to is its normalised input, not the input itself. */
    apply_residual_connection_post_layernorm: z.boolean().default(false),
    hidden_dropout: probability.default(0),
    attention_dropout: probability.default(0),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine(({ hidden_size, n_head }, ctx) => {
    if (hidden_size % n_head !== 0) ctx.addIssue({ code: "custom", path: ["n_head"], message: doesNotDivide("hidden_size", hidden_size, n_head) });
  });
/** `config.json` of a BLOOM, checked, with its defaults. */
export type BloomConfig = z.output<typeof bloomConfigSchema>;

const keys = configKeys(
  bloomConfigSchema,
  { hidden_size: ["n_embed"], n_layer: ["num_hidden_layers"], n_head: ["num_attention_heads"] },
  // How the code that BLOOM was trained with computed the same: fused, in which precision, with which shift of all penalties at once.
  (
    "slow_but_exact attention_softmax_in_fp32 bias_dropout_fusion masked_softmax_fusion offset_alibi skip_bias_add skip_bias_add_qkv " + "unk_token_id n_inner"
  ).split(" "),
);

class Attention extends Module {
  query_key_value: Linear;
  dense: Linear;
  private readonly config: BloomConfig;
  private readonly layer: number;

  constructor(config: BloomConfig, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    this.query_key_value = new Linear(config.hidden_size, 3 * config.hidden_size);
    this.dense = new Linear(config.hidden_size, config.hidden_size);
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C), slopes (heads) → residual + attention (B, T, C). */
  override forward(x: Tensor, slopes: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const { hidden_size, n_head, attention_dropout, hidden_dropout } = this.config;
    const [q, k, v] = inGroups(this.query_key_value.forward(x), n_head, n_head, hidden_size / n_head); // (B, T, H, D) each
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      slopes,
      dropout: ctx.training ? attention_dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return addLinear(this.dense, this.see("heads", y).reshape(x.shape), residual, ctx.training ? hidden_dropout : 0);
  }
}

class MLP extends Module {
  dense_h_to_4h: Linear;
  dense_4h_to_h: Linear;
  private readonly drop: number;

  constructor({ hidden_size, hidden_dropout }: BloomConfig) {
    super();
    this.drop = hidden_dropout;
    this.dense_h_to_4h = new Linear(hidden_size, 4 * hidden_size);
    this.dense_4h_to_h = new Linear(4 * hidden_size, hidden_size);
  }

  override get points() {
    return ["neurons"];
  }

  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    return addMlp(this, this.dense_h_to_4h, this.dense_4h_to_h, x, { activation: "gelu_tanh", residual, drop: ctx.training ? this.drop : 0 });
  }
}

class Block extends Module {
  input_layernorm: LayerNorm;
  self_attention: Attention;
  post_attention_layernorm: LayerNorm;
  mlp: MLP;
  private readonly fromNorm: boolean;

  constructor(config: BloomConfig, layer: number) {
    super();
    const eps = config.layer_norm_epsilon;
    this.fromNorm = config.apply_residual_connection_post_layernorm;
    this.input_layernorm = new LayerNorm(config.hidden_size, { eps });
    this.self_attention = new Attention(config, layer);
    this.post_attention_layernorm = new LayerNorm(config.hidden_size, { eps });
    this.mlp = new MLP(config);
  }

  override forward(x: Tensor, slopes: Tensor, ctx: ForwardContext): Tensor {
    const read = this.input_layernorm.forward(x);
    const y = this.self_attention.forward(read, slopes, ctx, this.fromNorm ? read : x);
    const again = this.post_attention_layernorm.forward(y);
    return this.mlp.forward(again, ctx, this.fromNorm ? again : y);
  }
}

class Transformer extends Module {
  word_embeddings: Embedding;
  word_embeddings_layernorm: LayerNorm;
  h: Block[];
  ln_f: LayerNorm;
  private readonly slopes: Tensor;

  constructor(config: BloomConfig) {
    super();
    const eps = config.layer_norm_epsilon;
    this.word_embeddings = new Embedding(config.vocab_size, config.hidden_size);
    this.word_embeddings_layernorm = new LayerNorm(config.hidden_size, { eps });
    this.h = Array.from({ length: config.n_layer }, (_, i) => new Block(config, i));
    this.ln_f = new LayerNorm(config.hidden_size, { eps });
    this.slopes = slopesBuffer(alibiSlopes(config.n_head));
  }

  override forward(ids: Tensor, ctx: ForwardContext): Tensor {
    let x = this.word_embeddings_layernorm.forward(this.word_embeddings.forward(ids)); // (B, T, C)
    x = through(this.h, x, (block, x) => block.forward(x, this.slopes, ctx));
    return this.ln_f.forward(x);
  }
}

/**
 * BLOOM with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are those of transformers, a tiny model.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Bloom extends CausalLM {
  readonly architecture: Architecture = bloom;
  readonly config: BloomConfig;
  readonly dimensions: ModelDimensions;
  transformer: Transformer;
  lm_head: Linear | null;

  constructor(config: Partial<BloomConfig> = {}) {
    super();
    this.config = parseModelConfig(bloomConfigSchema, keys, config, "Bloom");
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
    const hidden = this.transformer.forward(inputs.inputIds, contextOf(inputs, this.training, Number.POSITIVE_INFINITY));
    return outputOf(hidden, this.lm_head?.weight ?? this.transformer.word_embeddings.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    return { architectures: ["BloomForCausalLM"], model_type: "bloom", ...this.config };
  }
}

function dimensionsOf({ vocab_size, hidden_size, n_layer, n_head, seq_length }: BloomConfig): ModelDimensions {
  return {
    vocabulary: vocab_size,
    hidden: hidden_size,
    layers: n_layer,
    heads: n_head,
    kvHeads: n_head,
    headDim: hidden_size / n_head,
    context: seq_length,
  };
}

/** Trained values by part, arithmetic and state of a BLOOM of this config: 559,214,592 parameters with 24 layers, a width of 1024 and 16 heads (BLOOM 560M). Nothing is allocated. */
export function bloomCounts({ vocab_size, hidden_size: c, n_layer: layers, tie_word_embeddings }: BloomConfig): ModelCounts {
  const [attention, mlp, table] = [4 * c * c, 8 * c * c, vocab_size * c];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // a penalty
      attention: layers * (attention + 4 * c),
      mlp: layers * (mlp + 5 * c),
      norms: (2 * layers + 2) * 2 * c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * c,
  });
}

function savedPerRow({ hidden_size: c, n_head: heads, attention_dropout }: BloomConfig, length: number): SavedPerRow {
  const attention = attentionPerRow({ heads, kvHeads: heads, headDim: c / heads, dropout: attention_dropout, length });
  // Each norm's input, result, mean and deviation; q, k and v; attention; the MLP: its neurons, four widths, and the slope of their activation.
  return {
    layer: 2 * (2 * c + 2) + 3 * c + attention.layer + 8 * c,
    gradients: Math.max(6 * c, attention.gradients),
    widest: 4 * c,
    evaluated: 18 * c,
  };
}

/** What the samples have in common. */
const TINY = { vocab_size: 41, hidden_size: 32, n_layer: 2, n_head: 4, seq_length: 64 };

export const bloom = defineArchitecture<BloomConfig>({
  modelType: "bloom",
  schema: bloomConfigSchema,
  keys,
  keyOf: { context: "seq_length", layers: "n_layer" },
  weights: { base: "transformer.", tied: ["lm_head.weight"], names: [] },
  gguf: {
    architecture: "bloom",
    config: (file) => ({
      vocab_size: file.shape("token_embd.weight")[0],
      hidden_size: file.number("{arch}.embedding_length"),
      n_layer: file.number("{arch}.block_count"),
      n_head: file.number("{arch}.attention.head_count"),
      seq_length: file.number("{arch}.context_length"),
      layer_norm_epsilon: file.number("{arch}.attention.layer_norm_epsilon"),
      tie_word_embeddings: !file.has("output.weight"),
    }),
    metadata: (config) => {
      checkSayable("bloom", "apply_residual_connection_post_layernorm", false, config.apply_residual_connection_post_layernorm);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.context_length": u32(config.seq_length),
        "{arch}.embedding_length": u32(config.hidden_size),
        "{arch}.feed_forward_length": u32(4 * config.hidden_size),
        "{arch}.block_count": u32(config.n_layer),
        "{arch}.attention.head_count": u32(config.n_head),
        "{arch}.attention.head_count_kv": u32(config.n_head),
        "{arch}.attention.layer_norm_epsilon": f32(config.layer_norm_epsilon),
      };
    },
    names: [
      ["token_embd", "transformer.word_embeddings"],
      ["token_embd_norm", "transformer.word_embeddings_layernorm"],
      ["output_norm", "transformer.ln_f"],
      ["output", "lm_head"],
      ["blk.{i}.attn_norm", "transformer.h.{i}.input_layernorm"],
      ["blk.{i}.attn_qkv", "transformer.h.{i}.self_attention.query_key_value"],
      ["blk.{i}.attn_output", "transformer.h.{i}.self_attention.dense"],
      ["blk.{i}.ffn_norm", "transformer.h.{i}.post_attention_layernorm"],
      ["blk.{i}.ffn_up", "transformer.h.{i}.mlp.dense_h_to_4h"],
      ["blk.{i}.ffn_down", "transformer.h.{i}.mlp.dense_4h_to_h"],
    ],
    rowOrder: (name, _rows, { hidden_size, n_head }) => (name.includes(".query_key_value.") ? partsOfGroups(n_head, n_head, hidden_size / n_head) : null),
  },
  dimensions: dimensionsOf,
  create: (config) => new Bloom(config),
  counts: bloomCounts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({ n_layer: layers, hidden_size: width, n_head: heads }),
  samples: [
    TINY,
    { ...TINY, apply_residual_connection_post_layernorm: true, tie_word_embeddings: false, hidden_dropout: 0.1 },
    { ...TINY, attention_dropout: 0.1 },
  ],
});

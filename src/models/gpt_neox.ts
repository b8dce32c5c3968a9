/**
 * GPT-NeoX (Black et al. 2022): attention and MLP read the same input and both add to it, a quarter of each head turns, layer norms and biases. Pythia is this
 * architecture. Property names are the names in the weight file, but for the head, which files call embed_out.
 */
import * as z from "zod";
import { bool, f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, LayerNorm, Linear, Module, through } from "../nn/index.ts";
import { dropout, rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { ACTIVATIONS, configKeys, depth, doesNotDivide, epsilon, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { inGroups } from "./fused-heads.ts";
import { partsOfGroups } from "./gguf-names.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { addLinear, addMlp } from "./residual.ts";
import {
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

/** What `config.json` of a GPT-NeoX may hold. */
export const gptNeoXConfigSchema = z
  .strictObject({
    vocab_size: size.default(50432),
    hidden_size: size.default(6144),
    intermediate_size: size.default(24576),
    num_hidden_layers: depth.default(44),
    num_attention_heads: size.default(64),
    hidden_act: z.enum(Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[]).default("gelu"),
    max_position_embeddings: size.default(2048),
    initializer_range: initialiserRange.default(0.02),
    layer_norm_eps: epsilon.default(1e-5),
    tie_word_embeddings: z.boolean().default(false),
    /** Attention and MLP side by side; false is one after the other. */
    use_parallel_residual: z.boolean().default(true),
    /** The base of the rotary frequencies; older files call it rotary_emb_base. */
    rope_theta: z.number().positive().default(10000),
    /** The share of each head that turns; older files call it rotary_pct. */
    partial_rotary_factor: partialRotaryFactor.default(0.25),
    /** How frequencies are stretched for longer contexts; null is not at all. Also read as rope_scaling. */
    rope_parameters: partialRopeParametersSchema.nullable().default(null),
    attention_bias: z.boolean().default(true),
    attention_dropout: probability.default(0),
    hidden_dropout: probability.default(0),
  })
  .superRefine(({ hidden_size, num_attention_heads: heads }, ctx) => {
    if (hidden_size % heads !== 0) ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: doesNotDivide("hidden_size", hidden_size, heads) });
  });
/** `config.json` of a GPT-NeoX, checked, with its defaults. */
export type GPTNeoXConfig = z.output<typeof gptNeoXConfigSchema>;

const keys = configKeys(
  gptNeoXConfigSchema,
  {
    rope_theta: ["rotary_emb_base", "rope_parameters.rope_theta", "rope_scaling.rope_theta"],
    partial_rotary_factor: ["rotary_pct", "rope_parameters.partial_rotary_factor", "rope_scaling.partial_rotary_factor"],
    rope_parameters: ["rope_scaling"],
  },
  ["classifier_dropout"],
);

class Attention extends Module {
  query_key_value: Linear;
  dense: Linear;
  private readonly config: GPTNeoXConfig;
  private readonly headDim: number;
  private readonly layer: number;

  constructor(config: GPTNeoXConfig, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { hidden_size: c, num_attention_heads, attention_bias: bias } = config;
    this.headDim = c / num_attention_heads;
    this.query_key_value = new Linear(c, 3 * c, { bias });
    this.dense = new Linear(c, c, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const { num_attention_heads: heads, attention_dropout, hidden_dropout, partial_rotary_factor } = this.config;
    const rotary = rotaryOf(this.headDim, partial_rotary_factor);
    const [q, k, v] = inGroups(this.query_key_value.forward(x), heads, heads, this.headDim); // (B, T, H, D) each
    const turned = (y: Tensor) => rope(y, turn.cos, turn.sin, turn.rows, { rotary });
    const y = attend(this.see("q", turned(q)), this.see("k", turned(k)), this.see("v", v), ctx, this.layer, {
      dropout: ctx.training ? attention_dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return addLinear(this.dense, this.see("heads", y).reshape(x.shape), residual, ctx.training ? hidden_dropout : 0);
  }
}

class MLP extends Module {
  dense_h_to_4h: Linear;
  dense_4h_to_h: Linear;
  private readonly config: GPTNeoXConfig;

  constructor(config: GPTNeoXConfig) {
    super();
    this.config = config;
    this.dense_h_to_4h = new Linear(config.hidden_size, config.intermediate_size);
    this.dense_4h_to_h = new Linear(config.intermediate_size, config.hidden_size);
  }

  override get points() {
    return ["neurons"];
  }

  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const { hidden_act, hidden_dropout } = this.config;
    const drop = ctx.training ? hidden_dropout : 0;
    return addMlp(this, this.dense_h_to_4h, this.dense_4h_to_h, x, { activation: ACTIVATIONS[hidden_act], residual, drop });
  }
}

class Layer extends Module {
  input_layernorm: LayerNorm;
  post_attention_layernorm: LayerNorm;
  attention: Attention;
  mlp: MLP;
  private readonly parallel: boolean;

  constructor(config: GPTNeoXConfig, layer: number) {
    super();
    const eps = config.layer_norm_eps;
    this.parallel = config.use_parallel_residual;
    this.input_layernorm = new LayerNorm(config.hidden_size, { eps });
    this.post_attention_layernorm = new LayerNorm(config.hidden_size, { eps });
    this.attention = new Attention(config, layer);
    this.mlp = new MLP(config);
  }

  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext): Tensor {
    const y = this.attention.forward(this.input_layernorm.forward(x), turn, ctx, x);
    return this.mlp.forward(this.post_attention_layernorm.forward(this.parallel ? x : y), ctx, y);
  }
}

class Model extends Module {
  embed_in: Embedding;
  layers: Layer[];
  final_layer_norm: LayerNorm;
  private readonly rope: RopeTables;
  private readonly drop: number;

  constructor(config: GPTNeoXConfig) {
    super();
    this.drop = config.hidden_dropout;
    this.embed_in = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new Layer(config, i));
    this.final_layer_norm = new LayerNorm(config.hidden_size, { eps: config.layer_norm_eps });
    const rotary = rotaryOf(config.hidden_size / config.num_attention_heads, config.partial_rotary_factor);
    this.rope = new RopeTables(config.rope_parameters, { rotary, context: config.max_position_embeddings, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    let x = dropout(this.embed_in.forward(ids), this.drop, { training: ctx.training }); // (B, T, C)
    x = through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx));
    return this.final_layer_norm.forward(x);
  }
}

/**
 * GPT-NeoX with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are GPT-NeoX 20B's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class GPTNeoX extends CausalLM {
  readonly architecture: Architecture = gptNeoX;
  readonly config: GPTNeoXConfig;
  readonly dimensions: ModelDimensions;
  gpt_neox: Model;
  lm_head: Linear | null;

  constructor(config: Partial<GPTNeoXConfig> = {}) {
    super();
    this.config = parseModelConfig(gptNeoXConfigSchema, keys, config as never, "GPTNeoX");
    this.dimensions = dimensionsOf(this.config);
    const { hidden_size, vocab_size, tie_word_embeddings } = this.config;
    this.gpt_neox = new Model(this.config);
    this.lm_head = tie_word_embeddings ? null : new Linear(hidden_size, vocab_size, { bias: false });
    for (const [name, p] of this.namedParameters()) {
      if (p.rank === 2) init.normal(p, { std: this.config.initializer_range });
      else if (name.endsWith(".bias")) init.normal(p, { std: 0 });
    }
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const ctx = contextOf(inputs, this.training, servedPositions(this.config.rope_parameters, this.dimensions.context));
    const hidden = this.gpt_neox.forward(inputs.inputIds, ctx, ctx.sequences);
    return outputOf(hidden, this.lm_head?.weight ?? this.gpt_neox.embed_in.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    const { rope_parameters, rope_theta, partial_rotary_factor, ...rest } = this.config;
    return {
      architectures: ["GPTNeoXForCausalLM"],
      model_type: "gpt_neox",
      ...rest,
      // transformers reads these two by no other names than the older ones, beside rope_scaling.
      rotary_emb_base: rope_theta,
      rotary_pct: partial_rotary_factor,
      rope_scaling: writtenRopeScaling(rope_parameters),
    };
  }
}

function dimensionsOf(config: GPTNeoXConfig): ModelDimensions {
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

/** Trained values by part, arithmetic and state of a GPT-NeoX of this config: 20,554,567,680 parameters with the defaults. Nothing is allocated. */
export function gptNeoXCounts(config: GPTNeoXConfig): ModelCounts {
  const { hidden_size: c, num_hidden_layers: layers, intermediate_size: inner, attention_bias, tie_word_embeddings } = config;
  const [attention, mlp, table] = [4 * c * c, 2 * c * inner, config.vocab_size * c];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * (attention + (attention_bias ? 4 * c : 0)),
      mlp: layers * (mlp + inner + c),
      norms: (2 * layers + 1) * 2 * c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * c,
  });
}

function savedPerRow(config: GPTNeoXConfig, length: number): SavedPerRow {
  const { hidden_size: c, num_attention_heads: heads, intermediate_size: inner, use_parallel_residual } = config;
  const attention = attentionPerRow({ heads, kvHeads: heads, headDim: c / heads, dropout: config.attention_dropout, length });
  // Each norm's result, mean and deviation, and the input of both or of each; q, k and v; attention; the MLP: its neurons and the slope of their activation.
  return {
    layer: (use_parallel_residual ? 1 : 2) * c + 2 * (c + 2) + 3 * c + attention.layer + 2 * inner,
    gradients: Math.max(6 * c, attention.gradients),
    widest: Math.max(inner, 3 * c),
    evaluated: 14 * c + inner,
  };
}

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 32,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 64,
};

export const gptNeoX = defineArchitecture<GPTNeoXConfig>({
  modelType: "gpt_neox",
  schema: gptNeoXConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  weights: {
    base: "gpt_neox.",
    tied: ["lm_head.weight"],
    // Older files hold each layer's causal mask and the frequencies of the rotary tables.
    names: [
      [/(^|\.)attention\.(masked_)?bias$/, null],
      [/rotary_emb\.inv_freq$/, null],
      [/^embed_out\./, "lm_head."],
    ],
    written: [[/^lm_head\./, "embed_out."]],
  },
  gguf: {
    architecture: "gptneox",
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
        max_position_embeddings: file.number("{arch}.context_length"),
        layer_norm_eps: file.number("{arch}.attention.layer_norm_epsilon"),
        use_parallel_residual: file.flag("{arch}.use_parallel_residual") ?? true,
        rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
        partial_rotary_factor: shareThatTurns(file.optional("{arch}.rope.dimension_count") ?? hidden / heads, hidden / heads),
        tie_word_embeddings: !file.has("output.weight"),
      };
    },
    metadata: (config) => {
      // llama.cpp's GPT-NeoX asks for the biases and a head, and has one activation.
      checkSayable("gptneox", "attention_bias", true, config.attention_bias);
      checkSayable("gptneox", "tie_word_embeddings", false, config.tie_word_embeddings);
      checkSayable("gptneox", "hidden_act", "gelu", ACTIVATIONS[config.hidden_act]);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.embedding_length": u32(config.hidden_size),
        "{arch}.feed_forward_length": u32(config.intermediate_size),
        "{arch}.block_count": u32(config.num_hidden_layers),
        "{arch}.attention.head_count": u32(config.num_attention_heads),
        "{arch}.attention.layer_norm_epsilon": f32(config.layer_norm_eps),
        "{arch}.context_length": u32(config.max_position_embeddings),
        "{arch}.rope.dimension_count": u32(rotaryOf(config.hidden_size / config.num_attention_heads, config.partial_rotary_factor)),
        "{arch}.rope.freq_base": f32(config.rope_theta),
        "{arch}.use_parallel_residual": bool(config.use_parallel_residual),
      };
    },
    names: [
      ["token_embd", "gpt_neox.embed_in"],
      ["output_norm", "gpt_neox.final_layer_norm"],
      ["output", "lm_head"],
      ["blk.{i}.attn_norm", "gpt_neox.layers.{i}.input_layernorm"],
      ["blk.{i}.attn_qkv", "gpt_neox.layers.{i}.attention.query_key_value"],
      ["blk.{i}.attn_output", "gpt_neox.layers.{i}.attention.dense"],
      ["blk.{i}.ffn_norm", "gpt_neox.layers.{i}.post_attention_layernorm"],
      ["blk.{i}.ffn_up", "gpt_neox.layers.{i}.mlp.dense_h_to_4h"],
      ["blk.{i}.ffn_down", "gpt_neox.layers.{i}.mlp.dense_4h_to_h"],
    ],
    rowOrder: (name, _rows, { hidden_size, num_attention_heads: heads }) =>
      name.includes(".query_key_value.") ? partsOfGroups(heads, heads, hidden_size / heads) : null,
  },
  dimensions: dimensionsOf,
  create: (config) => new GPTNeoX(config),
  counts: gptNeoXCounts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({
    num_hidden_layers: layers,
    hidden_size: width,
    num_attention_heads: heads,
    intermediate_size: 4 * width,
  }),
  samples: [
    TINY,
    { ...TINY, use_parallel_residual: false, partial_rotary_factor: 1, tie_word_embeddings: true, hidden_dropout: 0.1 },
    { ...TINY, attention_bias: false, attention_dropout: 0.1 },
  ],
});

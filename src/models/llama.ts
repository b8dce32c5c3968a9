/**
 * Llama 1, 2 and 3 (Touvron et al. 2023; Dubey et al. 2024): RMS norm before each part, rotary positions, grouped queries, SwiGLU, no
 * biases unless the config says so. SmolLM and many others are this architecture. Property names are the names in the weight file.
 */
import * as z from "zod";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, Linear, Module, projections, RMSNorm, through } from "../nn/index.ts";
import { type GatedActivation, gated, rope, type Tensor } from "../tensor/index.ts";
import { type Architecture, defineArchitecture } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { configKeys, depth, epsilon, GATED_ACTIVATIONS, initialiserRange, probability, size } from "./config-values.ts";
import type { ModelCounts } from "./counts.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { FAMILY_NAMES, ggufSizes, sizesFromGguf, turnedRows } from "./llama-family.gguf.ts";
import { checkHeads, familyCounts, familyDimensions, familySaved, familyShape, initialise, longestSequence, ROPE_SPELLINGS, ropeJson } from "./llama-family.ts";
import { type RopeRows, RopeTables, ropeParametersSchema, type SequenceLength } from "./rope-tables.ts";

/** What `config.json` of a Llama may hold. */
export const llamaConfigSchema = z
  .strictObject({
    vocab_size: size.default(32000),
    hidden_size: size.default(4096),
    intermediate_size: size.default(11008),
    num_hidden_layers: depth.default(32),
    num_attention_heads: size.default(32),
    /** Key and value heads; null is as many as query heads. */
    num_key_value_heads: size.nullable().default(null),
    /** Null is hidden_size / num_attention_heads. */
    head_dim: size.nullable().default(null),
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
  })
  .superRefine(checkHeads);
/** `config.json` of a Llama, checked, with its defaults. */
export type LlamaConfig = z.output<typeof llamaConfigSchema>;

const keys = configKeys(llamaConfigSchema, { hidden_act: ["hidden_activation"], ...ROPE_SPELLINGS }, ["rope_interleaved", "is_llama_config"]);

class Attention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  private readonly heads: number;
  private readonly kvHeads: number;
  private readonly headDim: number;
  private readonly layer: number;
  private readonly dropout: number;

  constructor(config: LlamaConfig, layer: number) {
    super();
    const { hidden_size, num_attention_heads, attention_bias: bias } = config;
    this.layer = layer;
    this.dropout = config.attention_dropout;
    this.heads = num_attention_heads;
    this.kvHeads = config.num_key_value_heads ?? num_attention_heads;
    this.headDim = config.head_dim ?? hidden_size / num_attention_heads;
    this.q_proj = new Linear(hidden_size, this.heads * this.headDim, { bias });
    this.k_proj = new Linear(hidden_size, this.kvHeads * this.headDim, { bias });
    this.v_proj = new Linear(hidden_size, this.kvHeads * this.headDim, { bias });
    this.o_proj = new Linear(this.heads * this.headDim, hidden_size, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → residual + attention (B, T, C). */
  override forward(x: Tensor, turn: RopeRows, ctx: ForwardContext, residual: Tensor): Tensor {
    const [b, t] = x.shape as [number, number];
    const heads = (y: Tensor, n: number) => y.reshape([b, t, n, this.headDim]); // (B, T, H, D)
    const [query, key, value] = projections(x, [this.q_proj, this.k_proj, this.v_proj]) as [Tensor, Tensor, Tensor];
    const q = rope(heads(query, this.heads), turn.cos, turn.sin, turn.rows);
    const k = rope(heads(key, this.kvHeads), turn.cos, turn.sin, turn.rows);
    const v = heads(value, this.kvHeads);
    const y = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, {
      dropout: ctx.training ? this.dropout : 0,
      watch: this.watching("scores", "probabilities"),
    });
    return this.o_proj.fused(this.see("heads", y).reshape([b, t, this.heads * this.headDim]), { residual });
  }
}

/** activation(gate)·up, brought back to the width; added to `residual` where there is one. */
export class MLP extends Module {
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
  private readonly activation: GatedActivation;

  constructor({
    hidden_size,
    intermediate_size,
    mlp_bias: bias,
    hidden_act,
  }: Pick<LlamaConfig, "hidden_size" | "intermediate_size" | "mlp_bias" | "hidden_act">) {
    super();
    this.gate_proj = new Linear(hidden_size, intermediate_size, { bias });
    this.up_proj = new Linear(hidden_size, intermediate_size, { bias });
    this.down_proj = new Linear(intermediate_size, hidden_size, { bias });
    this.activation = GATED_ACTIVATIONS[hidden_act];
  }

  override get points() {
    return ["activation", "neurons"];
  }

  override forward(x: Tensor, residual: Tensor | null): Tensor {
    const [gate, up] = projections(x, [this.gate_proj, this.up_proj]) as [Tensor, Tensor];
    const neurons = gated(gate, up, this.activation, this.watching("activation")); // (B, T, I)
    return this.down_proj.fused(this.see("neurons", neurons), { residual });
  }
}

class DecoderLayer extends Module {
  self_attn: Attention;
  mlp: MLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: LlamaConfig, layer: number) {
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

  constructor(config: LlamaConfig) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => new DecoderLayer(config, i));
    this.norm = new RMSNorm(config.hidden_size, { eps: config.rms_norm_eps });
    const rotary = config.head_dim ?? config.hidden_size / config.num_attention_heads;
    this.rope = new RopeTables(config.rope_parameters, { rotary, context: config.max_position_embeddings, theta: config.rope_theta });
  }

  override forward(ids: Tensor, ctx: ForwardContext, sequences: readonly SequenceLength[]): Tensor {
    const turn = this.rope.of(ctx.positions, sequences);
    const x = this.embed_tokens.forward(ids); // (B, T, C)
    return this.norm.forward(through(this.layers, x, (layer, x) => layer.forward(x, turn, ctx)));
  }
}

/**
 * Llama with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are Llama 7B's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class Llama extends CausalLM {
  readonly architecture: Architecture = llama;
  readonly config: LlamaConfig;
  readonly dimensions: ModelDimensions;
  model: Model;
  lm_head: Linear | null;

  constructor(config: Partial<LlamaConfig> = {}) {
    super();
    this.config = parseModelConfig(llamaConfigSchema, keys, config as never, "Llama");
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
    const dimensions = this.dimensions;
    return {
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      ...rest,
      num_key_value_heads: dimensions.kvHeads,
      head_dim: dimensions.headDim,
      ...ropeJson(rope_theta, rope_parameters),
    };
  }
}

const parts = ({ attention_bias, mlp_bias }: LlamaConfig) => ({ qkvBias: attention_bias, outputBias: attention_bias, mlpBias: mlp_bias });

/** Trained values by part, arithmetic and state of a Llama of this config: 6,738,415,616 parameters with the defaults. Nothing is allocated. */
export const llamaCounts = (config: LlamaConfig): ModelCounts => familyCounts(config, parts(config));

/** What the samples have in common. */
const TINY = {
  vocab_size: 41,
  hidden_size: 24,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 64,
};

export const llama = defineArchitecture<LlamaConfig>({
  modelType: "llama",
  schema: llamaConfigSchema,
  keys,
  keyOf: { context: "max_position_embeddings", layers: "num_hidden_layers" },
  // Older files hold the frequencies of the rotary tables.
  weights: { base: "model.", tied: ["lm_head.weight"], names: [[/rotary_emb\.inv_freq$/, null]] },
  gguf: {
    architecture: "llama",
    stretched: ["linear", "yarn", "llama3", "longrope"],
    matches: (file) => (file.optional("{arch}.expert_count") ?? 0) === 0,
    config: (file) => ({ ...sizesFromGguf(file), attention_bias: file.has("blk.0.attn_q.bias"), mlp_bias: file.has("blk.0.ffn_up.bias") }),
    metadata: (config) => {
      checkSayable("llama", "hidden_act", "silu", GATED_ACTIVATIONS[config.hidden_act]);
      return ggufSizes(config);
    },
    names: [...FAMILY_NAMES, ["blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"]],
    rowOrder: turnedRows,
  },
  dimensions: familyDimensions,
  create: (config) => new Llama(config),
  counts: llamaCounts,
  savedPerRow: (config, length) => familySaved(config, length),
  shapedBy: familyShape,
  samples: [
    { ...TINY, num_key_value_heads: 2 },
    { ...TINY, head_dim: 10, attention_bias: true, mlp_bias: true, tie_word_embeddings: true },
    { ...TINY, num_key_value_heads: 2, attention_dropout: 0.1 },
  ],
});

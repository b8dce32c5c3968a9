/**
 * GPT-2 (Radford et al. 2019): learned positions, layer norm before each part, GELU, biases, the head tied to the embedding.
 * Property names are the names in the weight file.
 */
import * as z from "zod";
import { f32, u32 } from "../formats/gguf/values.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import { ATTENTION_POINTS, attend, Embedding, type ForwardContext, init, LayerNorm, Linear, Module, parameter, sumOf, through } from "../nn/index.ts";
import { type Activation, dropout, linear, mlp, type Tensor, zeros } from "../tensor/index.ts";
import { type Architecture, attentionPerRow, defineArchitecture, type SavedPerRow } from "./architecture.ts";
import { CausalLM, type CausalLMInputs, type CausalLMOutput, checkInputs, contextOf, type ModelDimensions, outputOf } from "./causal-lm.ts";
import { ACTIVATIONS, configKeys, depth, doesNotDivide, epsilon, initialiserRange, probability, size } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import { checkSayable } from "./gguf-sayable.ts";

/** What `config.json` of a GPT-2 may hold. */
export const gpt2ConfigSchema = z
  .strictObject({
    vocab_size: size.default(50257),
    n_positions: size.default(1024),
    n_embd: size.default(768),
    n_layer: depth.default(12),
    n_head: size.default(12),
    /** Width of the MLP; null is 4·n_embd. */
    n_inner: size.nullable().default(null),
    activation_function: z.enum(Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[]).default("gelu_new"),
    resid_pdrop: probability.default(0.1),
    embd_pdrop: probability.default(0.1),
    attn_pdrop: probability.default(0.1),
    layer_norm_epsilon: epsilon.default(1e-5),
    initializer_range: initialiserRange.default(0.02),
    scale_attn_weights: z.boolean().default(true),
    scale_attn_by_inverse_layer_idx: z.boolean().default(false),
    tie_word_embeddings: z.boolean().default(true),
  })
  .superRefine(({ n_embd, n_head }, ctx) => {
    if (n_embd % n_head !== 0) ctx.addIssue({ code: "custom", path: ["n_head"], message: doesNotDivide("n_embd", n_embd, n_head) });
  });
/** `config.json` of a GPT-2, checked, with its defaults. */
export type GPT2Config = z.output<typeof gpt2ConfigSchema>;

const keys = configKeys(
  gpt2ConfigSchema,
  { n_positions: ["max_position_embeddings"], n_embd: ["hidden_size"], n_layer: ["num_hidden_layers"], n_head: ["num_attention_heads"] },
  // reorder_and_upcast_attn changes the order of a division in half precision only; n_ctx is an older, unused size.
  ["n_ctx", "reorder_and_upcast_attn", "summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout", "summary_proj_to_labels"],
);

/** A linear layer whose weight lies (in, out), as GPT-2's files have it. */
class Conv1D extends Module {
  weight: Tensor;
  bias: Tensor;

  constructor(inFeatures: number, outFeatures: number, std: number) {
    super();
    this.weight = parameter(init.normal(zeros([inFeatures, outFeatures]), { std }));
    this.bias = parameter(zeros([outFeatures]));
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias, { transposed: true });
  }

  /** As `Linear.fused`. */
  fused(x: Tensor, options: { activation?: Activation; residual?: Tensor }): Tensor {
    const { activation, residual } = options;
    return linear(x, this.weight, this.bias, { activation, residual, transposed: true, watch: sumOf(this) });
  }
}

class Attention extends Module {
  c_attn: Conv1D;
  c_proj: Conv1D;

  private readonly config: GPT2Config;
  private readonly layer: number;

  constructor(config: GPT2Config, layer: number) {
    super();
    this.config = config;
    this.layer = layer;
    const { n_embd, n_layer, initializer_range: std } = config;
    this.c_attn = new Conv1D(n_embd, 3 * n_embd, std);
    // Projections onto the residual stream start smaller by √(2·layers): so many of them add up (Radford et al. 2019, 2.3).
    this.c_proj = new Conv1D(n_embd, n_embd, std / Math.sqrt(2 * n_layer));
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /** x (B, T, C) → (B, T, C), added to `residual` where dropout allows the fusion. */
  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const { n_embd, n_head, attn_pdrop, resid_pdrop } = this.config;
    const [b, t] = x.shape as [number, number];
    const heads = this.c_attn.forward(x).reshape([b, t, 3 * n_head, n_embd / n_head]); // (B, T, 3H, D)
    const [q, k, v] = heads.split([n_head, n_head, n_head], 2) as [Tensor, Tensor, Tensor]; // (B, T, H, D) each
    let scale = this.config.scale_attn_weights ? 1 / Math.sqrt(n_embd / n_head) : 1;
    if (this.config.scale_attn_by_inverse_layer_idx) scale /= this.layer + 1;
    const dropped = ctx.training ? attn_pdrop : 0;
    const watch = this.watching("scores", "probabilities");
    const each = attend(this.see("q", q), this.see("k", k), this.see("v", v), ctx, this.layer, { scale, dropout: dropped, watch });
    const y = this.see("heads", each).reshape([b, t, n_embd]);
    if (!ctx.training || resid_pdrop === 0) return this.c_proj.fused(y, { residual });
    return residual.add(dropout(this.c_proj.forward(y), resid_pdrop));
  }
}

class MLP extends Module {
  c_fc: Conv1D;
  c_proj: Conv1D;

  private readonly config: GPT2Config;

  constructor(config: GPT2Config) {
    super();
    this.config = config;
    const { n_embd, n_inner, n_layer, initializer_range: std } = config;
    this.c_fc = new Conv1D(n_embd, n_inner ?? 4 * n_embd, std);
    this.c_proj = new Conv1D(n_inner ?? 4 * n_embd, n_embd, std / Math.sqrt(2 * n_layer));
  }

  override get points() {
    return ["neurons"];
  }

  override forward(x: Tensor, ctx: ForwardContext, residual: Tensor): Tensor {
    const { c_fc, c_proj } = this;
    const activation = ACTIVATIONS[this.config.activation_function];
    const drop = ctx.training ? this.config.resid_pdrop : 0;
    if (this.watching("neurons") ?? sumOf(c_fc) ?? sumOf(c_proj)) {
      const y = this.see("neurons", c_fc.fused(x, { activation })); // (B, T, I)
      return drop === 0 ? c_proj.fused(y, { residual }) : residual.add(dropout(c_proj.forward(y), drop));
    }
    const whole = (rest?: Tensor) => mlp(x, c_fc, c_proj, { activation, transposed: true, residual: rest }); // (B, T, I) inside
    return drop === 0 ? whole(residual) : residual.add(dropout(whole(), drop));
  }
}

class Block extends Module {
  ln_1: LayerNorm;
  attn: Attention;
  ln_2: LayerNorm;
  mlp: MLP;

  constructor(config: GPT2Config, layer: number) {
    super();
    const eps = config.layer_norm_epsilon;
    this.ln_1 = new LayerNorm(config.n_embd, { eps });
    this.attn = new Attention(config, layer);
    this.ln_2 = new LayerNorm(config.n_embd, { eps });
    this.mlp = new MLP(config);
  }

  override forward(x: Tensor, ctx: ForwardContext): Tensor {
    const y = this.attn.forward(this.ln_1.forward(x), ctx, x);
    return this.mlp.forward(this.ln_2.forward(y), ctx, y);
  }
}

class Transformer extends Module {
  wte: Embedding;
  wpe: Embedding;
  h: Block[];
  ln_f: LayerNorm;

  private readonly config: GPT2Config;

  constructor(config: GPT2Config) {
    super();
    this.config = config;
    this.wte = new Embedding(config.vocab_size, config.n_embd);
    this.wpe = new Embedding(config.n_positions, config.n_embd);
    for (const table of [this.wte, this.wpe]) init.normal(table.weight, { std: config.initializer_range });
    this.h = Array.from({ length: config.n_layer }, (_, i) => new Block(config, i));
    this.ln_f = new LayerNorm(config.n_embd, { eps: config.layer_norm_epsilon });
  }

  override forward(ids: Tensor, ctx: ForwardContext): Tensor {
    let x = this.wte.forward(ids).add(this.wpe.forward(ctx.positions.reshape(ids.shape))); // (B, T, C)
    x = dropout(x, this.config.embd_pdrop, { training: ctx.training });
    x = through(this.h, x, (block, x) => block.forward(x, ctx));
    return this.ln_f.forward(x);
  }
}

/**
 * GPT-2 with fresh weights: ids i32 (B, T) → logits f32 (B, T, vocab_size). Settings that are left out are GPT-2 small's.
 * @throws ConfigError listing every setting that is unknown or wrong
 */
export class GPT2 extends CausalLM {
  readonly architecture: Architecture = gpt2;
  readonly config: GPT2Config;
  readonly dimensions: ModelDimensions;
  transformer: Transformer;
  lm_head: Linear | null;

  constructor(config: Partial<GPT2Config> = {}) {
    super();
    this.config = parseModelConfig(gpt2ConfigSchema, keys, config, "GPT2");
    this.dimensions = dimensionsOf(this.config);
    const { n_embd, vocab_size } = this.config;
    this.transformer = new Transformer(this.config);
    this.lm_head = this.config.tie_word_embeddings ? null : new Linear(n_embd, vocab_size, { bias: false });
    if (this.lm_head) init.normal(this.lm_head.weight, { std: this.config.initializer_range });
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    checkInputs(inputs);
    const hidden = this.transformer.forward(inputs.inputIds, contextOf(inputs, this.training, this.dimensions.context));
    return outputOf(hidden, this.lm_head?.weight ?? this.transformer.wte.weight, inputs, this.watchingHead());
  }

  configJson(): Record<string, unknown> {
    return { architectures: ["GPT2LMHeadModel"], model_type: "gpt2", ...this.config };
  }
}

function dimensionsOf({ vocab_size, n_embd, n_layer, n_head, n_positions }: GPT2Config): ModelDimensions {
  return { vocabulary: vocab_size, hidden: n_embd, layers: n_layer, heads: n_head, kvHeads: n_head, headDim: n_embd / n_head, context: n_positions };
}

/** Trained values by part, arithmetic and state of a GPT-2 of this config: 124,439,808 parameters with the defaults. Nothing is allocated. */
export function gpt2Counts(config: GPT2Config): ModelCounts {
  const { vocab_size, n_positions, n_embd: c, n_layer: layers, n_inner, tie_word_embeddings } = config;
  const inner = n_inner ?? 4 * c;
  const [attention, mlp, table] = [4 * c * c, 2 * c * inner, vocab_size * c];
  return countsFrom({
    parameters: {
      embedding: table,
      positions: n_positions * c,
      attention: layers * (attention + 4 * c), // with the biases of q, k, v and the projection
      mlp: layers * (mlp + inner + c),
      norms: (2 * layers + 1) * 2 * c,
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * (attention + mlp) + table,
    queries: layers * c,
    kept: 2 * layers * c,
  });
}

function savedPerRow({ n_embd: c, n_head, n_inner, attn_pdrop }: GPT2Config, length: number): SavedPerRow {
  const inner = n_inner ?? 4 * c;
  const attention = attentionPerRow({ heads: n_head, kvHeads: n_head, headDim: c / n_head, dropout: attn_pdrop, length });
  // Each norm's input, result, mean and deviation; q, k and v; attention; the MLP: its neurons and the slope of their activation.
  // The gradient of the neurons lies where they lay (`mlp`), so that those of q, k and v are the most that is new.
  return {
    layer: 2 * (2 * c + 2) + 3 * c + attention.layer + 2 * inner,
    gradients: Math.max(3 * c, attention.gradients),
    widest: inner,
    evaluated: 12 * c + inner,
  };
}

export const gpt2 = defineArchitecture<GPT2Config>({
  modelType: "gpt2",
  schema: gpt2ConfigSchema,
  keys,
  keyOf: { context: "n_positions", layers: "n_layer" },
  // Older files hold each layer's causal mask.
  weights: { base: "transformer.", tied: ["lm_head.weight"], names: [[/(^|\.)attn\.(masked_)?bias$/, null]] },
  gguf: {
    architecture: "gpt2",
    config: (file) => ({
      vocab_size: file.shape("token_embd.weight")[0],
      n_positions: file.number("{arch}.context_length"),
      n_embd: file.number("{arch}.embedding_length"),
      n_layer: file.number("{arch}.block_count"),
      n_head: file.number("{arch}.attention.head_count"),
      n_inner: file.number("{arch}.feed_forward_length"),
      layer_norm_epsilon: file.number("{arch}.attention.layer_norm_epsilon"),
      tie_word_embeddings: !file.has("output.weight"),
    }),
    metadata: (config) => {
      checkSayable("gpt2", "activation_function", "gelu_tanh", ACTIVATIONS[config.activation_function]);
      checkSayable("gpt2", "scale_attn_weights", true, config.scale_attn_weights);
      checkSayable("gpt2", "scale_attn_by_inverse_layer_idx", false, config.scale_attn_by_inverse_layer_idx);
      return {
        "{arch}.vocab_size": u32(config.vocab_size),
        "{arch}.context_length": u32(config.n_positions),
        "{arch}.embedding_length": u32(config.n_embd),
        "{arch}.block_count": u32(config.n_layer),
        "{arch}.attention.head_count": u32(config.n_head),
        "{arch}.feed_forward_length": u32(config.n_inner ?? 4 * config.n_embd),
        "{arch}.attention.layer_norm_epsilon": f32(config.layer_norm_epsilon),
      };
    },
    names: [
      ["token_embd", "transformer.wte"],
      ["position_embd", "transformer.wpe"],
      ["output_norm", "transformer.ln_f"],
      ["output", "lm_head"],
      ["blk.{i}.attn_norm", "transformer.h.{i}.ln_1"],
      ["blk.{i}.attn_qkv", "transformer.h.{i}.attn.c_attn"],
      ["blk.{i}.attn_output", "transformer.h.{i}.attn.c_proj"],
      ["blk.{i}.ffn_norm", "transformer.h.{i}.ln_2"],
      ["blk.{i}.ffn_up", "transformer.h.{i}.mlp.c_fc"],
      ["blk.{i}.ffn_down", "transformer.h.{i}.mlp.c_proj"],
    ],
    transposed: (name) => /\.(c_attn|c_proj|c_fc)\.weight$/.test(name),
  },
  dimensions: dimensionsOf,
  create: (config) => new GPT2(config),
  counts: gpt2Counts,
  savedPerRow,
  shapedBy: ({ layers, width, heads }) => ({ n_layer: layers, n_embd: width, n_head: heads }),
  samples: [
    { vocab_size: 53, n_positions: 24, n_embd: 16, n_layer: 3, n_head: 2 },
    { vocab_size: 53, n_positions: 24, n_embd: 16, n_layer: 1, n_head: 4, n_inner: 40, tie_word_embeddings: false },
    { vocab_size: 53, n_positions: 24, n_embd: 16, n_layer: 1, n_head: 2, attn_pdrop: 0 },
  ],
});

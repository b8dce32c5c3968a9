/** The layers that models are made of. Parameter names and shapes are PyTorch's. */
import { ShapeError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import {
  type Activation,
  type AttentionOptions,
  attention,
  dropout,
  embedding,
  layerNorm,
  linear,
  linears,
  noGrad,
  ones,
  rmsNorm,
  type Tensor,
  tensorFrom,
  zeros,
} from "../tensor/index.ts";
import { ATTENTION_POINTS } from "./context.ts";
import { kaimingUniform, normal, uniform } from "./init.ts";
import { buffer, Module, parameter } from "./module.ts";

/** How a fused layer shows its own result, when someone watches it. */
export function sumOf(layer: Module): ((sum: Tensor) => Tensor) | undefined {
  const watch = layer.watching("");
  return watch && ((sum) => watch("", sum, 0));
}

/**
 * y = x · weightᵀ + bias: x (…, in) → (…, out), f32; weight (out, in), bias (out). Initialised as torch.nn.Linear: both uniform in ±1/√in.
 * Names and shapes are those of torch.nn.Linear. `new Linear(3, 2, { bias: false })` has no bias.
 */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    super();
    checkOptions("Linear", options, { bias: true });
    this.weight = parameter(kaimingUniform(zeros([outFeatures, inFeatures]), { gain: Math.sqrt(1 / 3) }));
    this.bias = options.bias === false ? null : parameter(uniform(zeros([outFeatures]), { bound: 1 / Math.sqrt(inFeatures) }));
  }

  /** x (…, in) → x · weightᵀ + bias (…, out). */
  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }

  /** activation(forward(x)) + residual in one kernel. A hook on this layer sees the result of `forward`, as in PyTorch; the rest then follows in steps. */
  fused(x: Tensor, options: { activation?: Activation; residual?: Tensor | null }): Tensor {
    const watch = sumOf(this);
    return linear(x, this.weight, this.bias, watch === undefined ? options : { ...options, watch });
  }
}

/**
 * What `forward` of several linear layers gives for the same x (…, in): (…, out) each. Block-quantised layers multiply in one pass, unless one of them is watched, has
 * a `forward` of its own, or gradients are wanted.
 */
export function projections(x: Tensor, layers: readonly Linear[]): Tensor[] {
  for (let i = 0; i < layers.length; i++) {
    const layer = layers[i] as Linear;
    if (layer.constructor !== Linear || !layer.weight.isQuantized || layer.watching("") !== undefined) return layers.map((each) => each.forward(x));
  }
  return linears(x, layers);
}

/** Rows of a table: ids (…), i32 from 0 to count − 1 → (…, dim), f32; weight (count, dim), initialised from the standard normal, as torch.nn.Embedding. */
export class Embedding extends Module {
  weight: Tensor;

  constructor(count: number, dim: number) {
    super();
    this.weight = parameter(normal(zeros([count, dim])));
  }

  /** ids (…), i32 → (…, dim). */
  override forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight);
  }
}

/**
 * Layer normalisation over the last dimension (Ba et al. 2016): x (…, dim) → (x − mean)/√(variance + eps) · weight + bias (…, dim), f32; the variance is that of
 * all dim items (n, not n − 1). weight (dim) begins as ones, bias (dim) as zeros; `bias: false` leaves it out, eps is 1e-5. As torch.nn.LayerNorm(dim).
 */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly eps: number;

  constructor(dim: number, options: { eps?: number; bias?: boolean } = {}) {
    super();
    checkOptions("LayerNorm", options, { eps: true, bias: true });
    this.eps = options.eps ?? 1e-5;
    this.weight = parameter(ones([dim]));
    this.bias = options.bias === false ? null : parameter(zeros([dim]));
  }

  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/**
 * RMS normalisation over the last dimension (Zhang and Sennrich 2019): x (…, dim) → x/√(mean(x²) + eps) · weight (…, dim), f32; weight (dim) begins as ones, eps is
 * 1e-6. With `unitOffset` it multiplies by 1 + weight, and weight begins as zeros, as Gemma has it: weight decay then pulls towards a gain of 1.
 */
export class RMSNorm extends Module {
  weight: Tensor;
  readonly eps: number;
  readonly unitOffset: boolean;

  constructor(dim: number, options: { eps?: number; unitOffset?: boolean } = {}) {
    super();
    checkOptions("RMSNorm", options, { eps: true, unitOffset: true });
    this.eps = options.eps ?? 1e-6;
    this.unitOffset = options.unitOffset ?? false;
    this.weight = parameter(this.unitOffset ? zeros([dim]) : ones([dim]));
  }

  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.unitOffset ? this.weight.add(1) : this.weight, this.eps);
  }
}

/**
 * Batch normalisation of each of the last dimension's items over all the others (Ioffe and Szegedy 2015): x (…, dim) → (…, dim), f32. While training by the batch's
 * own mean and variance, afterwards by their running averages (of the variance with n − 1, as PyTorch keeps it), which move by `momentum` (0.1) a batch and are saved
 * with the weights. weight, bias, running_mean, running_var: (dim). For (N, dim) it is torch.nn.BatchNorm1d.
 * @throws ShapeError where the last dimension is another, or while training with fewer than 2 rows
 */
export class BatchNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  running_mean: Tensor;
  running_var: Tensor;
  readonly eps: number;
  readonly momentum: number;

  constructor(dim: number, options: { eps?: number; momentum?: number } = {}) {
    super();
    checkOptions("BatchNorm", options, { eps: true, momentum: true });
    this.eps = options.eps ?? 1e-5;
    this.momentum = options.momentum ?? 0.1;
    this.weight = parameter(ones([dim]));
    this.bias = parameter(zeros([dim]));
    this.running_mean = buffer(zeros([dim]), { saved: true });
    this.running_var = buffer(ones([dim]), { saved: true });
  }

  override forward(x: Tensor): Tensor {
    const dim = this.weight.size;
    if (x.shape.at(-1) !== dim) throw new ShapeError(`BatchNorm: expected x (…, ${dim}), got (${x.shape.join(", ")}). The last dimension is normalised`);
    let [mean, variance] = [this.running_mean, this.running_var];
    if (this.training) {
      const rows = x.reshape([-1, dim]);
      const n = rows.shape[0] as number;
      if (n < 2) throw new ShapeError(`BatchNorm: expected at least 2 rows while training, got ${n}. Use a larger batch, or eval()`);
      mean = rows.mean(0);
      variance = rows.variance(0, { correction: 0 });
      const average = (running: Tensor, now: Tensor) => noGrad(() => running.copyFrom(running.mul(1 - this.momentum).add(now.detach().mul(this.momentum))));
      average(this.running_mean, mean);
      average(this.running_var, variance.mul(n / (n - 1)));
    }
    return x.sub(mean).mul(variance.add(this.eps).rsqrt()).mul(this.weight).add(this.bias);
  }
}

/** Zeroes items with probability p while training, and scales the others by 1/(1 − p): x (…) → (…). After `eval()`, x itself. Draws from the `dropout` stream. */
export class Dropout extends Module {
  readonly p: number;

  constructor(p: number) {
    super();
    this.p = p;
  }

  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, { training: this.training });
  }
}

/**
 * Multi-head attention (Vaswani et al. 2017) with separate projections: x (B, T, dim) → (B, T, dim), f32. q_proj (heads · headDim, dim), k_proj and v_proj
 * (kvHeads · headDim, dim), out_proj (dim, heads · headDim), with biases unless `bias: false`. Grouped queries (Ainslie et al. 2023) where `kvHeads` is below
 * `heads`; `headDim` is dim/heads unless set.
 * @throws ShapeError where dim is no multiple of heads, or heads none of kvHeads
 */
export class MultiHeadAttention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  out_proj: Linear;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;

  constructor(dim: number, heads: number, options: { kvHeads?: number; headDim?: number; bias?: boolean } = {}) {
    super();
    checkOptions("MultiHeadAttention", options, { kvHeads: true, headDim: true, bias: true });
    this.heads = heads;
    this.kvHeads = options.kvHeads ?? heads;
    this.headDim = options.headDim ?? dim / heads;
    if (!Number.isInteger(this.headDim) || this.headDim < 1)
      throw new ShapeError(`MultiHeadAttention: expected dim to be a multiple of heads, got ${dim} and ${heads}. Change one of them, or set headDim`);
    if (this.heads % this.kvHeads !== 0)
      throw new ShapeError(`MultiHeadAttention: expected heads to be a multiple of kvHeads, got ${heads} and ${this.kvHeads}. Change one of them`);
    const bias = options.bias ?? true;
    this.q_proj = new Linear(dim, this.heads * this.headDim, { bias });
    this.k_proj = new Linear(dim, this.kvHeads * this.headDim, { bias });
    this.v_proj = new Linear(dim, this.kvHeads * this.headDim, { bias });
    this.out_proj = new Linear(this.heads * this.headDim, dim, { bias });
  }

  override get points() {
    return ATTENTION_POINTS;
  }

  /**
   * x (B, T, dim) attends to `memory` (B, S, dim; default x itself) → (B, T, dim). Causal by default where x attends to itself; all of a `memory` is
   * seen unless `causal: true` says otherwise.
   */
  override forward(x: Tensor, options: AttentionOptions & { memory?: Tensor } = {}): Tensor {
    const { memory = x, causal = options.memory === undefined, ...rest } = options;
    const heads = (y: Tensor, n: number) => y.reshape([...y.shape.slice(0, -1), n, this.headDim]); // (B, T, H, D)
    const y = attention(
      this.see("q", heads(this.q_proj.forward(x), this.heads)),
      this.see("k", heads(this.k_proj.forward(memory), this.kvHeads)),
      this.see("v", heads(this.v_proj.forward(memory), this.kvHeads)),
      { watch: this.watching("scores", "probabilities"), causal, ...rest },
    );
    return this.out_proj.forward(this.see("heads", y).reshape([...x.shape.slice(0, -1), this.heads * this.headDim]));
  }
}

/** A layer that maps one tensor to one. */
export interface Layer extends Module {
  forward(x: Tensor): Tensor;
}

/** Layers one after another; parameters are named `0.weight`, `1.weight`, … */
export class Sequential extends Module {
  readonly [index: number]: Layer;
  private readonly count: number;

  constructor(...layers: Layer[]) {
    super();
    Object.assign(this, layers);
    this.count = layers.length;
  }

  override forward(x: Tensor): Tensor {
    let y = x;
    for (let i = 0; i < this.count; i++) y = (this[i] as Layer).forward(y);
    return y;
  }
}

/** The fixed table of positions (Vaswani et al. 2017, 3.5): (count, dim), sine and cosine of the position over 10000^(2i/dim) in turns. Added to embeddings. */
export function sinusoidalPositions(count: number, dim: number): Tensor {
  const table = Float32Array.from({ length: count * dim }, (_, at) => {
    const [position, i] = [Math.floor(at / dim), at % dim];
    const angle = position / 10000 ** ((i - (i % 2)) / dim);
    return i % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  });
  return tensorFrom(table, [count, dim]);
}

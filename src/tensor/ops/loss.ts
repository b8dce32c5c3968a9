/** Losses: cross-entropy, alone and fused with the last linear layer; mean squared error. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { gemm, linear as multiply } from "../autocast.ts";
import { ACCUMULATED, type Context, type Gradient, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { REDUCTIONS, UNARY } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { layoutOf } from "../quantized-layout.ts";
import { integers, quantizedValues, values } from "../samples.ts";
import { type Shape, sameShape, show } from "../shape.ts";
import { type Tensor, tensor } from "../tensor.ts";
import { f32, mul, softcapped, square, sub } from "./elementwise.ts";
import { linear } from "./linear.ts";
import { narrow, packed, reshape } from "./movement.ts";
import { throughQuantized } from "./quantized.ts";
import { mean } from "./reduce.ts";

export interface CrossEntropyOptions {
  /** Rows with this target count for nothing. Default −100. */
  ignoreIndex?: number;
  /** Share of the target spread evenly over all classes (Szegedy et al. 2016). Default 0. */
  labelSmoothing?: number;
  /** "mean" over the rows that count (default), "sum", or "none": one loss a row. */
  reduction?: "mean" | "sum" | "none";
  /** Divides the sum by this number in place of the rows that count: gradient accumulation passes the targets of the whole batch. */
  count?: number;
}

const OPTIONS: KnownOptions<CrossEntropyOptions> = { ignoreIndex: true, labelSmoothing: true, reduction: true, count: true };

/** Of the fused loss. */
export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Logits are softcap·tanh(logits/softcap), as Gemma 2's. Default: as they are. */
  softcap?: number | undefined;
}

const FUSED_OPTIONS: KnownOptions<LinearCrossEntropyOptions> = { ...OPTIONS, softcap: true };

/** A row's weight in the loss: 1/count, or 1. */
function rowScale(targets: Tensor, { reduction = "mean", count, ignoreIndex = -100 }: CrossEntropyOptions): number {
  if (reduction !== "mean") return 1;
  if (count !== undefined) return 1 / count;
  // Counted here: the operations that would do it cost a small model's step far more than the reading.
  const all = targets.dataSync() as Int32Array;
  let n = 0;
  for (let i = 0; i < all.length; i++) if (all[i] !== ignoreIndex) n++;
  return 1 / Math.max(1, n);
}

/** All rows' losses added up, times their weight. */
function total(ctx: Context, losses: Tensor, scale: number): Tensor {
  const out = ctx.out([]);
  backend().reduce(SUM, losses, out, 1, losses.size, 1);
  backend().axpby(scale, out, 0, null, out, 1);
  return out;
}

const SUM = REDUCTIONS.indexOf("sum");

function checkTargets(op: string, rows: readonly number[], targets: Tensor): void {
  if (targets.dtype !== "i32" || !sameShape(targets.shape, rows)) {
    throw new ShapeError(`${op}: expected i32 targets of shape ${show(rows)}, got ${targets.dtype}${show(targets.shape)}`);
  }
}

const crossEntropyOp = defineOp<[logits: Tensor, targets: Tensor, options: CrossEntropyOptions]>({
  name: "crossEntropy",
  tensors: 2,
  shape: (logits, targets, options) => {
    if (logits.rank === 0) throw new ShapeError("crossEntropy: expected logits (…, classes), got a scalar");
    checkTargets("crossEntropy", logits.shape.slice(0, -1), targets);
    return options.reduction === "none" ? targets.shape : [];
  },
  forward: (ctx, shape, logits, targets, options) => {
    const n = logits.shape.at(-1) as number;
    const rows = targets.size;
    const [x, t] = [f32(logits), packed(targets)];
    const losses = ctx.out(options.reduction === "none" ? shape : [rows]);
    const lse = ctx.out([rows]);
    backend().crossEntropy(x, t, losses, lse, rows, n, options.ignoreIndex ?? -100, options.labelSmoothing ?? 0);
    const scale = rowScale(t, options);
    ctx.save(x, t, lse);
    ctx.note = scale;
    if (options.reduction === "none") return losses;
    return total(ctx, losses, scale);
  },
  backward: (ctx, [logits, , options], g) => {
    const n = logits.shape.at(-1) as number;
    const gx = ctx.out(logits.shape);
    const each = options.reduction === "none";
    const scale = packed(each ? (g as Tensor) : mul(g as Tensor, ctx.note as number));
    backend().crossEntropyGrad(
      ctx.get(0),
      ctx.get(1),
      ctx.get(2),
      scale,
      each ? 1 : 0,
      gx,
      logits.size / Math.max(n, 1),
      n,
      options.ignoreIndex ?? -100,
      options.labelSmoothing ?? 0,
    );
    return [gx, null];
  },
  samples: () => [
    { name: "mean", args: () => [values([4, 11]), integers([4], 0, 11), {}], torch: "F.cross_entropy(x0, x1.long())" },
    {
      name: "ignored rows",
      args: () => [values([2, 3, 5]), tensor([Int32Array.of(1, -100, 4), Int32Array.of(-100, 0, 2)]), {}],
      torch: "F.cross_entropy(x0.flatten(0, 1), x1.flatten().long())",
    },
    {
      name: "smoothed sum",
      args: () => [values([4, 6]), integers([4], 0, 6), { labelSmoothing: 0.1, reduction: "sum" }],
      torch: "F.cross_entropy(x0, x1.long(), label_smoothing=0.1, reduction='sum')",
    },
    { name: "one a row", args: () => [values([4, 6]), integers([4], 0, 6), { reduction: "none" }], torch: "F.cross_entropy(x0, x1.long(), reduction='none')" },
  ],
});

/**
 * Cross-entropy of logits (…, classes) with targets (…), i32: the mean of −log softmax(logits)[target] over the rows that count.
 * Targets are not shifted here. With every row ignored the loss is 0.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  checkOptions("crossEntropy", options, OPTIONS);
  return crossEntropyOp(logits, targets, options);
}

/** Rows a chunk of the fused loss: logits of at most 2²⁴ items exist at a time. Depends on the vocabulary only, so results do not depend on batch size. */
const chunkRows = (vocabulary: number): number => Math.max(64, Math.min(4096, Math.floor(2 ** 24 / vocabulary / 64) * 64));

const TANH = UNARY.indexOf("tanh");

const linearCrossEntropyOp = defineOp<[hidden: Tensor, weight: Tensor, targets: Tensor, options: LinearCrossEntropyOptions]>({
  name: "linearCrossEntropy",
  tensors: 3,
  quantized: [1],
  shape: (hidden, weight, targets) => {
    if (weight.rank !== 2 || hidden.shape.at(-1) !== weight.shape[1]) {
      throw new ShapeError(`linearCrossEntropy: expected hidden (…, ${weight.shape[1]}) for a weight ${show(weight.shape)}, got ${show(hidden.shape)}`);
    }
    checkTargets("linearCrossEntropy", hidden.shape.slice(0, -1), targets);
    return [];
  },
  // The gradients are made right here, chunk by chunk, while a chunk's logits exist; backward only scales them.
  forward: (ctx, _, hidden, weight, targets, options) => {
    const k = hidden.shape.at(-1) as number;
    const vocabulary = weight.shape[0] as number;
    const rows = targets.size;
    const [x, w, t] = noGrad(() => [reshape(f32(hidden), [rows, k]), weight.isQuantized ? weight : f32(weight), reshape(packed(targets), [rows])]) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const scale = rowScale(t, options);
    const rowScales = ctx.out([]);
    backend().fill(rowScales, CODE.f32, 1, scale);
    const { softcap } = options;
    // With a cap two numbers of each logit are held, of half as many rows.
    const step = Math.min(chunkRows(vocabulary) / (softcap === undefined ? 1 : 2), Math.max(rows, 1));
    const logits = ctx.out([step, vocabulary]);
    const bent = softcap === undefined ? null : ctx.out([step, vocabulary]);
    const [losses, lse] = [ctx.out([rows]), ctx.out([step])];
    const gx = ctx.needs(0) && ctx.records ? ctx.out([rows, k]) : null;
    const gw = ctx.needs(1) && ctx.records ? ctx.out(weight.shape) : null;
    const [ignore, smoothing] = [options.ignoreIndex ?? -100, options.labelSmoothing ?? 0];
    for (let at = 0; at < rows; at += step) {
      const m = Math.min(step, rows - at);
      const part = (y: Tensor) => (m === rows ? y : noGrad(() => narrow(y, 0, at, m)));
      const [xPart, tPart] = [part(x), part(t)];
      if (w.isQuantized) backend().linearQuantized(xPart, w, layoutOf(w.dtype), null, null, logits, null, m, vocabulary, k, 0);
      else multiply(xPart, w, k, 1, null, null, logits, null, m, vocabulary, k, 0);
      if (bent !== null && softcap !== undefined) {
        backend().axpby(1 / softcap, logits, 0, null, logits, m * vocabulary);
        backend().unary(TANH, logits, bent, m * vocabulary);
        backend().axpby(softcap, bent, 0, null, logits, m * vocabulary);
      }
      backend().crossEntropy(logits, tPart, part(losses), lse, m, vocabulary, ignore, smoothing);
      if (gx === null && gw === null) continue;
      backend().crossEntropyGrad(logits, tPart, lse, rowScales, 0, logits, m, vocabulary, ignore, smoothing);
      // d(cap·tanh(x/cap))/dx = 1 − tanh², which the rule reads from the result.
      if (bent !== null) backend().unaryGrad(TANH, bent, bent, logits, logits, m * vocabulary);
      if (gx !== null && w.isQuantized) throughQuantized(ctx, logits, w, part(gx), m, false);
      else if (gx !== null) gemm(logits, vocabulary, 1, 0, w, k, 1, 0, part(gx), k, 0, 1, m, k, vocabulary, 1, 0);
      if (gw !== null) gemm(logits, 1, vocabulary, 0, xPart, k, 1, 0, gw, k, 0, 1, vocabulary, k, m, 1, at === 0 ? 0 : 1);
    }
    if (rows === 0 && gw !== null) backend().fill(gw, CODE.f32, gw.size, 0);
    ctx.save(gx, gw);
    return total(ctx, losses, scale);
  },
  backward: (ctx, [hidden], g) => {
    const scale = (g as Tensor).itemSync();
    return [scaled(ctx, 0, scale, hidden.shape), scaled(ctx, 1, scale), null];
  },
  composed: (hidden, weight, targets, { softcap, ...options }) => {
    const logits = linear(hidden, weight);
    return crossEntropy(softcap === undefined ? logits : softcapped(logits, softcap), targets, options);
  },
  samples: () => [
    {
      name: "mean",
      args: () => [values([5, 8]), values([11, 8], { seed: 2 }), integers([5], 0, 11), {}],
      torch: "F.cross_entropy(F.linear(x0, x1), x2.long())",
    },
    {
      name: "ignored rows, smoothed",
      args: () => [values([1, 3, 8]), values([7, 8], { seed: 2 }), tensor([Int32Array.of(1, -100, 4)]), { labelSmoothing: 0.2 }],
      torch: "F.cross_entropy(F.linear(x0, x1).flatten(0, 1), x2.flatten().long(), label_smoothing=0.2)",
    },
    {
      name: "capped",
      args: () => [values([6, 8]), values([11, 8], { seed: 2 }), integers([6], 0, 11), { softcap: 1.5 }],
      torch: "F.cross_entropy(1.5 * torch.tanh(F.linear(x0, x1) / 1.5), x2.long())",
    },
    {
      name: "several chunks",
      args: () => [values([4100, 3]), values([5, 3], { seed: 2 }), integers([4100], 0, 5), {}],
      torch: "F.cross_entropy(F.linear(x0, x1), x2.long())",
      differences: false,
    },
    {
      name: "quantised weight",
      args: () => [values([5, 64]), quantizedValues([900, 64], "q4_1"), integers([5], 0, 900), {}],
      differences: false,
    },
  ],
});

function scaled(ctx: Context, i: number, scale: number, shape?: Shape): Gradient {
  const g = ctx.take(i);
  if (g === null) return null;
  const into = i === 1 ? ctx.gathered(1) : null;
  if (into !== null) {
    backend().axpby(1, into, scale, g, into, g.size);
    return ACCUMULATED;
  }
  if (scale !== 1) backend().axpby(scale, g, 0, null, g, g.size);
  return shape === undefined ? g : reshape(g, shape);
}

/**
 * crossEntropy(hidden · weightᵀ, targets) without ever holding all logits: hidden (…, k), weight (vocabulary, k), targets (…), i32. With `softcap`, the logits'
 * soft cap lies between.
 * "mean" or "sum" only. Its gradients are computed in the forward pass, so it suits the last step of a model, run once a backward.
 */
export function linearCrossEntropy(hidden: Tensor, weight: Tensor, targets: Tensor, options: LinearCrossEntropyOptions = {}): Tensor {
  checkOptions("linearCrossEntropy", options, FUSED_OPTIONS);
  if (options.reduction === "none")
    throw new ShapeError('linearCrossEntropy: expected reduction "mean" or "sum", got "none". Use crossEntropy(linear(…)) for a loss a row');
  return linearCrossEntropyOp(hidden, weight, targets, options);
}

/** Mean of (x − y)². */
export const mseLoss = (x: Tensor, y: Tensor): Tensor => mean(square(sub(x, y)));

/** Reductions over one dimension, several, or all. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { REDUCTIONS, type Reduction } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { around, dimension, resized, type Shape, show, sizeOf } from "../shape.ts";
import { checkTensor, type Tensor, tensor } from "../tensor.ts";
import { add, div, eq, exp, f32, log, mul, square, sub, where } from "./elementwise.ts";
import { cast, expand, packed, permute, reshape, transpose, unsqueeze } from "./movement.ts";

/** Which dimensions a reduction runs over: one, several, or (undefined) all; `keepDim` leaves them with size 1. */
export interface ReduceOptions {
  keepDim?: boolean;
}

const OPTIONS: KnownOptions<ReduceOptions> = { keepDim: true };
const VARIANCE_OPTIONS = { ...OPTIONS, correction: true } as const;

function over(op: string, x: Tensor, dims: number | readonly number[] | undefined): number[] {
  if (dims === undefined) return x.shape.map((_, i) => i);
  return [...new Set((typeof dims === "number" ? [dims] : dims).map((d) => dimension(op, d, x.rank)))].sort((a, b) => a - b);
}

/** The dimensions of x brought into (kept…, reduced) order where they are not neighbours already. */
function gathered(
  op: string,
  x: Tensor,
  dims: number | readonly number[] | undefined,
  keepDim: boolean,
): { input: Tensor; outer: number; n: number; inner: number; shape: Shape } {
  if (dims === undefined) return { input: x, outer: 1, n: x.size, inner: 1, shape: keepDim ? x.shape.map(() => 1) : [] };
  if (typeof dims === "number") {
    const d = dimension(op, dims, x.rank);
    const [outer, n, inner] = around(x.shape, d);
    return { input: x, outer, n, inner, shape: keepDim ? resized(x.shape, d, 1) : x.shape.filter((_, i) => i !== d) };
  }
  const list = over(op, x, dims);
  const shape = x.shape.flatMap((n, i) => (list.includes(i) ? (keepDim ? [1] : []) : [n]));
  const neighbours = list.every((d, i) => i === 0 || d === (list[i - 1] as number) + 1);
  if (list.length === 0) return { input: x, outer: x.size, n: 1, inner: 1, shape };
  if (neighbours) {
    const [first, last] = [list[0] as number, list.at(-1) as number];
    return { input: x, outer: sizeOf(x.shape.slice(0, first)), n: sizeOf(x.shape.slice(first, last + 1)), inner: sizeOf(x.shape.slice(last + 1)), shape };
  }
  const kept = x.shape.map((_, i) => i).filter((i) => !list.includes(i));
  const input = permute(x, [...kept, ...list]);
  return { input, outer: sizeOf(kept.map((i) => x.shape[i] as number)), n: sizeOf(list.map((i) => x.shape[i] as number)), inner: 1, shape };
}

const ZEROS = [
  [0, 1, 2],
  [0, 3, 0],
  [2, -1, 4],
];

type Dims = number | readonly number[] | undefined;
type Backward = (x: Tensor, y: Tensor, g: Tensor) => Tensor;

function reduction(kind: Reduction, torch: string, keepsInput: boolean, backwardRule: Backward) {
  const code = REDUCTIONS.indexOf(kind);
  const op = defineOp<[x: Tensor, dims: Dims, keepDim: boolean]>({
    name: kind,
    shape: (x, dims, keepDim) => gathered(kind, x, dims, keepDim).shape,
    forward: (ctx, shape, x, dims, keepDim) => {
      const { input, outer, n, inner } = gathered(kind, x, dims, keepDim);
      if (n === 0 && (kind === "max" || kind === "min")) throw new ShapeError(`${kind}: expected at least one item to choose from, got shape ${show(x.shape)}`);
      const out = ctx.out(shape);
      backend().reduce(code, packed(f32(input)), out, outer, n, inner);
      if (keepsInput) ctx.save(x, out);
      if (x.dtype === "f32") return out;
      return x.dtype === "i32" || x.dtype === "u8" || x.dtype === "bool" ? cast(out, "i32") : cast(out, x.dtype);
    },
    backward: (ctx, [x, dims], g) => {
      const kept = x.shape.map((n, i) => (over(kind, x, dims).includes(i) ? 1 : n));
      const gKept = reshape(g as Tensor, kept);
      return [keepsInput ? backwardRule(ctx.get(0), reshape(ctx.get(1), kept), gKept) : expand(gKept, x.shape)];
    },
    samples: () => [
      { name: "all", args: () => [values([3, 4], { low: -1.2 }), undefined, false], torch: torch.replace("@", "") },
      { name: "the last", args: () => [values([3, 5]), -1, false], torch: torch.replace("@", "-1") },
      { name: "the first, kept", args: () => [values([3, 5]), 0, true], torch: torch.replace("@", "0, keepdim=True") },
      { name: "long rows", args: () => [values([2, 77]), 1, false], torch: torch.replace("@", "1") },
      ...(kind === "prod"
        ? [
            {
              name: "rows with one zero, two and none",
              args: () => [tensor(ZEROS, { requiresGrad: true }), -1, false] as [Tensor, Dims, boolean],
              torch: "x0.prod(-1)",
            },
          ]
        : []),
      ...(kind === "sum" ? [{ name: "two apart", args: () => [values([2, 3, 4]), [0, 2], false] as [Tensor, Dims, boolean], torch: "x0.sum((0, 2))" }] : []),
    ],
  });
  return (x: Tensor, dims?: Dims, options: ReduceOptions = {}): Tensor => {
    checkOptions(kind, options, OPTIONS);
    return op(x, dims, options.keepDim ?? false);
  };
}

/** Sum over dimensions (all without `dims`). Rows are summed in 16 lanes, so a row's sum never depends on its neighbours. */
export const sum = reduction("sum", "x0.sum(@)", false, (_, __, g) => g);
/** The dimensions over which x was reduced to y (with sizes of 1 kept). */
const reduced = (x: Tensor, y: Tensor): number[] => y.shape.flatMap((n, i) => (n === 1 && x.shape[i] !== 1 ? [i] : []));

// Ties share the gradient evenly, as in PyTorch's amax.
const extreme: Backward = (x, y, g) => {
  const hits = cast(eq(x, y), "f32");
  const dims = reduced(x, y);
  return mul(div(g, dims.length > 0 ? sum(hits, dims, { keepDim: true }) : hits), hits);
};
/** Largest item over dimensions; NaN where one is NaN. */
export const max = reduction("max", "x0.amax(@)", true, extreme);
/** Smallest item over dimensions; NaN where one is NaN. */
export const min = reduction("min", "x0.amin(@)", true, extreme);
// An item's gradient is the product of the others: of all that are not 0, by the item; 0 where another item is 0.
const others: Backward = (x, y, g) => {
  const dims = reduced(x, y);
  if (dims.length === 0) return g;
  const zero = eq(x, 0);
  const safe = where(zero, 1, x);
  const count = cast(zero, "i32");
  const otherZeros = sub(sum(count, dims, { keepDim: true }), count);
  return mul(g, where(eq(otherZeros, 0), div(prod(safe, dims, { keepDim: true }), safe), 0));
};
/** Product over dimensions. */
export const prod = reduction("prod", "x0.prod(@)", true, others);

/** Mean over dimensions. */
export function mean(x: Tensor, dims?: Dims, options: ReduceOptions = {}): Tensor {
  checkOptions("mean", options, OPTIONS);
  checkTensor("mean", x);
  const n = over("mean", x, dims).reduce((p, d) => p * (x.shape[d] as number), 1);
  return mul(sum(x, dims, options), 1 / n);
}

/** Variance over dimensions; `correction` 1 divides by n − 1 (PyTorch's default), 0 by n. */
export function variance(x: Tensor, dims?: Dims, options: ReduceOptions & { correction?: number } = {}): Tensor {
  checkOptions("variance", options, VARIANCE_OPTIONS);
  const { correction = 1, ...rest } = options;
  checkTensor("variance", x);
  const n = over("variance", x, dims).reduce((p, d) => p * (x.shape[d] as number), 1);
  return mul(sum(square(sub(x, mean(x, dims, { keepDim: true }))), dims, rest), 1 / (n - correction));
}

/** log Σ eˣ over the last dimension, which has size 1 in the result. The kernel of the cross-entropy makes it on its way. */
const logsumexpOp = defineOp<[x: Tensor]>({
  name: "logsumexp",
  shape: (x) => resized(x.shape, x.rank - 1, 1),
  forward: (ctx, shape, x) => {
    const n = x.shape[x.rank - 1] as number;
    if (n === 0) throw new ShapeError(`logsumexp: expected at least one item to add, got shape ${show(x.shape)}`);
    const from = f32(x);
    const out = ctx.out(shape);
    const [losses, nothing] = [ctx.out(shape), ctx.out(shape, "i32")];
    backend().fill(nothing, CODE.i32, nothing.size, NO_TARGET);
    backend().crossEntropy(from, nothing, losses, out, out.size, n, NO_TARGET, 0);
    ctx.save(from, out);
    return out;
  },
  // d log Σ eˣ = softmax(x) · dx
  backward: (ctx, _args, g) => [mul(exp(sub(ctx.get(0), ctx.get(1))), g as Tensor)],
  composed: (x) => {
    const top = max(x, -1, { keepDim: true }).detach();
    return add(log(sum(exp(sub(x, top)), -1, { keepDim: true })), top);
  },
  samples: () => [
    { name: "rows", args: () => [values([3, 21], { low: -4, high: 4 })], torch: "x0.logsumexp(-1, keepdim=True)" },
    { name: "large numbers", args: () => [values([2, 5], { low: -300, high: 300 })], torch: "x0.logsumexp(-1, keepdim=True)", differences: false },
    { name: "no rows", args: () => [values([0, 3])] },
  ],
});

const NO_TARGET = -100;

/** log Σ eˣ over one dimension, without overflow. */
export function logsumexp(x: Tensor, dim: number, options: ReduceOptions = {}): Tensor {
  checkOptions("logsumexp", options, OPTIONS);
  checkTensor("logsumexp", x);
  const d = dimension("logsumexp", dim, x.rank);
  const out = d === x.rank - 1 ? logsumexpOp(x) : transpose(logsumexpOp(transpose(x, d, -1)), d, -1);
  return options.keepDim
    ? out
    : reshape(
        out,
        x.shape.filter((_, i) => i !== d),
      );
}

function argReduction(name: "argmax" | "argmin", least: 0 | 1) {
  const op = defineOp<[x: Tensor, dim: number]>({
    name,
    shape: (x, dim) => x.shape.filter((_, i) => i !== dimension(name, dim, x.rank)),
    forward: (ctx, shape, x, dim) => {
      const [outer, n, inner] = around(x.shape, dimension(name, dim, x.rank));
      if (n === 0) throw new ShapeError(`${name}: expected at least one item to choose from, got shape ${show(x.shape)}`);
      const out = ctx.out(shape, "i32");
      backend().argReduce(least, f32(x), out, outer, n, inner);
      return out;
    },
    backward: "none: integer output",
    samples: () => [
      { name: "the last", args: () => [values([3, 50], { requiresGrad: false }), -1], torch: `x0.${name}(-1)` },
      { name: "the first", args: () => [values([5, 3], { requiresGrad: false }), 0], torch: `x0.${name}(0)` },
    ],
  });
  return (x: Tensor, dim?: number, options: ReduceOptions = {}): Tensor => {
    checkTensor(name, x);
    checkOptions(name, options, OPTIONS);
    if (dim === undefined) return op(reshape(x, [-1]), 0);
    const out = op(x, dim);
    return options.keepDim ? unsqueeze(out, dimension(name, dim, x.rank)) : out;
  };
}

/** Place of the largest item along a dimension (of the flat tensor without one), as i32; the first of equals. */
export const argmax = argReduction("argmax", 0);
/** Place of the smallest item, as `argmax`: i32, the first of equals; a NaN counts as smallest. */
export const argmin = argReduction("argmin", 1);

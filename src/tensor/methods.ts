/** Hangs the operations on the class, so that `x.add(y)` and `add(x, y)` are the same thing. Imported once, by `index.ts`. */
import { type BackwardOptions, backward } from "./backward.ts";
import { type GradientHook, registerHook } from "./graph.ts";
import { addInPlace, copyFrom, fill } from "./in-place.ts";
import type { DType } from "./kernels.ts";
import { diagonal } from "./ops/einsum.ts";
import type { Numeric } from "./ops/elementwise.ts";
import * as elementwise from "./ops/elementwise.ts";
import type { Ordered } from "./ops/indexing.ts";
import * as indexing from "./ops/indexing.ts";
import * as joining from "./ops/joining.ts";
import { matmul } from "./ops/matmul.ts";
import * as movement from "./ops/movement.ts";
import { pad, tril, triu } from "./ops/padding.ts";
import type { ReduceOptions } from "./ops/reduce.ts";
import * as reduce from "./ops/reduce.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { type PrintOptions, print } from "./print.ts";
import type { Shape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

type Dims = number | readonly number[];

declare module "./tensor.ts" {
  interface Tensor {
    /** Adds the gradients of this tensor to the leaves that want one, and frees the graph. */
    backward(options?: BackwardOptions): void;
    /** The items in brackets, with dtype and shape, as `print`; what `console.log(t)` shows. */
    toString(options?: PrintOptions): string;
    /** Calls `hook` with this tensor's gradient in each backward; gives the function that ends it. */
    registerHook(hook: GradientHook): () => void;
    /** t += scale · other, in place, under `noGrad`; other broadcasts. */
    addInPlace(other: Numeric, scale?: number): Tensor;
    /** Writes other's items over this tensor's, under `noGrad`; other is converted and broadcast. */
    copyFrom(other: Tensor): Tensor;
    /** Writes one value over all items, under `noGrad`. */
    fill(value: number): Tensor;
    /** The same items outside the graph; a view. */
    detach(): Tensor;
    /** A copy that shares no memory. */
    clone(): Tensor;
    /** The items one after the other in memory; itself where they are. */
    contiguous(): Tensor;
    /** The same items in another shape; one size may be −1. A view where it can be. */
    reshape(shape: Shape): Tensor;
    /** The dimensions in another order; a view. */
    permute(dims: readonly number[]): Tensor;
    /** Two dimensions swapped (default the last two); a view. */
    transpose(a?: number, b?: number): Tensor;
    /** `length` items of a dimension from `start`; a view. */
    narrow(dim: number, start: number, length: number): Tensor;
    /** A part of each dimension: `x.slice([1, 3], null, 2)` is x[1:3, :, 2]. */
    slice(...ranges: readonly (number | readonly [start: number, end?: number] | null)[]): Tensor;
    /** Sizes of 1 repeated to this shape, without memory; a view. */
    expand(shape: Shape): Tensor;
    /** A dimension of size 1 at this place; a view. */
    unsqueeze(dim: number): Tensor;
    /** Without a dimension of size 1 (without all of them by default); a view. */
    squeeze(dim?: number): Tensor;
    /** Joined with others along a dimension (default the first). */
    concat(others: readonly Tensor[], dim?: number): Tensor;
    /** Parts of these sizes along a dimension (default the first); views. */
    split(sizes: readonly number[], dim?: number): Tensor[];
    /** Converted to another dtype; itself where it has it. */
    to(dtype: DType): Tensor;
    /** x + y, item by item; shapes broadcast. */
    add(y: Numeric): Tensor;
    /** x − y, item by item; shapes broadcast. */
    sub(y: Numeric): Tensor;
    /** x · y, item by item; shapes broadcast. `matmul` is the matrix product. */
    mul(y: Numeric): Tensor;
    /** x / y, item by item; shapes broadcast. */
    div(y: Numeric): Tensor;
    /** xʸ, item by item; shapes broadcast. */
    pow(y: Numeric): Tensor;
    /** x = y as bool, item by item; shapes broadcast. */
    eq(y: Numeric): Tensor;
    /** x ≠ y as bool, item by item; shapes broadcast. */
    ne(y: Numeric): Tensor;
    /** x < y as bool, item by item; shapes broadcast. */
    lt(y: Numeric): Tensor;
    /** x ≤ y as bool, item by item; shapes broadcast. */
    le(y: Numeric): Tensor;
    /** x > y as bool, item by item; shapes broadcast. */
    gt(y: Numeric): Tensor;
    /** x ≥ y as bool, item by item; shapes broadcast. */
    ge(y: Numeric): Tensor;
    /** With `value` where the bool mask holds; the mask broadcasts. */
    maskedFill(mask: Tensor, value: number): Tensor;
    /** −x of each item. */
    neg(): Tensor;
    /** |x| of each item. */
    abs(): Tensor;
    /** eˣ of each item. */
    exp(): Tensor;
    /** The natural logarithm of each item. */
    log(): Tensor;
    /** √x of each item. */
    sqrt(): Tensor;
    /** 1/√x of each item. */
    rsqrt(): Tensor;
    /** x² of each item. */
    square(): Tensor;
    /** The sine of each item, in radians. */
    sin(): Tensor;
    /** The cosine of each item, in radians. */
    cos(): Tensor;
    /** The hyperbolic tangent of each item. */
    tanh(): Tensor;
    /** 1/(1 + e⁻ˣ) of each item. */
    sigmoid(): Tensor;
    /** max(x, 0) of each item. */
    relu(): Tensor;
    /** x·Φ(x) of each item, exact. */
    gelu(): Tensor;
    /** x·sigmoid(x) of each item. */
    silu(): Tensor;
    /** 1/x of each item. */
    reciprocal(): Tensor;
    /** The error function of each item. */
    erf(): Tensor;
    /** The largest whole number not above each item. */
    floor(): Tensor;
    /** The smallest whole number not below each item. */
    ceil(): Tensor;
    /** The nearest whole number, ties to even. */
    round(): Tensor;
    /** −1, 0 or 1 for each item. */
    sign(): Tensor;
    /** log(1 + x) of each item, exact near 0. */
    log1p(): Tensor;
    /** eˣ − 1 of each item, exact near 0. */
    expm1(): Tensor;
    /** log(1 + eˣ) of each item. */
    softplus(): Tensor;
    /** The larger of x and y, item by item; shapes broadcast. */
    maximum(y: Numeric): Tensor;
    /** The smaller of x and y, item by item; shapes broadcast. */
    minimum(y: Numeric): Tensor;
    /** The rest of x / y with y's sign, item by item; shapes broadcast. */
    remainder(y: Numeric): Tensor;
    /** Items held between two bounds. */
    clamp(low: number, high: number): Tensor;
    /** The matrix product of the last two dimensions, the others broadcast: (…, m, k) × (…, k, n) → (…, m, n). */
    matmul(y: Tensor): Tensor;
    /** Sum over dimensions (all by default). */
    sum(dims?: Dims, options?: ReduceOptions): Tensor;
    /** Mean over dimensions (all by default). */
    mean(dims?: Dims, options?: ReduceOptions): Tensor;
    /** Largest item over dimensions (all by default). */
    max(dims?: Dims, options?: ReduceOptions): Tensor;
    /** Smallest item over dimensions (all by default). */
    min(dims?: Dims, options?: ReduceOptions): Tensor;
    /** Product over dimensions (all by default). */
    prod(dims?: Dims, options?: ReduceOptions): Tensor;
    /** Variance over dimensions (all by default); `correction` 1 divides by n − 1, 0 by n. */
    variance(dims?: Dims, options?: ReduceOptions & { correction?: number }): Tensor;
    /** log Σ eˣ over one dimension, without overflow. */
    logsumexp(dim: number, options?: ReduceOptions): Tensor;
    /** Place of the largest item along a dimension (of the flat tensor by default), i32. */
    argmax(dim?: number, options?: ReduceOptions): Tensor;
    /** Place of the smallest item along a dimension (of the flat tensor by default), i32. */
    argmin(dim?: number, options?: ReduceOptions): Tensor;
    /** eˣ / Σ eˣ along a dimension (default the last). */
    softmax(dim?: number): Tensor;
    /** x − log Σ eˣ along a dimension (default the last). */
    logSoftmax(dim?: number): Tensor;
    /** Items by place along a dimension: out[i, j] = x[index[i, j], j] for dim 0; index is i32. */
    gather(dim: number, index: Tensor): Tensor;
    /** A copy with src added at places along a dimension: out[index[i, j], j] += src[i, j] for dim 0. */
    scatterAdd(dim: number, index: Tensor, src: Tensor): Tensor;
    /** Whole slices along a dimension, by place; ids (k) is i32. */
    indexSelect(dim: number, ids: Tensor): Tensor;
    /** The k largest items along a dimension (default the last), and their places. */
    topk(k: number, dim?: number, options?: { largest?: boolean }): Ordered;
    /** The items in order along a dimension (default the last), and their places. */
    sort(dim?: number, options?: { descending?: boolean }): Ordered;
    /** The places that sort the items along a dimension (default the last), i32. */
    argsort(dim?: number, options?: { descending?: boolean }): Tensor;
    /** Running sum along a dimension. */
    cumsum(dim: number): Tensor;
    /** The lower triangle of each matrix, the rest 0. */
    tril(diagonal?: number): Tensor;
    /** The upper triangle of each matrix, the rest 0. */
    triu(diagonal?: number): Tensor;
    /** The items whose places in two dimensions are equal; those two become one, the last. */
    diagonal(a: number, b: number): Tensor;
    /** The items in reverse order along some dimensions; a copy. */
    flip(dims: number | readonly number[]): Tensor;
    /** Turned round by `shift` places along a dimension. */
    roll(shift: number, dim: number): Tensor;
    /** Laid out side by side `times[i]` times along dimension i. */
    repeat(times: readonly number[]): Tensor;
    /** With constant items around it: one pair [before, after] for each dimension. */
    pad(widths: readonly (readonly [before: number, after: number])[], value?: number): Tensor;
  }
}

type Rest<F> = F extends (x: Tensor, ...rest: infer R) => infer O ? (this: Tensor, ...rest: R) => O : never;

/** A function of a tensor as a method: `this` is its first argument. */
function method<F extends (x: Tensor, ...rest: never[]) => unknown>(f: F): Rest<F> {
  return function (this: Tensor, ...rest: never[]) {
    return f(this, ...rest);
  } as Rest<F>;
}

const { neg, abs, exp, log, sqrt, rsqrt, square, sin, cos, tanh, sigmoid, relu, gelu, silu, add, sub, mul, div, pow, eq, ne, lt, le, gt, ge, maskedFill } =
  elementwise;
const { reciprocal, erf, floor, ceil, round, sign, log1p, expm1, softplus, maximum, minimum, remainder, clamp } = elementwise;
const { gather, scatterAdd, indexSelect, topk, sort, argsort, cumsum, flip, roll, repeat } = indexing;
const { detach, clone, contiguous, reshape, permute, transpose, narrow, slice, expand, unsqueeze, squeeze, cast } = movement;
const { split, concat } = joining;

Object.assign(Tensor.prototype, {
  backward: method(backward),
  toString: method(print),
  [Symbol.for("nodejs.util.inspect.custom")](this: Tensor) {
    return print(this);
  },
  registerHook: method(registerHook),
  addInPlace: method(addInPlace),
  copyFrom: method(copyFrom),
  fill: method(fill),
  ...Object.fromEntries(
    Object.entries({
      detach,
      clone,
      contiguous,
      reshape,
      permute,
      transpose,
      narrow,
      slice,
      expand,
      unsqueeze,
      squeeze,
      neg,
      abs,
      exp,
      log,
      sqrt,
      rsqrt,
      square,
      sin,
      cos,
      tanh,
      sigmoid,
      relu,
      gelu,
      silu,
      add,
      sub,
      mul,
      div,
      pow,
      eq,
      ne,
      lt,
      le,
      gt,
      ge,
      maskedFill,
      matmul,
      softmax,
      logSoftmax,
      reciprocal,
      erf,
      floor,
      ceil,
      round,
      sign,
      log1p,
      expm1,
      softplus,
      maximum,
      minimum,
      remainder,
      clamp,
      gather,
      scatterAdd,
      indexSelect,
      topk,
      sort,
      argsort,
      cumsum,
      tril,
      triu,
      diagonal,
      flip,
      roll,
      repeat,
      pad,
      prod: reduce.prod,
      variance: reduce.variance,
      logsumexp: reduce.logsumexp,
      sum: reduce.sum,
      mean: reduce.mean,
      max: reduce.max,
      min: reduce.min,
      argmax: reduce.argmax,
      argmin: reduce.argmin,
      to: cast,
      split: (x: Tensor, sizes: readonly number[], dim = 0) => split(x, sizes, dim),
      concat: (x: Tensor, others: readonly Tensor[], dim = 0) => concat([x, ...others], dim),
    }).map(([name, f]) => [name, method(f as (x: Tensor, ...rest: never[]) => unknown)]),
  ),
});

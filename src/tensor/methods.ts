/** Hangs the operations on the class, so that `x.add(y)` and `add(x, y)` are the same thing. Imported once, by `index.ts`. */
import { type BackwardOptions, backward } from "./autograd.ts";
import { type GradientHook, registerHook } from "./graph.ts";
import { addInPlace, copyFrom, fill } from "./in-place.ts";
import type { DType } from "./kernels.ts";
import { diagonal } from "./ops/einsum.ts";
import type { Numeric } from "./ops/elementwise.ts";
import * as elementwise from "./ops/elementwise.ts";
import type { Ordered } from "./ops/indexing.ts";
import * as indexing from "./ops/indexing.ts";
import { matmul } from "./ops/matmul.ts";
import * as movement from "./ops/movement.ts";
import type { ReduceOptions } from "./ops/reduce.ts";
import * as reduce from "./ops/reduce.ts";
import { logSoftmax, softmax } from "./ops/softmax.ts";
import { type PrintOptions, print } from "./print.ts";
import type { Shape } from "./shape.ts";
import { Tensor } from "./tensor.ts";

type Dims = number | readonly number[];

declare module "./tensor.ts" {
  interface Tensor {
    /** See `backward`. */
    backward(options?: BackwardOptions): void;
    /** See `print`; what `String(t)` and `console.log(t)` show. */
    toString(options?: PrintOptions): string;
    /** See `registerHook`. */
    registerHook(hook: GradientHook): () => void;
    /** In place; see in-place.ts. */
    addInPlace(other: Numeric, scale?: number): Tensor;
    copyFrom(other: Tensor): Tensor;
    fill(value: number): Tensor;
    detach(): Tensor;
    clone(): Tensor;
    contiguous(): Tensor;
    reshape(shape: Shape): Tensor;
    permute(dims: readonly number[]): Tensor;
    transpose(a?: number, b?: number): Tensor;
    narrow(dim: number, start: number, length: number): Tensor;
    slice(...ranges: readonly (number | readonly [start: number, end?: number] | null)[]): Tensor;
    expand(shape: Shape): Tensor;
    unsqueeze(dim: number): Tensor;
    squeeze(dim?: number): Tensor;
    concat(others: readonly Tensor[], dim?: number): Tensor;
    split(sizes: readonly number[], dim?: number): Tensor[];
    to(dtype: DType): Tensor;
    add(y: Numeric): Tensor;
    sub(y: Numeric): Tensor;
    mul(y: Numeric): Tensor;
    div(y: Numeric): Tensor;
    pow(y: Numeric): Tensor;
    eq(y: Numeric): Tensor;
    ne(y: Numeric): Tensor;
    lt(y: Numeric): Tensor;
    le(y: Numeric): Tensor;
    gt(y: Numeric): Tensor;
    ge(y: Numeric): Tensor;
    maskedFill(mask: Tensor, value: number): Tensor;
    neg(): Tensor;
    abs(): Tensor;
    exp(): Tensor;
    log(): Tensor;
    sqrt(): Tensor;
    rsqrt(): Tensor;
    square(): Tensor;
    sin(): Tensor;
    cos(): Tensor;
    tanh(): Tensor;
    sigmoid(): Tensor;
    relu(): Tensor;
    gelu(): Tensor;
    silu(): Tensor;
    reciprocal(): Tensor;
    erf(): Tensor;
    floor(): Tensor;
    ceil(): Tensor;
    round(): Tensor;
    sign(): Tensor;
    log1p(): Tensor;
    expm1(): Tensor;
    softplus(): Tensor;
    maximum(y: Numeric): Tensor;
    minimum(y: Numeric): Tensor;
    remainder(y: Numeric): Tensor;
    clamp(low: number, high: number): Tensor;
    matmul(y: Tensor): Tensor;
    sum(dims?: Dims, options?: ReduceOptions): Tensor;
    mean(dims?: Dims, options?: ReduceOptions): Tensor;
    max(dims?: Dims, options?: ReduceOptions): Tensor;
    min(dims?: Dims, options?: ReduceOptions): Tensor;
    prod(dims?: Dims, options?: ReduceOptions): Tensor;
    variance(dims?: Dims, options?: ReduceOptions & { correction?: number }): Tensor;
    logsumexp(dim: number, options?: ReduceOptions): Tensor;
    argmax(dim?: number, options?: ReduceOptions): Tensor;
    argmin(dim?: number, options?: ReduceOptions): Tensor;
    softmax(dim?: number): Tensor;
    logSoftmax(dim?: number): Tensor;
    gather(dim: number, index: Tensor): Tensor;
    scatterAdd(dim: number, index: Tensor, src: Tensor): Tensor;
    indexSelect(dim: number, ids: Tensor): Tensor;
    topk(k: number, dim?: number, options?: { largest?: boolean }): Ordered;
    sort(dim?: number, options?: { descending?: boolean }): Ordered;
    argsort(dim?: number, options?: { descending?: boolean }): Tensor;
    cumsum(dim: number): Tensor;
    tril(diagonal?: number): Tensor;
    triu(diagonal?: number): Tensor;
    diagonal(a: number, b: number): Tensor;
    flip(dims: number | readonly number[]): Tensor;
    roll(shift: number, dim: number): Tensor;
    repeat(times: readonly number[]): Tensor;
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
const { gather, scatterAdd, indexSelect, topk, sort, argsort, cumsum, tril, triu, flip, roll, repeat, pad } = indexing;
const { detach, clone, contiguous, reshape, permute, transpose, narrow, slice, expand, unsqueeze, squeeze, split, cast, concat } = movement;

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

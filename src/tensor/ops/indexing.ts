/** Operations that choose items by place: gather and scatter, top-k and sorting, one-hot, running sums. Places are i32 and never negative. */
import { ShapeError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import { type Context, type Gradient, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE, isFloat } from "../dtype.ts";
import type { DType } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { integers, values } from "../samples.ts";
import { around, dimension, type Shape, show, sizeOf } from "../shape.ts";
import { checkTensor, full, type Tensor, tensor, tensorFrom } from "../tensor.ts";
import { add, f32 } from "./elementwise.ts";
import { concat } from "./joining.ts";
import { cast, expand, narrow, packed, reshape, transpose } from "./movement.ts";
import { pad } from "./padding.ts";

function checkPlaces(op: string, index: Tensor): void {
  checkTensor(op, index, 2);
  if (index.dtype !== "i32") throw new ShapeError(`${op}: expected i32 places, got ${index.dtype}. Convert them with to("i32")`);
}

/** x in a dtype of 4-byte items: what the gather kernel moves. */
function words(x: Tensor): Tensor {
  const dtype: DType = isFloat(x.dtype) ? "f32" : "i32";
  return packed(x.dtype === dtype ? x : noGrad(() => cast(x, dtype)));
}

const back = (x: Tensor, dtype: DType): Tensor => (x.dtype === dtype ? x : noGrad(() => cast(x, dtype)));

/** x and index agree everywhere but along dim. */
function alike(op: string, x: Tensor, index: Tensor, dim: number): number {
  const d = dimension(op, dim, x.rank);
  checkPlaces(op, index);
  if (index.rank !== x.rank || index.shape.some((n, i) => i !== d && n !== x.shape[i])) {
    throw new ShapeError(`${op}: expected places of shape ${show(x.shape)} but for dimension ${dim}, got ${show(index.shape)}`);
  }
  return d;
}

/** Adds src into zeros of `shape` at index along d: the gradient of every operation here that picks. */
function scatterZeros(ctx: Context, shape: Shape, d: number, index: Tensor, src: Tensor): Tensor {
  const out = ctx.out(shape);
  backend().fill(out, CODE.f32, out.size, 0);
  const [outer, n, inner] = around(shape, d);
  backend().scatterAdd(packed(src), index, out, outer, n, index.shape[d] as number, inner);
  return out;
}

const gatherOp = defineOp<[x: Tensor, dim: number, index: Tensor]>({
  name: "gather",
  shape: (x, dim, index) => {
    alike("gather", x, index, dim);
    return index.shape;
  },
  forward: (ctx, shape, x, dim, index) => {
    const d = dimension("gather", dim, x.rank);
    const [from, places] = [words(x), packed(index)];
    const [outer, n, inner] = around(x.shape, d);
    const out = ctx.out(shape, from.dtype);
    backend().gather(from, places, out, outer, n, shape[d] as number, inner);
    ctx.save(places);
    return back(out, x.dtype);
  },
  backward: (ctx, [x, dim], g): Gradient[] => [scatterZeros(ctx, x.shape, dimension("gather", dim, x.rank), ctx.get(0), g as Tensor), null],
  samples: () => [
    { name: "columns", args: () => [values([3, 5]), 1, integers([3, 4], 0, 5)], torch: "x0.gather(1, x1.long())" },
    { name: "rows, more than there are", args: () => [values([2, 3]), 0, integers([7, 3], 0, 2)], torch: "x0.gather(0, x1.long())" },
    { name: "the middle of three", args: () => [values([2, 4, 3]), -2, integers([2, 2, 3], 0, 4)], torch: "x0.gather(1, x1.long())" },
    { name: "whole numbers", args: () => [integers([3, 5], -9, 9), 1, integers([3, 2], 0, 5, 3)], torch: "x0.gather(1, x1.long())" },
    { name: "nothing", args: () => [values([3, 5]), 1, integers([3, 0], 0, 5)], torch: "x0.gather(1, x1.long())" },
  ],
});

/**
 * out[i, j, …] = x[index[i, j, …], j, …] for dim 0, and likewise for others. index (i32) has x's rank and may be smaller than x in the other dimensions.
 * @throws ShapeError on a wrong shape; an error that names the place when one lies outside x.
 */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  checkTensor("gather", x);
  checkTensor("gather", index, 2);
  return gatherOp(cutTo("gather", x, index, dim), dim, index);
}

/** The corner of x that index reaches. */
function cutTo(op: string, x: Tensor, index: Tensor, dim: number): Tensor {
  const d = dimension(op, dim, x.rank);
  let out = x;
  if (index.rank === x.rank) {
    for (const [i, n] of index.shape.entries()) if (i !== d && n < (x.shape[i] as number)) out = narrow(out, i, 0, n);
  }
  return out;
}

const scatterAddOp = defineOp<[x: Tensor, dim: number, index: Tensor, src: Tensor]>({
  name: "scatterAdd",
  shape: (x, dim, index, src) => {
    alike("scatterAdd", x, index, dim);
    checkTensor("scatterAdd", src, 3);
    if (!isFloat(x.dtype) || !isFloat(src.dtype))
      throw new ShapeError(`scatterAdd: expected floating tensors, got ${x.dtype} and ${src.dtype}. Convert them with to("f32")`);
    if (show(src.shape) !== show(index.shape))
      throw new ShapeError(`scatterAdd: expected one place for each item of src ${show(src.shape)}, got ${show(index.shape)}`);
    return x.shape;
  },
  forward: (ctx, shape, x, dim, index, src) => {
    const d = dimension("scatterAdd", dim, x.rank);
    const places = packed(index);
    const from = f32(x);
    const out = ctx.out(shape);
    backend().copy(from, [1], out, [1], [out.size], 4);
    const [outer, n, inner] = around(shape, d);
    backend().scatterAdd(f32(src), places, out, outer, n, index.shape[d] as number, inner);
    ctx.save(places);
    return back(out, x.dtype);
  },
  backward: (ctx, [, dim], g): Gradient[] => [g as Tensor, null, ctx.needs(2) ? gatherOp(g as Tensor, dim, ctx.get(0)) : null],
  samples: () => [
    {
      name: "rows, places repeat",
      args: () => [values([4, 3]), 0, integers([6, 3], 0, 4), values([6, 3], { seed: 2 })],
      torch: "x0.scatter_add(0, x1.long(), x2)",
    },
    { name: "columns", args: () => [values([2, 5]), 1, integers([2, 3], 0, 5), values([2, 3], { seed: 2 })], torch: "x0.scatter_add(1, x1.long(), x2)" },
  ],
});

/**
 * A copy of x with src added at places along dim: out[index[i, j], j] += src[i, j] for dim 0. index (i32) may be smaller than src, and than x
 * in the other dimensions; repeated places add up in ascending order.
 */
export function scatterAdd(x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
  checkTensor("scatterAdd", x);
  checkTensor("scatterAdd", index, 2);
  checkTensor("scatterAdd", src, 3);
  let part = src;
  if (index.rank === src.rank) for (const [i, n] of index.shape.entries()) if (n < (src.shape[i] as number)) part = narrow(part, i, 0, n);
  const corner = cutTo("scatterAdd", x, index, dim);
  if (corner === x) return scatterAddOp(x, dim, index, part);
  const sum = scatterAddOp(full(corner.shape, 0, { dtype: x.dtype }), dim, index, part);
  return add(
    x,
    pad(
      sum,
      x.shape.map((n, i) => [0, n - (corner.shape[i] as number)]),
    ),
  );
}

/**
 * Whole slices of x along dim, by place: ids (k,), i32; dimension dim of the result has k items. Repeated ids add up in the gradient.
 */
export const indexSelect = defineOp<[x: Tensor, dim: number, ids: Tensor]>({
  name: "indexSelect",
  shape: (x, dim, ids) => {
    const d = dimension("indexSelect", dim, x.rank);
    checkPlaces("indexSelect", ids);
    if (ids.rank !== 1) throw new ShapeError(`indexSelect: expected one list of places, got shape ${show(ids.shape)}. Use gather for one place an item`);
    return x.shape.map((n, i) => (i === d ? (ids.shape[0] as number) : n));
  },
  forward: (ctx, shape, x, dim, ids) => {
    const d = dimension("indexSelect", dim, x.rank);
    const [outer, n, inner] = around(x.shape, d);
    const places = packed(ids);
    ctx.save(places);
    const from = words(x);
    const out = ctx.out(shape, from.dtype);
    if (outer === 1 && from.dtype === "f32") {
      backend().embedding(from, CODE.f32, places, out, places.size, n, inner);
    } else {
      const each = packed(expand(reshape(places, [1, places.size, 1]), [outer, places.size, inner]));
      backend().gather(from, each, out, outer, n, places.size, inner);
    }
    return back(out, x.dtype);
  },
  backward: (ctx, [x, dim], g): Gradient[] => {
    const d = dimension("indexSelect", dim, x.rank);
    const [outer, n, inner] = around(x.shape, d);
    const places = ctx.get(0);
    if (outer === 1) {
      const gx = ctx.out(x.shape);
      backend().fill(gx, CODE.f32, gx.size, 0);
      backend().embeddingGrad(places, packed(g as Tensor), gx, places.size, n, inner);
      return [gx, null];
    }
    const each = packed(expand(reshape(places, [1, places.size, 1]), [outer, places.size, inner]));
    const gx = scatterZeros(ctx, [outer, n, inner], 1, each, reshape(g as Tensor, [outer, places.size, inner]));
    return [reshape(gx, x.shape), null];
  },
  samples: () => [
    { name: "rows", args: () => [values([4, 3]), 0, tensor(Int32Array.of(3, 0, 3))], torch: "x0.index_select(0, x1.long())" },
    { name: "the middle of three", args: () => [values([2, 4, 3]), 1, tensor(Int32Array.of(1, 1, 0, 2, 3))], torch: "x0.index_select(1, x1.long())" },
    { name: "whole numbers", args: () => [integers([3, 5], -9, 9), -1, tensor(Int32Array.of(4, 0))], torch: "x0.index_select(1, x1.long())" },
    { name: "nothing", args: () => [values([4, 3]), 0, integers([0], 0, 4)], torch: "x0.index_select(0, x1.long())" },
  ],
});

/** Values in an order, and the places they came from (i32). */
export interface Ordered {
  values: Tensor;
  indices: Tensor;
}

const sortOp = defineOp<[x: Tensor, descending: boolean], Tensor[]>({
  name: "sort",
  shape: (x) => x.shape,
  forward: (ctx, shape, x, descending) => {
    const n = shape.at(-1) ?? 1;
    const [values, indices] = [ctx.out(shape), ctx.out(shape, "i32")];
    backend().sort(f32(x), values, indices, n === 0 ? 0 : x.size / n, n, descending ? 1 : 0);
    ctx.save(indices);
    // Whole numbers are fetched by their places, so that each is exact.
    return [x.dtype === "f32" ? values : isFloat(x.dtype) || x.rank === 0 ? back(values, x.dtype) : gatherOp(x, -1, indices), indices];
  },
  backward: (ctx, [x], g): Gradient[] => [x.rank === 0 ? (g as Tensor) : scatterZeros(ctx, x.shape, x.rank - 1, ctx.get(0), g as Tensor)],
  samples: () => [
    { name: "ascending", args: () => [values([3, 7]), false], torch: "x0.sort(-1)" },
    { name: "descending", args: () => [values([2, 2, 40]), true], torch: "x0.sort(-1, descending=True)" },
    { name: "whole numbers, ties keep their order", args: () => [integers([2, 9], 0, 3), false], torch: "x0.sort(dim=-1, stable=True)" },
    { name: "NaN is largest", args: () => [tensor([3, Number.NaN, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]), false], torch: "x0.sort(-1)" },
  ],
});

const SORT_OPTIONS = { descending: true } as const;
const TOPK_OPTIONS = { largest: true } as const;

/** x sorted along a dimension (default the last). Equal items keep their order; NaN counts as largest; whole numbers are compared as f32. */
export function sort(x: Tensor, dim = -1, options: { descending?: boolean } = {}): Ordered {
  checkOptions("sort", options, SORT_OPTIONS);
  return alongLast("sort", x, dim, (y) => sortOp(y, options.descending ?? false));
}

/** The places that sort x: `sort(x).indices`. */
export const argsort = (x: Tensor, dim = -1, options: { descending?: boolean } = {}): Tensor => sort(x, dim, options).indices;

function alongLast(op: string, x: Tensor, dim: number, order: (x: Tensor) => Tensor[]): Ordered {
  checkTensor(op, x);
  const rank = Math.max(x.rank, 1);
  const d = dimension(op, dim, rank);
  const [values, indices] = order(d === rank - 1 ? x : transpose(x, d, -1)) as [Tensor, Tensor];
  return d === rank - 1 ? { values, indices } : { values: transpose(values, d, -1), indices: transpose(indices, d, -1) };
}

const topkOp = defineOp<[x: Tensor, k: number], Tensor[]>({
  name: "topk",
  shape: (x, k) => {
    const n = x.shape.at(-1);
    if (n === undefined || !Number.isInteger(k) || k < 0 || k > n)
      throw new ShapeError(`topk: expected k from 0 to the ${n ?? 0} items of a row, got ${k} for shape ${show(x.shape)}`);
    return [...x.shape.slice(0, -1), k];
  },
  forward: (ctx, shape, x, k) => {
    const n = x.shape.at(-1) as number;
    const [values, indices] = [ctx.out(shape), ctx.out(shape, "i32")];
    backend().topk(f32(x), values, indices, n === 0 ? 0 : x.size / n, n, k);
    ctx.save(indices);
    return [x.dtype === "f32" ? values : isFloat(x.dtype) ? back(values, x.dtype) : gatherOp(x, -1, indices), indices];
  },
  backward: (ctx, [x], g): Gradient[] => [scatterZeros(ctx, x.shape, x.rank - 1, ctx.get(0), g as Tensor)],
  samples: () => [
    { name: "three of seven", args: () => [values([4, 7]), 3], torch: "x0.topk(3)" },
    { name: "a long row", args: () => [values([2, 300]), 5], torch: "x0.topk(5)" },
    { name: "all", args: () => [values([5]), 5], torch: "x0.topk(5)" },
    { name: "none", args: () => [values([2, 5]), 0], torch: "x0.topk(0)" },
  ],
});

/** The k largest (or, with `largest: false`, smallest) items along a dimension (default the last), best first; the lower place first among equals. */
export function topk(x: Tensor, k: number, dim = -1, options: { largest?: boolean } = {}): Ordered {
  checkOptions("topk", options, TOPK_OPTIONS);
  if (options.largest === false) {
    const all = sort(x, dim);
    return { values: narrow(all.values, dim, 0, k), indices: narrow(all.indices, dim, 0, k) };
  }
  return alongLast("topk", x, dim, (y) => topkOp(y, k));
}

/** Running sum along a dimension, in ascending order. Whole numbers stay i32 and are exact while sums stay below 2²⁴. */
export const cumsum = defineOp<[x: Tensor, dim: number]>({
  name: "cumsum",
  shape: (x, dim) => {
    dimension("cumsum", dim, x.rank);
    return x.shape;
  },
  forward: (ctx, shape, x, dim) => {
    const [outer, n, inner] = around(shape, dimension("cumsum", dim, x.rank));
    const out = ctx.out(shape);
    backend().cumsum(f32(x), out, outer, n, inner, 0);
    return back(out, isFloat(x.dtype) ? x.dtype : "i32");
  },
  backward: (ctx, [x, dim], g): Gradient[] => {
    const [outer, n, inner] = around(x.shape, dimension("cumsum", dim, x.rank));
    const gx = ctx.out(x.shape);
    backend().cumsum(packed(g as Tensor), gx, outer, n, inner, 1);
    return [gx];
  },
  samples: () => [
    { name: "rows", args: () => [values([3, 9]), -1], torch: "x0.cumsum(-1)" },
    { name: "columns", args: () => [values([5, 3]), 0], torch: "x0.cumsum(0)" },
    { name: "whole numbers", args: () => [integers([2, 6], -5, 9), 1], torch: "x0.cumsum(1)" },
  ],
});

/** 1 at each id's place among `classes`, else 0: ids (…), i32 → (…, classes), i32 by default. Ids outside are an error. */
export const oneHot = defineOp<[ids: Tensor, classes: number, dtype?: DType]>({
  name: "oneHot",
  shape: (ids, classes) => {
    checkPlaces("oneHot", ids);
    if (!Number.isInteger(classes) || classes < 1) throw new ShapeError(`oneHot: expected a number of classes of at least 1, got ${classes}`);
    return [...ids.shape, classes];
  },
  forward: (ctx, shape, ids, classes, dtype = "i32") => {
    const ones = full([ids.size], 1);
    const out = ctx.out(shape);
    backend().fill(out, CODE.f32, out.size, 0);
    backend().scatterAdd(ones, packed(ids), out, ids.size, classes, 1, 1);
    return back(out, dtype);
  },
  backward: "none: integer input",
  samples: () => [
    { name: "a matrix", args: () => [integers([2, 3], 0, 5), 5], torch: "F.one_hot(x0.long(), 5)" },
    { name: "one, as f32", args: () => [tensorFrom([2], [], { dtype: "i32" }), 4, "f32"], torch: "F.one_hot(x0.long(), 4).to(W)" },
  ],
});

/** The items in reverse order along some dimensions; a copy. */
export function flip(x: Tensor, dims: number | readonly number[]): Tensor {
  checkTensor("flip", x);
  let out = x;
  for (const dim of typeof dims === "number" ? [dims] : dims) {
    const n = x.shape[dimension("flip", dim, x.rank)] as number;
    out = indexSelect(
      out,
      dim,
      tensorFrom(
        Int32Array.from({ length: n }, (_, i) => n - 1 - i),
        [n],
      ),
    );
  }
  return out;
}

/** x laid out side by side `times[i]` times along dimension i; further numbers in front add dimensions. */
export function repeat(x: Tensor, times: readonly number[]): Tensor {
  checkTensor("repeat", x);
  const lead = times.length - x.rank;
  if (lead < 0 || times.some((n) => !Number.isInteger(n) || n < 0))
    throw new ShapeError(`repeat: expected at least ${x.rank} whole numbers, got [${times.join(", ")}] for shape ${show(x.shape)}`);
  const base = times.map((_, i) => (i < lead ? 1 : (x.shape[i - lead] as number)));
  const apart = reshape(
    x,
    base.flatMap((n) => [1, n]),
  );
  return reshape(
    expand(
      apart,
      base.flatMap((n, i) => [times[i] as number, n]),
    ),
    base.map((n, i) => n * (times[i] as number)),
  );
}

/** x turned round by `shift` places along a dimension: what leaves at the end comes in at the front. */
export function roll(x: Tensor, shift: number, dim: number): Tensor {
  checkTensor("roll", x);
  const n = x.shape[dimension("roll", dim, x.rank)] as number;
  if (n === 0 || sizeOf(x.shape) === 0) return x.clone();
  const by = ((shift % n) + n) % n;
  return by === 0 ? x.clone() : concat([narrow(x, dim, n - by, by), narrow(x, dim, 0, n - by)], dim);
}

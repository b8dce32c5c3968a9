/** Operations that move items or only change how they are seen. Views share their base's storage. */
import { ShapeError } from "../../errors.ts";
import { type Context, type Gradient, gradEnabled, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE, isFloat } from "../dtype.ts";
import { type DType, ITEM_BYTES } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { quantizedRows } from "../quantized.ts";
import { liesAcross } from "../quantized-layout.ts";
import { values } from "../samples.ts";
import { broadcastStrides, dimension, resized, type Shape, show, sizeOf } from "../shape.ts";
import { checkTensor, refuseQuantized, type Tensor } from "../tensor.ts";

/** The items in row-major order: a view where they are already, else a copy. */
export const contiguous = defineOp<[x: Tensor]>({
  name: "contiguous",
  shape: (x) => x.shape,
  forward: (ctx, shape, x) => (x.isContiguous ? x.view(shape, null, x.offset) : copyOf(ctx, x, shape)),
  backward: (_ctx, _args, g) => [g as Tensor],
  samples: () => [
    { name: "of a transposed view", args: () => [permute(values([3, 4]), [1, 0])], torch: "x0.contiguous()" },
    { name: "of what is contiguous", args: () => [values([3, 4])], torch: "x0.contiguous()" },
  ],
});

/** @internal x, or a contiguous copy of it (freed with the operation's scope). For kernels that take no strides. */
export function packed(x: Tensor): Tensor {
  return x.isContiguous ? x : noGrad(() => contiguous(x));
}

function copyOf(ctx: Context, x: Tensor, shape: Shape): Tensor {
  const out = ctx.out(shape, x.dtype);
  copyInto(x, out);
  return out;
}

/** @internal Copies items of one dtype between two tensors of one shape, whatever their strides. */
export function copyInto(from: Tensor, to: Tensor): void {
  if (from.isContiguous && to.isContiguous) backend().copy(from, [1], to, [1], [from.size], ITEM_BYTES[from.dtype]);
  else backend().copy(from, from.strides, to, to.strides, from.shape, ITEM_BYTES[from.dtype]);
}

function reshapeRule(x: Tensor, shape: Shape): Shape {
  const unknown = shape.indexOf(-1);
  const full = unknown < 0 ? shape.slice() : resized(shape, unknown, x.size / -sizeOf(shape));
  let whole = sizeOf(full) === x.size;
  for (let i = 0; i < full.length; i++) if (!Number.isInteger(full[i]) || (full[i] as number) < 0) whole = false;
  if (!whole) {
    throw new ShapeError(`reshape: expected a shape of ${x.size} items (at most one -1), got ${show(shape)} for a tensor of shape ${show(x.shape)}`);
  }
  return full;
}

const reshapeOp = defineOp<[x: Tensor, shape: Shape]>({
  name: "reshape",
  shape: reshapeRule,
  forward: (ctx, shape, x) => seenAs(ctx, x, shape),
  backward: (ctx, args, g) => [seenAs(ctx, g as Tensor, args[0].shape)],
  samples: () => [
    { name: "with -1", args: () => [values([2, 3, 4]), [6, -1]], torch: "x0.reshape(6, -1)" },
    { name: "of a transposed view", args: () => [permute(values([3, 4]), [1, 0]), [2, 6]], torch: "x0.reshape(2, 6)" },
  ],
});

/** The same items in another shape; one size may be -1. A view where the strides allow it, else a copy. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor("reshape", x);
  if (!(x.requiresGrad && gradEnabled())) {
    // A view without a graph needs none of an operation's bookkeeping.
    x.check("reshape");
    const view = viewAs(x, reshapeRule(x, shape));
    if (view !== null) return view;
  }
  return reshapeOp(x, shape);
}

function seenAs(ctx: Context, x: Tensor, shape: Shape): Tensor {
  return viewAs(x, shape) ?? copyOf(ctx, x, x.shape).view(shape, null, 0);
}

/** A view of x with another shape, or null where only a copy will do. */
function viewAs(x: Tensor, shape: Shape): Tensor | null {
  if (x.isContiguous || x.size === 0) return x.view(shape, null, x.offset);
  // Walk both shapes from the left in groups of equal product; inside a group x must be evenly spaced.
  const strides = new Array<number>(shape.length);
  let i = 0;
  let j = 0;
  while (i < x.shape.length || j < shape.length) {
    let a = i < x.shape.length ? (x.shape[i] as number) : 1;
    let b = j < shape.length ? (shape[j] as number) : 1;
    let iEnd = i + 1;
    let jEnd = j + 1;
    while (a !== b) {
      if (a < b) a *= x.shape[iEnd++] as number;
      else b *= shape[jEnd++] as number;
    }
    const last = i < x.rank ? (x.strides[iEnd - 1] as number) : 1;
    for (let d = Math.min(iEnd, x.rank) - 1, run = last; d >= i; d--) {
      const n = x.shape[d] as number;
      if (n !== 1 && x.strides[d] !== run) return null;
      run *= n;
    }
    if (last === 0 && a !== 1) return null;
    let step = last;
    for (let k = Math.min(jEnd, shape.length) - 1; k >= j; k--) {
      strides[k] = step;
      step *= shape[k] as number;
    }
    i = iEnd;
    j = jEnd;
  }
  return x.view(shape, strides, x.offset);
}

/** The dimensions in another order; a view. */
export const permute = defineOp<[x: Tensor, dims: readonly number[]]>({
  name: "permute",
  quantized: [0],
  shape: (x, dims) => {
    const full = dims.map((d) => dimension("permute", d, x.rank));
    if (full.length !== x.rank || new Set(full).size !== x.rank) {
      throw new ShapeError(`permute: expected each of the ${x.rank} dimensions once, got [${dims.join(", ")}]`);
    }
    // Several quantised matrices are one behind the other, however each is seen.
    if (x.isQuantized && x.rank === 3 && full[0] !== 0) refuseQuantized("permute of other than each matrix", x);
    return full.map((d) => x.shape[d] as number);
  },
  forward: (_, shape, x, dims) =>
    x.view(
      shape,
      dims.map((d) => x.strides[dimension("permute", d, x.rank)] as number),
      x.offset,
    ),
  backward: (_, [, dims], g): Gradient[] => [permute(g as Tensor, inverse(dims))],
  samples: () => [
    { name: "three dimensions", args: () => [values([2, 3, 4]), [2, 0, 1]], torch: "x0.permute(2, 0, 1)" },
    { name: "negative", args: () => [values([2, 3, 4]), [-1, 0, 1]], torch: "x0.permute(-1, 0, 1)" },
  ],
});

function inverse(dims: readonly number[]): number[] {
  const out = new Array<number>(dims.length);
  for (const [i, d] of dims.entries()) out[dimension("permute", d, dims.length)] = i;
  return out;
}

/** Two dimensions swapped; a view. */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  checkTensor("transpose", x);
  const dims = x.shape.map((_, i) => i);
  const [i, j] = [dimension("transpose", a, x.rank), dimension("transpose", b, x.rank)];
  [dims[i], dims[j]] = [j, i];
  return permute(x, dims);
}

/** `length` items of a dimension from `start`; a view. A negative start counts from the end. Of a block-quantised matrix rows only, of several whole ones, as a copy. */
export const narrow = defineOp<[x: Tensor, dim: number, start: number, length: number]>({
  name: "narrow",
  quantized: [0],
  shape: (x, dim, start, length) => {
    const d = dimension("narrow", dim, x.rank);
    const n = x.shape[d] as number;
    const from = start < 0 ? start + n : start;
    if (!Number.isInteger(from) || !Number.isInteger(length) || from < 0 || length < 0 || from + length > n) {
      throw new ShapeError(`narrow: expected a range inside 0…${n} of dimension ${dim}, got start ${start}, length ${length} for shape ${show(x.shape)}`);
    }
    return resized(x.shape, d, length);
  },
  forward: (_, shape, x, dim, start) => {
    const d = dimension("narrow", dim, x.rank);
    const from = start < 0 ? start + (x.shape[d] as number) : start;
    if (x.isQuantized) {
      if (d !== 0 || (x.rank === 2 && liesAcross(x))) refuseQuantized("narrow of other than rows", x);
      return quantizedRows(x, from, shape[0] as number);
    }
    return x.view(shape, x.strides, x.offset + from * (x.strides[d] as number));
  },
  backward: (ctx, [x, dim, start], g) => {
    const gx = ctx.out(x.shape);
    backend().fill(gx, CODE.f32, gx.size, 0);
    copyInto(g as Tensor, narrow(gx, dim, start, (g as Tensor).shape[dimension("narrow", dim, x.rank)] as number));
    return [gx];
  },
  samples: () => [
    { name: "middle", args: () => [values([4, 5]), 1, 1, 3], torch: "x0.narrow(1, 1, 3)" },
    { name: "from the end", args: () => [values([4, 5]), 0, -2, 2], torch: "x0.narrow(0, 2, 2)" },
  ],
});

/** A part of each dimension, NumPy style: `slice(x, [1, 3], null, 2)` is x[1:3, :, 2]. A number picks one item and drops the dimension. */
export function slice(x: Tensor, ...ranges: readonly (number | readonly [start: number, end?: number] | null)[]): Tensor {
  checkTensor("slice", x);
  if (ranges.length > x.rank) throw new ShapeError(`slice: expected at most ${x.rank} ranges, got ${ranges.length}`);
  let out = x;
  let dim = 0;
  for (const range of ranges) {
    const n = out.shape[dim] as number;
    if (range === null) {
      dim++;
    } else if (typeof range === "number") {
      const i = range < 0 ? range + n : range;
      if (!Number.isInteger(i) || i < 0 || i >= n)
        throw new ShapeError(`slice: expected a place from ${-n} to ${n - 1}, got ${range} for shape ${show(x.shape)}`);
      out = squeeze(narrow(out, dim, i, 1), dim);
    } else {
      const at = (i: number) => Math.min(Math.max(i < 0 ? i + n : i, 0), n);
      const from = at(range[0]);
      out = narrow(out, dim, from, Math.max(at(range[1] ?? n) - from, 0));
      dim++;
    }
  }
  return out;
}

/** Repeats dimensions of size 1 (and new ones at the front) without copying; a view. */
export const expand = defineOp<[x: Tensor, shape: Shape]>({
  name: "expand",
  shape: (x, shape) => {
    const lead = shape.length - x.rank;
    const full = shape.map((n, i) => (n === -1 && i >= lead ? (x.shape[i - lead] as number) : n));
    if (lead < 0 || x.shape.some((n, i) => n !== 1 && n !== full[lead + i])) {
      throw new ShapeError(`expand: expected a shape that ${show(x.shape)} broadcasts to, got ${show(shape)}`);
    }
    return full;
  },
  forward: (_, shape, x) => x.view(shape, broadcastStrides(x.shape, x.strides, shape), x.offset),
  backward: (_, [x], g): Gradient[] => [sumTo(g as Tensor, x.shape)],
  samples: () => [
    { name: "a column", args: () => [values([3, 1]), [3, 4]], torch: "x0.expand(3, 4)" },
    { name: "new dimension", args: () => [values([3]), [2, 3]], torch: "x0.expand(2, 3)" },
  ],
});

/** The gradient of broadcasting: sums what was repeated. */
export const sumTo = defineOp<[x: Tensor, shape: Shape]>({
  name: "sumTo",
  shape: (x, shape) => {
    const lead = x.rank - shape.length;
    if (lead < 0 || shape.some((n, i) => n !== 1 && n !== x.shape[lead + i])) {
      throw new ShapeError(`sumTo: expected a shape that broadcasts to ${show(x.shape)}, got ${show(shape)}`);
    }
    return shape;
  },
  forward: (ctx, shape, x) => {
    let out = packed(x);
    const lead = x.rank - shape.length;
    if (lead > 0) {
      const n = sizeOf(x.shape.slice(0, lead));
      const inner = sizeOf(x.shape.slice(lead));
      const next = ctx.out(x.shape.slice(lead));
      backend().reduce(0, out, next, 1, n, inner);
      out = next;
    }
    for (let d = 0; d < shape.length; d++) {
      if (shape[d] !== 1 || out.shape[d] === 1) continue;
      const next = ctx.out(out.shape.map((n, i) => (i === d ? 1 : n)));
      backend().reduce(0, out, next, sizeOf(out.shape.slice(0, d)), out.shape[d] as number, sizeOf(out.shape.slice(d + 1)));
      out = next;
    }
    return out === x ? x.view(x.shape, x.strides, x.offset) : out;
  },
  backward: (_, [x], g): Gradient[] => [expand(g as Tensor, x.shape)],
  samples: () => [
    { name: "leading and inner", args: () => [values([2, 3, 4]), [3, 1]], torch: "x0.sum(0).sum(1, keepdim=True)" },
    { name: "nothing to sum", args: () => [values([2, 3]), [2, 3]], torch: "x0 * 1" },
  ],
});

/** A dimension of size 1 at this place; a view. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  checkTensor("unsqueeze", x);
  const d = dimension("unsqueeze", dim, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, d), 1, ...x.shape.slice(d)]);
}

/** Drops a dimension of size 1 (all of them without `dim`); a view. */
export function squeeze(x: Tensor, dim?: number): Tensor {
  checkTensor("squeeze", x);
  if (dim === undefined)
    return reshape(
      x,
      x.shape.filter((n) => n !== 1),
    );
  const d = dimension("squeeze", dim, x.rank);
  if (x.shape[d] !== 1) throw new ShapeError(`squeeze: expected size 1 at dimension ${dim}, got shape ${show(x.shape)}`);
  return reshape(
    x,
    x.shape.filter((_, i) => i !== d),
  );
}

/** The items in another dtype; a view where they have it already. */
export const cast = defineOp<[x: Tensor, dtype: DType]>({
  name: "cast",
  shape: (x) => x.shape,
  forward: (ctx, shape, x, dtype) => {
    if (x.dtype === dtype) return x.view(x.shape, x.strides, x.offset);
    const from = packed(x);
    const out = ctx.out(shape, dtype);
    backend().cast(from, CODE[from.dtype], out, CODE[dtype], out.size);
    return out;
  },
  backward: (_ctx, [x, dtype], g) => [isFloat(x.dtype) && isFloat(dtype) ? (g as Tensor) : null],
  samples: () => [
    { name: "to i32 truncates", args: () => [values([7], { requiresGrad: false }), "i32"], torch: "x0.to(torch.int32)" },
    { name: "to bf16", args: () => [values([7], { requiresGrad: false }), "bf16"], torch: "x0.to(torch.bfloat16)" },
    { name: "to f16", args: () => [values([7], { requiresGrad: false, low: -1e-4, high: 1e5 }), "f16"], torch: "x0.to(torch.float16)" },
    { name: "to what it is", args: () => [permute(values([3, 4]), [1, 0]), "f32"], torch: "x0.to(W)" },
    { name: "to bool", args: () => [values([7], { requiresGrad: false }), "bool"], torch: "x0.to(torch.bool)" },
  ],
});

/** The same items outside the graph; a view. */
export function detach(x: Tensor): Tensor {
  checkTensor("detach", x);
  x.check("detach");
  return x.view(x.shape, x.strides, x.offset);
}

/** A copy that shares no memory. */
export const clone = defineOp<[x: Tensor]>({
  name: "clone",
  shape: (x) => x.shape,
  forward: (ctx, shape, x) => copyOf(ctx, x, shape),
  backward: (_ctx, _args, g) => [g as Tensor],
  samples: () => [{ name: "of a view", args: () => [permute(values([3, 4]), [1, 0])], torch: "x0.clone()" }],
});

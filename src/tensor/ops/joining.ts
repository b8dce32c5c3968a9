/** Operations that put tensors together along a dimension, and cut one apart. */
import { ShapeError } from "../../errors.ts";
import { type Context, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { contiguousStrides, dimension, resized, type Shape, sameShape, show } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { copyInto, expand, narrow, unsqueeze } from "./movement.ts";

/** Joins tensors along a dimension. */
export const concat = defineOp<[xs: Tensor[], dim: number]>({
  name: "concat",
  shape: (xs, dim) => {
    const first = xs[0];
    if (first === undefined) throw new ShapeError("concat: expected at least one tensor, got none");
    const d = dimension("concat", dim, first.rank);
    for (const x of xs) {
      if (x.rank !== first.rank || x.dtype !== first.dtype || x.shape.some((n, i) => i !== d && n !== first.shape[i])) {
        throw new ShapeError(`concat: expected ${first.dtype} tensors equal to ${show(first.shape)} but for dimension ${dim}, got ${x.dtype}${show(x.shape)}`);
      }
    }
    return first.shape.map((n, i) => (i === d ? xs.reduce((s, x) => s + (x.shape[d] as number), 0) : n));
  },
  forward: (ctx, shape, xs, dim) => {
    const d = dimension("concat", dim, shape.length);
    const out = ctx.out(shape, (xs[0] as Tensor).dtype);
    let at = 0;
    for (const x of xs) {
      const n = x.shape[d] as number;
      copyInto(
        x,
        noGrad(() => narrow(out, d, at, n)),
      );
      at += n;
    }
    return out;
  },
  backward: (_, [xs, dim], g) => {
    let at = 0;
    return xs.map((x) => {
      const n = x.shape[dimension("concat", dim, x.rank)] as number;
      at += n;
      return narrow(g as Tensor, dim, at - n, n);
    });
  },
  samples: () => [{ name: "two parts", args: () => [[values([2, 3]), values([2, 2], { seed: 2 })], 1], torch: "torch.cat([x0, x1], 1)" }],
});

/** Joins tensors of one shape along a new dimension. */
export function stack(xs: Tensor[], dim = 0): Tensor {
  for (const x of xs) checkTensor("stack", x);
  return concat(
    xs.map((x) => unsqueeze(x, dim)),
    dim < 0 ? dim + (xs[0]?.rank ?? 0) + 1 : dim,
  );
}

/** The whole that parts of these sizes lie in one beside the other, as attention leaves the gradients of q, k and v; null where they do not. */
function joined(shape: Shape, sizes: readonly number[], d: number, parts: readonly (Tensor | undefined | null)[]): Tensor | null {
  const first = parts[0];
  const strides = contiguousStrides(shape);
  if (first?.dtype !== "f32") return null;
  let offset = first.offset;
  for (let i = 0; i < sizes.length; i++) {
    const part = parts[i];
    if (!part || part.storage !== first.storage || part.offset !== offset || !sameShape(part.strides, strides)) return null;
    offset += (sizes[i] as number) * (strides[d] as number);
  }
  return first.view(shape, strides, first.offset);
}

/** Cuts a dimension into parts of these sizes; views. Their gradients are joined in one pass. */
export const split = defineOp<[x: Tensor, sizes: readonly number[], dim: number], Tensor[]>({
  name: "split",
  shape: (x, sizes, dim) => {
    const n = x.shape[dimension("split", dim, x.rank)] as number;
    let sum = 0;
    for (let i = 0; i < sizes.length; i++) sum += sizes[i] as number;
    if (sum !== n) throw new ShapeError(`split: expected sizes that sum to ${n}, got [${sizes.join(", ")}] for shape ${show(x.shape)}`);
    return x.shape;
  },
  forward: (_, __, x, sizes, dim) => {
    const d = dimension("split", dim, x.rank);
    const parts: Tensor[] = [];
    let { offset } = x;
    for (let i = 0; i < sizes.length; i++) {
      const n = sizes[i] as number;
      parts.push(x.view(resized(x.shape, d, n), x.strides, offset));
      offset += n * (x.strides[d] as number);
    }
    return parts;
  },
  backward: (ctx, args, ...gs) => {
    const x = args[0];
    const sizes = args[1];
    const d = dimension("split", args[2], x.rank);
    const whole = joined(x.shape, sizes, d, gs);
    if (whole !== null) return [whole];
    const gx = ctx.out(x.shape);
    let at = 0;
    for (const [i, n] of sizes.entries()) {
      const part = narrow(gx, d, at, n);
      const g = gs[i];
      if (g) copyInto(g, part);
      else copyInto(expand(zero(ctx), part.shape), part);
      at += n;
    }
    return [gx];
  },
  samples: () => [{ name: "three parts", args: () => [values([2, 6]), [1, 2, 3], 1], torch: "torch.split(x0, [1, 2, 3], 1)" }],
});

function zero(ctx: Context): Tensor {
  const z = ctx.out([]);
  backend().fill(z, CODE.f32, 1, 0);
  return z;
}

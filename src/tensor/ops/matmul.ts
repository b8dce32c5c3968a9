/** Matrix products. */
import { ShapeError } from "../../errors.ts";
import { gemm } from "../autocast.ts";
import { type Gradient, noGrad } from "../autograd.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { broadcast, broadcastStrides, type Shape, show, sizeOf } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { f32 } from "./elementwise.ts";
import { contiguous, permute, reshape, sumTo, transpose } from "./movement.ts";

/** How a batch of matrices lies in memory: row and column stride, and one stride from matrix to matrix. */
interface Batched {
  x: Tensor;
  row: number;
  col: number;
  step: number;
}

/** x's last two dimensions as the kernel wants them; copied only where the batch is not evenly spaced. */
function batched(x: Tensor, batch: Shape): Batched {
  const lead = batch.length;
  const strides = broadcastStrides(x.shape, x.strides, [...batch, ...x.shape.slice(-2)]);
  const [row, col] = [strides[lead] as number, strides[lead + 1] as number];
  const sizes = batch.map((n, i) => [n, strides[i] as number] as const).filter(([n]) => n !== 1);
  const step = sizes.at(-1)?.[1] ?? 0;
  let expected = step;
  for (let i = sizes.length - 1; i >= 0; i--) {
    const [n, s] = sizes[i] as readonly [number, number];
    if (s !== expected) {
      const copy = noGrad(() => contiguous(x.view([...batch, ...x.shape.slice(-2)], strides, x.offset)));
      return batched(copy, batch);
    }
    expected = s * n;
  }
  return { x, row, col, step };
}

const matmulOp = defineOp<[a: Tensor, b: Tensor]>({
  name: "matmul",
  tensors: 2,
  shape: (a, b) => {
    if (a.shape.at(-1) !== b.shape.at(-2)) {
      throw new ShapeError(`matmul: inner sizes differ, expected (…, m, k) and (…, k, n), got ${show(a.shape)} and ${show(b.shape)}. Transpose one of them?`);
    }
    return [...broadcast("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2)), a.shape.at(-2) as number, b.shape.at(-1) as number];
  },
  forward: (ctx, shape, a, b) => {
    const batch = shape.slice(0, -2);
    const [m, n] = shape.slice(-2) as [number, number];
    const [left, right] = noGrad(() => [a.dtype === "f32" ? a : f32(a), b.dtype === "f32" ? b : f32(b)]) as [Tensor, Tensor];
    const x = batched(left, batch);
    const y = batched(right, batch);
    const out = ctx.out(shape);
    gemm(x.x, x.row, x.col, x.step, y.x, y.row, y.col, y.step, out, n, m * n, sizeOf(batch), m, n, a.shape.at(-1) as number, 1, 0);
    ctx.save(left, right);
    return out;
  },
  backward: (ctx, [a, b], g): Gradient[] => {
    const gy = g as Tensor;
    return [
      ctx.needs(0) ? sumTo(matmulOp(gy, transpose(ctx.get(1))), a.shape) : null,
      ctx.needs(1) ? sumTo(matmulOp(transpose(ctx.get(0)), gy), b.shape) : null,
    ];
  },
  samples: () => [
    { name: "two matrices", args: () => [values([5, 7]), values([7, 3], { seed: 2 })], torch: "x0 @ x1" },
    { name: "transposed views", args: () => [permute(values([7, 5]), [1, 0]), permute(values([3, 7], { seed: 2 }), [1, 0])], torch: "x0 @ x1" },
    { name: "batched", args: () => [values([2, 3, 4]), values([2, 4, 5], { seed: 2 })], torch: "x0 @ x1" },
    { name: "broadcast batch", args: () => [values([2, 1, 3, 4]), values([3, 4, 2], { seed: 2 })], torch: "x0 @ x1" },
    { name: "inner size 0", args: () => [values([2, 0]), values([0, 3], { seed: 2 })], torch: "x0 @ x1" },
    {
      name: "long inner size",
      args: () => [values([3, 700], { low: -1, high: 1 }), values([700, 17], { seed: 2, low: -1, high: 1 })],
      torch: "x0 @ x1",
      differences: false,
    },
  ],
});

/**
 * The matrix product of the last two dimensions, the others broadcast: (…, m, k) × (…, k, n) → (…, m, n), f32. A vector is a row on the left, a
 * column on the right, and loses that dimension again. Transposed views cost no copy. Every item of the result is one chain of fused
 * multiply-adds in ascending k, whatever stands beside it.
 * @throws ShapeError where the inner sizes differ, the others do not broadcast, or one is a scalar
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  checkTensor("matmul", a);
  checkTensor("matmul", b, 1);
  if (a.rank === 0 || b.rank === 0)
    throw new ShapeError(`matmul: expected vectors or matrices, got ${show(a.shape)} and ${show(b.shape)}. Use mul for scalars`);
  const x = a.rank === 1 ? reshape(a, [1, -1]) : a;
  const y = b.rank === 1 ? reshape(b, [-1, 1]) : b;
  const out = matmulOp(x, y);
  if (a.rank > 1 && b.rank > 1) return out;
  return reshape(out, [
    ...out.shape.slice(0, -2),
    ...(a.rank === 1 ? [] : [out.shape.at(-2) as number]),
    ...(b.rank === 1 ? [] : [out.shape.at(-1) as number]),
  ]);
}

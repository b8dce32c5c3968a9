/** One linear layer a group of rows: what the experts of a mixture compute, each for the tokens that were sent to it. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { linearInputGrad, linearWeightGrad, linear as multiply } from "../autocast.ts";
import { ACCUMULATED, type Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { type Operand, type QuantizedDType, REDUCTIONS } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { matrixAt, quantizedFromBytes } from "../quantized.ts";
import { layoutOf, liesAcross } from "../quantized-layout.ts";
import { quantizedValues, values } from "../samples.ts";
import { show } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import { f32 } from "./elementwise.ts";
import { concat } from "./joining.ts";
import { linear } from "./linear.ts";
import { narrow, packed, reshape, transpose } from "./movement.ts";
import { throughQuantized } from "./quantized.ts";

export interface GroupedLinearOptions {
  /** weight is (groups, in, out) in place of (groups, out, in). */
  transposed?: boolean;
}

const OPTIONS: KnownOptions<GroupedLinearOptions> = { transposed: true };

interface Sizes {
  readonly groups: number;
  readonly out: number;
  readonly inner: number;
}

function sizesOf(x: Tensor, weight: Tensor, counts: Int32Array, transposed: boolean, bias: Tensor | undefined): Sizes {
  const [groups, a, b] = weight.shape as [number, number, number];
  const [out, inner] = transposed ? [b, a] : [a, b];
  if (weight.rank !== 3 || x.rank !== 2 || x.shape[1] !== inner)
    throw new ShapeError(
      `groupedLinear: expected x (rows, ${inner}) for a weight ${show(weight.shape)}${transposed ? " (groups, in, out)" : " (groups, out, in)"}, got ${show(x.shape)}`,
    );
  const rows = counts.reduce((sum, n) => sum + n, 0);
  if (counts.length !== groups || counts.some((n) => n < 0) || rows !== x.shape[0])
    throw new ShapeError(
      `groupedLinear: expected ${groups} numbers of rows that add up to ${x.shape[0]}, got ${counts.length} that add up to ${rows}. Sort the rows by their group and count them`,
    );
  if (bias !== undefined && (bias.rank !== 2 || bias.shape[0] !== groups || bias.shape[1] !== out))
    throw new ShapeError(`groupedLinear: expected a bias (${groups}, ${out}), got ${show(bias.shape)}`);
  return { groups, out, inner };
}

/** Calls `each` for every group that has rows. */
function forGroups(counts: Int32Array, each: (group: number, first: number, rows: number) => void): void {
  let first = 0;
  for (const [group, rows] of counts.entries()) {
    if (rows > 0) each(group, first, rows);
    first += rows;
  }
}

const at = ({ storage, offset }: Tensor, items: number): Operand => ({ storage, offset: offset + items });

const groupedLinearOp = defineOp<[x: Tensor, weight: Tensor, counts: Int32Array, bias: Tensor[], transposed: boolean]>({
  name: "groupedLinear",
  tensors: 2,
  shape: (x, weight, counts, bias, transposed) => [x.shape[0] as number, sizesOf(x, weight, counts, transposed, bias[0]).out],
  forward: (ctx, shape, x, weight, counts, bias, transposed) => {
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    const [from, w] = [packed(f32(x)), packed(f32(weight))];
    const b = bias[0] === undefined ? null : packed(f32(bias[0]));
    const out = ctx.out(shape);
    const [wRow, wCol] = transposed ? [1, n] : [k, 1];
    forGroups(counts, (group, first, rows) => {
      multiply(at(from, first * k), at(w, group * n * k), wRow, wCol, b && at(b, group * n), null, at(out, first * n), null, rows, n, k, 0);
    });
    ctx.save(from, w);
    return out;
  },
  backward: (ctx, [x, weight, counts, bias, transposed], g) => {
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    const gy = packed(g as Tensor);
    const [from, w] = [ctx.get(0), ctx.get(1)];
    const gx = ctx.needs(0) ? ctx.out(x.shape) : null;
    const into = ctx.needs(1) ? ctx.gathered(1) : null;
    const gw = ctx.needs(1) ? (into ?? ctx.out(weight.shape)) : null;
    const gb = bias[0] !== undefined && ctx.needs(2) ? ctx.out(bias[0].shape) : null;
    // Groups without rows are not visited.
    if (gw !== null && into === null) backend().fill(gw, CODE.f32, gw.size, 0);
    if (gb !== null) backend().fill(gb, CODE.f32, gb.size, 0);
    const [wRow, wCol] = transposed ? [1, n] : [k, 1];
    forGroups(counts, (group, first, rows) => {
      const own = at(gy, first * n);
      if (gx !== null) linearInputGrad(own, at(w, group * n * k), wRow, wCol, null, at(gx, first * k), rows, n, k, 0);
      if (gw !== null)
        linearWeightGrad(at(from, first * k), own, at(gw, group * n * k), gb && at(gb, group * n), rows, n, k, transposed ? 1 : 0, into === null ? 0 : 1);
      else if (gb !== null) backend().reduce(REDUCTIONS.indexOf("sum"), own, at(gb, group * n), 1, rows, n);
    });
    const answers: Gradient[] = [gx, into === null ? gw : ACCUMULATED];
    if (bias.length > 0) answers.push(gb);
    return answers;
  },
  composed: (x, weight, counts, bias, transposed) => {
    const parts: Tensor[] = [];
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    forGroups(counts, (group, first, rows) => {
      const own = reshape(narrow(weight, 0, group, 1), transposed ? [k, n] : [n, k]);
      const b = bias[0] === undefined ? null : reshape(narrow(bias[0], 0, group, 1), [n]);
      parts.push(linear(narrow(x, 0, first, rows), own, b, { transposed }));
    });
    return concat(parts, 0);
  },
  samples: () => [
    {
      name: "three groups, one empty",
      args: () => [values([5, 4]), values([3, 6, 4], { seed: 2 }), Int32Array.of(2, 0, 3), [], false],
      torch: "torch.cat([x0[:2] @ x1[0].T, x0[2:] @ x1[2].T])",
    },
    {
      name: "biases, transposed",
      args: () => [values([4, 5]), values([2, 5, 3], { seed: 2 }), Int32Array.of(1, 3), [values([2, 3], { seed: 3 })], true],
      torch: "torch.cat([x0[:1] @ x1[0] + x2[0], x0[1:] @ x1[1] + x2[1]])",
    },
  ],
});

/** `groupedLinear` with block-quantised weights, as `quantizedLinear` multiplies them. */
const quantizedGroupedLinear = defineOp<[x: Tensor, weight: Tensor, counts: Int32Array, bias: Tensor[], transposed: boolean]>({
  name: "quantizedGroupedLinear",
  tensors: 2,
  quantized: [1],
  shape: (x, weight, counts, bias, transposed) => {
    const { out, inner } = sizesOf(x, weight, counts, transposed, bias[0]);
    if (liesAcross(weight) !== transposed)
      throw new ShapeError(
        `groupedLinear: expected a weight whose blocks run along its ${inner} inputs, got ${weight.dtype}${show(weight.shape)}, seen as ${transposed ? "(groups, in, out)" : "(groups, out, in)"}`,
      );
    return [x.shape[0] as number, out];
  },
  forward: (ctx, shape, x, weight, counts, bias, transposed) => {
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    const from = packed(f32(x));
    const b = bias[0] === undefined ? null : packed(f32(bias[0]));
    const out = ctx.out(shape);
    forGroups(counts, (group, first, rows) => {
      const own = matrixAt(weight, group);
      backend().linearQuantized(at(from, first * k), own, layoutOf(weight.dtype), b && at(b, group * n), null, at(out, first * n), null, rows, n, k, 0);
    });
    ctx.save(weight);
    return out;
  },
  backward: (ctx, [x, weight, counts, bias, transposed], g) => {
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    const gy = packed(g as Tensor);
    const gx = ctx.needs(0) ? ctx.out(x.shape) : null;
    const gb = bias[0] !== undefined && ctx.needs(2) ? ctx.out(bias[0].shape) : null;
    if (gb !== null) backend().fill(gb, CODE.f32, gb.size, 0);
    forGroups(counts, (group, first, rows) => {
      const own = at(gy, first * n);
      if (gx !== null) throughQuantized(ctx, own, ctx.get(0), at(gx, first * k), rows, false, group);
      if (gb !== null) backend().reduce(REDUCTIONS.indexOf("sum"), own, at(gb, group * n), 1, rows, n);
    });
    return bias.length > 0 ? [gx, null, gb] : [gx, null];
  },
  composed: (x, weight, counts, bias, transposed) => {
    const parts: Tensor[] = [];
    const { out: n, inner: k } = sizesOf(x, weight, counts, transposed, bias[0]);
    forGroups(counts, (group, first, rows) => {
      const own = narrow(weight, 0, group, 1);
      const matrix = quantizedFromBytes(own.bytesSync(), [n, k], weight.dtype as QuantizedDType);
      const b = bias[0] === undefined ? null : reshape(narrow(bias[0], 0, group, 1), [n]);
      parts.push(linear(narrow(x, 0, first, rows), transposed ? transpose(matrix) : matrix, b, { transposed }));
    });
    return concat(parts, 0);
  },
  samples: () => [
    {
      name: "three groups, one empty",
      args: () => [values([5, 64]), quantizedValues([3, 37, 64], "q4_1"), Int32Array.of(2, 0, 3), [], false],
      differences: false,
    },
    {
      name: "biases, transposed",
      args: () => [values([4, 256]), transpose(quantizedValues([2, 19, 256], "q4_k")), Int32Array.of(1, 3), [values([2, 19], { seed: 3 })], true],
      differences: false,
    },
  ],
});

/**
 * Rows in groups, each with a weight of its own: rows `counts[0]` of x (rows, in) are multiplied by weight[0], the next `counts[1]` by weight[1], …; weight
 * (groups, out, in), or with `transposed` (groups, in, out), bias (groups, out) → (rows, out), f32. Block-quantised weights multiply
 * integers. A row gets the bytes that `linear` gives it.
 */
export function groupedLinear(x: Tensor, weight: Tensor, counts: Int32Array, bias: Tensor | null = null, options: GroupedLinearOptions = {}): Tensor {
  checkOptions("groupedLinear", options, OPTIONS);
  const layer = weight instanceof Tensor && weight.isQuantized ? quantizedGroupedLinear : groupedLinearOp;
  return layer(x, weight, counts, bias === null ? [] : [bias], options.transposed ?? false);
}

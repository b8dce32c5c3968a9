/** Constants in place of items: around a tensor, and beside a matrix's diagonal. */
import { ShapeError } from "../../errors.ts";
import { type Gradient, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { integers, values } from "../samples.ts";
import { type Shape, show } from "../shape.ts";
import { arange, checkTensor, type Tensor } from "../tensor.ts";
import { add, ge, le, where } from "./elementwise.ts";
import { cast, copyInto, narrow, reshape } from "./movement.ts";

/** Items added around x: one pair (before, after) a dimension, filled with `value`. */
const padOp = defineOp<[x: Tensor, widths: Widths, value: number]>({
  name: "pad",
  shape: (x, widths) => {
    if (widths.length !== x.rank || widths.flat().some((n) => !Number.isInteger(n) || n < 0)) {
      throw new ShapeError(
        `pad: expected ${x.rank} pairs of whole numbers of at least 0 for shape ${show(x.shape)}, got [${widths.map((w) => `[${w.join(", ")}]`).join(", ")}]. Use narrow to cut`,
      );
    }
    return x.shape.map((n, i) => n + (widths[i]?.[0] ?? 0) + (widths[i]?.[1] ?? 0));
  },
  forward: (ctx, shape, x, widths, value) => {
    const out = ctx.out(shape, x.dtype);
    backend().fill(out, CODE[x.dtype], out.size, value);
    copyInto(
      x,
      noGrad(() => inside(out, x.shape, widths)),
    );
    return out;
  },
  backward: (_, [x, widths], g): Gradient[] => [inside(g as Tensor, x.shape, widths)],
  samples: () => [
    {
      name: "zeros around",
      args: () => [
        values([2, 3]),
        [
          [1, 0],
          [2, 1],
        ],
        0,
      ],
      torch: "F.pad(x0, (2, 1, 1, 0))",
    },
    { name: "a value, whole numbers", args: () => [integers([3], 0, 9), [[0, 2]], -1], torch: "F.pad(x0, (0, 2), value=-1)" },
  ],
});

type Widths = readonly (readonly [before: number, after: number])[];

/** The part of a padded tensor that is not padding; a view. */
const inside = (y: Tensor, shape: Shape, widths: Widths): Tensor => widths.reduce((t, [before], i) => narrow(t, i, before, shape[i] as number), y);

/** x with constant items added around it: one pair [before, after] for each dimension, from the first. */
export function pad(x: Tensor, widths: Widths, value = 0): Tensor {
  return padOp(x, widths, value);
}

/** Place of each item's row minus that of its column, as a comparison with `diagonal` asks it. */
function triangle(op: string, x: Tensor, keep: (rows: Tensor, columns: Tensor) => Tensor): Tensor {
  checkTensor(op, x);
  if (x.rank < 2) throw new ShapeError(`${op}: expected matrices, got shape ${show(x.shape)}`);
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const mask = noGrad(() => keep(reshape(arange(rows), [rows, 1]), reshape(arange(columns), [1, columns])));
  const out = where(mask, x, 0);
  return out.dtype === x.dtype ? out : cast(out, x.dtype);
}

/** The lower triangle of each matrix, the rest 0; `diagonal` k keeps k diagonals above the main one. */
export const tril = (x: Tensor, diagonal = 0): Tensor => triangle("tril", x, (r, c) => ge(add(r, diagonal), c));

/** The upper triangle of each matrix, the rest 0; `diagonal` k starts k diagonals above the main one. */
export const triu = (x: Tensor, diagonal = 0): Tensor => triangle("triu", x, (r, c) => le(add(r, diagonal), c));

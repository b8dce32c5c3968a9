/** What layer states need: rows written in place. */
import { ShapeError } from "../../errors.ts";
import { backend } from "../backend.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { show } from "../shape.ts";
import { type Tensor, zeros } from "../tensor.ts";
import { asRows } from "./attention.ts";

/**
 * Copies runs of rows into `target` (rows, heads, dim), f32, in place, and gives it back: run i takes `runs[3i + 2]` rows of `source`
 * (rows, heads, dim) from row `runs[3i]` to row `runs[3i + 1]` on. Runs must not overlap in the target. No graph.
 */
export const writeRows = defineOp<[target: Tensor, source: Tensor, runs: Int32Array]>({
  name: "writeRows",
  tensors: 2,
  shape: (target, source, runs) => {
    if (
      target.rank !== 3 ||
      source.rank !== 3 ||
      target.dtype !== "f32" ||
      !target.isContiguous ||
      target.requiresGrad ||
      target.shape[1] !== source.shape[1] ||
      target.shape[2] !== source.shape[2] ||
      runs.length % 3 !== 0
    ) {
      throw new ShapeError(
        `writeRows: expected a contiguous f32 target (rows, heads, dim) outside the graph and a source like it, got ${target.dtype}${show(target.shape)} and ${show(source.shape)}, ${runs.length} numbers of runs`,
      );
    }
    for (let i = 0; i < runs.length; i += 3) {
      const from = runs[i];
      const to = runs[i + 1];
      const count = runs[i + 2];
      if (from < 0 || to < 0 || count < 0 || from + count > source.shape[0] || to + count > target.shape[0]) {
        throw new ShapeError(
          `writeRows: expected rows below ${source.shape[0]} of the source and ${target.shape[0]} of the target, got ${count} rows from ${from} to ${to}`,
        );
      }
    }
    return target.shape;
  },
  forward: (_ctx, shape, target, source, runs) => {
    const { x, row } = asRows(source);
    const width = shape[1] * shape[2];
    for (let i = 0; i < runs.length; i += 3) {
      const from = { storage: x.storage, offset: x.offset + runs[i] * row };
      const to = { storage: target.storage, offset: target.offset + runs[i + 1] * width };
      backend().copy(from, [row, 1], to, [width, 1], [runs[i + 2], width], 4);
    }
    target.storage.version++;
    return target;
  },
  backward: "none: layer states are written without a graph",
  samples: () => {
    const plain = { requiresGrad: false };
    return [
      { name: "two runs", args: () => [zeros([8, 2, 3]), values([4, 2, 3], plain), Int32Array.of(0, 5, 3, 3, 0, 1)] },
      { name: "from a part of wider rows", args: () => [zeros([5, 2, 3]), values([4, 6, 3], plain).narrow(1, 2, 2), Int32Array.of(1, 2, 3)] },
      { name: "nothing", args: () => [zeros([5, 2, 3]), values([4, 2, 3], plain), new Int32Array(0)] },
    ];
  },
});

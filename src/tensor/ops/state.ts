/** What layer states need: new keys and values written into pages, in place. */
import { ShapeError } from "../../errors.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { around, sameShape, show } from "../shape.ts";
import { type Tensor, tensor, zeros } from "../tensor.ts";
import { asRows } from "./attention.ts";

/** What pages hold their keys and values as. */
export const STATE_DTYPES = ["f32", "f16"] as const;
export type StateDType = (typeof STATE_DTYPES)[number];

/** Positions in a page: the block of keys that attention takes at a time. */
export const PAGE_POSITIONS = 64;

/**
 * Writes `source` (…, kvHeads, dim) into `pages` of keys (pages, kvHeads, dim, 64) or of values (pages, kvHeads, 64, dim), f32 or f16 (rounded to nearest even), in
 * place, and gives the pages back: row r goes to position slots[r] mod 64 of page ⌊slots[r]/64⌋; `slots` is i32 (rows), one for each of the source's rows. No graph.
 */
export const writePages = defineOp<[pages: Tensor, source: Tensor, slots: Tensor, of: "keys" | "values"]>({
  name: "writePages",
  tensors: 3,
  shape: (pages, source, slots, of) => {
    const [count, kvHeads, dim] = [pages.shape[0] ?? 0, source.shape[source.rank - 2] ?? 0, source.shape[source.rank - 1] ?? 0];
    const wanted = of === "keys" ? [count, kvHeads, dim, PAGE_POSITIONS] : [count, kvHeads, PAGE_POSITIONS, dim];
    if (
      source.rank < 3 ||
      !sameShape(pages.shape, wanted) ||
      !(pages.dtype === "f32" || pages.dtype === "f16") ||
      !pages.isContiguous ||
      pages.requiresGrad ||
      slots.dtype !== "i32" ||
      !slots.isContiguous ||
      slots.rank !== 1 ||
      slots.size !== around(source.shape, source.rank - 2)[0]
    ) {
      throw new ShapeError(
        `writePages: expected contiguous pages of ${of} ${show(wanted)}, f32 or f16, outside the graph, a source (…, kvHeads, dim) and slots (rows,), i32, got ${pages.dtype}${show(pages.shape)}, ${show(source.shape)} and ${slots.dtype}${show(slots.shape)}`,
      );
    }
    return pages.shape;
  },
  forward: (_ctx, shape, pages, source, slots, of) => {
    const { x, row } = asRows(source);
    const [rows, kvHeads, dim] = around(source.shape, source.rank - 2);
    backend().writePages(x, row, pages, CODE[pages.dtype], of === "keys" ? 1 : 0, slots, rows, shape[0] as number, kvHeads, dim);
    pages.storage.version++;
    return pages;
  },
  backward: "none: layer states are written without a graph",
  samples: () => {
    const plain = { requiresGrad: false };
    const slots = () => tensor(Int32Array.of(63, 64, 5, 130));
    return [
      { name: "keys", args: () => [zeros([3, 2, 3, PAGE_POSITIONS]), values([4, 2, 3], plain), slots(), "keys"] },
      { name: "values", args: () => [zeros([3, 2, PAGE_POSITIONS, 3]), values([4, 2, 3], plain), slots(), "values"] },
      { name: "keys in f16", args: () => [zeros([3, 2, 3, PAGE_POSITIONS], { dtype: "f16" }), values([4, 2, 3], plain), slots(), "keys"] },
      { name: "values in f16", args: () => [zeros([3, 2, PAGE_POSITIONS, 3], { dtype: "f16" }), values([4, 2, 3], plain), slots(), "values"] },
      { name: "from a part of wider rows", args: () => [zeros([3, 2, 3, PAGE_POSITIONS]), values([4, 6, 3], plain).narrow(1, 2, 2), slots(), "keys"] },
      { name: "rows of a sequence alone", args: () => [zeros([3, 2, 3, PAGE_POSITIONS]), values([1, 4, 2, 3], plain), slots(), "keys"] },
      {
        name: "heads of no items",
        args: () => [zeros([1, 2 ** 40, PAGE_POSITIONS, 0]), values([3, 2 ** 40, 0], plain), tensor(Int32Array.of(1, 2, 3)), "values"],
      },
      { name: "nothing", args: () => [zeros([1, 2, PAGE_POSITIONS, 3]), values([0, 2, 3], plain), tensor(new Int32Array(0)), "values"] },
    ];
  },
});

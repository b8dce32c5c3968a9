/** Attention over keys and values that lie in pages, for generation. */
import { ShapeError } from "../../errors.ts";
import { withSinks } from "../attention-sinks.ts";
import { pagedAttention as attentionKernel } from "../autocast.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { around, show } from "../shape.ts";
import { type Tensor, tensor } from "../tensor.ts";
import { type AttentionOptions, asRows, attention, rules } from "./attention.ts";
import { f32 } from "./elementwise.ts";
import { indexSelect } from "./indexing.ts";
import { cast, permute, reshape } from "./movement.ts";
import { PAGE_POSITIONS } from "./state.ts";

/** Keys and values of many sequences in pages of 64 positions, and where each sequence's pages are. */
export interface PagedKeys {
  /** (pages, kvHeads, dim, 64), f32 or f16: each item of a page's keys lies side by side, as products with them read it. */
  k: Tensor;
  /** (pages, kvHeads, 64, dim), of the same dtype. */
  v: Tensor;
  /** Pages of each sequence in order, `maxPages` a sequence; i32 (sequences, maxPages). */
  pageTable: Int32Array;
  maxPages: number;
  /** Positions of each sequence that are filled. */
  lengths: Int32Array;
  /** Where each sequence's rows of q begin and end: 0, t₁, t₁+t₂, … */
  cuSeqlens: Int32Array;
  /** `cuSeqlens`, `lengths` and `pageTable` one behind the other, as the kernel takes them: i32, made once for all layers. */
  places: Tensor;
}

/** `PagedKeys.places` of a step. */
export function placesOf(cuSeqlens: Int32Array, lengths: Int32Array, pageTable: Int32Array): Tensor {
  const places = new Int32Array(cuSeqlens.length + lengths.length + pageTable.length);
  places.set(cuSeqlens);
  places.set(lengths, cuSeqlens.length);
  places.set(pageTable, cuSeqlens.length + lengths.length);
  return tensor(places);
}

/** `AttentionOptions` without those that say how rows are laid out: pages say it. */
type PagedOptions = Omit<AttentionOptions, "cuSeqlens" | "cuSeqlensK" | "mask">;

const pagedAttentionOp = defineOp<[q: Tensor, paged: PagedKeys, options: PagedOptions]>({
  name: "pagedAttention",
  shape: (q, { k, v, pageTable, maxPages, lengths: filled, cuSeqlens, places }) => {
    places.check("pagedAttention");
    if (
      q.rank < 3 ||
      k.rank !== 4 ||
      v.rank !== 4 ||
      k.shape[0] !== v.shape[0] ||
      k.shape[1] !== v.shape[1] ||
      k.shape[2] !== q.shape[q.rank - 1] ||
      v.shape[3] !== q.shape[q.rank - 1] ||
      k.shape[3] !== PAGE_POSITIONS ||
      v.shape[2] !== PAGE_POSITIONS ||
      k.dtype !== v.dtype ||
      !(k.dtype === "f32" || k.dtype === "f16") ||
      !k.isContiguous ||
      !v.isContiguous ||
      pageTable.length !== filled.length * maxPages ||
      cuSeqlens.length !== filled.length + 1 ||
      places.dtype !== "i32" ||
      !places.isContiguous ||
      places.size !== cuSeqlens.length + filled.length + pageTable.length
    ) {
      throw new ShapeError(
        `pagedAttention: expected q (…, heads, dim), contiguous pages of keys (pages, kvHeads, dim, 64) and of values (pages, kvHeads, 64, dim), f32 or f16, and a table of ${filled.length}×${maxPages} that places repeat, got q ${show(q.shape)}, k ${k.dtype}${show(k.shape)}, v ${v.dtype}${show(v.shape)}, a table of ${pageTable.length}`,
      );
    }
    const pages = k.shape[0] as number;
    for (let s = 0; s < filled.length; s++) {
      for (let p = 0; p * PAGE_POSITIONS < (filled[s] as number); p++) {
        const page = pageTable[s * maxPages + p] as number;
        if (p >= maxPages || !(page >= 0 && page < pages))
          throw new ShapeError(`pagedAttention: expected a page below ${pages} for page ${p} of sequence ${s}, got ${page}`);
      }
    }
    return q.shape;
  },
  forward: (ctx, shape, q, { k, v, maxPages, lengths: filled, places }, options) => {
    const { storage, offset } = places;
    const [rows, heads, dim] = around(shape, shape.length - 2);
    const { scale, causal, window, softcap, slopes } = rules(options, dim);
    const kvHeads = k.shape[1] as number;
    const rq = asRows(q);
    const out = ctx.out(shape);
    const { sinks } = options;
    const lse = sinks === undefined ? null : ctx.out([heads, rows]);
    attentionKernel(
      rq.x,
      rq.row,
      k,
      v,
      CODE[k.dtype],
      out,
      heads * dim,
      lse,
      places,
      { storage, offset: offset + filled.length + 1 },
      { storage, offset: offset + 2 * filled.length + 1 },
      maxPages,
      filled.length,
      rows,
      k.shape[0] as number,
      heads,
      kvHeads,
      dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
    );
    if (sinks !== undefined) withSinks(out, lse as Tensor, f32(sinks));
    return out;
  },
  backward: "none: generation runs without a graph",
  composed: composedPaged,
  samples: () => {
    const [cuSeqlens, lengths, pageTable] = [Int32Array.of(0, 1, 4), Int32Array.of(70, 5), Int32Array.of(2, 0, 1, 1)];
    const paged = (dtype: "f32" | "f16" = "f32"): PagedKeys => ({
      k: cast(values([3, 1, 4, PAGE_POSITIONS], { requiresGrad: false, seed: 2 }), dtype),
      v: cast(values([3, 1, PAGE_POSITIONS, 4], { requiresGrad: false, seed: 3 }), dtype),
      pageTable,
      maxPages: 2,
      lengths,
      cuSeqlens,
      places: placesOf(cuSeqlens, lengths, pageTable),
    });
    const q = () => values([4, 2, 4], { requiresGrad: false });
    return [
      { name: "two sequences", args: () => [q(), paged(), {}] },
      { name: "rows of a batch of one", args: () => [values([1, 4, 2, 4], { requiresGrad: false }), paged(), {}] },
      { name: "f16", args: () => [q(), paged("f16"), {}] },
      { name: "sinks", args: () => [q(), paged(), { sinks: values([2], { requiresGrad: false, seed: 4 }) }] },
    ];
  },
});

/** The same over plain rows: the keys and values of each sequence, gathered from its pages. */
function composedPaged(q: Tensor, { k, v, pageTable, maxPages, lengths: filled, cuSeqlens }: PagedKeys, options: PagedOptions): Tensor {
  const [kvHeads, dim] = [k.shape[1] as number, k.shape[2] as number];
  const used: number[] = [];
  const rows: number[] = [];
  const cuSeqlensK = new Int32Array(filled.length + 1);
  for (const [s, n] of filled.entries()) {
    for (let i = 0; i < n; i++) {
      if (i % PAGE_POSITIONS === 0) used.push(pageTable[s * maxPages + i / PAGE_POSITIONS] as number);
      rows.push((used.length - 1) * PAGE_POSITIONS + (i % PAGE_POSITIONS));
    }
    cuSeqlensK[s + 1] = rows.length;
  }
  const gathered = (pages: Tensor, order: readonly number[]) => {
    const own = permute(cast(indexSelect(pages, 0, tensor(Int32Array.from(used))), "f32"), order); // (used, 64, kvHeads, dim)
    return indexSelect(reshape(own, [used.length * PAGE_POSITIONS, kvHeads, dim]), 0, tensor(Int32Array.from(rows)));
  };
  const flat = reshape(q, around(q.shape, q.rank - 2)); // (rows, heads, dim)
  return reshape(attention(flat, gathered(k, [0, 3, 1, 2]), gathered(v, [0, 2, 1, 3]), { ...options, cuSeqlens, cuSeqlensK }), q.shape);
}

/** Attention of the newest rows q (…, heads, dim) of each sequence to all its keys in pages; no graph. Same bytes as `attention` over the same rows, which in pages of f16 are the rounded ones. */
export function pagedAttention(q: Tensor, paged: PagedKeys, options: PagedOptions = {}): Tensor {
  return options.watch ? composedPaged(q, paged, options) : pagedAttentionOp(q, paged, options);
}

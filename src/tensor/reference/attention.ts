/**
 * Attention over ragged sequences, by the plain formula: for each query and head the whole row of scores, its softmax, and the
 * weighted sum of values (Vaswani et al. 2017, equation 1).
 */
import { ShapeError } from "../../errors.ts";
import { bf16ToF32, CODE, f16ToF32, f32ToBf16, f32ToF16 } from "../dtype.ts";
import type { Kernels, Operand, Sizes } from "../kernels.ts";
import { reach } from "../shape.ts";
import type { Views } from "./memory.ts";
import { logSumExp } from "./softmax.ts";

const PAGE = 64;

/** What stands between a query's products with the keys and its softmax. */
interface Rules {
  readonly scale: number;
  readonly causal: number;
  readonly window: number;
  readonly softcap: number;
  readonly slopes: Float32Array | null;
  readonly mask: Float32Array | null;
  readonly maskStrides: Sizes;
}

interface Sequence {
  readonly firstQuery: number;
  readonly queries: number;
  readonly keys: number;
  /** The row of k and v that holds a key position; in pages 64 · page + place. */
  readonly rowOf: (position: number) => number;
}

/** The d-th item of kv head h in a row. */
type Item = (row: number, h: number, d: number) => number;

/** One query of one head. */
interface Query {
  readonly sequence: number;
  /** Its number within its sequence, its row of q, and its position among the keys. */
  readonly i: number;
  readonly row: number;
  readonly position: number;
  readonly head: number;
  /** The key positions that count: first … end − 1. */
  readonly first: number;
  readonly end: number;
  readonly rowOf: (position: number) => number;
}

function checkRange(what: string, value: number, low: number, high: number, place: number): void {
  if (value < low || value > high) {
    throw new ShapeError(`attention: ${what} out of range, expected ${low} to ${high}, got ${value} at place ${place}. Check the sequence boundaries`);
  }
}

/** The rows of one of `sequences` sequences alike. */
function share(what: string, rows: number, sequences: number): number {
  if (sequences === 0 ? rows === 0 : rows % sequences === 0) return sequences === 0 ? 0 : rows / sequences;
  throw new ShapeError(`attention: the ${what} without boundaries, expected a multiple of ${sequences} sequences, got ${rows} rows. Give the boundaries`);
}

/** Reads and checks where each sequence's queries and keys lie. */
function readSequences(
  at: Views,
  cuQ: Operand | null,
  startK: Operand | null,
  lenK: Operand | null,
  sequences: number,
  rowsQ: number,
  rowsK: number,
): Sequence[] {
  if (cuQ === null && startK === null && lenK === null) {
    const [queries, keys] = [share("queries", rowsQ, sequences), share("keys", rowsK, sequences)];
    // Sequences without a row have nothing, however many there are.
    return Array.from({ length: queries + keys === 0 ? 0 : sequences }, (_, s) => ({
      firstQuery: s * queries,
      queries,
      keys,
      rowOf: (p: number) => s * keys + p,
    }));
  }
  if (cuQ === null || startK === null || lenK === null)
    throw new ShapeError("attention: a boundary is missing, expected cuQ, startK and lenK, got some of them only. Give all, or none where sequences are alike");
  const cu = at.i32(cuQ, sequences + 1);
  const keys = at.i32(lenK, sequences);
  const starts = at.i32(startK, sequences);
  return Array.from(keys, (length, s) => {
    checkRange("lenK", length, 0, rowsK, s);
    checkRange("startK", starts[s], 0, rowsK - length, s);
    return { ...queriesOf(cu, s, rowsQ), keys: length, rowOf: (p: number) => starts[s] + p };
  });
}

function queriesOf(cu: Int32Array, s: number, rowsQ: number): { firstQuery: number; queries: number } {
  checkRange("cuQ", cu[s], 0, rowsQ, s);
  checkRange("cuQ", cu[s + 1], cu[s], rowsQ, s + 1);
  return { firstQuery: cu[s], queries: cu[s + 1] - cu[s] };
}

/** The same where the keys lie in pages. */
function readPagedSequences(
  at: Views,
  cuQ: Operand,
  lenK: Operand,
  pages: Operand,
  maxPages: number,
  sequences: number,
  rowsQ: number,
  pageCount: number,
): Sequence[] {
  const [cu, table] = [at.i32(cuQ, sequences + 1), at.i32(pages, sequences * maxPages)];
  return Array.from(at.i32(lenK, sequences), (length, s) => {
    checkRange("lenK", length, 0, maxPages * PAGE, s);
    for (let b = 0; b * PAGE < length; b++) checkRange("page", table[s * maxPages + b], 0, pageCount - 1, s * maxPages + b);
    const rowOf = (p: number) => table[s * maxPages + Math.floor(p / PAGE)] * PAGE + (p % PAGE);
    return { ...queriesOf(cu, s, rowsQ), keys: length, rowOf };
  });
}

function readRules(
  at: Views,
  list: readonly Sequence[],
  heads: number,
  scale: number,
  causal: number,
  window: number,
  softcap: number,
  slopes: Operand | null,
  mask: Operand | null,
  maskStrides: Sizes,
): Rules {
  const longest = (of: "queries" | "keys") => list.reduce((most, s) => Math.max(most, s[of]), 0);
  const masks = mask === null ? null : at.f32(mask, reach([list.length, heads, longest("queries"), longest("keys")], maskStrides));
  return { scale, causal, window, softcap, slopes: slopes === null ? null : at.f32(slopes, heads), mask: masks, maskStrides };
}

/** Visits every query of every head. */
function forEachQuery(list: readonly Sequence[], heads: number, { causal, window }: Rules, visit: (q: Query) => void): void {
  for (const [sequence, { firstQuery, queries, keys, rowOf }] of list.entries()) {
    for (let i = 0; i < queries; i++) {
      const position = keys - queries + i;
      const first = window > 0 ? Math.max(0, position - window + 1) : 0;
      const end = causal ? position + 1 : window > 0 ? Math.min(keys, position + window) : keys;
      for (let head = 0; head < heads; head++) {
        visit({ sequence, i, row: firstQuery + i, position, head, first, end: Math.max(first, end), rowOf });
      }
    }
  }
}

/** The product of q and k, scaled and, where asked for, bent so that it stays within ±softcap (Gemma 2, section 2). */
function cappedScore({ scale, softcap }: Rules, dot: number): number {
  return softcap > 0 ? softcap * Math.tanh((scale * dot) / softcap) : scale * dot;
}

/** What is added to a score, whatever the product: ALiBi's slope times the distance (Press et al. 2022), and the mask. */
function bias({ slopes, mask, maskStrides }: Rules, { sequence, i, position, head }: Query, p: number): number {
  const slope = slopes === null ? 0 : slopes[head] * (p - position);
  return mask === null ? slope : slope + mask[sequence * maskStrides[0] + head * maskStrides[1] + i * maskStrides[2] + p * maskStrides[3]];
}

function dot(a: Float32Array, aAt: number, b: Float32Array, bAt: number, n: number): number {
  let sum = 0;
  for (let d = 0; d < n; d++) sum += a[aAt + d] * b[bAt + d];
  return sum;
}

/** What happens to an operand of a product: nothing, or rounding to bfloat16. */
type Taking = (x: number) => number;
const asItIs: Taking = (x) => x;
const rounded: Taking = (x) => bf16ToF32(f32ToBf16(x));

/** Where position `row` mod 64 of a page lies, in pages of keys (items side by side) or of values. */
const inPage = (keys: boolean, kvHeads: number, dim: number, row: number, h: number, d: number): number => {
  const [page, place] = [Math.floor(row / PAGE), row % PAGE];
  return (page * kvHeads + h) * dim * PAGE + (keys ? d * PAGE + place : place * dim + d);
};

type AttentionKernels = "attention" | "attentionBf16" | "pagedAttention" | "pagedAttentionBf16" | "writePages" | "attentionGrad" | "attentionGradBf16";

export function attentionKernels(at: Views): Pick<Kernels, AttentionKernels> {
  /** An operand of `rows` rows, `row` apart, of `width` items. */
  const rowsOf = (place: Operand, rows: number, row: number, width: number) => at.f32(place, reach([rows, width], [row, 1]));

  /** Pages as they are, and how their items are read and written. */
  function pagesOf(place: Operand, dtype: number, items: number): { pages: Float32Array | Uint16Array; read: Taking; rounded: Taking } {
    if (dtype === CODE.f32) return { pages: at.f32(place, items), read: asItIs, rounded: asItIs };
    if (dtype === CODE.f16) return { pages: at.u16(place, items), read: f16ToF32, rounded: f32ToF16 };
    throw new ShapeError(`attention: the pages' dtype, expected f32 or f16, got code ${dtype}. Cast them`);
  }

  /** The forward pass over keys and values wherever they lie. */
  function attend(
    take: Taking,
    list: readonly Sequence[],
    rules: Rules,
    [rowsQ, heads, kvHeads, dim]: readonly [number, number, number, number],
    [qs, qRow]: readonly [Float32Array, number],
    keyItem: Item,
    valueItem: Item,
    [outs, oRow]: readonly [Float32Array, number],
    lses: Float32Array | null,
  ): void {
    const sum = new Float64Array(dim);
    forEachQuery(list, heads, rules, (query) => {
      const { row, head, first, end, rowOf } = query;
      const kvHead = Math.floor((head * kvHeads) / heads);
      const scores = new Float64Array(end - first);
      for (let p = first; p < end; p++) {
        const key = rowOf(p);
        let product = 0;
        for (let d = 0; d < dim; d++) product += qs[row * qRow + head * dim + d] * keyItem(key, kvHead, d);
        scores[p - first] = cappedScore(rules, product) + bias(rules, query, p);
      }
      const l = logSumExp(scores);
      sum.fill(0);
      for (let p = first; p < end; p++) {
        if (scores[p - first] === Number.NEGATIVE_INFINITY) continue; // a key that is masked out, even where all are
        const probability = take(Math.exp(scores[p - first] - l));
        const key = rowOf(p);
        for (let d = 0; d < dim; d++) sum[d] += probability * valueItem(key, kvHead, d);
      }
      outs.set(sum, row * oRow + head * dim);
      if (lses !== null) lses[head * rowsQ + row] = l;
    });
  }

  const forward =
    (take: Taking): Kernels["attention"] =>
    (
      q,
      qRow,
      k,
      kRow,
      v,
      vRow,
      out,
      oRow,
      lse,
      cuQ,
      startK,
      lenK,
      sequences,
      rowsQ,
      rowsK,
      heads,
      kvHeads,
      dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
      mask,
      maskStrides,
    ) => {
      const [qs, outs] = [rowsOf(q, rowsQ, qRow, heads * dim).map(take), rowsOf(out, rowsQ, oRow, heads * dim)];
      const [ks, vs] = [rowsOf(k, rowsK, kRow, kvHeads * dim).map(take), rowsOf(v, rowsK, vRow, kvHeads * dim).map(take)];
      const list = readSequences(at, cuQ, startK, lenK, sequences, rowsQ, rowsK);
      const rules = readRules(at, list, heads, scale, causal, window, softcap, slopes, mask, maskStrides);
      const lses = lse === null ? null : at.f32(lse, heads * rowsQ);
      const keyItem: Item = (row, h, d) => ks[row * kRow + h * dim + d];
      const valueItem: Item = (row, h, d) => vs[row * vRow + h * dim + d];
      attend(take, list, rules, [rowsQ, heads, kvHeads, dim], [qs, qRow], keyItem, valueItem, [outs, oRow], lses);
    };

  const paged =
    (take: Taking): Kernels["pagedAttention"] =>
    (
      q,
      qRow,
      k,
      v,
      dtype,
      out,
      oRow,
      lse,
      cuQ,
      lenK,
      pages,
      maxPages,
      sequences,
      rowsQ,
      pageCount,
      heads,
      kvHeads,
      dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
    ) => {
      const [qs, outs] = [rowsOf(q, rowsQ, qRow, heads * dim).map(take), rowsOf(out, rowsQ, oRow, heads * dim)];
      const items = pageCount * kvHeads * dim * PAGE;
      const [ks, vs] = [pagesOf(k, dtype, items), pagesOf(v, dtype, items)];
      const list = readPagedSequences(at, cuQ, lenK, pages, maxPages, sequences, rowsQ, pageCount);
      const rules = readRules(at, list, heads, scale, causal, window, softcap, slopes, null, [0, 0, 0, 0]);
      const lses = lse === null ? null : at.f32(lse, heads * rowsQ);
      const keyItem: Item = (row, h, d) => take(ks.read(ks.pages[inPage(true, kvHeads, dim, row, h, d)]));
      const valueItem: Item = (row, h, d) => take(vs.read(vs.pages[inPage(false, kvHeads, dim, row, h, d)]));
      attend(take, list, rules, [rowsQ, heads, kvHeads, dim], [qs, qRow], keyItem, valueItem, [outs, oRow], lses);
    };

  const writePages: Kernels["writePages"] = (x, xRow, out, dtype, keys, slots, rows, pageCount, kvHeads, dim) => {
    const xs = rowsOf(x, rows, xRow, kvHeads * dim);
    const to = pagesOf(out, dtype, pageCount * kvHeads * dim * PAGE);
    for (const [r, slot] of at.i32(slots, rows).entries()) {
      checkRange("slot", slot, 0, pageCount * PAGE - 1, r);
      // With no items there may be any number of heads.
      if (dim === 0) continue;
      for (let h = 0; h < kvHeads; h++)
        for (let d = 0; d < dim; d++) to.pages[inPage(keys !== 0, kvHeads, dim, slot, h, d)] = to.rounded(xs[r * xRow + h * dim + d]);
    }
  };

  const backward =
    (take: Taking): Kernels["attentionGrad"] =>
    (
      q,
      qRow,
      k,
      kRow,
      v,
      vRow,
      out,
      oRow,
      lse,
      gout,
      goRow,
      gq,
      gqRow,
      gk,
      gkRow,
      gv,
      gvRow,
      cuQ,
      startK,
      lenK,
      sequences,
      rowsQ,
      rowsK,
      heads,
      kvHeads,
      dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
      mask,
      maskStrides,
    ) => {
      const [qWidth, kWidth] = [heads * dim, kvHeads * dim];
      const [qs, outs, gouts] = [rowsOf(q, rowsQ, qRow, qWidth).map(take), rowsOf(out, rowsQ, oRow, qWidth), rowsOf(gout, rowsQ, goRow, qWidth)];
      const [ks, vs] = [rowsOf(k, rowsK, kRow, kWidth).map(take), rowsOf(v, rowsK, vRow, kWidth).map(take)];
      const list = readSequences(at, cuQ, startK, lenK, sequences, rowsQ, rowsK);
      const rules = readRules(at, list, heads, scale, causal, window, softcap, slopes, mask, maskStrides);
      const taken = gouts.map(take);
      const lses = at.f32(lse, heads * rowsQ);
      // Sums over many queries, kept in float64 until the end; contiguous, whatever the strides of gq, gk and gv.
      const gqs = new Float64Array(rowsQ * qWidth);
      const gks = new Float64Array(rowsK * kWidth);
      const gvs = new Float64Array(rowsK * kWidth);

      forEachQuery(list, heads, rules, (query) => {
        const { row, head, first, end, rowOf } = query;
        const kvHead = Math.floor((head * kvHeads) / heads);
        const [qAt, oAt, goAt] = [row * qRow + head * dim, row * oRow + head * dim, row * goRow + head * dim];
        // With P the probabilities: gv = Pᵀ·gout, gP = gout·vᵀ, and through the softmax gS = P·(gP − Σ P·gP); that sum is gout·out.
        const mean = dot(gouts, goAt, outs, oAt, dim);
        for (let p = first; p < end; p++) {
          const key = rowOf(p);
          const [kAt, vAt, gAt] = [key * kRow + kvHead * dim, key * vRow + kvHead * dim, key * kWidth + kvHead * dim];
          const capped = cappedScore(rules, dot(qs, qAt, ks, kAt, dim));
          const score = capped + bias(rules, query, p);
          if (score === Number.NEGATIVE_INFINITY) continue;
          const probability = Math.exp(score - lses[head * rowsQ + row]);
          const gScore = probability * (dot(taken, goAt, vs, vAt, dim) - mean);
          const gProduct = take(gScore * scale * (softcap > 0 ? 1 - (capped / softcap) ** 2 : 1)); // d tanh = 1 − tanh²
          for (let d = 0; d < dim; d++) {
            gqs[row * qWidth + head * dim + d] += gProduct * ks[kAt + d];
            gks[gAt + d] += gProduct * qs[qAt + d];
            gvs[gAt + d] += take(probability) * taken[goAt + d];
          }
        }
      });

      const store = (sums: Float64Array, place: Operand, rows: number, row: number, width: number) => {
        const to = rowsOf(place, rows, row, width);
        for (let r = 0; r < rows; r++) to.set(sums.subarray(r * width, (r + 1) * width), r * row);
      };
      store(gqs, gq, rowsQ, gqRow, qWidth);
      store(gks, gk, rowsK, gkRow, kWidth);
      store(gvs, gv, rowsK, gvRow, kWidth);
    };

  return {
    attention: forward(asItIs),
    attentionBf16: forward(rounded),
    pagedAttention: paged(asItIs),
    pagedAttentionBf16: paged(rounded),
    writePages,
    attentionGrad: backward(asItIs),
    attentionGradBf16: backward(rounded),
  };
}

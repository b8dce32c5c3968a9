/** Reductions along one dimension of (outer, n, inner), running sums, and sorting. */
import { ShapeError } from "../../errors.ts";
import { type Kernels, REDUCTIONS, type Reduction } from "../kernels.ts";
import type { Views } from "./memory.ts";

/** What each reduction starts from, and its step. max and min give NaN once one item is NaN. */
const STEPS: Record<Reduction, { start: number; step: (sum: number, x: number) => number }> = {
  sum: { start: 0, step: (sum, x) => sum + x },
  max: { start: Number.NEGATIVE_INFINITY, step: Math.max },
  min: { start: Number.POSITIVE_INFINITY, step: Math.min },
  prod: { start: 1, step: (product, x) => product * x },
};

/** Ascending order in which NaN is the largest value and equals itself. */
function ascending(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The places of a row's items in sorted order; equal items keep their order. */
function sortedPlaces(row: Float32Array, descending: boolean): number[] {
  const places = Array.from(row, (_, i) => i);
  // JavaScript's sort is stable.
  return places.sort((i, j) => (descending ? ascending(row[j], row[i]) : ascending(row[i], row[j])));
}

export function reduceKernels(at: Views): Pick<Kernels, "reduce" | "argReduce" | "cumsum" | "sort" | "topk"> {
  /** The `keep` first items of each row's sorted order. */
  function sortRows(from: Float32Array, values: Float32Array, places: Int32Array, rows: number, n: number, keep: number, descending: boolean): void {
    for (let r = 0; r < rows; r++) {
      const row = from.subarray(r * n, (r + 1) * n);
      const order = sortedPlaces(row, descending);
      for (let i = 0; i < keep; i++) {
        values[r * keep + i] = row[order[i]];
        places[r * keep + i] = order[i];
      }
    }
  }

  return {
    reduce(kind, x, out, outer, n, inner) {
      const { start, step } = STEPS[REDUCTIONS[kind]];
      const from = at.f32(x, outer * n * inner);
      const to = at.f32(out, outer * inner);
      const sums = new Float64Array(inner);
      for (let o = 0; o < outer; o++) {
        sums.fill(start);
        for (let j = 0; j < n; j++) {
          for (let i = 0; i < inner; i++) sums[i] = step(sums[i], from[(o * n + j) * inner + i]);
        }
        to.set(sums, o * inner);
      }
    },

    argReduce(least, x, out, outer, n, inner) {
      const op = least ? "argmin" : "argmax";
      if (n === 0 && outer * inner > 0) throw new ShapeError(`${op}: nothing to choose from, expected at least one item, got none`);
      const from = at.f32(x, outer * n * inner);
      const to = at.i32(out, outer * inner);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          const item = (j: number) => from[(o * n + j) * inner + i];
          let best = 0;
          for (let j = 1; j < n; j++) {
            const better = least ? item(j) < item(best) : item(j) > item(best);
            // The first NaN wins; against a NaN nothing is better.
            if (better || (Number.isNaN(item(j)) && !Number.isNaN(item(best)))) best = j;
          }
          to[o * inner + i] = best;
        }
      }
    },

    cumsum(x, out, outer, n, inner, reverse) {
      const from = at.f32(x, outer * n * inner);
      const to = at.f32(out, outer * n * inner);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          let sum = 0;
          for (let j = 0; j < n; j++) {
            const place = (o * n + (reverse ? n - 1 - j : j)) * inner + i;
            sum += from[place];
            to[place] = sum;
          }
        }
      }
    },

    sort(x, values, indices, rows, n, descending) {
      sortRows(at.f32(x, rows * n), at.f32(values, rows * n), at.i32(indices, rows * n), rows, n, n, descending === 1);
    },

    topk(x, values, indices, rows, n, k) {
      if (k > n) throw new ShapeError(`topk: too many wanted, expected k <= ${n}, got ${k}`);
      sortRows(at.f32(x, rows * n), at.f32(values, rows * k), at.i32(indices, rows * k), rows, n, k, true);
    },
  };
}

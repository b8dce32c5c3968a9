/**
 * Scales for blocks of integers: of many candidates, the one whose integers, with the scale that then fits them best, leave the least sum of squares.
 *
 * For fixed integers the best scale (and offset) is that of linear regression, so each candidate is rounded once and fitted in closed form; the best of them is
 * rounded again with its own fit while that gains anything (Lloyd 1982, alternating between the two).
 */

/** A sum with it has no bits behind the point, so that adding it and taking it away rounds to the nearest whole number; Math.round takes five times as long. */
export const ROUNDS = 1.5 * 2 ** 52;

/** Rounded again at most so often; two times nearly always suffice. */
const MOST_ROUNDS = 4;

/** The best scale `d` for x ≈ d·q with integers from `least` to `most`; q goes into `q`. Zero where all of x is. */
export function searchScale(
  x: Float32Array | Float64Array,
  o: number,
  n: number,
  weights: Float64Array | null,
  range: { least: number; most: number; candidates: Float64Array },
  q: Int8Array,
): number {
  const { least, most, candidates } = range;
  let extreme = 0;
  for (let i = 0; i < n; i++) if (Math.abs(x[o + i]) > Math.abs(extreme)) extreme = x[o + i];
  if (extreme === 0) return 0;
  let [best, gain] = [0, 0];
  for (let c = 0; c < candidates.length; c++) {
    const inverse = candidates[c] / extreme;
    let [xq, qq] = [0, 0];
    for (let i = 0; i < n; i++) {
      let r = x[o + i] * inverse + ROUNDS - ROUNDS;
      r = Math.max(least, Math.min(most, r));
      const w = weights === null ? r : weights[i] * r;
      xq += w * x[o + i];
      qq += w * r;
    }
    // The sum of squares that remains is Σx² − (Σxq)² / Σq².
    if (qq > 0 && xq * xq > gain * qq) [best, gain] = [xq / qq, (xq * xq) / qq];
  }
  for (let round = 0; round < MOST_ROUNDS && best !== 0; round++) {
    const inverse = 1 / best;
    let [xq, qq] = [0, 0];
    for (let i = 0; i < n; i++) {
      let r = x[o + i] * inverse + ROUNDS - ROUNDS;
      r = Math.max(least, Math.min(most, r));
      const w = weights === null ? r : weights[i] * r;
      xq += w * x[o + i];
      qq += w * r;
    }
    if (qq === 0 || xq * xq <= gain * qq * (1 + 1e-12)) break;
    [best, gain] = [xq / qq, (xq * xq) / qq];
  }
  if (best === 0) return 0;
  for (let i = 0; i < n; i++) {
    const r = x[o + i] / best + ROUNDS - ROUNDS;
    q[i] = Math.max(least, Math.min(most, r));
  }
  return best;
}

/** What `searchScaleAndOffset` found. */
export interface Fit {
  scale: number;
  /** Taken off, never negative. */
  offset: number;
}

/** The best scale and offset for x ≈ scale·q − offset with integers from 0 to `most`, both never negative. */
export function searchScaleAndOffset(x: Float32Array, o: number, n: number, most: number, candidates: Float64Array, fit: Fit): void {
  let [low, high, sum, squares] = [0, x[o], 0, 0];
  for (let i = 0; i < n; i++) {
    const v = x[o + i];
    if (v < low) low = v;
    if (v > high) high = v;
    sum += v;
    squares += v * v;
  }
  fit.scale = 0;
  fit.offset = -low;
  if (high <= low) return;
  let least = squares + 2 * fit.offset * sum + n * fit.offset * fit.offset;
  // The candidates, then the best of them again with its own fit. One loop without a function inside: numbers that a function captures live on the heap.
  const count = candidates.length;
  for (let c = 0; c < count + MOST_ROUNDS; c++) {
    const inverse = c < count ? candidates[c] / (high - low) : 1 / fit.scale;
    const from = c < count ? -low : fit.offset;
    let q1 = 0;
    let q2 = 0;
    let xq = 0;
    for (let i = 0; i < n; i++) {
      let r = (x[o + i] + from) * inverse + ROUNDS - ROUNDS;
      r = Math.max(0, Math.min(most, r));
      q1 += r;
      q2 += r * r;
      xq += r * x[o + i];
    }
    const determinant = n * q2 - q1 * q1;
    let scale = determinant > 0 ? (n * xq - q1 * sum) / determinant : 0;
    let offset = determinant > 0 ? (q1 * xq - q2 * sum) / determinant : -1;
    if (offset < 0) {
      offset = 0;
      scale = xq / q2;
    }
    const error = squares - 2 * scale * xq + 2 * offset * sum + scale * scale * q2 - 2 * scale * offset * q1 + n * offset * offset;
    if (scale > 0 && error < least * (1 - 1e-12)) {
      least = error;
      fit.scale = scale;
      fit.offset = offset;
    } else if (c >= count || (c === count - 1 && fit.scale === 0)) break;
  }
}

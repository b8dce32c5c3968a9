/** Softmax and log-softmax of rows. */
import type { Kernels } from "../kernels.ts";
import type { Views } from "./memory.ts";

/** log Σ eˣ of a row, with the largest item taken out so that nothing overflows. −∞ for a row of −∞, and for an empty one. */
export function logSumExp(row: ArrayLike<number>): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let j = 0; j < row.length; j++) largest = Math.max(largest, row[j]);
  if (largest === Number.NEGATIVE_INFINITY) return largest;
  let sum = 0;
  for (let j = 0; j < row.length; j++) sum += Math.exp(row[j] - largest);
  return largest + Math.log(sum);
}

export function softmaxKernels(at: Views): Pick<Kernels, "softmax" | "softmaxGrad"> {
  return {
    softmax(x, out, rows, n, log) {
      const xs = at.f32(x, rows * n);
      const to = at.f32(out, rows * n);
      for (let r = 0; r < rows; r++) {
        const lse = logSumExp(xs.subarray(r * n, (r + 1) * n));
        // A row of −∞ gives −∞ − (−∞) = NaN here, as in PyTorch.
        for (let j = r * n; j < (r + 1) * n; j++) to[j] = log ? xs[j] - lse : Math.exp(xs[j] - lse);
      }
    },

    softmaxGrad(y, gy, gx, rows, n, log) {
      const [ys, gys, gxs] = [y, gy, gx].map((place) => at.f32(place, rows * n));
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let j = r * n; j < (r + 1) * n; j++) sum += log ? gys[j] : gys[j] * ys[j];
        for (let j = r * n; j < (r + 1) * n; j++) gxs[j] = log ? gys[j] - Math.exp(ys[j]) * sum : ys[j] * (gys[j] - sum);
      }
    },
  };
}

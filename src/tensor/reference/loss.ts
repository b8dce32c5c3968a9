/** Cross-entropy of logits, and its gradient. */
import { ShapeError } from "../../errors.ts";
import type { Kernels } from "../kernels.ts";
import type { Views } from "./memory.ts";
import { logSumExp } from "./softmax.ts";

function checkTargets(op: string, targets: Int32Array, n: number, ignoreIndex: number): void {
  for (let r = 0; r < targets.length; r++) {
    if (targets[r] !== ignoreIndex && (targets[r] < 0 || targets[r] >= n)) {
      throw new ShapeError(
        `${op}: target out of range, expected 0 <= target < ${n} (or ${ignoreIndex} to ignore it), got ${targets[r]} at place ${r}. Check the ids and the vocabulary's size`,
      );
    }
  }
}

export function lossKernels(at: Views): Pick<Kernels, "crossEntropy" | "crossEntropyGrad"> {
  return {
    crossEntropy(logits, targets, losses, lse, rows, n, ignoreIndex, smoothing) {
      const xs = at.f32(logits, rows * n);
      const t = at.i32(targets, rows);
      const [out, lses] = [at.f32(losses, rows), at.f32(lse, rows)];
      checkTargets("crossEntropy", t, n, ignoreIndex);
      for (let r = 0; r < rows; r++) {
        const row = xs.subarray(r * n, (r + 1) * n);
        const l = logSumExp(row);
        lses[r] = l;
        if (t[r] === ignoreIndex) {
          out[r] = 0;
        } else if (smoothing === 0) {
          out[r] = l - row[t[r]]; // here a masked logit (−∞) elsewhere in the row must not count
        } else {
          const mean = row.reduce((sum, x) => sum + x, 0) / n;
          out[r] = (1 - smoothing) * (l - row[t[r]]) + smoothing * (l - mean);
        }
      }
    },

    crossEntropyGrad(logits, targets, lse, scale, scaleStride, gx, rows, n, ignoreIndex, smoothing) {
      const xs = at.f32(logits, rows * n);
      const t = at.i32(targets, rows);
      const lses = at.f32(lse, rows);
      const scales = at.f32(scale, rows === 0 ? 0 : (rows - 1) * scaleStride + 1);
      const gxs = at.f32(gx, rows * n);
      checkTargets("crossEntropyGrad", t, n, ignoreIndex);
      for (let r = 0; r < rows; r++) {
        const row = r * n;
        if (t[r] === ignoreIndex) {
          gxs.fill(0, row, row + n);
          continue;
        }
        for (let j = 0; j < n; j++) {
          const wanted = (j === t[r] ? 1 - smoothing : 0) + smoothing / n;
          gxs[row + j] = scales[r * scaleStride] * (Math.exp(xs[row + j] - lses[r]) - wanted);
        }
      }
    },
  };
}

/** Layer and RMS normalisation of rows, and their gradients. */
import type { Kernels, Operand } from "../kernels.ts";
import type { Views } from "./memory.ts";

export function normKernels(at: Views): Pick<Kernels, "layerNorm" | "layerNormGrad" | "rmsNorm" | "rmsNormGrad"> {
  const optional = (place: Operand | null, n: number) => (place === null ? null : at.f32(place, n));

  /**
   * The gradient that both norms share. With x̂ = (x − mean)·rstd and g = gy·weight:
   * gx = rstd·(g − mean(g) − x̂·mean(g·x̂)), gw = Σ gy·x̂, gb = Σ gy over rows. RMS norm has no mean: it drops out of x̂ and of gx.
   */
  function grad(
    x: Operand,
    weight: Operand | null,
    mean: Operand | null,
    rstd: Operand,
    gy: Operand,
    gx: Operand | null,
    gw: Operand | null,
    gb: Operand | null,
    rows: number,
    n: number,
    accumulate: number,
  ): void {
    const [xs, gys] = [at.f32(x, rows * n), at.f32(gy, rows * n)];
    const [w, means, rstds] = [optional(weight, n), optional(mean, rows), at.f32(rstd, rows)];
    const [gxs, gws, gbs] = [optional(gx, rows * n), optional(gw, n), optional(gb, n)];
    const gwSums = new Float64Array(n);
    const gbSums = new Float64Array(n);
    const xHat = new Float64Array(n);
    const g = new Float64Array(n);
    for (let r = 0; r < rows; r++) {
      let gSum = 0;
      let gxHatSum = 0;
      for (let j = 0; j < n; j++) {
        const gyj = gys[r * n + j];
        xHat[j] = (xs[r * n + j] - (means === null ? 0 : means[r])) * rstds[r];
        g[j] = w === null ? gyj : gyj * w[j];
        gSum += g[j];
        gxHatSum += g[j] * xHat[j];
        gwSums[j] += gyj * xHat[j];
        gbSums[j] += gyj;
      }
      const gMean = means === null ? 0 : gSum / n;
      if (gxs === null) continue;
      for (let j = 0; j < n; j++) {
        const gxj = rstds[r] * (g[j] - gMean - (xHat[j] * gxHatSum) / n);
        gxs[r * n + j] = accumulate ? gxs[r * n + j] + gxj : gxj;
      }
    }
    gws?.set(gwSums);
    gbs?.set(gbSums);
  }

  return {
    layerNorm(x, weight, bias, out, mean, rstd, rows, n, eps) {
      const [xs, to] = [at.f32(x, rows * n), at.f32(out, rows * n)];
      const [w, b] = [optional(weight, n), optional(bias, n)];
      const [means, rstds] = [at.f32(mean, rows), at.f32(rstd, rows)];
      for (let r = 0; r < rows; r++) {
        const row = xs.subarray(r * n, (r + 1) * n);
        let sum = 0;
        for (let j = 0; j < n; j++) sum += row[j];
        const m = sum / n;
        let squares = 0;
        for (let j = 0; j < n; j++) squares += (row[j] - m) ** 2;
        const s = 1 / Math.sqrt(squares / n + eps);
        for (let j = 0; j < n; j++) to[r * n + j] = (row[j] - m) * s * (w === null ? 1 : w[j]) + (b === null ? 0 : b[j]);
        means[r] = m;
        rstds[r] = s;
      }
    },

    layerNormGrad: grad,

    rmsNorm(x, weight, out, rstd, rows, n, eps) {
      const [xs, to] = [at.f32(x, rows * n), at.f32(out, rows * n)];
      const [w, rstds] = [optional(weight, n), at.f32(rstd, rows)];
      for (let r = 0; r < rows; r++) {
        let squares = 0;
        for (let j = 0; j < n; j++) squares += xs[r * n + j] ** 2;
        const s = 1 / Math.sqrt(squares / n + eps);
        for (let j = 0; j < n; j++) to[r * n + j] = xs[r * n + j] * s * (w === null ? 1 : w[j]);
        rstds[r] = s;
      }
    },

    rmsNormGrad: (x, weight, rstd, gy, gx, gw, rows, n, accumulate) => grad(x, weight, null, rstd, gy, gx, gw, null, rows, n, accumulate),
  };
}

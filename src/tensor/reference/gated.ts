/** Gated units (Shazeer 2020, "GLU Variants Improve Transformer"): SwiGLU with silu, GeGLU with gelu, ReGLU with relu. */
import type { Kernels } from "../kernels.ts";
import { activationCurve } from "./curves.ts";
import type { Views } from "./memory.ts";

export function gatedKernels(at: Views): Pick<Kernels, "gated" | "gatedGrad"> {
  return {
    gated(activation, gate, up, out, n) {
      const { f } = activationCurve(activation);
      const [gates, ups, to] = [gate, up, out].map((place) => at.f32(place, n));
      for (let i = 0; i < n; i++) to[i] = f(gates[i]) * ups[i];
    },

    gatedGrad(activation, gate, up, gy, ggate, gup, n) {
      const { f, df } = activationCurve(activation);
      const [gates, ups, gys, ggates, gups] = [gate, up, gy, ggate, gup].map((place) => at.f32(place, n));
      for (let i = 0; i < n; i++) {
        ggates[i] = gys[i] * ups[i] * df(gates[i], f(gates[i]));
        gups[i] = gys[i] * f(gates[i]);
      }
    },
  };
}

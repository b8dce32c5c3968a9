/** Rotary position embedding (Su et al. 2021, section 3.4): each pair of items is turned by an angle that grows with the position. */
import { ShapeError } from "../../errors.ts";
import type { Kernels } from "../kernels.ts";
import { reach } from "../shape.ts";
import { checkIndices } from "./indexing.ts";
import type { Views } from "./memory.ts";

export function ropeKernels(at: Views): Pick<Kernels, "rope"> {
  return {
    rope(x, xRow, out, outRow, cos, sin, positions, rows, heads, headDim, rotary, interleaved, inverse) {
      if (rotary > headDim || rotary % 2 !== 0) {
        throw new ShapeError(`rope: the rotary part does not fit, expected an even number up to the head's ${headDim} items, got ${rotary}`);
      }
      const half = rotary / 2;
      const table = half === 0 ? Number.POSITIVE_INFINITY : Math.floor(Math.min(at.room(cos, 4), at.room(sin, 4)) / half);
      const xs = at.f32(x, reach([rows, heads * headDim], [xRow, 1]));
      const to = at.f32(out, reach([rows, heads * headDim], [outRow, 1]));
      const place = at.i32(positions, rows);
      checkIndices("rope", place, table);
      const used = half === 0 ? 0 : table * half;
      const [cosines, sines] = [at.f32(cos, used), at.f32(sin, used)];
      for (let r = 0; r < rows; r++) {
        for (let h = 0; h < heads; h++) {
          const from = r * xRow + h * headDim;
          const into = r * outRow + h * headDim;
          for (let i = 0; i < half; i++) {
            const c = cosines[place[r] * half + i];
            const s = inverse ? -sines[place[r] * half + i] : sines[place[r] * half + i];
            const [first, second] = interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
            // (a, b) turned by θ: (a·cos θ − b·sin θ, b·cos θ + a·sin θ)
            const a = xs[from + first];
            const b = xs[from + second];
            to[into + first] = a * c - b * s;
            to[into + second] = b * c + a * s;
          }
          for (let i = rotary; i < headDim; i++) to[into + i] = xs[from + i];
        }
      }
    },
  };
}

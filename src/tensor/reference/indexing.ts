/** Items and rows by index, and the gradients. Indices are checked before anything is written. */
import { ShapeError } from "../../errors.ts";
import type { Kernels } from "../kernels.ts";
import type { Views } from "./memory.ts";
import { reader } from "./moving.ts";

/** Every index must lie in 0 … bound − 1. */
export function checkIndices(op: string, indices: Int32Array, bound: number): void {
  for (let i = 0; i < indices.length; i++) {
    if (indices[i] < 0 || indices[i] >= bound) {
      throw new ShapeError(
        `${op}: index out of range, expected 0 <= index < ${bound}, got ${indices[i]} at place ${i}. Check the ids and the size of the table`,
      );
    }
  }
}

export function indexingKernels(at: Views): Pick<Kernels, "gather" | "scatterAdd" | "embedding" | "embeddingGrad"> {
  return {
    gather(x, index, out, outer, n, k, inner) {
      const from = at.i32(x, outer * n * inner); // any item of 4 bytes
      const places = at.i32(index, outer * k * inner);
      const to = at.i32(out, outer * k * inner);
      checkIndices("gather", places, n);
      for (let o = 0; o < outer; o++) {
        for (let j = 0; j < k; j++) {
          for (let i = 0; i < inner; i++) {
            const p = (o * k + j) * inner + i;
            to[p] = from[(o * n + places[p]) * inner + i];
          }
        }
      }
    },

    scatterAdd(src, index, out, outer, n, k, inner) {
      const from = at.f32(src, outer * k * inner);
      const places = at.i32(index, outer * k * inner);
      const to = at.f32(out, outer * n * inner);
      checkIndices("scatterAdd", places, n);
      for (let o = 0; o < outer; o++) {
        for (let j = 0; j < k; j++) {
          for (let i = 0; i < inner; i++) {
            const p = (o * k + j) * inner + i;
            to[(o * n + places[p]) * inner + i] += from[p];
          }
        }
      }
    },

    embedding(weight, dtype, ids, out, count, rows, dim) {
      const read = reader("embedding", dtype);
      const w = at.items(weight, dtype, rows * dim);
      const id = at.i32(ids, count);
      const to = at.f32(out, count * dim);
      checkIndices("embedding", id, rows);
      for (let c = 0; c < count; c++) {
        for (let d = 0; d < dim; d++) to[c * dim + d] = read(w[id[c] * dim + d]);
      }
    },

    embeddingGrad(ids, gy, gw, count, rows, dim) {
      const id = at.i32(ids, count);
      const g = at.f32(gy, count * dim);
      const w = at.f32(gw, rows * dim);
      checkIndices("embeddingGrad", id, rows);
      for (let c = 0; c < count; c++) {
        for (let d = 0; d < dim; d++) w[id[c] * dim + d] += g[c * dim + d];
      }
    },
  };
}

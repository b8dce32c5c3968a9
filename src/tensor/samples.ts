/** Deterministic values for the samples of operations. */
import { type Shape, sizeOf } from "./shape.ts";
import { type Tensor, tensorFrom } from "./tensor.ts";

/** Numbers spread evenly over (low, high) in a scrambled order, none equal, none within 0.02 of zero; the seed picks the order. */
export function values(shape: Shape, options: { seed?: number; low?: number; high?: number; requiresGrad?: boolean } = {}): Tensor {
  const { seed = 1, low = -2, high = 2, requiresGrad = true } = options;
  const n = sizeOf(shape);
  const out = new Float32Array(n);
  let state = (seed * 2654435761) >>> 0;
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  for (let i = 0; i < n; i++) {
    const x = low + ((high - low) * ((order[i] as number) + 0.5)) / n;
    out[i] = Math.abs(x) < 0.02 ? 0.02 + Math.abs(x) : x;
  }
  return tensorFrom(out, shape, { requiresGrad });
}

/** Whole numbers from low to high − 1 in a scrambled order, as i32. */
export function integers(shape: Shape, low: number, high: number, seed = 1): Tensor {
  let state = (seed * 40503 + 12345) >>> 0;
  const out = new Int32Array(sizeOf(shape));
  for (let i = 0; i < out.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = low + Math.floor((state / 4294967296) * (high - low));
  }
  return tensorFrom(out, shape);
}

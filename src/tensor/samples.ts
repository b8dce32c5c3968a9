/** Deterministic values for the samples of operations. */
import { f32ToF16 } from "./dtype.ts";
import type { QuantizedDType } from "./kernels.ts";
import { quantizedFromBytes } from "./quantized.ts";
import { BLOCK_OF, blockBytes } from "./quantized-layout.ts";
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

/** Where a block's float16 scale and minimum lie; MXFP4 has an exponent in its first byte. */
const HALVES: Record<QuantizedDType, readonly number[]> = {
  q8_0: [0],
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q2_k: [80, 82],
  q3_k: [108],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
  iq4_nl: [0],
  iq4_xs: [0],
  mxfp4: [],
};

/** A quantised matrix (n, k) of scrambled bits, with scales that make its numbers a few units large. */
export function quantizedValues(shape: Shape, dtype: QuantizedDType, seed = 1): Tensor {
  const k = shape.at(-1) as number;
  const bytes = new Uint8Array(
    blockBytes(
      "quantizedValues",
      dtype,
      shape.slice(0, -1).reduce((a, b) => a * b, 1),
      k,
    ),
  );
  let state = (seed * 40503 + 12345) >>> 0;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  const { items, bytes: each } = BLOCK_OF[dtype];
  for (let at = 0, b = 0; at < bytes.length; at += each, b++) {
    for (const half of HALVES[dtype]) {
      const bits = f32ToF16((items === 256 ? 0.0005 : 0.02) * (1 + (b % 7)) * (half === 0 ? 1 : -1));
      bytes[at + half] = bits & 255;
      bytes[at + half + 1] = bits >> 8;
    }
    if (dtype === "mxfp4") bytes[at] = 124 + (b % 3);
  }
  return quantizedFromBytes(bytes, shape, dtype);
}

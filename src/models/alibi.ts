/** Attention with linear biases (ALiBi, Press et al. 2022): positions enter as a penalty on far keys, a slope for each head. */
import { buffer } from "../nn/index.ts";
import { type Tensor, tensorFrom } from "../tensor/index.ts";

/**
 * The slopes of so many heads. For n heads, n a power of two, they are 2^(−8/n), 2^(−16/n), …; other numbers take those of the power below, and then
 * every other one of the power above (section 3, and the code of its authors).
 */
export function alibiSlopes(heads: number): Float32Array {
  const below = 2 ** Math.floor(Math.log2(heads));
  return Float32Array.from({ length: heads }, (_, h) => 2 ** (h < below ? (-8 * (h + 1)) / below : (-4 * (2 * (h - below) + 1)) / below));
}

/** Numbers rounded to bfloat16, ties to even, as float32. */
export function bf16Slopes(slopes: Float32Array): Float32Array {
  const bits = new Uint32Array(slopes.slice().buffer);
  for (const [i, x] of bits.entries()) bits[i] = (x + 0x7fff + ((x >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(bits.buffer);
}

/** The slopes as a module keeps them for `attend`: f32 (heads), no weight and in no file. */
export const slopesBuffer = (slopes: Float32Array): Tensor => buffer(tensorFrom(slopes, [slopes.length]));

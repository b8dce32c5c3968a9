/**
 * Blocks with scales that are searched: ggml's K layouts, 256 numbers with small scales (and offsets) of their sub-blocks under one or two float16 ones, and
 * IQ4_NL. The layouts are ggml's (see dequantize.ts, which reads them); how scales are found is groundup's: least squares for each sub-block (scale-search.ts), then
 * for the scales under their common one, then each sub-block once more with the scales that the block can really hold and their neighbours.
 *
 * What is made least is the plain sum of squares of the error. Numbers that a block can hold exactly come back exactly where the sub-blocks reach both ends of
 * their integers (only then do the numbers tell the scale).
 */
import { f16ToF32, f32ToF16 } from "../../tensor/dtype.ts";
import { IQ4_VALUES } from "../../tensor/quantized-blocks.ts";
import { type Fit, ROUNDS, searchScale, searchScaleAndOffset } from "./scale-search.ts";

/** Writes the 256 (IQ4_NL: 32) elements from `o` of `x` as a block at `at` of `b`, which holds zeros. */
type Block = (x: Float32Array, o: number, b: Uint8Array, at: number) => void;

const steps = (from: number, to: number, by: number): Float64Array => Float64Array.from({ length: Math.round((to - from) / by) + 1 }, (_, i) => from + i * by);

/** Rounded to what is stored; writes it. */
function putHalf(b: Uint8Array, at: number, value: number): number {
  const bits = f32ToF16(value);
  b[at] = bits & 255;
  b[at + 1] = bits >> 8;
  return f16ToF32(bits);
}

const clamp = (q: number, least: number, most: number): number => Math.max(least, Math.min(most, q));

// One block at a time is worked on, so that what each needs is made once.
const levels = new Uint8Array(256);
const unused = new Int8Array(32);
const scales = new Float64Array(16);
const offsets = new Float64Array(16);
const weights = new Float64Array(16);
const small = new Int32Array(16);
const smallOffsets = new Int32Array(16);
const fit: Fit = { scale: 0, offset: 0 };

/** The common scale of numbers that are never negative. */
function searchCommon(values: Float64Array, n: number, importance: Float64Array | null, most: number): number {
  return Math.abs(searchScale(values, 0, n, importance, { least: 0, most, candidates: COMMON[most] }, unused));
}
/** By the largest integer. */
const COMMON: Record<number, Float64Array> = { 15: steps(8, 15.5, 0.5), 63: steps(56, 63.5, 0.5) };

/** A layout with scales and offsets. */
interface Affine {
  /** Numbers of a sub-block. */
  readonly width: number;
  /** The largest integer of a number. */
  readonly most: number;
  /** The largest integer of a scale and of an offset. */
  readonly mostScale: number;
  /** How many steps the range of a sub-block is cut into, to try. */
  readonly candidates: Float64Array;
}

/**
 * Finds `small`, `smallOffsets` and `levels` of a block; gives its two float16 scales, which it writes at `place` and behind it.
 */
function affine({ width, most, mostScale, candidates }: Affine, x: Float32Array, o: number, b: Uint8Array, place: number): void {
  const count = 256 / width;
  for (let j = 0; j < count; j++) {
    searchScaleAndOffset(x, o + j * width, width, most, candidates, fit);
    scales[j] = fit.scale;
    offsets[j] = fit.offset;
    // An error of the scale costs its square times Σq².
    let qq = 0;
    for (let i = 0; i < width && fit.scale > 0; i++) qq += clamp(Math.round((x[o + j * width + i] + fit.offset) / fit.scale), 0, most) ** 2;
    weights[j] = qq;
  }
  const d = putHalf(b, place, searchCommon(scales, count, weights, mostScale));
  const dmin = putHalf(b, place + 2, searchCommon(offsets, count, null, mostScale));
  for (let j = 0; j < count; j++) {
    const at = o + j * width;
    const [s0, m0] = [d === 0 ? 0 : clamp(Math.round(scales[j] / d), 0, mostScale), dmin === 0 ? 0 : clamp(Math.round(offsets[j] / dmin), 0, mostScale)];
    let least = Number.POSITIVE_INFINITY;
    for (let s = Math.max(s0 - 1, 0); s <= Math.min(s0 + 1, mostScale); s++) {
      for (let m = Math.max(m0 - 1, 0); m <= Math.min(m0 + 1, mostScale); m++) {
        const [scale, offset] = [d * s, dmin * m];
        const inverse = scale === 0 ? 0 : 1 / scale;
        let error = 0;
        for (let i = 0; i < width && error < least; i++) {
          const v = x[at + i] + offset;
          let q = v * inverse + ROUNDS - ROUNDS;
          q = q < 0 ? 0 : q > most ? most : q;
          const off = v - scale * q;
          error += off * off;
        }
        if (error < least) [least, small[j], smallOffsets[j]] = [error, s, m];
      }
      if (d === 0) break;
    }
    const [scale, offset] = [d * small[j], dmin * smallOffsets[j]];
    for (let i = 0; i < width; i++) levels[j * width + i] = scale === 0 ? 0 : clamp(Math.round((x[at + i] + offset) / scale), 0, most);
  }
}

/** Layouts without offsets: integers from −`half` to `half` − 1, kept as `levels` with `half` added; scales of `−mostScale` to `mostScale − 1`, in `small`. */
interface Symmetric {
  readonly half: number;
  readonly mostScale: number;
  readonly candidates: Float64Array;
  readonly candidatesOfScale: Float64Array;
}

function symmetric({ half, mostScale, candidates, candidatesOfScale }: Symmetric, x: Float32Array, o: number, b: Uint8Array, place: number): void {
  const range = { least: -half, most: half - 1, candidates };
  for (let j = 0; j < 16; j++) {
    scales[j] = searchScale(x, o + j * 16, 16, null, range, unused);
    let qq = 0;
    for (let i = 0; i < 16 && scales[j] !== 0; i++) qq += unused[i] ** 2;
    weights[j] = qq;
  }
  const d = putHalf(b, place, searchScale(scales, 0, 16, weights, { least: -mostScale, most: mostScale - 1, candidates: candidatesOfScale }, unused));
  for (let j = 0; j < 16; j++) {
    const at = o + j * 16;
    const s0 = d === 0 ? 0 : clamp(Math.round(scales[j] / d), -mostScale, mostScale - 1);
    let least = Number.POSITIVE_INFINITY;
    for (let s = Math.max(s0 - 1, -mostScale); s <= Math.min(s0 + 1, mostScale - 1); s++) {
      const scale = d * s;
      const inverse = scale === 0 ? 0 : 1 / scale;
      let error = 0;
      for (let i = 0; i < 16 && error < least; i++) {
        let q = x[at + i] * inverse + ROUNDS - ROUNDS;
        q = q < -half ? -half : q >= half ? half - 1 : q;
        const off = x[at + i] - scale * q;
        error += off * off;
      }
      if (error < least) [least, small[j]] = [error, s];
    }
    const scale = d * small[j];
    for (let i = 0; i < 16; i++) levels[j * 16 + i] = half + (scale === 0 ? 0 : clamp(Math.round(x[at + i] / scale), -half, half - 1));
  }
}

/** The eight six-bit scales and offsets of Q4_K and Q5_K in twelve bytes; `scalesAndOffsets` reads them. */
function putScalesAndOffsets(b: Uint8Array, at: number): void {
  for (let i = 0; i < 4; i++) {
    b[at + i] = small[i] | ((small[4 + i] >> 4) << 6);
    b[at + 4 + i] = smallOffsets[i] | ((smallOffsets[4 + i] >> 4) << 6);
    b[at + 8 + i] = (small[4 + i] & 15) | ((smallOffsets[4 + i] & 15) << 4);
  }
}

const Q2_K: Affine = { width: 16, most: 3, mostScale: 15, candidates: steps(1.5, 4.25, 0.125) };
const Q4_K: Affine = { width: 32, most: 15, mostScale: 63, candidates: steps(13, 16.5, 0.25) };
const Q5_K: Affine = { width: 32, most: 31, mostScale: 63, candidates: steps(29, 32.5, 0.5) };
const Q3_K: Symmetric = { half: 4, mostScale: 32, candidates: both(steps(2.25, 5, 0.25)), candidatesOfScale: both(steps(24, 33, 0.5)) };
const Q6_K: Symmetric = { half: 32, mostScale: 128, candidates: both(steps(29, 33, 0.5)), candidatesOfScale: both(steps(120, 129, 0.5)) };

/** The number of the largest size may become the least integer or the largest one. */
function both(sizes: Float64Array): Float64Array {
  return Float64Array.from([...sizes].flatMap((size) => [-size, size]));
}

const IQ4_LEAST = IQ4_VALUES[0];
/** Nearest of IQ4's values by 2·v, rounded down, above that of the least: borders lie at multiples of a half. */
const IQ4_NEAREST = Uint8Array.from({ length: 2 * (IQ4_VALUES[15] - IQ4_LEAST) + 1 }, (_, i) => {
  const v = IQ4_LEAST + i / 2;
  let best = 0;
  for (let q = 1; q < 16; q++) if (Math.abs(IQ4_VALUES[q] - v) <= Math.abs(IQ4_VALUES[best] - v)) best = q;
  return best;
});
const IQ4_LAST = IQ4_NEAREST.length - 1;
function nearestIq4(v: number): number {
  const at = 2 * (v - IQ4_LEAST);
  return IQ4_NEAREST[at <= 0 ? 0 : at >= IQ4_LAST ? IQ4_LAST : at | 0];
}
/** What the largest number may become: a little less or more than a value near either end. */
const IQ4_CANDIDATES = Float64Array.from([...both(steps(94, 134, 5))]);

/** IQ4_NL's integers are not evenly spaced, so that rounding is looking up; otherwise as `searchScale`. */
function searchIq4(x: Float32Array, o: number): number {
  let extreme = 0;
  for (let i = 0; i < 32; i++) if (Math.abs(x[o + i]) > Math.abs(extreme)) extreme = x[o + i];
  if (extreme === 0) return 0;
  let [best, gain] = [0, 0];
  const count = IQ4_CANDIDATES.length;
  for (let c = 0; c < count + 4; c++) {
    const inverse = c < count ? IQ4_CANDIDATES[c] / extreme : 1 / best;
    let [xv, vv] = [0, 0];
    for (let i = 0; i < 32; i++) {
      const v = IQ4_VALUES[nearestIq4(x[o + i] * inverse)];
      xv += v * x[o + i];
      vv += v * v;
    }
    if (xv * xv > gain * vv * (1 + 1e-12)) [best, gain] = [xv / vv, (xv * xv) / vv];
    else if (c >= count) break;
  }
  return best;
}

/** Of each layout; sub-blocks and bits stand as `dequantize.ts` reads them. */
export const K_BLOCKS = {
  Q2_K(x, o, b, at) {
    affine(Q2_K, x, o, b, at + 80);
    for (let j = 0; j < 16; j++) b[at + j] = small[j] | (smallOffsets[j] << 4);
    for (let i = 0; i < 256; i++) b[at + 16 + ((i >> 7) << 5) + (i & 31)] |= levels[i] << (2 * ((i >> 5) & 3));
  },
  Q3_K(x, o, b, at) {
    symmetric(Q3_K, x, o, b, at + 108);
    for (let j = 0; j < 16; j++) {
      const s = small[j] + 32;
      b[at + 96 + (j & 7)] |= (s & 15) << (j < 8 ? 0 : 4);
      b[at + 104 + (j & 3)] |= (s >> 4) << (2 * (j >> 2));
    }
    for (let i = 0; i < 256; i++) {
      b[at + 32 + ((i >> 7) << 5) + (i & 31)] |= (levels[i] & 3) << (2 * ((i >> 5) & 3));
      b[at + (i & 31)] |= (levels[i] >> 2) << (i >> 5);
    }
  },
  Q4_K(x, o, b, at) {
    affine(Q4_K, x, o, b, at);
    putScalesAndOffsets(b, at + 4);
    for (let i = 0; i < 256; i++) b[at + 16 + ((i >> 6) << 5) + (i & 31)] |= levels[i] << (4 * ((i >> 5) & 1));
  },
  Q5_K(x, o, b, at) {
    affine(Q5_K, x, o, b, at);
    putScalesAndOffsets(b, at + 4);
    for (let i = 0; i < 256; i++) {
      b[at + 48 + ((i >> 6) << 5) + (i & 31)] |= (levels[i] & 15) << (4 * ((i >> 5) & 1));
      b[at + 16 + (i & 31)] |= (levels[i] >> 4) << (i >> 5);
    }
  },
  Q6_K(x, o, b, at) {
    symmetric(Q6_K, x, o, b, at + 208);
    for (let j = 0; j < 16; j++) b[at + 192 + j] = small[j];
    for (let i = 0; i < 256; i++) {
      const [group, place] = [i >> 7, i & 127];
      b[at + (group << 6) + (place & 63)] |= (levels[i] & 15) << (4 * (place >> 6));
      b[at + 128 + (group << 5) + (place & 31)] |= (levels[i] >> 4) << (2 * (place >> 5));
    }
  },
  IQ4_NL(x, o, b, at) {
    const d = putHalf(b, at, searchIq4(x, o));
    const inverse = d === 0 ? 0 : 1 / d;
    for (let i = 0; i < 16; i++) b[at + 2 + i] = nearestIq4(x[o + i] * inverse) | (nearestIq4(x[o + 16 + i] * inverse) << 4);
  },
} satisfies Record<string, Block>;

/**
 * Float32 rows as blocks, in plain TypeScript. Those of one scale for 32 numbers are made with ggml's choice of scales and rounding, so that the results equal those
 * of the `gguf` package bit for bit; the others are in quantize-k.ts, with scales that are searched.
 *
 * A scale is the float16 next to what the integers were divided by; the integers come from the scale before that rounding, as in ggml.
 */
import { FormatError } from "../../errors.ts";
import { f32ToBf16, f32ToF16 } from "../../tensor/dtype.ts";
import { E2M1_VALUES, halfE8M0 } from "../../tensor/quantized-blocks.ts";
import { K_BLOCKS } from "./quantize-k.ts";
import { GGML_TYPES, type GgmlType } from "./types.ts";

/** Writes the elements from `o` of `x` as a block at `at` of `b`. */
type Block = (x: Float32Array, o: number, b: Uint8Array, at: number) => void;

const { fround } = Math;

function putHalf(b: Uint8Array, at: number, value: number): void {
  const bits = f32ToF16(value);
  b[at] = bits & 255;
  b[at + 1] = bits >> 8;
}

/** 1 / d, or 0. */
const inverse = (d: number): number => (d === 0 ? 0 : fround(1 / d));
const bounded = (q: number, most: number): number => Math.min(Math.max(q, 0), most);

/** The element of the largest size of 32, with its sign; of equals the first. */
function extreme(x: Float32Array, o: number): number {
  let found = x[o];
  for (let i = 1; i < 32; i++) if (Math.abs(x[o + i]) > Math.abs(found)) found = x[o + i];
  return found;
}

function range(x: Float32Array, o: number): [least: number, largest: number] {
  let [least, largest] = [x[o], x[o]];
  for (let i = 1; i < 32; i++) {
    least = Math.min(least, x[o + i]);
    largest = Math.max(largest, x[o + i]);
  }
  return [least, largest];
}

/** Integers of five bits: the fifth ones at `high`, the others in halves of bytes at `low`. */
function putFiveBits(b: Uint8Array, high: number, low: number, q: (i: number) => number): void {
  for (let i = 0; i < 16; i++) {
    const [first, second] = [q(i), q(16 + i)];
    b[low + i] = (first & 15) | ((second & 15) << 4);
    b[high + (i >> 3)] |= (first >> 4) << (i & 7);
    b[high + 2 + (i >> 3)] |= (second >> 4) << (i & 7);
  }
}

function putNibbles(b: Uint8Array, at: number, q: (i: number) => number): void {
  for (let i = 0; i < 16; i++) b[at + i] = q(i) | (q(16 + i) << 4);
}

/** Away from zero at halves, as C's roundf. */
const rounded = (x: number): number => Math.sign(x) * Math.floor(fround(Math.abs(x) + 0.5));

const BLOCKS = {
  F16(x, o, b, at) {
    putHalf(b, at, x[o]);
  },
  BF16(x, o, b, at) {
    const bits = f32ToBf16(x[o]);
    b[at] = bits & 255;
    b[at + 1] = bits >> 8;
  },
  Q4_0(x, o, b, at) {
    const d = fround(extreme(x, o) / -8);
    const id = inverse(d);
    putHalf(b, at, d);
    putNibbles(b, at + 2, (i) => bounded(Math.trunc(fround(fround(x[o + i] * id) + 8.5)), 15));
  },
  Q4_1(x, o, b, at) {
    const [least, largest] = range(x, o);
    const d = fround(fround(largest - least) / 15);
    const id = inverse(d);
    putHalf(b, at, d);
    putHalf(b, at + 2, least);
    putNibbles(b, at + 4, (i) => bounded(Math.trunc(fround(fround(fround(x[o + i] - least) * id) + 0.5)), 15));
  },
  Q5_0(x, o, b, at) {
    const d = fround(extreme(x, o) / -16);
    const id = inverse(d);
    putHalf(b, at, d);
    putFiveBits(b, at + 2, at + 6, (i) => bounded(Math.trunc(fround(fround(x[o + i] * id) + 16.5)), 31));
  },
  Q5_1(x, o, b, at) {
    const [least, largest] = range(x, o);
    const d = fround(fround(largest - least) / 31);
    const id = inverse(d);
    putHalf(b, at, d);
    putHalf(b, at + 2, least);
    putFiveBits(b, at + 4, at + 8, (i) => bounded(Math.trunc(fround(fround(fround(x[o + i] - least) * id) + 0.5)), 31));
  },
  Q8_0(x, o, b, at) {
    const d = fround(Math.abs(extreme(x, o)) / 127);
    const id = inverse(d);
    putHalf(b, at, d);
    for (let i = 0; i < 32; i++) b[at + 2 + i] = rounded(fround(x[o + i] * id));
  },
  MXFP4(x, o, b, at) {
    const largest = Math.abs(extreme(x, o));
    const e = largest > 0 ? Math.floor(fround(Math.log2(largest))) - 2 + 127 : 0;
    const d = halfE8M0(e);
    b[at] = e;
    putNibbles(b, at + 1, (i) => {
      // Eight values of each sign, by size: what follows one that is no nearer is farther away.
      let [best, least] = [0, distance(x[o + i], d, 0)];
      const first = x[o + i] < 0 ? 9 : 1;
      for (let q = first; q < first + 7; q++) {
        const far = distance(x[o + i], d, q);
        if (far >= least) break;
        [best, least] = [q, far];
      }
      return best;
    });
  },
  ...K_BLOCKS,
} satisfies Partial<Record<GgmlType, Block>>;

const distance = (x: number, d: number, q: number): number => Math.abs(fround(fround(d * E2M1_VALUES[q]) - x));

/** A layout that `quantizeBlocks` knows. */
export type QuantizedType = "F32" | keyof typeof BLOCKS;
/** Their names. */
export const QUANTIZED: readonly QuantizedType[] = ["F32", ...(Object.keys(BLOCKS) as (keyof typeof BLOCKS)[])];

/**
 * Numbers as blocks.
 * @throws FormatError where their number is no multiple of a block's, or one is not finite and the layout has no bits for that; `where` says of what
 */
export function quantizeBlocks(type: QuantizedType, values: Float32Array, where: string): Uint8Array<ArrayBuffer> {
  const { elements, bytes } = GGML_TYPES[type];
  if (values.length % elements !== 0)
    throw new FormatError(`${where}: can't be ${type}, expected a multiple of ${elements} numbers, got ${values.length}. Choose another layout for it.`);
  // Every platform that Node runs on is little-endian.
  if (type === "F32") return new Uint8Array(values.slice().buffer);
  const bad = elements === 1 ? -1 : values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new FormatError(`${where}: can't be ${type}, expected finite numbers, got ${values[bad]} at place ${bad}. Mend the weights, or keep them as F32.`);
  const out = new Uint8Array((values.length / elements) * bytes);
  for (let o = 0, at = 0; o < values.length; o += elements, at += bytes) BLOCKS[type](values, o, out, at);
  return out;
}

/**
 * Blocks of quantised numbers as float32, in plain TypeScript: a few lines for each layout, to read, and the oracle of the kernels that compute on the blocks
 * themselves. A block is a scale (and perhaps an offset) with small integers; its "K" forms hold sixteen or eight sub-blocks with small scales of their own.
 *
 * Every product and sum is rounded to float32 in ggml's order, so that results equal those of the `gguf` package bit for bit.
 * Source of the layouts: ggml's `ggml-common.h`; of MXFP4: OCP Microscaling Formats 1.0, section 5.
 */
import { f16ToF32 } from "./dtype.ts";
import type { QuantizedDType } from "./kernels.ts";

/** Writes the elements of the block at `at` of `b` into `out` from `o`. */
export type Block = (b: Uint8Array, at: number, out: Float32Array, o: number) => void;

const { fround } = Math;
const half = (b: Uint8Array, at: number): number => f16ToF32(b[at] | (b[at + 1] << 8));
const signed = (byte: number): number => (byte << 24) >> 24;

/** Sixteen values that four bits choose from, denser around zero. */
export const IQ4_VALUES = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
/** Twice the values of E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives), so that they are whole; the scale is halved. */
export const E2M1_VALUES = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);
/** 2^(e − 128): half of what an E8M0 scale stands for, since the values are doubled. */
export function halfE8M0(e: number): number {
  word[0] = e < 2 ? 0x00200000 << e : (e - 1) << 23;
  return wordAsFloat[0];
}

/** 32 numbers of four bits: the low halves of 16 bytes come first. */
function nibbles(b: Uint8Array, from: number, out: Float32Array, o: number, value: (q: number, i: number) => number): void {
  for (let i = 0; i < 16; i++) {
    out[o + i] = value(b[from + i] & 15, i);
    out[o + 16 + i] = value(b[from + i] >> 4, 16 + i);
  }
}

/** Bit i of the four bytes at `from`, as 16. */
const fifthBit = (b: Uint8Array, from: number, i: number): number => ((b[from + (i >> 3)] >> (i & 7)) & 1) << 4;

/** The eight six-bit scales and offsets of Q4_K and Q5_K, in twelve bytes. */
export function scalesAndOffsets(b: Uint8Array, at: number): { scales: number[]; offsets: number[] } {
  const scales: number[] = [];
  const offsets: number[] = [];
  for (let i = 0; i < 4; i++) {
    const [s, m, both] = [b[at + i], b[at + 4 + i], b[at + 8 + i]];
    scales[i] = s & 63;
    offsets[i] = m & 63;
    scales[4 + i] = (both & 15) | ((s >> 2) & 48);
    offsets[4 + i] = (both >> 4) | ((m >> 2) & 48);
  }
  return { scales, offsets };
}

/** The sixteen six-bit scales of Q3_K, in twelve bytes, less 32. */
export function scalesOfQ3K(b: Uint8Array, at: number): number[] {
  return Array.from({ length: 16 }, (_, i) => {
    const low = i < 8 ? b[at + i] & 15 : b[at + i - 8] >> 4;
    const high = (b[at + 8 + (i & 3)] >> (2 * (i >> 2))) & 3;
    return (low | (high << 4)) - 32;
  });
}

/** The layouts, by their names in `QUANTIZED`. */
export const READ_BLOCK: Record<QuantizedDType, Block> = {
  q4_0(b, at, out, o) {
    const d = half(b, at);
    nibbles(b, at + 2, out, o, (q) => d * (q - 8));
  },
  q4_1(b, at, out, o) {
    const [d, m] = [half(b, at), half(b, at + 2)];
    nibbles(b, at + 4, out, o, (q) => fround(d * q) + m);
  },
  q5_0(b, at, out, o) {
    const d = half(b, at);
    nibbles(b, at + 6, out, o, (q, i) => d * ((q | fifthBit(b, at + 2, i)) - 16));
  },
  q5_1(b, at, out, o) {
    const [d, m] = [half(b, at), half(b, at + 2)];
    nibbles(b, at + 8, out, o, (q, i) => fround(d * (q | fifthBit(b, at + 4, i))) + m);
  },
  q8_0(b, at, out, o) {
    const d = half(b, at);
    for (let i = 0; i < 32; i++) out[o + i] = d * signed(b[at + 2 + i]);
  },
  // Sub-blocks of 16; byte i of a group of 32 holds two bits of elements i, 32 + i, 64 + i and 96 + i of its 128.
  q2_k(b, at, out, o) {
    const [d, dmin] = [half(b, at + 80), half(b, at + 82)];
    for (let i = 0; i < 256; i++) {
      const scale = b[at + (i >> 4)];
      const q = (b[at + 16 + ((i >> 7) << 5) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
      out[o + i] = fround(fround(d * (scale & 15)) * q) - fround(dmin * (scale >> 4));
    }
  },
  // As Q2_K with a third bit apart; where that is 0, four is taken off.
  q3_k(b, at, out, o) {
    const d = half(b, at + 108);
    const scales = scalesOfQ3K(b, at + 96);
    for (let i = 0; i < 256; i++) {
      const low = (b[at + 32 + ((i >> 7) << 5) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
      const high = (b[at + (i & 31)] >> (i >> 5)) & 1;
      out[o + i] = fround(d * scales[i >> 4]) * (low - (high === 1 ? 0 : 4));
    }
  },
  // Sub-blocks of 32: two share 32 bytes, the first in the low halves.
  q4_k(b, at, out, o) {
    const [d, dmin] = [half(b, at), half(b, at + 2)];
    const { scales, offsets } = scalesAndOffsets(b, at + 4);
    for (let i = 0; i < 256; i++) {
      const sub = i >> 5;
      const q = (b[at + 16 + ((sub >> 1) << 5) + (i & 31)] >> (4 * (sub & 1))) & 15;
      out[o + i] = fround(fround(d * scales[sub]) * q) - fround(dmin * offsets[sub]);
    }
  },
  q5_k(b, at, out, o) {
    const [d, dmin] = [half(b, at), half(b, at + 2)];
    const { scales, offsets } = scalesAndOffsets(b, at + 4);
    for (let i = 0; i < 256; i++) {
      const sub = i >> 5;
      const low = (b[at + 48 + ((sub >> 1) << 5) + (i & 31)] >> (4 * (sub & 1))) & 15;
      const q = low | (((b[at + 16 + (i & 31)] >> sub) & 1) << 4);
      out[o + i] = fround(fround(d * scales[sub]) * q) - fround(dmin * offsets[sub]);
    }
  },
  q6_k(b, at, out, o) {
    const d = half(b, at + 208);
    for (let i = 0; i < 256; i++) {
      const [group, place] = [i >> 7, i & 127];
      const low = (b[at + (group << 6) + (place & 63)] >> (4 * (place >> 6))) & 15;
      const high = (b[at + 128 + (group << 5) + (place & 31)] >> (2 * (place >> 5))) & 3;
      out[o + i] = fround(d * signed(b[at + 192 + (i >> 4)])) * ((low | (high << 4)) - 32);
    }
  },
  iq4_nl(b, at, out, o) {
    const d = half(b, at);
    nibbles(b, at + 2, out, o, (q) => d * IQ4_VALUES[q]);
  },
  iq4_xs(b, at, out, o) {
    const d = half(b, at);
    const high = b[at + 2] | (b[at + 3] << 8);
    for (let sub = 0; sub < 8; sub++) {
      const scale = ((b[at + 4 + (sub >> 1)] >> (4 * (sub & 1))) & 15) | (((high >> (2 * sub)) & 3) << 4);
      const dl = fround(d * (scale - 32));
      nibbles(b, at + 8 + 16 * sub, out, o + 32 * sub, (q) => dl * IQ4_VALUES[q]);
    }
  },
  mxfp4(b, at, out, o) {
    const d = halfE8M0(b[at]);
    nibbles(b, at + 1, out, o, (q) => d * E2M1_VALUES[q]);
  },
};

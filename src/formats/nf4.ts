/**
 * NF4 with double quantisation (Dettmers, Pagnoni, Holtzman, Zettlemoyer 2023, "QLoRA", section 3), and int8 with one scale a row (absmax).
 *
 * NF4: blocks of 64 numbers, divided by their largest size, become the nearest of sixteen values that are equally likely for normal numbers. The blocks' sizes, less their
 * mean, are themselves kept as int8 with one float32 for each 256 of them: 4 + 8/64 + 32/(64·256) = 4.127 bits a number.
 */
import { FormatError } from "../errors.ts";

/**
 * Quantiles of the normal distribution, eight above zero and seven below, and zero itself, scaled to −1 … 1. With p from the mean of 1 − 1/32 and 1 − 1/30 to 1/2 in
 * eight equal steps above (seven below), the values are Φ⁻¹(p) / Φ⁻¹(p₀) (the paper's appendix E; its authors' code for p₀).
 */
export const NF4_VALUES = Float32Array.of(
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
);

const BLOCK = 64;
const GROUP = 256;
/** Halfway between neighbours. */
const BORDERS = Float64Array.from({ length: 15 }, (_, i) => ((NF4_VALUES[i] as number) + (NF4_VALUES[i + 1] as number)) / 2);

/** Numbers as NF4. */
export interface Nf4 {
  /** How many numbers. */
  readonly length: number;
  /** Two a byte, the first in the upper half. */
  readonly codes: Uint8Array;
  /** Of each block of 64: the size of its largest number, less `offset`, in 127ths of its group's scale. */
  readonly sizes: Int8Array;
  /** Of each 256 blocks. */
  readonly scales: Float32Array;
  /** The mean of the blocks' sizes. */
  readonly offset: number;
}

/** @throws FormatError for numbers that are not finite */
export function quantizeNf4(values: Float32Array): Nf4 {
  checkFinite(values, "NF4");
  const blocks = Math.ceil(values.length / BLOCK);
  const absmax = Float32Array.from({ length: blocks }, (_, b) => largest(values.subarray(b * BLOCK, (b + 1) * BLOCK)));
  const offset = Math.fround(absmax.reduce((a, b) => a + b, 0) / Math.max(blocks, 1));
  const centred = absmax.map((size) => size - offset);
  const scales = Float32Array.from({ length: Math.ceil(blocks / GROUP) }, (_, g) => largest(centred.subarray(g * GROUP, (g + 1) * GROUP)));
  const sizes = Int8Array.from(centred, (size, b) => {
    const scale = scales[Math.floor(b / GROUP)] as number;
    return scale === 0 ? 0 : Math.round((size / scale) * 127);
  });
  const made: Nf4 = { length: values.length, codes: new Uint8Array(Math.ceil(values.length / 2)), sizes, scales, offset };
  for (const [i, value] of values.entries()) {
    // By the size that will be read back, so that its own rounding costs nothing where the numbers are small.
    const size = sizeOf(made, Math.floor(i / BLOCK));
    const x = size === 0 ? 0 : value / size;
    let code = 0;
    while (code < 15 && x > (BORDERS[code] as number)) code++;
    made.codes[i >> 1] = (made.codes[i >> 1] as number) | (code << (i % 2 === 0 ? 4 : 0));
  }
  return made;
}

/** The numbers again. */
export function dequantizeNf4(made: Nf4): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: made.length }, (_, i) => {
    const byte = made.codes[i >> 1] as number;
    return (NF4_VALUES[i % 2 === 0 ? byte >> 4 : byte & 15] as number) * sizeOf(made, Math.floor(i / BLOCK));
  });
}

const sizeOf = ({ sizes, scales, offset }: Nf4, block: number): number =>
  Math.max(0, Math.fround(offset + ((sizes[block] as number) / 127) * (scales[Math.floor(block / GROUP)] as number)));

/** Rows of int8, each with a scale: x ≈ codes · scale. */
export interface Int8Rows {
  readonly codes: Int8Array;
  readonly scales: Float32Array;
}

/**
 * One scale a row, its largest size / 127, so that no number is cut off.
 * @throws FormatError for numbers that are not finite, or that are no whole rows
 */
export function quantizeInt8(values: Float32Array, rows: number): Int8Rows {
  checkFinite(values, "int8");
  if (!Number.isInteger(rows) || rows < 1 || values.length % rows !== 0)
    throw new FormatError(`int8: no whole rows, expected a number that divides ${values.length}, got ${rows}. Give the matrix's own rows.`);
  const width = values.length / rows;
  const scales = Float32Array.from({ length: rows }, (_, row) => largest(values.subarray(row * width, (row + 1) * width)) / 127);
  const codes = Int8Array.from(values, (value, i) => {
    const scale = scales[Math.floor(i / width)] as number;
    return scale === 0 ? 0 : Math.max(-127, Math.min(127, Math.round(value / scale)));
  });
  return { codes, scales };
}

/** The numbers again. */
export function dequantizeInt8({ codes, scales }: Int8Rows): Float32Array<ArrayBuffer> {
  const width = codes.length / scales.length;
  return Float32Array.from(codes, (code, i) => code * (scales[Math.floor(i / width)] as number));
}

function largest(values: Float32Array): number {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

function checkFinite(values: Float32Array, what: string): void {
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new FormatError(`${what}: can't hold every number, expected finite ones, got ${values[bad]} at place ${bad}. Mend the weights.`);
}

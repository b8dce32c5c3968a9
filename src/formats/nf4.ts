/**
 * NF4 with double quantisation (Dettmers, Pagnoni, Holtzman, Zettlemoyer 2023, "QLoRA", section 3), and int8 with one scale a row (absmax), as bitsandbytes makes them.
 *
 * NF4: blocks of 64 numbers, divided by their largest size, become the nearest of sixteen values that are equally likely for normal numbers. The blocks' sizes, less their
 * mean, are themselves kept as one of 256 values each, with one float32 for each 256 of them: 4 + 8/64 + 32/(64·256) = 4.127 bits a number.
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

const { fround } = Math;
/** Numbers of a block, and blocks that share a scale of their sizes. */
export const NF4_BLOCK = 64;
export const NF4_GROUP = 256;
/** Halfway between neighbours. */
const bordersOf = (values: Float32Array): Float64Array =>
  Float64Array.from({ length: values.length - 1 }, (_, i) => ((values[i] as number) + (values[i + 1] as number)) / 2);
const BORDERS = bordersOf(NF4_VALUES);

/**
 * What sizes of blocks are kept as: 0, 1, and for each of seven powers of ten below 1 the middles of 1, 2, 4, … 64 equal parts of its upper nine tenths, of both signs
 * (the dynamic data type of Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit Optimizers via Block-wise Quantization", section 1.3).
 */
export const NF4_SIZES: Float32Array<ArrayBuffer> = dynamicValues();

function dynamicValues(): Float32Array<ArrayBuffer> {
  const found = [0, 1];
  for (let e = 0; e < 7; e++) {
    const parts = 2 ** e;
    const first = fround(0.1);
    const step = fround(fround(1 - first) / parts);
    // From both ends, as torch.linspace has it.
    const border = (i: number): number => fround(2 * i < parts + 1 ? first + step * i : 1 - step * (parts - i));
    for (let i = 0; i < parts; i++) {
      const middle = fround(fround(10 ** (e - 6)) * fround(fround(border(i) + border(i + 1)) / 2));
      found.push(middle, -middle);
    }
  }
  return Float32Array.from(found).sort();
}
const SIZE_BORDERS = bordersOf(NF4_SIZES);

/** Numbers as NF4. */
export interface Nf4 {
  /** How many numbers. */
  readonly length: number;
  /** Two a byte, the first in the upper half. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** Of each block of 64: the size of its largest number, less `offset`, over its group's scale, as a place in `NF4_SIZES`. */
  readonly sizes: Uint8Array<ArrayBuffer>;
  /** Of each 256 blocks. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** The mean of the blocks' sizes. */
  readonly offset: number;
}

/** How many borders lie below: the place of the nearest value. */
function nearest(borders: Float64Array, x: number): number {
  let [low, high] = [0, borders.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x > (borders[middle] as number)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @throws FormatError for numbers that are not finite */
export function quantizeNf4(values: Float32Array): Nf4 {
  checkFinite(values, "NF4");
  const { length } = values;
  const blocks = Math.ceil(length / NF4_BLOCK);
  const largestOf = Float32Array.from({ length: blocks }, (_, b) => largest(values.subarray(b * NF4_BLOCK, (b + 1) * NF4_BLOCK)));
  const offset = fround(largestOf.reduce((a, b) => a + b, 0) / Math.max(blocks, 1));
  const centred = largestOf.map((size) => size - offset);
  const scales = Float32Array.from({ length: Math.ceil(blocks / NF4_GROUP) }, (_, g) => largest(centred.subarray(g * NF4_GROUP, (g + 1) * NF4_GROUP)));
  const over = (x: number, size: number): number => (size === 0 ? 0 : fround(x * fround(1 / size)));
  const sizes = Uint8Array.from(centred, (size, b) => nearest(SIZE_BORDERS, over(size, scales[Math.floor(b / NF4_GROUP)] as number)));
  const codes = new Uint8Array(Math.ceil(length / 2));
  for (let i = 0; i < length; i++) {
    const code = nearest(BORDERS, over(values[i] as number, largestOf[Math.floor(i / NF4_BLOCK)] as number));
    codes[i >> 1] = (codes[i >> 1] as number) | (code << (i % 2 === 0 ? 4 : 0));
  }
  return { length, codes, sizes, scales, offset };
}

/** The numbers again. */
export function dequantizeNf4({ length, codes, sizes, scales, offset }: Nf4): Float32Array<ArrayBuffer> {
  return dequantize4Bit({
    length,
    codes,
    values: NF4_VALUES,
    block: NF4_BLOCK,
    sizes: nestedSizes({ sizes, values: NF4_SIZES, group: NF4_GROUP, scales, offset }),
  });
}

/** The sizes of blocks that were themselves quantised. */
export function nestedSizes(nested: {
  readonly sizes: Uint8Array;
  readonly values: Float32Array;
  readonly group: number;
  readonly scales: Float32Array;
  readonly offset: number;
}): Float32Array<ArrayBuffer> {
  const { sizes, values, group, scales, offset } = nested;
  return Float32Array.from(sizes, (code, b) => fround((values[code] as number) * (scales[Math.floor(b / group)] as number)) + offset);
}

/** Numbers of codes of four bits, two a byte with the first in the upper half, by the sixteen values that they choose from and the size of each block. */
export function dequantize4Bit(packed: {
  readonly length: number;
  readonly codes: Uint8Array;
  readonly values: Float32Array;
  readonly block: number;
  readonly sizes: Float32Array;
}): Float32Array<ArrayBuffer> {
  const { length, codes, values, block, sizes } = packed;
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const byte = codes[i >> 1] as number;
    out[i] = (values[i % 2 === 0 ? byte >> 4 : byte & 15] as number) * (sizes[Math.floor(i / block)] as number);
  }
  return out;
}

/** Rows of int8: x ≈ codes · size / 127. */
export interface Int8Rows {
  readonly codes: Int8Array<ArrayBuffer>;
  /** The size of each row's largest number. */
  readonly sizes: Float32Array<ArrayBuffer>;
}

/**
 * Each row over its largest size, in 127ths, so that no number is cut off.
 * @throws FormatError for numbers that are not finite, or that are no whole rows
 */
export function quantizeInt8(values: Float32Array, rows: number): Int8Rows {
  checkFinite(values, "int8");
  if (!Number.isInteger(rows) || rows < 1 || values.length % rows !== 0)
    throw new FormatError(`int8: no whole rows, expected a number that divides ${values.length}, got ${rows}. Give the matrix's own rows.`);
  const width = values.length / rows;
  const sizes = Float32Array.from({ length: rows }, (_, row) => largest(values.subarray(row * width, (row + 1) * width)));
  const codes = Int8Array.from(values, (value, i) => {
    const size = sizes[Math.floor(i / width)] as number;
    return size === 0 ? 0 : toEven(fround(value * fround(127 / size)));
  });
  return { codes, sizes };
}

/** The nearest whole number, of two the even one. */
function toEven(x: number): number {
  const down = Math.floor(x);
  return x - down > 0.5 || (x - down === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** The numbers again. */
export function dequantizeInt8({ codes, sizes }: Int8Rows): Float32Array<ArrayBuffer> {
  const width = codes.length / sizes.length;
  return Float32Array.from(codes, (code, i) => fround(code * (sizes[Math.floor(i / width)] as number)) / 127);
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

/** Storage types, their typed arrays, and the table of type promotion. */
import { GroundupError } from "../errors.ts";
import { DTYPES, type DType } from "./kernels.ts";

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

export const CODE: Record<DType, number> = Object.fromEntries(DTYPES.map((d, i) => [d, i])) as Record<DType, number>;

export const isFloat = (d: DType): boolean => d === "f32" || d === "bf16" || d === "f16";

/**
 * The dtype of an operation on two dtypes: bool < u8 < i32 < f16, bf16 < f32; f16 with bf16 gives f32 (neither holds the other).
 * Arithmetic itself runs in i32 or f32 and is then stored in this dtype.
 */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (isFloat(a) && isFloat(b)) return "f32";
  if (isFloat(a)) return a;
  if (isFloat(b)) return b;
  if (a === "i32" || b === "i32") return "i32";
  return "u8";
}

/** The dtype of a typed array: arrays keep their type; 64-bit and unsigned 32-bit integers become i32 when every value fits; f64 becomes f32. */
export function dtypeOf(data: TypedArray): DType {
  if (data instanceof Float32Array || data instanceof Float64Array) return "f32";
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return "u8";
  return "i32";
}

/** The bytes of values as a dtype stores them. Numbers that an integer dtype can't hold are an error that names the first. */
export function encode(op: string, values: ArrayLike<number | bigint | boolean>, dtype: DType): ArrayBufferView {
  const n = values.length;
  switch (dtype) {
    case "f32":
      if (values instanceof Float32Array) return values;
      return Float32Array.from(values as ArrayLike<number>, Number);
    case "bf16":
    case "f16": {
      const narrow = dtype === "bf16" ? f32ToBf16 : f32ToF16;
      const out = new Uint16Array(n);
      for (let i = 0; i < n; i++) out[i] = narrow(Number(values[i]));
      return out;
    }
    case "i32": {
      if (values instanceof Int32Array) return values;
      const out = new Int32Array(n);
      for (let i = 0; i < n; i++) {
        const x = Number(values[i]);
        if (x !== Math.trunc(x) || x < -2147483648 || x > 2147483647) {
          throw new GroundupError(
            `${op}: value does not fit i32, expected a whole number of 32 bits, got ${values[i]} at place ${i}. Use f32, or check the data`,
          );
        }
        out[i] = x;
      }
      return out;
    }
    case "u8": {
      if (values instanceof Uint8Array) return values;
      const out = new Uint8Array(n);
      for (let i = 0; i < n; i++) {
        const x = Number(values[i]);
        if (x !== Math.trunc(x) || x < 0 || x > 255) {
          throw new GroundupError(
            `${op}: value does not fit u8, expected a whole number from 0 to 255, got ${values[i]} at place ${i}. Use i32, or check the data`,
          );
        }
        out[i] = x;
      }
      return out;
    }
    case "bool":
      return Uint8Array.from(values as ArrayLike<number>, (x) => (x ? 1 : 0));
    default:
      throw new GroundupError(`${op}: values don't make a block-quantised tensor, expected ${DTYPES.join(", ")}, got ${dtype}. Use quantizedFromBytes`);
  }
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Rounds to the nearest bfloat16 (ties to even); NaN stays a quiet NaN. */
export function f32ToBf16(x: number): number {
  f32[0] = x;
  const u = u32[0] as number;
  if (x !== x) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bf16ToF32(h: number): number {
  u32[0] = h << 16;
  return f32[0] as number;
}

/** Rounds to the nearest IEEE half (ties to even). */
export function f32ToF16(x: number): number {
  f32[0] = x;
  const u = u32[0] as number;
  const sign = (u >>> 16) & 0x8000;
  if (x !== x) return sign | 0x7e00;
  const magnitude = Math.abs(f32[0] as number);
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) {
    // Subnormal: a multiple of 2^-24. Adding 0.5 forces the float's own rounding to that grid.
    f32[0] = magnitude + 0.5;
    return sign | (((u32[0] as number) - 0x3f000000) & 0xffff);
  }
  f32[0] = magnitude;
  const bits = u32[0] as number;
  return sign | (((bits - 0x38000000 + 0xfff + ((bits >>> 13) & 1)) >>> 13) & 0x7fff);
}

export function f16ToF32(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >>> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

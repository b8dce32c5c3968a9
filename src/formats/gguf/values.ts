/** Metadata values of the kinds that models need. */
import { FormatError } from "../../errors.ts";
import type { GgufReader, GgufValue } from "./read.ts";

export const u32 = (value: number): GgufValue => ({ kind: "u32", value });
export const f32 = (value: number): GgufValue => ({ kind: "f32", value: Math.fround(value) });
export const bool = (value: boolean): GgufValue => ({ kind: "bool", value });
export const text = (value: string): GgufValue => ({ kind: "string", value });
export const texts = (value: readonly string[]): GgufValue => ({ kind: "array", of: "string", value });
export const i32s = (value: ArrayLike<number>): GgufValue => ({ kind: "array", of: "i32", value: Int32Array.from(value) });
export const f32s = (value: Float32Array): GgufValue => ({ kind: "array", of: "f32", value });

/** The number of the fewest digits that is the same float32: 1e-5 where a config said so, not 0.000009999999747378752. */
export function shortest(value: number): number {
  for (let digits = 1; digits < 10; digits++) {
    const decimal = Number(value.toPrecision(digits));
    if (Math.fround(decimal) === value) return decimal;
  }
  return value;
}

/** A number of any kind that a file's metadata has under this key, as somebody wrote it; undefined where there is none. @throws FormatError for what is no number */
export function metadataNumber({ name, metadata }: Pick<GgufReader, "name" | "metadata">, key: string): number | undefined {
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  const number = found.kind === "u64" || found.kind === "i64" ? Number(found.value) : found.value;
  if (typeof number !== "number") throw new FormatError(`${name}, metadata "${key}": wrong kind, expected a number, got ${found.kind}. Get the file again.`);
  return found.kind === "f32" ? shortest(number) : number;
}

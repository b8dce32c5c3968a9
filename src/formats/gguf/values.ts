/** Metadata values of the kinds that models need. */
import type { GgufValue } from "./read.ts";

export const u32 = (value: number): GgufValue => ({ kind: "u32", value });
export const f32 = (value: number): GgufValue => ({ kind: "f32", value: Math.fround(value) });
export const bool = (value: boolean): GgufValue => ({ kind: "bool", value });

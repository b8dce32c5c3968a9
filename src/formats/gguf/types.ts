/**
 * GGUF's numbers: the kinds of metadata values, and the layouts of tensors with the size of their blocks.
 *
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the blocks' layouts are ggml's (`ggml-common.h`).
 */

/** Kinds of metadata values by their number in the file. */
export const VALUE_KINDS = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"] as const;
export type ValueKind = (typeof VALUE_KINDS)[number];

interface Layout {
  /** Its number in the file. */
  readonly code: number;
  /** Elements of a block, which lie along the innermost dimension. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

/** The layouts by ggml's names, all that a file may name; `dequantizeBlocks` and `quantizeBlocks` say which they know. */
export const GGML_TYPES = {
  F32: { code: 0, elements: 1, bytes: 4 },
  F16: { code: 1, elements: 1, bytes: 2 },
  Q4_0: { code: 2, elements: 32, bytes: 18 },
  Q4_1: { code: 3, elements: 32, bytes: 20 },
  Q5_0: { code: 6, elements: 32, bytes: 22 },
  Q5_1: { code: 7, elements: 32, bytes: 24 },
  Q8_0: { code: 8, elements: 32, bytes: 34 },
  Q8_1: { code: 9, elements: 32, bytes: 40 },
  Q2_K: { code: 10, elements: 256, bytes: 84 },
  Q3_K: { code: 11, elements: 256, bytes: 110 },
  Q4_K: { code: 12, elements: 256, bytes: 144 },
  Q5_K: { code: 13, elements: 256, bytes: 176 },
  Q6_K: { code: 14, elements: 256, bytes: 210 },
  Q8_K: { code: 15, elements: 256, bytes: 292 },
  IQ2_XXS: { code: 16, elements: 256, bytes: 66 },
  IQ2_XS: { code: 17, elements: 256, bytes: 74 },
  IQ3_XXS: { code: 18, elements: 256, bytes: 98 },
  IQ1_S: { code: 19, elements: 256, bytes: 50 },
  IQ4_NL: { code: 20, elements: 32, bytes: 18 },
  IQ3_S: { code: 21, elements: 256, bytes: 110 },
  IQ2_S: { code: 22, elements: 256, bytes: 82 },
  IQ4_XS: { code: 23, elements: 256, bytes: 136 },
  I8: { code: 24, elements: 1, bytes: 1 },
  I16: { code: 25, elements: 1, bytes: 2 },
  I32: { code: 26, elements: 1, bytes: 4 },
  I64: { code: 27, elements: 1, bytes: 8 },
  F64: { code: 28, elements: 1, bytes: 8 },
  IQ1_M: { code: 29, elements: 256, bytes: 56 },
  BF16: { code: 30, elements: 1, bytes: 2 },
  TQ1_0: { code: 34, elements: 256, bytes: 54 },
  TQ2_0: { code: 35, elements: 256, bytes: 66 },
  MXFP4: { code: 39, elements: 32, bytes: 17 },
  NVFP4: { code: 40, elements: 64, bytes: 36 },
  Q1_0: { code: 41, elements: 128, bytes: 18 },
} as const satisfies Record<string, Layout>;

/** The name of a layout. */
export type GgmlType = keyof typeof GGML_TYPES;

/** The layout with this number, or undefined. */
export function ggmlTypeOf(code: number): GgmlType | undefined {
  return (Object.keys(GGML_TYPES) as GgmlType[]).find((name) => GGML_TYPES[name].code === code);
}

/** The memory that weights take in an opened model, known before they are read. */
import { OutOfMemoryError } from "../errors.ts";
import { GGML_TYPES, type GgmlType } from "../formats/gguf/types.ts";
import { byteSize } from "../quantities.ts";
import { memory } from "../tensor/index.ts";

/** Bytes of weights in memory: blocks stay as they are stored, unless `keepsBlocks` is false; all else becomes float32. */
export function openedBytes(weights: Iterable<{ readonly shape: readonly number[]; readonly format: string }>, keepsBlocks = true): number {
  let bytes = 0;
  for (const { shape, format } of weights) {
    const type = Object.hasOwn(GGML_TYPES, format) ? GGML_TYPES[format as GgmlType] : null;
    const ofOne = keepsBlocks && type !== null && type.elements > 1 ? type.bytes / type.elements : 4;
    bytes += shape.reduce((a, b) => a * b, 1) * ofOne;
  }
  return bytes;
}

/** File types of GGUF with the bits that a weight takes in memory, from the most exact to the smallest. */
const FILE_TYPES = [
  ["Q8_0", 8.5],
  ["Q4_0", 4.5],
  ["Q2_K", 3.2],
] as const;

/** @throws OutOfMemoryError for weights that this machine has no memory for, with the file type that would fit */
export function checkMemory(where: string, weights: number, bytes: number): void {
  const { limitBytes } = memory();
  if (bytes <= limitBytes) return;
  const fits = FILE_TYPES.find(([, bits]) => (weights * bits) / 8 < Math.min(limitBytes, bytes));
  const advice =
    fits === undefined
      ? "Check its sizes, or take a smaller model."
      : `As ${fits[0]} it takes ${byteSize((weights * fits[1]) / 8)} and fits: "groundup quantize MODEL --type ${fits[0]}" makes such a file, one tensor in memory at a time.`;
  throw new OutOfMemoryError(
    `${where}: the model is too large for this machine, expected at most ${byteSize(limitBytes)} of weights, got ${byteSize(bytes)} (${weights.toPrecision(3)} weights). ${advice}`,
  );
}

/** Whole blocks of a GGUF file as float32: the layouts are in `src/tensor/quantized-blocks.ts`, and the plain floats here. */
import { FormatError } from "../../errors.ts";
import { bf16ToF32, f16ToF32 } from "../../tensor/dtype.ts";
import { QUANTIZED } from "../../tensor/kernels.ts";
import { type Block, READ_BLOCK } from "../../tensor/quantized-blocks.ts";
import { GGML_TYPES, type GgmlType } from "./types.ts";

const BLOCKS: Partial<Record<GgmlType, Block>> = {
  F16(b, at, out, o) {
    out[o] = f16ToF32(b[at] | (b[at + 1] << 8));
  },
  BF16(b, at, out, o) {
    out[o] = bf16ToF32(b[at] | (b[at + 1] << 8));
  },
  ...Object.fromEntries(QUANTIZED.map((name) => [name.toUpperCase(), READ_BLOCK[name]])),
};

/** The layouts that `dequantizeBlocks` knows. */
export const DEQUANTIZED = ["F32", ...Object.keys(BLOCKS)] as readonly GgmlType[];

/** What is said of a model with tensors in other layouts; null where there are none. */
export function unreadLayouts(tensors: Iterable<{ readonly type: GgmlType }>): string | null {
  const types = [...tensors].map(({ type }) => type);
  const unread = types.filter((type) => !DEQUANTIZED.includes(type));
  if (unread.length === 0) return null;
  const counts = [...new Set(unread)].map((type) => `${type} (${unread.filter((other) => other === type).length})`);
  return `weights in layouts that groundup does not run, expected ${DEQUANTIZED.join(", ")}, got ${counts.join(", ")} among ${types.length} tensors. Get the model as another file, such as Q4_K_M.`;
}

/**
 * Whole blocks as float32.
 * @throws FormatError for a layout that is not known, or bytes that are no whole blocks; `where` says of what
 */
export function dequantizeBlocks(type: GgmlType, bytes: Uint8Array, where: string): Float32Array<ArrayBuffer> {
  const block = BLOCKS[type];
  const layout = GGML_TYPES[type];
  if (block === undefined && type !== "F32")
    throw new FormatError(
      `${where}: blocks that can't be read as numbers, expected one of ${DEQUANTIZED.join(", ")}, got ${type}. Take them from a file in one of these layouts.`,
    );
  if (bytes.length % layout.bytes !== 0)
    throw new FormatError(`${where}: broken blocks, expected a multiple of ${layout.bytes} bytes for ${type}, got ${bytes.length}. Fetch the file again.`);
  const out = new Float32Array((bytes.length / layout.bytes) * layout.elements);
  // Little-endian, as all machines that run this are.
  if (block === undefined) new Uint8Array(out.buffer).set(bytes);
  else for (let at = 0, o = 0; at < bytes.length; at += layout.bytes, o += layout.elements) block(bytes, at, out, o);
  return out;
}

/**
 * MXFP4 as Hugging Face's folders of gpt-oss hold it, and as GGUF does: 32 floats of four bits (E2M1) and a power of two for all of them (OCP Microscaling Formats 1.0).
 * Folders have a tensor of codes `…_blocks`, neighbours in a byte, the first in its lower half, and one of exponents `…_scales`; GGUF has the exponent before its 16 bytes,
 * the first 16 numbers in the lower halves. The numbers are the same, bit for bit.
 */

/** Bytes of a block's codes. */
export const MXFP4_CODES = 16;
const BLOCK = MXFP4_CODES + 1;

/** GGUF's blocks of a folder's two tensors. */
export function mxfp4ToGguf(codes: Uint8Array, exponents: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(exponents.length * BLOCK);
  const code = (from: number, i: number): number => (codes[from + (i >> 1)] >> (4 * (i & 1))) & 15;
  for (const [b, exponent] of exponents.entries()) {
    out[b * BLOCK] = exponent;
    for (let i = 0; i < MXFP4_CODES; i++) out[b * BLOCK + 1 + i] = code(b * MXFP4_CODES, i) | (code(b * MXFP4_CODES, MXFP4_CODES + i) << 4);
  }
  return out;
}

/** A folder's codes of GGUF's blocks. */
export function mxfp4Codes(blocks: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array((blocks.length / BLOCK) * MXFP4_CODES);
  const code = (b: number, i: number): number => (blocks[b * BLOCK + 1 + (i & 15)] >> (4 * (i >> 4))) & 15;
  for (let at = 0; at < out.length; at++) {
    const [b, i] = [Math.floor(at / MXFP4_CODES), 2 * (at % MXFP4_CODES)];
    out[at] = code(b, i) | (code(b, i + 1) << 4);
  }
  return out;
}

/** A folder's exponents of GGUF's blocks. */
export const mxfp4Exponents = (blocks: Uint8Array): Uint8Array<ArrayBuffer> => Uint8Array.from({ length: blocks.length / BLOCK }, (_, b) => blocks[b * BLOCK]);

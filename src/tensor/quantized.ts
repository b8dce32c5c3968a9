/**
 * Block-quantised weights as tensors: a matrix of one of GGUF's layouts, held once, in the order in which the kernels read it. It takes part in `linear` (with the
 * gradient of its input), `embedding`, ranges of rows, `dequantize` and saving; every other operation refuses it in words. `bytesSync()` gives the file's bytes back.
 * Several matrices of one shape may be one tensor, for `groupedLinear`: each is packed for itself, one behind the other.
 */
import { ShapeError } from "../errors.ts";
import { backend } from "./backend.ts";
import { type Operand, QUANTIZED, type QuantizedDType } from "./kernels.ts";
import { blockBytes, GROUP, isQuantized, layoutOf, liesAcross, matricesIn, packedBytes, rowsAndItems } from "./quantized-layout.ts";
import { track } from "./scope.ts";
import { checkShape, type Shape, show } from "./shape.ts";
import { type Owner, ownerNamed, Storage } from "./storage.ts";
import { Tensor } from "./tensor.ts";

/** @internal A quantised matrix, or several, with undefined items. */
export function allocateQuantized(shape: Shape, dtype: QuantizedDType, owner: Owner): Tensor {
  const [n, k] = shape.slice(-2) as [number, number];
  const strides = shape.length === 3 ? [n * k, k, 1] : [k, 1];
  return track(new Tensor(new Storage(matricesIn({ shape }) * packedBytes(dtype, n, k), owner), [...shape], strides, 0, dtype));
}

/** @internal The place of one of a tensor's matrices, for kernels. */
export function matrixAt(t: Tensor, i: number): Operand {
  if (i === 0) return t;
  const [n, k] = rowsAndItems(t);
  return { storage: t.storage, offset: i * packedBytes(t.dtype as QuantizedDType, n, k) };
}

const owner = ownerNamed("quantized weights");

/** A quantised tensor whose blocks come in pieces, in the file's order. */
export interface QuantizedPieces {
  /** Pieces are multiples of so many bytes; only the last may be any rest. */
  readonly unit: number;
  /** @throws ShapeError where a piece is none, or more than is left */
  add(bytes: Uint8Array): void;
  /** The tensor. @throws ShapeError where bytes are missing */
  whole(): Tensor;
  /** Gives the memory of a tensor back that does not come to be. */
  dispose(): void;
}

/** Blocks that lie in the backend's memory beside what they are packed into. */
const PIECE_BYTES = 1 << 20;

/** What a tensor of a file's blocks is made of: matrices of n rows of so many bytes. @throws ShapeError where the shape is none of whole blocks */
function blocksOf(where: string, shape: Shape, dtype: QuantizedDType): { n: number; k: number; row: number; each: number; total: number } {
  checkShape(where, shape);
  if (!isQuantized(dtype))
    throw new ShapeError(`${where}: not a quantised layout, expected one of ${QUANTIZED.join(", ")}, got ${String(dtype)}. Use tensorFromBytes`);
  if (shape.length !== 2 && shape.length !== 3)
    throw new ShapeError(`${where}: expected a matrix (n, k) or several (groups, n, k), got shape ${show(shape)}. Other tensors stay floats`);
  const [n, k] = shape.slice(-2) as [number, number];
  const row = blockBytes(where, dtype, 1, k);
  return { n, k, row, each: n * row, total: matricesIn({ shape }) * n * row };
}

/**
 * @internal Begins a quantised matrix (n, k), or matrices (groups, n, k), of a file's bytes, which need not be in memory all at once.
 * @throws ShapeError where the shape is none of whole blocks
 */
export function quantizedInPieces(where: string, shape: Shape, dtype: QuantizedDType): QuantizedPieces {
  const { n, k, row, each, total } = blocksOf(where, shape, dtype);
  // Rows are packed in groups, those of each matrix for itself.
  const unit = Math.max(total === each || n % GROUP === 0 ? GROUP * row : each, 1);
  const most = Math.max(Math.floor(PIECE_BYTES / unit), 1) * unit;
  const out = allocateQuantized(shape, dtype, owner);
  const blocks = new Storage(Math.min(most, each), owner);
  let done = 0;
  return {
    unit,
    add(bytes) {
      const left = total - done;
      if (bytes.length > left || (bytes.length < left && bytes.length % unit !== 0))
        throw new ShapeError(`${where}: expected a multiple of ${unit} bytes, or the last ${left}, for ${dtype}${show(shape)}, got ${bytes.length}`);
      for (let at = 0, length: number; at < bytes.length; at += length) {
        length = Math.min(most, each - (done % each), bytes.length - at);
        backend().write(blocks.buffer, 0, bytes.subarray(at, at + length));
        const [place, first] = [matrixAt(out, Math.floor(done / each)), (done % each) / row];
        backend().packQuantized({ storage: blocks, offset: 0 }, place, layoutOf(dtype), first, length / row, n, k);
        done += length;
      }
    },
    whole() {
      if (done !== total) throw new ShapeError(`${where}: expected ${total} bytes for ${dtype}${show(shape)}, got ${done}`);
      blocks.release();
      return out;
    },
    dispose() {
      blocks.release();
      out.dispose(where);
    },
  };
}

/**
 * A quantised matrix (n, k), or matrices (groups, n, k), of a file's bytes, which are n rows of k / (32 or 256) blocks. @param dtype one of GGUF's layouts, e.g. "q4_1"
 * @throws ShapeError where the shape is none of whole blocks, or the bytes are not as many as it needs
 */
export function quantizedFromBytes(bytes: Uint8Array, shape: Shape, dtype: QuantizedDType): Tensor {
  const { total } = blocksOf("quantizedFromBytes", shape, dtype);
  if (bytes.length !== total) throw new ShapeError(`quantizedFromBytes: expected ${total} bytes for ${dtype}${show(shape)}, got ${bytes.length}`);
  const pieces = quantizedInPieces("quantizedFromBytes", shape, dtype);
  try {
    pieces.add(bytes);
    return pieces.whole();
  } catch (error) {
    pieces.dispose();
    throw error;
  }
}

/** @internal Rows `start` to `start` + `length` of a quantised matrix (outputs, inputs), or so many of several matrices, as a tensor of their own: a copy. */
export function quantizedRows(t: Tensor, start: number, length: number): Tensor {
  const dtype = t.dtype as QuantizedDType;
  const [n, k] = rowsAndItems(t);
  const several = t.rank === 3;
  const out = allocateQuantized(several ? [length, n, k] : [length, k], dtype, owner);
  const count = several ? n : length;
  const blocks = new Storage(blockBytes("narrow", dtype, count, k), owner);
  try {
    const place = { storage: blocks, offset: 0 };
    for (let i = 0; i < matricesIn(out); i++) {
      backend().unpackQuantized(matrixAt(t, several ? start + i : 0), place, layoutOf(dtype), several ? 0 : start, count, n, k);
      backend().packQuantized(place, matrixAt(out, i), layoutOf(dtype), 0, count, count, k);
    }
  } finally {
    blocks.release();
  }
  return several && liesAcross(t) ? out.view([length, k, n], t.strides, 0) : out;
}

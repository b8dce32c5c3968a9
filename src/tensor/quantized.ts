/**
 * Block-quantised weights as tensors: a matrix of one of GGUF's layouts, held once, in the order in which the kernels read it. It takes part in `linear` (with the
 * gradient of its input), `embedding`, ranges of rows, `dequantize` and saving; every other operation refuses it in words. `bytesSync()` gives the file's bytes back.
 */
import { ShapeError } from "../errors.ts";
import { backend } from "./backend.ts";
import { QUANTIZED, type QuantizedDType } from "./kernels.ts";
import { blockBytes, isQuantized, layoutOf, packedBytes } from "./quantized-layout.ts";
import { enter, leave, track } from "./scope.ts";
import { checkShape, type Shape, show } from "./shape.ts";
import { type Owner, ownerNamed, Storage } from "./storage.ts";
import { Tensor, tensorFrom } from "./tensor.ts";

/** @internal A quantised matrix with undefined items. */
export function allocateQuantized(shape: Shape, dtype: QuantizedDType, owner: Owner): Tensor {
  const [n, k] = shape as [number, number];
  return track(new Tensor(new Storage(packedBytes(dtype, n, k), owner), [n, k], [k, 1], 0, dtype));
}

const owner = ownerNamed("quantized weights");

/**
 * A quantised matrix (n, k) of a file's bytes, which are n rows of k / (32 or 256) blocks. @param dtype one of GGUF's layouts, e.g. "q4_1"
 * @throws ShapeError where the shape is no matrix of whole blocks, or the bytes are not as many as it needs
 */
export function quantizedFromBytes(bytes: Uint8Array, shape: Shape, dtype: QuantizedDType): Tensor {
  checkShape("quantizedFromBytes", shape);
  if (!isQuantized(dtype))
    throw new ShapeError(`quantizedFromBytes: not a quantised layout, expected one of ${QUANTIZED.join(", ")}, got ${String(dtype)}. Use tensorFromBytes`);
  if (shape.length !== 2) throw new ShapeError(`quantizedFromBytes: expected a matrix (n, k), got shape ${show(shape)}. Other tensors stay floats`);
  const [n, k] = shape as [number, number];
  const expected = blockBytes("quantizedFromBytes", dtype, n, k);
  if (bytes.length !== expected) throw new ShapeError(`quantizedFromBytes: expected ${expected} bytes for ${dtype}${show(shape)}, got ${bytes.length}`);
  const out = allocateQuantized(shape, dtype, owner);
  const mark = enter();
  try {
    backend().packQuantized(tensorFrom(bytes, [bytes.length]), out, layoutOf(dtype), n, k);
  } finally {
    leave(mark, "the end of quantizedFromBytes", undefined);
  }
  return out;
}

/** @internal Rows `start` to `start` + `length` of a quantised matrix (outputs, inputs), as one of their own: a copy. */
export function quantizedRows(t: Tensor, start: number, length: number): Tensor {
  const dtype = t.dtype as QuantizedDType;
  const [n, k] = t.shape as [number, number];
  const out = allocateQuantized([length, k], dtype, owner);
  const blocks = new Storage(blockBytes("narrow", dtype, length, k), owner);
  try {
    const place = { storage: blocks, offset: 0 };
    backend().unpackQuantized(t, place, layoutOf(dtype), start, length, n, k);
    backend().packQuantized(place, out, layoutOf(dtype), length, k);
  } finally {
    blocks.release();
  }
  return out;
}

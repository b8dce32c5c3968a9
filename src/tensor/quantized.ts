/**
 * Block-quantised weights as tensors: a matrix of one of GGUF's layouts, held once, in the order in which the kernels read it. It takes part in `linear` (with the
 * gradient of its input), `embedding`, ranges of rows, `dequantize` and saving; every other operation refuses it in words. `bytesSync()` gives the file's bytes back.
 * Several matrices of one shape may be one tensor, for `groupedLinear`: each is packed for itself, one behind the other.
 */
import { ShapeError } from "../errors.ts";
import { backend } from "./backend.ts";
import { type Operand, QUANTIZED, type QuantizedDType } from "./kernels.ts";
import { blockBytes, isQuantized, layoutOf, liesAcross, matricesIn, packedBytes, rowsAndItems } from "./quantized-layout.ts";
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

/**
 * A quantised matrix (n, k), or matrices (groups, n, k), of a file's bytes, which are n rows of k / (32 or 256) blocks. @param dtype one of GGUF's layouts, e.g. "q4_1"
 * @throws ShapeError where the shape is none of whole blocks, or the bytes are not as many as it needs
 */
export function quantizedFromBytes(bytes: Uint8Array, shape: Shape, dtype: QuantizedDType): Tensor {
  checkShape("quantizedFromBytes", shape);
  if (!isQuantized(dtype))
    throw new ShapeError(`quantizedFromBytes: not a quantised layout, expected one of ${QUANTIZED.join(", ")}, got ${String(dtype)}. Use tensorFromBytes`);
  if (shape.length !== 2 && shape.length !== 3)
    throw new ShapeError(`quantizedFromBytes: expected a matrix (n, k) or several (groups, n, k), got shape ${show(shape)}. Other tensors stay floats`);
  const [n, k] = shape.slice(-2) as [number, number];
  const matrices = matricesIn({ shape });
  const each = blockBytes("quantizedFromBytes", dtype, n, k);
  if (bytes.length !== matrices * each)
    throw new ShapeError(`quantizedFromBytes: expected ${matrices * each} bytes for ${dtype}${show(shape)}, got ${bytes.length}`);
  const out = allocateQuantized(shape, dtype, owner);
  const blocks = new Storage(each, owner);
  try {
    const place = { storage: blocks, offset: 0 };
    for (let i = 0; i < matrices; i++) {
      backend().write(blocks.buffer, 0, bytes.subarray(i * each, (i + 1) * each));
      backend().packQuantized(place, matrixAt(out, i), layoutOf(dtype), n, k);
    }
  } finally {
    blocks.release();
  }
  return out;
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
      backend().packQuantized(place, matrixAt(out, i), layoutOf(dtype), count, k);
    }
  } finally {
    blocks.release();
  }
  return several && liesAcross(t) ? out.view([length, k, n], t.strides, 0) : out;
}

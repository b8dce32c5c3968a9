/** Tensors: handles, operations, autograd, memory, randomness. */
import "./methods.ts";

export { autocast, autocastPrecision, type Precision } from "./autocast.ts";
export { enableGrad, gradEnabled, noGrad } from "./autograd.ts";
export { type Backend, backend, backendReason, useBackend } from "./backend.ts";
export { type BackwardOptions, backward } from "./backward.ts";
export { Capture, canCapture, capturedForLengths } from "./capture.ts";
export { type CustomFunction, checkpoint, customFunction, type FunctionContext } from "./custom-function.ts";
export type { TypedArray } from "./dtype.ts";
export { promote } from "./dtype.ts";
export { type GradientHook, printGraph, registerHook } from "./graph.ts";
export { addInPlace, copyFrom, fill } from "./in-place.ts";
export type { Activation, DType, QuantizedDType } from "./kernels.ts";
export { operations, type Watch } from "./op.ts";
export * from "./ops/attention.ts";
export * from "./ops/dropout.ts";
export * from "./ops/einsum.ts";
export * from "./ops/elementwise.ts";
export * from "./ops/grouped-linear.ts";
export * from "./ops/indexing.ts";
export * from "./ops/joining.ts";
export * from "./ops/linear.ts";
export * from "./ops/loss.ts";
export * from "./ops/matmul.ts";
export * from "./ops/movement.ts";
export * from "./ops/norm.ts";
export * from "./ops/optimise.ts";
export * from "./ops/padding.ts";
export * from "./ops/paged-attention.ts";
export { dequantize } from "./ops/quantized.ts";
export * from "./ops/reduce.ts";
export * from "./ops/softmax.ts";
export * from "./ops/state.ts";
export * from "./ops/transformer.ts";
export { type PrintOptions, print } from "./print.ts";
export { quantizedFromBytes, quantizedInPieces } from "./quantized.ts";
export { isQuantized } from "./quantized-layout.ts";
export { fillNormal, fillUniform, manualSeed, type RandomOptions, type RandomStream, rand, randint, randn, randomStream, STREAMS, streams } from "./random.ts";
export { keep, scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export { fromShared, type SharedTensor, share } from "./share.ts";
export { deferred, type MemoryReport, memory, resetPeakMemory, setMemoryLimit } from "./storage.ts";
export {
  arange,
  eye,
  full,
  linspace,
  type NestedData,
  ones,
  Tensor,
  type TensorOptions,
  tensor,
  tensorFrom,
  tensorFromBytes,
  writtenInParts,
  zeros,
} from "./tensor.ts";

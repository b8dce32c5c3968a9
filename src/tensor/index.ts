/** Tensors: handles, operations, autograd, memory, randomness. */
import "./methods.ts";

export { type BackwardOptions, backward, enableGrad, gradEnabled, noGrad } from "./autograd.ts";
export { type Backend, backend, backendReason, useBackend } from "./backend.ts";
export type { TypedArray } from "./dtype.ts";
export { promote } from "./dtype.ts";
export type { Activation, DType } from "./kernels.ts";
export { operations } from "./op.ts";
export * from "./ops/attention.ts";
export * from "./ops/dropout.ts";
export * from "./ops/einsum.ts";
export * from "./ops/elementwise.ts";
export * from "./ops/indexing.ts";
export * from "./ops/linear.ts";
export * from "./ops/loss.ts";
export * from "./ops/matmul.ts";
export * from "./ops/movement.ts";
export * from "./ops/norm.ts";
export * from "./ops/reduce.ts";
export * from "./ops/softmax.ts";
export * from "./ops/transformer.ts";
export { fillNormal, fillUniform, manualSeed, type RandomOptions, type RandomStream, rand, randint, randn, randomStream, STREAMS, streams } from "./random.ts";
export { keep, scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export { type MemoryReport, memory, resetPeakMemory, setMemoryLimit } from "./storage.ts";
export { arange, eye, full, linspace, type NestedData, ones, Tensor, type TensorOptions, tensor, tensorFrom, tensorFromBytes, zeros } from "./tensor.ts";

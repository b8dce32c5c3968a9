/** In which precision matrix products compute: a switch around a block of code, as PyTorch's autocast. Tensors stay float32. */
import { GroundupError } from "../errors.ts";
import { backend } from "./backend.ts";
import type { Kernels } from "./kernels.ts";

export const PRECISIONS = ["f32", "bf16"] as const;
/** Of matrix products: float32, or operands rounded to bfloat16 with float32 sums. */
export type Precision = (typeof PRECISIONS)[number];

let current: Precision = "f32";

/** The precision of products that are made now. */
export const autocastPrecision = (): Precision => current;

/** @internal Runs a function in a precision: what `autocast` does, and how a backward rule gets that of its forward. */
export function inPrecision<T>(precision: Precision, fn: () => T): T {
  const before = current;
  current = precision;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/**
 * Runs a synchronous function whose matrix products (`linear`, `matmul` and what is made of them, the fused linear + cross-entropy, the products
 * inside attention) round their operands to bfloat16 and add in float32. Their gradients do so too, wherever `backward()` is called. Parameters,
 * results, gradients, norms, softmax and losses stay float32. `autocast("f32", …)` inside switches back.
 *
 * @throws GroundupError for another precision, and for a function that returns a Promise: its later half would run outside
 */
export function autocast<T>(precision: Precision, fn: () => T extends PromiseLike<unknown> ? never : T): T {
  if (!PRECISIONS.includes(precision))
    throw new GroundupError(`autocast: no such precision, expected ${PRECISIONS.join(" or ")}, got ${String(precision)}. Correct the first argument`);
  const result = inPrecision(precision, fn);
  if (typeof (result as unknown as PromiseLike<unknown> | undefined)?.then === "function") {
    throw new GroundupError("autocast: expected a synchronous function, got one that returned a Promise. Await outside of it");
  }
  return result as T;
}

/** @internal `gemm` in the present precision. */
export const gemm: Kernels["gemm"] = (...args) => (current === "bf16" ? backend().gemmBf16(...args) : backend().gemm(...args));

/** @internal `linear` in the present precision. */
export const linear: Kernels["linear"] = (...args) => (current === "bf16" ? backend().linearBf16(...args) : backend().linear(...args));

/** @internal `linearInputGrad` in the present precision. */
export const linearInputGrad: Kernels["linearInputGrad"] = (...args) =>
  current === "bf16" ? backend().linearInputGradBf16(...args) : backend().linearInputGrad(...args);

/** @internal `linearWeightGrad` in the present precision. */
export const linearWeightGrad: Kernels["linearWeightGrad"] = (...args) =>
  current === "bf16" ? backend().linearWeightGradBf16(...args) : backend().linearWeightGrad(...args);

/** @internal `attention` in the present precision. */
export const attention: Kernels["attention"] = (...args) => (current === "bf16" ? backend().attentionBf16(...args) : backend().attention(...args));

/** @internal `pagedAttention` in the present precision. */
export const pagedAttention: Kernels["pagedAttention"] = (...args) =>
  current === "bf16" ? backend().pagedAttentionBf16(...args) : backend().pagedAttention(...args);

/** @internal `attentionGrad` in the present precision. */
export const attentionGrad: Kernels["attentionGrad"] = (...args) =>
  current === "bf16" ? backend().attentionGradBf16(...args) : backend().attentionGrad(...args);

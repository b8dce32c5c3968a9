/**
 * Attention sinks: one number a head that stands beside the scores in the softmax, and whose share goes nowhere. They are worked in behind the kernel, which knows
 * nothing of them.
 */
import { noGrad } from "./autograd.ts";
import { abs, add, exp, log1p, maximum, mul, neg, sigmoid, sub } from "./ops/elementwise.ts";
import { permute, reshape, unsqueeze } from "./ops/movement.ts";
import type { Tensor } from "./tensor.ts";

/**
 * What sinks leave of each row of `out`, in place, and the logsumexp with them. A row's weights were divided by Z = e^lse; with a sink's e^s in the sum they are
 * divided by Z + e^s, so that the row shrinks by Z/(Z + e^s) = sigmoid(lse − s).
 */
export function withSinks(out: Tensor, lse: Tensor, sinks: Tensor): Tensor {
  return noGrad(() => {
    const [heads, rows] = lse.shape as [number, number];
    const above = sub(lse, reshape(sinks, [heads, 1])); // (H, rows)
    const kept = unsqueeze(permute(sigmoid(above), [1, 0]), 2); // (rows, H, 1)
    const flat = reshape(out, [rows, heads, -1]);
    flat.copyFrom(mul(flat, kept));
    // log(e^lse + e^s), whichever of the two is far larger.
    return add(maximum(lse, reshape(sinks, [heads, 1])), log1p(exp(neg(abs(above)))));
  });
}

/** The gradient of the sinks: each takes e^(s − lse) of a row, and the more it takes the less of the row's result is left. */
export function sinksGradient(out: Tensor, lse: Tensor, sinks: Tensor, gout: Tensor): Tensor {
  return noGrad(() => {
    const [heads, rows] = lse.shape as [number, number];
    const share = exp(sub(reshape(sinks, [heads, 1]), lse)); // (H, rows)
    const lost = permute(mul(reshape(out, [rows, heads, -1]), reshape(gout, [rows, heads, -1])).sum(-1), [1, 0]);
    return neg(mul(share, lost).sum(-1));
  });
}

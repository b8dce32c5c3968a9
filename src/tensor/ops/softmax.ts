/** Softmax and its logarithm. */
import { backend } from "../backend.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { dimension } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { div, exp, f32, log, sub } from "./elementwise.ts";
import { packed, transpose } from "./movement.ts";
import { max, sum } from "./reduce.ts";

function softmaxOp(name: "softmax" | "logSoftmax", isLog: 0 | 1, torch: string) {
  const op = defineOp<[x: Tensor]>({
    name,
    shape: (x) => x.shape,
    forward: (ctx, shape, x) => {
      const n = shape.at(-1) ?? 1;
      const out = ctx.out(shape);
      backend().softmax(f32(x), out, n === 0 ? 0 : x.size / n, n, isLog);
      ctx.save(out);
      return out;
    },
    backward: (ctx, [x], g) => {
      const n = x.shape.at(-1) ?? 1;
      const gx = ctx.out(x.shape);
      backend().softmaxGrad(ctx.get(0), packed(g as Tensor), gx, n === 0 ? 0 : x.size / n, n, isLog);
      return [gx];
    },
    composed: (x) => {
      const shifted = sub(x, max(x, -1, { keepDim: true }).detach());
      const e = exp(shifted);
      return isLog ? sub(shifted, log(sum(e, -1, { keepDim: true }))) : div(e, sum(e, -1, { keepDim: true }));
    },
    samples: () => [
      { name: "rows", args: () => [values([3, 21], { low: -4, high: 4 })], torch },
      { name: "large numbers", args: () => [values([2, 5], { low: -300, high: 300 })], torch, differences: false },
    ],
  });
  return (x: Tensor, dim = -1): Tensor => {
    checkTensor(name, x);
    const d = dimension(name, dim, Math.max(x.rank, 1));
    return d === Math.max(x.rank, 1) - 1 ? op(x) : transpose(op(transpose(x, d, -1)), d, -1);
  };
}

/** eˣ / Σ eˣ along a dimension (default the last), without overflow. */
export const softmax = softmaxOp("softmax", 0, "F.softmax(x0, -1)");
/** x − log Σ eˣ along a dimension (default the last). */
export const logSoftmax = softmaxOp("logSoftmax", 1, "F.log_softmax(x0, -1)");

/** Dropout (Srivastava et al. 2014). */
import { ShapeError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import { backend } from "../backend.ts";
import { defineOp } from "../op.ts";
import { type RandomStream, randomStream, streams, take } from "../random.ts";
import { values } from "../samples.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { f32 } from "./elementwise.ts";
import { packed } from "./movement.ts";

const dropoutOp = defineOp<[x: Tensor, p: number, stream: RandomStream]>({
  name: "dropout",
  shape: (x, p) => {
    if (!(p >= 0 && p < 1)) throw new ShapeError(`dropout: expected a probability from 0 to below 1, got ${p}`);
    return x.shape;
  },
  forward: (ctx, shape, x, p, stream) => {
    const from = f32(x);
    const out = ctx.out(shape);
    const at = take(stream, out.size);
    ctx.note = at;
    backend().dropout(from, out, out.size, p, ...at);
    return out;
  },
  backward: (ctx, [x, p], g) => {
    const gx = ctx.out(x.shape);
    backend().dropout(packed(g as Tensor), gx, gx.size, p, ...(ctx.note as [number, number, number, number]));
    return [gx];
  },
  samples: () => [{ name: "a third", args: () => [values([5, 9]), 0.3, randomStream(7, 3)], differences: true }],
});

const OPTIONS = { training: true, stream: true } as const;

/** Zeroes items with probability p and scales the others by 1/(1 − p) (Srivastava et al. 2014); x itself where `training` is false or p is 0. */
export function dropout(x: Tensor, p: number, options: { training?: boolean; stream?: RandomStream } = {}): Tensor {
  checkTensor("dropout", x);
  checkOptions("dropout", options, OPTIONS);
  return p === 0 || options.training === false ? x : dropoutOp(x, p, options.stream ?? streams.dropout);
}

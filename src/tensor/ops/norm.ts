/** Normalisation of rows: layer norm and RMS norm. */
import { ShapeError } from "../../errors.ts";
import type { Context, Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { show } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { add, f32, mul, rsqrt, square, sub } from "./elementwise.ts";
import { packed } from "./movement.ts";
import { mean } from "./reduce.ts";

function rowsOf(op: string, x: Tensor, parameters: readonly Tensor[]): [rows: number, n: number] {
  const n = x.shape.at(-1);
  if (n === undefined) throw new ShapeError(`${op}: expected rows to normalise, got a scalar`);
  for (const p of parameters)
    if (p.rank !== 1 || p.shape[0] !== n) throw new ShapeError(`${op}: expected a parameter of shape (${n},) for x ${show(x.shape)}, got ${show(p.shape)}`);
  return [n === 0 ? 0 : x.size / n, n];
}

/** Zeroed space for the gradient of parameter i, where one is wanted. */
function gradientOf(ctx: Context, i: number, n: number): { into: Tensor | null; answer: Gradient } {
  if (!ctx.needs(i)) return { into: null, answer: null };
  const fresh = ctx.out([n]);
  backend().fill(fresh, CODE.f32, n, 0);
  return { into: fresh, answer: fresh };
}

const layerNormOp = defineOp<[x: Tensor, parameters: Tensor[], hasWeight: boolean, eps: number]>({
  name: "layerNorm",
  shape: (x, parameters) => {
    rowsOf("layerNorm", x, parameters);
    return x.shape;
  },
  forward: (ctx, shape, x, parameters, hasWeight, eps) => {
    const [rows, n] = rowsOf("layerNorm", x, parameters);
    const [weight, bias] = hasWeight ? parameters : [undefined, parameters[0]];
    const [from, w, b] = [f32(x), weight ? f32(weight) : null, bias ? f32(bias) : null];
    const [out, mu, rstd] = [ctx.out(shape), ctx.out([rows]), ctx.out([rows])];
    backend().layerNorm(from, w, b, out, mu, rstd, rows, n, eps);
    ctx.save(from, w, mu, rstd);
    return out;
  },
  backward: (ctx, [x, parameters, hasWeight], g) => {
    const [rows, n] = rowsOf("layerNorm", x, parameters);
    const gx = ctx.needs(0) ? ctx.out(x.shape) : null;
    const grads = parameters.map((_, i) => gradientOf(ctx, 1 + i, n));
    const [gw, gb] = hasWeight ? grads : [undefined, grads[0]];
    backend().layerNormGrad(ctx.get(0), ctx.maybe(1), ctx.get(2), ctx.get(3), packed(g as Tensor), gx, gw?.into ?? null, gb?.into ?? null, rows, n);
    return [gx, ...grads.map((p) => p.answer)];
  },
  composed: (x, parameters, hasWeight, eps) => {
    const [weight, bias] = hasWeight ? parameters : [undefined, parameters[0]];
    const centred = sub(x, mean(x, -1, { keepDim: true }));
    let y = mul(centred, rsqrt(add(mean(square(centred), -1, { keepDim: true }), eps)));
    if (weight !== undefined) y = mul(y, weight);
    return bias === undefined ? y : add(y, bias);
  },
  samples: () => [
    {
      name: "weight and bias",
      args: () => [values([3, 37]), [values([37], { seed: 2 }), values([37], { seed: 3 })], true, 1e-5],
      torch: "F.layer_norm(x0, (37,), x1, x2, 1e-5)",
    },
    { name: "bare", args: () => [values([2, 3, 16]), [], false, 1e-3], torch: "F.layer_norm(x0, (16,), None, None, 1e-3)" },
    {
      name: "many rows",
      args: () => [values([70, 5]), [values([5], { seed: 2 }), values([5], { seed: 3 })], true, 1e-5],
      torch: "F.layer_norm(x0, (5,), x1, x2, 1e-5)",
    },
  ],
});

/** Layer normalisation (Ba et al. 2016) over the last dimension: (x − mean)/√(variance + eps)·weight + bias. */
export function layerNorm(x: Tensor, weight: Tensor | null = null, bias: Tensor | null = null, eps = 1e-5): Tensor {
  if (weight !== null) checkTensor("layerNorm", weight, 1);
  if (bias !== null) checkTensor("layerNorm", bias, 2);
  return layerNormOp(
    x,
    [weight, bias].filter((t) => t !== null),
    weight !== null,
    eps,
  );
}

const rmsNormOp = defineOp<[x: Tensor, parameters: Tensor[], eps: number]>({
  name: "rmsNorm",
  shape: (x, parameters) => {
    rowsOf("rmsNorm", x, parameters);
    return x.shape;
  },
  forward: (ctx, shape, x, parameters, eps) => {
    const [rows, n] = rowsOf("rmsNorm", x, parameters);
    const [from, w] = [f32(x), parameters[0] ? f32(parameters[0]) : null];
    const [out, rstd] = [ctx.out(shape), ctx.out([rows])];
    backend().rmsNorm(from, w, out, rstd, rows, n, eps);
    ctx.save(from, w, rstd);
    return out;
  },
  backward: (ctx, [x, parameters], g) => {
    const [rows, n] = rowsOf("rmsNorm", x, parameters);
    const gx = ctx.needs(0) ? ctx.out(x.shape) : null;
    const grads = parameters.map((_, i) => gradientOf(ctx, 1 + i, n));
    backend().rmsNormGrad(ctx.get(0), ctx.maybe(1), ctx.get(2), packed(g as Tensor), gx, grads[0]?.into ?? null, rows, n);
    return [gx, ...grads.map((p) => p.answer)];
  },
  composed: (x, parameters, eps) => {
    const y = mul(x, rsqrt(add(mean(square(x), -1, { keepDim: true }), eps)));
    return parameters[0] ? mul(y, parameters[0]) : y;
  },
  samples: () => [
    { name: "weight", args: () => [values([3, 37]), [values([37], { seed: 2 })], 1e-5], torch: "F.rms_norm(x0, (37,), x1, 1e-5)" },
    { name: "bare", args: () => [values([4, 16]), [], 1e-3], torch: "F.rms_norm(x0, (16,), None, 1e-3)" },
  ],
});

/** RMS normalisation (Zhang and Sennrich 2019) over the last dimension: x/√(mean(x²) + eps)·weight. */
export function rmsNorm(x: Tensor, weight: Tensor | null = null, eps = 1e-6): Tensor {
  if (weight !== null) checkTensor("rmsNorm", weight, 1);
  return rmsNormOp(x, weight === null ? [] : [weight], eps);
}

/** Normalisation of rows: layer norm and RMS norm. */
import { ShapeError } from "../../errors.ts";
import { ACCUMULATED, type Context, type Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { rowsIn, type Shape, show } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { add, f32, mul, rsqrt, square, sub } from "./elementwise.ts";
import { packed } from "./movement.ts";
import { mean } from "./reduce.ts";

/** The shape of a norm's result. @throws ShapeError where x has no rows, or a parameter does not fit them */
function shapeOf(op: string, { shape }: Tensor, parameters: readonly Tensor[]): Shape {
  const n = shape[shape.length - 1];
  if (n === undefined) throw new ShapeError(`${op}: expected rows to normalise, got a scalar`);
  for (let i = 0; i < parameters.length; i++) {
    const p = parameters[i] as Tensor;
    if (p.rank !== 1 || p.shape[0] !== n) throw new ShapeError(`${op}: expected a parameter of shape (${n},) for x ${show(shape)}, got ${show(p.shape)}`);
  }
  return shape;
}

/** The length of a row of x. */
const width = (x: Tensor): number => x.shape[x.rank - 1] as number;
/** How many rows x has; none where they are empty. */
const rowsOf = (x: Tensor): number => (x.size === 0 ? 0 : rowsIn(x.shape));

/** Where the gradients of a norm's arguments go, parameters behind x: that of x to what has arrived for it already, where that may be. */
function gradientsOf(ctx: Context, { shape }: Tensor, parameters: readonly Tensor[]): { adds: boolean; grads: (Tensor | null)[] } {
  const wanted = ctx.needs(0);
  const into = wanted ? ctx.gathered(0) : null;
  const grads: (Tensor | null)[] = [into ?? (wanted ? ctx.out(shape) : null)];
  for (let i = 0; i < parameters.length; i++) grads.push(ctx.needs(1 + i) ? ctx.out((parameters[i] as Tensor).shape) : null);
  return { adds: into !== null, grads };
}

/** The gradients as a rule answers with them. */
function answered({ adds, grads }: ReturnType<typeof gradientsOf>): Gradient[] {
  const answers: Gradient[] = grads;
  if (adds) answers[0] = ACCUMULATED;
  return answers;
}

const layerNormOp = defineOp<[x: Tensor, parameters: Tensor[], hasWeight: boolean, eps: number]>({
  name: "layerNorm",
  shape: (x, parameters) => shapeOf("layerNorm", x, parameters),
  forward: (ctx, shape, x, parameters, hasWeight, eps) => {
    const rows = rowsOf(x);
    const weight = hasWeight ? parameters[0] : undefined;
    const bias = parameters[hasWeight ? 1 : 0];
    const from = f32(x);
    const w = weight ? f32(weight) : null;
    const out = ctx.out(shape);
    const mu = ctx.out([rows]);
    const rstd = ctx.out([rows]);
    backend().layerNorm(from, w, bias ? f32(bias) : null, out, mu, rstd, rows, width(x), eps);
    ctx.save(from, w, mu, rstd);
    return out;
  },
  backward: (ctx, args, g) => {
    const x = args[0];
    const hasWeight = args[2];
    const made = gradientsOf(ctx, x, args[1]);
    const gw = (hasWeight ? made.grads[1] : null) ?? null;
    const gb = made.grads[hasWeight ? 2 : 1] ?? null;
    const gx = made.grads[0] as Tensor | null;
    backend().layerNormGrad(ctx.get(0), ctx.maybe(1), ctx.get(2), ctx.get(3), packed(g as Tensor), gx, gw, gb, rowsOf(x), width(x), made.adds ? 1 : 0);
    return answered(made);
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
  const parameters = weight === null ? [] : [weight];
  if (bias !== null) parameters.push(bias);
  return layerNormOp(x, parameters, weight !== null, eps);
}

const rmsNormOp = defineOp<[x: Tensor, parameters: Tensor[], eps: number]>({
  name: "rmsNorm",
  shape: (x, parameters) => shapeOf("rmsNorm", x, parameters),
  forward: (ctx, shape, x, parameters, eps) => {
    const rows = rowsOf(x);
    const from = f32(x);
    const w = parameters[0] ? f32(parameters[0]) : null;
    const out = ctx.out(shape);
    const rstd = ctx.out([rows]);
    backend().rmsNorm(from, w, out, rstd, rows, width(x), eps);
    ctx.save(from, w, rstd);
    return out;
  },
  backward: (ctx, args, g) => {
    const x = args[0];
    const made = gradientsOf(ctx, x, args[1]);
    const gx = made.grads[0] as Tensor | null;
    backend().rmsNormGrad(ctx.get(0), ctx.maybe(1), ctx.get(2), packed(g as Tensor), gx, made.grads[1] ?? null, rowsOf(x), width(x), made.adds ? 1 : 0);
    return answered(made);
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

/** Operations on block-quantised matrices: the numbers they stand for, ranges of rows, linear layers. */
import { ShapeError } from "../../errors.ts";
import { gemm } from "../autocast.ts";
import { ACCUMULATED, type Context, type Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { ACTIVATIONS, type Activation, BINARY, type Operand, QUANTIZED, REDUCTIONS } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { matrixAt } from "../quantized.ts";
import { layoutOf, liesAcross, matricesIn, rowsAndItems } from "../quantized-layout.ts";
import { quantizedValues, values } from "../samples.ts";
import { resized, rowsIn, type Shape, sameShape, show } from "../shape.ts";
import { type Tensor, tensorFrom } from "../tensor.ts";
import { f32 } from "./elementwise.ts";
import { packed, transpose } from "./movement.ts";

function check(op: string, t: Tensor): void {
  if (!t.isQuantized)
    throw new ShapeError(`${op}: expected a block-quantised matrix, one of ${QUANTIZED.join(", ")}, got ${t.dtype}${show(t.shape)}. Floats are what they are`);
}

/** The numbers that a block-quantised matrix (n, k) stands for, or several (groups, n, k), f32 of the same shape: ggml's, bit for bit. */
export const dequantize = defineOp<[weight: Tensor]>({
  name: "dequantize",
  quantized: [0],
  shape: (weight) => {
    check("dequantize", weight);
    return weight.shape;
  },
  forward: (ctx, shape, weight) => {
    const [n, k] = rowsAndItems(weight);
    const out = ctx.out(weight.rank === 3 ? [matricesIn(weight), n, k] : [n, k]);
    for (let i = 0; i < matricesIn(weight); i++)
      backend().dequantizeRows(matrixAt(weight, i), { storage: out.storage, offset: i * n * k }, layoutOf(weight.dtype), 0, n, n, k);
    return liesAcross(weight) ? out.view(shape, weight.strides, 0) : out;
  },
  backward: "none: block-quantised weights are not trained",
  samples: () => [
    ...QUANTIZED.map((dtype) => ({ name: dtype, args: (): [Tensor] => [quantizedValues([19, 512], dtype)] })),
    { name: "several", args: () => [quantizedValues([3, 19, 64], "q5_0")] },
    { name: "several, across", args: () => [transpose(quantizedValues([3, 19, 64], "q4_1"))] },
  ],
});

/** Numbers of a weight that are held as floats at a time. */
const UNPACKED = 4 << 20;
/** The block of the float products' sums (`gemm`): chunks of whole blocks of rows leave their bytes as they are. */
const KC = 768;

/** @internal gx (m, k) = gy (m, n) · matrix i of the weight, or adds it: the weight's rows become floats a chunk at a time. */
export function throughQuantized(ctx: Context, gy: Operand, weight: Tensor, gx: Operand, m: number, adds: boolean, i = 0): void {
  const [n, k] = rowsAndItems(weight);
  const step = Math.min(n, Math.max(1, Math.floor(UNPACKED / Math.max(k, 1) / KC)) * KC);
  const rows = ctx.out([step, k]);
  for (let at = 0; at < n; at += step) {
    const count = Math.min(step, n - at);
    backend().dequantizeRows(matrixAt(weight, i), rows, layoutOf(weight.dtype), at, count, n, k);
    gemm({ storage: gy.storage, offset: gy.offset + at }, n, 1, 0, rows, k, 1, 0, gx, k, 0, 1, m, k, count, 1, adds || at > 0 ? 1 : 0);
  }
  if (n === 0 && !adds) backend().fill(gx, CODE.f32, m * k, 0);
  rows.dispose("the end of a gradient");
}

/**
 * The shape of x · weightᵀ for a block-quantised weight. No arrays are made on the way: generation makes hundreds of these calls for a token.
 * @throws ShapeError where x, weight, bias or residual do not go together
 */
function layerShape(op: string, x: Tensor, weight: Tensor, transposed: boolean, bias: Tensor | undefined, residual: Tensor | undefined): Shape {
  check(op, weight);
  const across = liesAcross(weight);
  const n = weight.shape[weight.rank - (across ? 1 : 2)] as number;
  const k = weight.shape[weight.rank - (across ? 2 : 1)] as number;
  if (weight.rank !== 2 || x.rank === 0 || x.shape[x.rank - 1] !== k || transposed !== across)
    throw new ShapeError(
      `${op}: expected x (…, ${k}) for a weight ${weight.dtype}${show(weight.shape)} whose blocks run along ${k} inputs${transposed === across ? "" : `, seen as ${transposed ? "(in, out)" : "(out, in)"}`}, got ${show(x.shape)}`,
    );
  const shape = resized(x.shape, x.rank - 1, n);
  if (bias !== undefined && (bias.rank !== 1 || bias.shape[0] !== n)) throw new ShapeError(`${op}: expected a bias of shape (${n},), got ${show(bias.shape)}`);
  if (residual !== undefined && !sameShape(residual.shape, shape))
    throw new ShapeError(`${op}: expected a residual of shape ${show(shape)}, got ${show(residual.shape)}`);
  return shape;
}

/** activation(x · weightᵀ + bias) + residual with a block-quantised weight; x (…, in) is rounded to 8 bits in blocks of 32, its gradient is that of the product without this. */
export const quantizedLinear = defineOp<
  [x: Tensor, weight: Tensor, options: { activation?: Activation; transposed?: boolean }, extras: Tensor[], hasBias: boolean]
>({
  name: "quantizedLinear",
  tensors: 2,
  quantized: [1],
  shape: (x, weight, { transposed = false }, extras, hasBias) =>
    layerShape("linear", x, weight, transposed, hasBias ? extras[0] : undefined, extras[hasBias ? 1 : 0]),
  forward: (ctx, shape, x, weight, { activation = "none" }, extras, hasBias) => {
    const n = shape[shape.length - 1] as number;
    const k = x.shape[x.rank - 1] as number;
    const bias = hasBias ? extras[0] : undefined;
    const residual = extras[hasBias ? 1 : 0];
    const out = ctx.out(shape);
    const slope = ctx.records && activation !== "none" ? ctx.out(shape) : null;
    const b = bias ? f32(bias) : null;
    const r = residual ? f32(residual) : null;
    backend().linearQuantized(f32(x), weight, layoutOf(weight.dtype), b, r, out, slope, rowsIn(x.shape), n, k, ACTIVATIONS.indexOf(activation));
    ctx.save(weight, slope);
    return out;
  },
  backward: (ctx, [x, weight, , extras, hasBias], g) => {
    let gy = packed(g as Tensor);
    const slope = ctx.maybe(1);
    const answers: Gradient[] = [];
    if (slope !== null) {
      const sum = ctx.out(gy.shape);
      backend().binary(BINARY.indexOf("mul"), CODE.f32, gy, gy.strides, slope, slope.strides, sum, sum.shape);
      gy = sum;
    }
    const m = rowsIn(gy.shape);
    if (ctx.needs(0)) {
      const into = ctx.gathered(0);
      const gx = into ?? ctx.out(x.shape);
      throughQuantized(ctx, gy, ctx.get(0), gx, m, into !== null);
      answers.push(into === null ? gx : ACCUMULATED);
    } else answers.push(null);
    answers.push(null);
    if (hasBias) {
      const gb = ctx.needs(2) ? ctx.out([rowsAndItems(weight)[0]]) : null;
      if (gb !== null) backend().reduce(REDUCTIONS.indexOf("sum"), gy, gb, 1, m, gb.size);
      answers.push(gb);
    }
    if (extras.length > (hasBias ? 1 : 0)) answers.push(g as Tensor);
    return answers;
  },
  samples: () => [
    ...QUANTIZED.map((dtype, i) => ({
      name: dtype,
      args: (): [Tensor, Tensor, object, Tensor[], boolean] => [values([2, 1 + (i % 3), 512]), quantizedValues([37, 512], dtype, i), {}, [], false],
      differences: false,
    })),
    {
      name: "bias, gelu, residual",
      args: () => [values([3, 64]), quantizedValues([20, 64], "q4_1"), { activation: "gelu" }, [values([20], { seed: 3 }), values([3, 20], { seed: 4 })], true],
      differences: false,
    },
    { name: "silu", args: () => [values([14, 64]), quantizedValues([33, 64], "q8_0"), { activation: "silu" }, [], false], differences: false },
    {
      name: "a channel that stands out of its row",
      args: () => {
        const x = Float32Array.from({ length: 3 * 512 }, (_, i) => (i % 512 === 70 && i > 512 ? 90 : Math.sin(i + 1)));
        return [tensorFrom(x, [3, 512], { requiresGrad: true }), quantizedValues([37, 512], "q4_1"), {}, [], false];
      },
      differences: false,
    },
    { name: "no rows", args: () => [values([0, 64]), quantizedValues([33, 64], "q8_0"), {}, [], false] },
    {
      name: "more rows than one block of sums",
      args: () => [values([2, 32]), quantizedValues([800, 32], "q5_0"), {}, [values([2, 800], { seed: 4 })], false],
      differences: false,
    },
  ],
});

/**
 * x · weightᵀ + bias for several block-quantised weights, in one pass: the rows of x (…, in) are rounded once. weights (out, in) each, biases (out), one for each
 * weight or none at all. The results (…, out) have the bytes of separate layers, which take its place where there are gradients.
 */
export const quantizedLinears = defineOp<[x: Tensor, weights: Tensor[], biases: Tensor[]], Tensor[]>({
  name: "quantizedLinears",
  tensors: 3,
  quantized: [1],
  shape: (x, weights, biases) => {
    for (let i = 1; i < weights.length; i++) layerShape("linears", x, weights[i] as Tensor, false, biases[i], undefined);
    return layerShape("linears", x, weights[0] as Tensor, false, biases[0], undefined);
  },
  forward: (ctx, shape, x, weights, biases) => {
    const count = weights.length;
    const outs = new Array<Tensor>(count);
    const layouts = new Array<number>(count);
    const sizes = new Array<number>(count);
    for (let i = 0; i < count; i++) {
      const weight = weights[i] as Tensor;
      const n = weight.shape[0] as number;
      outs[i] = ctx.out(resized(shape, shape.length - 1, n));
      layouts[i] = layoutOf(weight.dtype);
      sizes[i] = n;
    }
    const k = x.shape[x.rank - 1] as number;
    backend().linearsQuantized(f32(x), weights, layouts, biases.map(f32), outs, sizes, rowsIn(x.shape), k);
    return outs;
  },
  backward: "none: where gradients are wanted, each layer is an operation of its own",
  composed: (x, weights, biases) =>
    weights.map((weight, i) => {
      const bias = biases[i];
      return quantizedLinear(x, weight, {}, bias === undefined ? [] : [bias], bias !== undefined);
    }),
  samples: () => [
    {
      name: "one layout",
      args: () => [values([2, 1, 64]), [quantizedValues([40, 64], "q4_1"), quantizedValues([24, 64], "q4_1", 2), quantizedValues([17, 64], "q4_1", 3)], []],
    },
    {
      name: "several layouts, biases",
      args: () => [
        values([13, 256]),
        [quantizedValues([33, 256], "q4_k"), quantizedValues([20, 256], "q6_k", 2), quantizedValues([5, 256], "q8_0", 3)],
        [values([33], { seed: 3 }), values([20], { seed: 4 }), values([5], { seed: 5 })],
      ],
    },
    { name: "no rows", args: () => [values([0, 64]), [quantizedValues([33, 64], "q8_0"), quantizedValues([3, 64], "q5_1")], []] },
  ],
});

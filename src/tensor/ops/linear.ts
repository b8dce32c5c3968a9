/** A linear layer with what follows it fused in: bias, activation, residual. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { autocastPrecision, linearInputGrad, linearWeightGrad, linear as multiply } from "../autocast.ts";
import { ACCUMULATED, type Context, type Gradient, gradEnabled } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { ACTIVATIONS, type Activation, BINARY, REDUCTIONS } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { packedWeight } from "../packed-weights.ts";
import { values } from "../samples.ts";
import { resized, rowsIn, type Shape, sameShape, show } from "../shape.ts";
import { checkTensor, Tensor } from "../tensor.ts";
import { add, f32, gelu, geluTanh, relu, silu } from "./elementwise.ts";
import { matmul } from "./matmul.ts";
import { packed, transpose } from "./movement.ts";
import { quantizedLinear, quantizedLinears } from "./quantized.ts";

export interface LinearOptions {
  /** Applied to the sum of product and bias. Default "none". */
  activation?: Activation;
  /** weight is (in, out), as in GPT-2's Conv1D, in place of PyTorch's (out, in). */
  transposed?: boolean;
}

const activate: Record<Activation, (x: Tensor) => Tensor> = { none: (x) => x, relu, gelu, gelu_tanh: geluTanh, silu };

interface Layer {
  readonly w: Tensor;
  readonly bias: Tensor | undefined;
  readonly transposed: boolean | undefined;
}

/** The shape of x · weightᵀ. @throws ShapeError where x, weight, bias or residual do not go together */
function shapeOf(op: string, x: Shape, { w: weight, bias, transposed }: Layer, residual: Tensor | undefined): Shape {
  const out = weight.shape[transposed ? 1 : 0] as number;
  const inner = weight.shape[transposed ? 0 : 1];
  if (weight.rank !== 2 || x.length === 0 || x[x.length - 1] !== inner) {
    throw new ShapeError(`${op}: expected x (…, ${inner}) for a weight ${show(weight.shape)}${transposed ? " (in, out)" : " (out, in)"}, got ${show(x)}`);
  }
  const shape = resized(x, x.length - 1, out);
  if (bias !== undefined && (bias.rank !== 1 || bias.shape[0] !== out))
    throw new ShapeError(`${op}: expected a bias of shape (${out},), got ${show(bias.shape)}`);
  if (residual !== undefined && !sameShape(residual.shape, shape))
    throw new ShapeError(`${op}: expected a residual of shape ${show(shape)}, got ${show(residual.shape)}`);
  return shape;
}

/** activation(x · weightᵀ + bias) + residual, and the activation's slope where backward will need it; x and the weight are f32. */
function forwards(
  ctx: Context,
  shape: Shape,
  x: Tensor,
  { w, bias, transposed }: Layer,
  activation: Activation,
  residual: Tensor | undefined,
): { out: Tensor; slope: Tensor | null } {
  const n = shape[shape.length - 1] as number;
  const k = x.shape[x.rank - 1] as number;
  const m = rowsIn(x.shape);
  const out = ctx.out(shape);
  const slope = ctx.records && activation !== "none" ? ctx.out(shape) : null;
  const wRow = transposed ? 1 : k;
  const wCol = transposed ? n : 1;
  const b = bias ? f32(bias) : null;
  const r = residual ? f32(residual) : null;
  const code = ACTIVATIONS.indexOf(activation);
  const ready = autocastPrecision() === "f32" ? packedWeight(w, wRow, wCol, n, k, m, ctx.records) : null;
  if (ready === null) multiply(x, w, wRow, wCol, b, r, out, slope, m, n, k, code);
  else backend().linearPacked(x, ready, b, r, out, slope, m, n, k, code);
  return { out, slope };
}

/** Writes the gradient of what a layer reads (…, in), times `slope` where given, to `gx`, or adds it. */
function backThrough(gy: Tensor, w: Tensor, transposed: boolean | undefined, slope: Tensor | null, gx: Tensor, adds: boolean): void {
  const n = gy.shape[gy.rank - 1] as number;
  const k = gx.shape[gx.rank - 1] as number;
  linearInputGrad(gy, w, transposed ? 1 : k, transposed ? n : 1, slope, gx, rowsIn(gy.shape), n, k, adds ? 1 : 0);
}

/** The gradient of x, which is input 0. */
function inputGradient(ctx: Context, gy: Tensor, w: Tensor, transposed: boolean | undefined, shape: Shape): Gradient {
  if (!ctx.needs(0)) return null;
  const into = ctx.gathered(0);
  const gx = into ?? ctx.out(shape);
  backThrough(gy, w, transposed, null, gx, into !== null);
  return into === null ? gx : ACCUMULATED;
}

/** Adds to the answers the gradients of the weight, which is input i, and of the bias behind it where there is one. */
function parameterGradients(
  ctx: Context,
  i: number,
  x: Tensor,
  gy: Tensor,
  shape: Shape,
  hasBias: boolean,
  transposed: boolean | undefined,
  answers: Gradient[],
): void {
  const n = gy.shape[gy.rank - 1] as number;
  const k = x.shape[x.rank - 1] as number;
  const m = rowsIn(gy.shape);
  const gb = hasBias && ctx.needs(i + 1) ? ctx.out([n]) : null;
  let answer: Gradient = null;
  if (ctx.needs(i)) {
    const into = ctx.gathered(i);
    const gw = into ?? ctx.out(shape);
    linearWeightGrad(x, gy, gw, gb, m, n, k, transposed ? 1 : 0, into ? 1 : 0);
    answer = into ? ACCUMULATED : gw;
  } else if (gb !== null) backend().reduce(REDUCTIONS.indexOf("sum"), gy, gb, 1, m, n);
  answers.push(answer);
  if (hasBias) answers.push(gb);
}

/** activation(x · weightᵀ + bias) + residual; x (…, in), weight (out, in), bias (out), residual (…, out). */
const linearOp = defineOp<[x: Tensor, weight: Tensor, options: LinearOptions, extras: Tensor[], hasBias: boolean]>({
  name: "linear",
  tensors: 2,
  shape: (x, w, { transposed }, extras, hasBias) =>
    shapeOf("linear", x.shape, { w, bias: hasBias ? extras[0] : undefined, transposed }, extras[hasBias ? 1 : 0]),
  forward: (ctx, shape, x, weight, { transposed, activation = "none" }, extras, hasBias) => {
    const from = f32(x);
    const w = f32(weight);
    const bias = hasBias ? extras[0] : undefined;
    const { out, slope } = forwards(ctx, shape, from, { w, bias, transposed }, activation, extras[hasBias ? 1 : 0]);
    ctx.save(from, w, slope);
    return out;
  },
  backward: (ctx, args, g) => {
    const weight = args[1];
    const { transposed } = args[2];
    const hasBias = args[4];
    const gy = packed(g as Tensor);
    const from = ctx.get(0);
    const w = ctx.get(1);
    const slope = ctx.maybe(2);
    let gSum = gy;
    if (slope !== null) {
      gSum = ctx.out(gy.shape);
      backend().binary(BINARY.indexOf("mul"), CODE.f32, gy, gy.strides, slope, slope.strides, gSum, gSum.shape);
    }
    const out: Gradient[] = [inputGradient(ctx, gSum, w, transposed, args[0].shape)];
    parameterGradients(ctx, 1, from, gSum, weight.shape, hasBias, transposed, out);
    if (args[3].length > (hasBias ? 1 : 0)) out.push(gy);
    return out;
  },
  composed: (x, weight, options, extras, hasBias) => {
    const [bias, residual] = hasBias ? extras : [undefined, extras[0]];
    let y = matmul(x, options.transposed ? weight : transpose(weight));
    if (bias !== undefined) y = add(y, bias);
    y = activate[options.activation ?? "none"](y);
    return residual === undefined ? y : add(y, residual);
  },
  samples: () => [
    { name: "plain", args: () => [values([2, 3, 5]), values([4, 5], { seed: 2 }), {}, [], false], torch: "F.linear(x0, x1)" },
    { name: "no outputs", args: () => [values([3, 5]), values([0, 5], { seed: 2 }), {}, [values([0], { seed: 3 })], true] },
    { name: "no rows", args: () => [values([0, 5]), values([5, 4], { seed: 2 }), { transposed: true }, [values([4], { seed: 3 })], true] },
    { name: "bias", args: () => [values([3, 5]), values([4, 5], { seed: 2 }), {}, [values([4], { seed: 3 })], true], torch: "F.linear(x0, x1, x2)" },
    {
      name: "bias, gelu",
      args: () => [values([3, 5]), values([4, 5], { seed: 2 }), { activation: "gelu" }, [values([4], { seed: 3 })], true],
      torch: "F.gelu(F.linear(x0, x1, x2))",
    },
    {
      name: "everything, transposed",
      args: () => [
        values([3, 5]),
        values([5, 20], { seed: 2 }),
        { activation: "gelu_tanh", transposed: true },
        [values([20], { seed: 3 }), values([3, 20], { seed: 4 })],
        true,
      ],
      torch: "F.gelu(x0 @ x1 + x2, approximate='tanh') + x3",
    },
    {
      name: "silu, residual",
      args: () => [values([1, 300], { low: -0.3, high: 0.3 }), values([33, 300], { seed: 2 }), { activation: "silu" }, [values([1, 33], { seed: 4 })], false],
      torch: "F.silu(F.linear(x0, x1)) + x2",
      differences: false,
    },
  ],
});

/** What may follow the product in the same pass. */
export interface FusedLinearOptions extends LinearOptions {
  residual?: Tensor | null;
  /** Sees x · weightᵀ + bias, and gives what takes its place; activation and residual then follow in steps of their own. */
  watch?: ((sum: Tensor) => Tensor) | undefined;
}

const OPTIONS: KnownOptions<FusedLinearOptions> = { activation: true, transposed: true, residual: true, watch: true };

/**
 * activation(x · weightᵀ + bias) + residual in one pass over the product. A block-quantised weight (`quantizedFromBytes`) multiplies integers: each row of x is
 * rounded to 8 bits in blocks of 32.
 * x (…, in), weight (out, in) or with `transposed` (in, out), bias (out), residual (…, out); result (…, out), f32.
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: FusedLinearOptions = {}): Tensor {
  checkOptions("linear", options, OPTIONS);
  // One shape of object in every call, which the engine of JavaScript likes.
  if (bias !== null) checkTensor("linear", bias, 2);
  const { activation = "none", transposed = false, residual, watch } = options;
  if (watch !== undefined) {
    const y = activate[activation](watch(linear(x, weight, bias, { transposed })));
    return residual ? add(y, residual) : y;
  }
  const extras: Tensor[] = bias === null ? [] : [bias];
  if (residual) extras.push(residual);
  if (weight instanceof Tensor && weight.isQuantized) return quantizedLinear(x, weight, { activation, transposed }, extras, bias !== null);
  return linearOp(x, weight, { activation, transposed }, extras, bias !== null);
}

/** Two linear layers with an activation between them, as one node: backward multiplies by the activation's slope inside of the product. */
const mlpOp = defineOp<[x: Tensor, first: Tensor[], second: Tensor[], residual: Tensor[], options: LinearOptions]>({
  name: "mlp",
  tensors: 4,
  shape: (x, first, second, residual, { transposed }) => {
    const inner = shapeOf("mlp", x.shape, { w: first[0] as Tensor, bias: first[1], transposed }, undefined);
    return shapeOf("mlp", inner, { w: second[0] as Tensor, bias: second[1], transposed }, residual[0]);
  },
  forward: (ctx, shape, x, first, second, residual, { transposed, activation = "none" }) => {
    const from = f32(x);
    const w1 = f32(first[0] as Tensor);
    const w2 = f32(second[0] as Tensor);
    const inner = resized(shape, shape.length - 1, w1.shape[transposed ? 1 : 0] as number);
    const { out: neurons, slope } = forwards(ctx, inner, from, { w: w1, bias: first[1], transposed }, activation, undefined);
    const { out } = forwards(ctx, shape, neurons, { w: w2, bias: second[1], transposed }, "none", residual[0]);
    ctx.save(from, w1, slope, neurons, w2);
    return out;
  },
  backward: (ctx, args, g) => {
    const hasBias1 = args[1].length > 1;
    const hasBias2 = args[2].length > 1;
    const { transposed } = args[4];
    const gy = packed(g as Tensor);
    const from = ctx.get(0);
    const w1 = ctx.get(1);
    const slope = ctx.maybe(2);
    const neurons = ctx.get(3);
    const w2 = ctx.get(4);
    const ofSecond: Gradient[] = [];
    parameterGradients(ctx, hasBias1 ? 3 : 2, neurons, gy, w2.shape, hasBias2, transposed, ofSecond);
    const inner = neurons.shape;
    ctx.drop(3);
    const gSum = ctx.out(inner);
    backThrough(gy, w2, transposed, slope, gSum, false);
    ctx.drop(2);
    const ofFirst: Gradient[] = [];
    parameterGradients(ctx, 1, from, gSum, w1.shape, hasBias1, transposed, ofFirst);
    const answers: Gradient[] = [inputGradient(ctx, gSum, w1, transposed, args[0].shape)];
    for (let i = 0; i < ofFirst.length; i++) answers.push(ofFirst[i] as Gradient);
    for (let i = 0; i < ofSecond.length; i++) answers.push(ofSecond[i] as Gradient);
    if (args[3].length > 0) answers.push(gy);
    return answers;
  },
  composed: (x, [w1, b1], [w2, b2], [residual], { transposed, activation = "none" }) => {
    const neurons = linear(x, w1 as Tensor, b1, { transposed, activation });
    return linear(neurons, w2 as Tensor, b2, { transposed, residual });
  },
  samples: () => [
    {
      name: "gelu, biases, residual",
      args: () => [
        values([3, 5]),
        [values([20, 5], { seed: 2 }), values([20], { seed: 3 })],
        [values([5, 20], { seed: 4 }), values([5], { seed: 5 })],
        [values([3, 5], { seed: 6 })],
        { activation: "gelu" },
      ],
      torch: "F.linear(F.gelu(F.linear(x0, x1, x2)), x3, x4) + x5",
    },
    {
      name: "gelu_tanh, transposed",
      args: () => [
        values([2, 3, 17]),
        [values([17, 33], { seed: 2, low: -0.3, high: 0.3 }), values([33], { seed: 3 })],
        [values([33, 4], { seed: 4 }), values([4], { seed: 5 })],
        [],
        { activation: "gelu_tanh", transposed: true },
      ],
      torch: "F.gelu(x0 @ x1 + x2, approximate='tanh') @ x3 + x4",
    },
    {
      name: "silu, no biases",
      args: () => [values([4, 7]), [values([9, 7], { seed: 2 })], [values([3, 9], { seed: 4 })], [], { activation: "silu" }],
      torch: "F.linear(F.silu(F.linear(x0, x1)), x2)",
    },
  ],
});

/** A layer of `mlp` or `linears`. */
export interface MlpLayer {
  /** (out, in), or with `transposed` (in, out). */
  readonly weight: Tensor;
  /** (out). */
  readonly bias?: Tensor | null;
}

export interface MlpOptions extends LinearOptions {
  /** Added to the result. */
  residual?: Tensor | null;
}

const MLP_OPTIONS: KnownOptions<MlpOptions> = { activation: true, transposed: true, residual: true };

/** second(activation(first(x))) + residual: the MLP of a transformer. x (…, in), residual and result (…, out of the second layer), f32. */
export function mlp(x: Tensor, first: MlpLayer, second: MlpLayer, options: MlpOptions = {}): Tensor {
  checkOptions("mlp", options, MLP_OPTIONS);
  const { activation = "none", transposed = false, residual } = options;
  if (first.weight?.isQuantized || second.weight?.isQuantized) {
    const neurons = linear(x, first.weight, first.bias, { transposed, activation });
    return linear(neurons, second.weight, second.bias, { transposed, residual });
  }
  const parts = ({ weight, bias }: MlpLayer) => (bias ? [weight, bias] : [weight]);
  return mlpOp(x, parts(first), parts(second), residual ? [residual] : [], { activation, transposed });
}

/** Whether layers may run as one operation: block-quantised, a bias each or none at all, and nobody asks for gradients. */
function together(x: Tensor, layers: readonly MlpLayer[]): boolean {
  const biased = layers[0]?.bias ? 1 : 0;
  let wanted = x.requiresGrad;
  for (let i = 0; i < layers.length; i++) {
    const { weight, bias } = layers[i] as MlpLayer;
    if (!weight?.isQuantized || (bias ? 1 : 0) !== biased) return false;
    if (bias?.requiresGrad) wanted = true;
  }
  return layers.length > 1 && !(wanted && gradEnabled());
}

/**
 * Linear layers that read the same x (…, in): x · weightᵀ + bias (…, out) each, f32, as `linear` gives it, bit for bit. Block-quantised weights are multiplied in
 * one pass, for which the rows of x are rounded once.
 */
export function linears(x: Tensor, layers: readonly MlpLayer[]): Tensor[] {
  checkTensor("linears", x);
  if (!together(x, layers)) return layers.map(({ weight, bias }) => linear(x, weight, bias));
  const weights: Tensor[] = [];
  const biases: Tensor[] = [];
  for (let i = 0; i < layers.length; i++) {
    const { weight, bias } = layers[i] as MlpLayer;
    weights.push(weight);
    if (bias) biases.push(bias);
  }
  return quantizedLinears(x, weights, biases);
}

/** A linear layer with what follows it fused in: bias, activation, residual. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { autocastPrecision, gemm, linear as multiply } from "../autocast.ts";
import { ACCUMULATED, type Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { ACTIVATIONS, type Activation, UNARY } from "../kernels.ts";
import { defineOp } from "../op.ts";
import { packedWeight } from "../packed-weights.ts";
import { values } from "../samples.ts";
import { sameShape, show } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { add, f32, gelu, geluTanh, relu, silu } from "./elementwise.ts";
import { matmul } from "./matmul.ts";
import { packed, transpose } from "./movement.ts";

export interface LinearOptions {
  /** Applied to the sum of product and bias. Default "none". */
  activation?: Activation;
  /** weight is (in, out), as in GPT-2's Conv1D, in place of PyTorch's (out, in). */
  transposed?: boolean;
}

const activate: Record<Activation, (x: Tensor) => Tensor> = { none: (x) => x, relu, gelu, gelu_tanh: geluTanh, silu };

/** activation(x · weightᵀ + bias) + residual; x (…, in), weight (out, in), bias (out), residual (…, out). */
const linearOp = defineOp<[x: Tensor, weight: Tensor, options: LinearOptions, extras: Tensor[], hasBias: boolean]>({
  name: "linear",
  tensors: 2,
  shape: (x, weight, options, extras, hasBias) => {
    const [out, inner] = options.transposed ? [weight.shape[1], weight.shape[0]] : [weight.shape[0], weight.shape[1]];
    if (weight.rank !== 2 || x.rank === 0 || x.shape.at(-1) !== inner) {
      throw new ShapeError(
        `linear: expected x (…, ${inner}) for a weight ${show(weight.shape)}${options.transposed ? " (in, out)" : " (out, in)"}, got ${show(x.shape)}`,
      );
    }
    const shape = [...x.shape.slice(0, -1), out as number];
    const [bias, residual] = hasBias ? extras : [undefined, extras[0]];
    if (bias !== undefined && !sameShape(bias.shape, [out as number]))
      throw new ShapeError(`linear: expected a bias of shape (${out},), got ${show(bias.shape)}`);
    if (residual !== undefined && !sameShape(residual.shape, shape))
      throw new ShapeError(`linear: expected a residual of shape ${show(shape)}, got ${show(residual.shape)}`);
    return shape;
  },
  forward: (ctx, shape, x, weight, options, extras, hasBias) => {
    const [bias, residual] = hasBias ? extras : [undefined, extras[0]];
    const n = shape.at(-1) as number;
    const k = x.shape.at(-1) as number;
    const m = x.size / Math.max(k, 1);
    const [from, w] = [f32(x), f32(weight)];
    const activation = options.activation ?? "none";
    const out = ctx.out(shape);
    const pre = ctx.records && activation !== "none" ? ctx.out(shape) : null;
    const [wRow, wCol] = options.transposed ? [1, n] : [k, 1];
    const [b, r, code] = [bias ? f32(bias) : null, residual ? f32(residual) : null, ACTIVATIONS.indexOf(activation)];
    const ready = autocastPrecision() === "f32" ? packedWeight(w, wRow, wCol, n, k, m, ctx.records) : null;
    if (ready === null) multiply(from, w, wRow, wCol, b, r, out, pre, m, n, k, code);
    else backend().linearPacked(from, ready, b, r, out, pre, m, n, k, code);
    ctx.save(from, w, pre);
    return out;
  },
  backward: (ctx, [x, weight, options, extras, hasBias], g) => {
    const gy = packed(g as Tensor);
    const [from, w, pre] = [ctx.get(0), ctx.get(1), ctx.maybe(2)];
    const n = gy.shape.at(-1) as number;
    const k = x.shape.at(-1) as number;
    const m = x.size / Math.max(k, 1);
    let gPre = gy;
    if (pre !== null) {
      gPre = ctx.out(gy.shape);
      backend().unaryGrad(UNARY.indexOf(options.activation as (typeof UNARY)[number]), pre, pre, gy, gPre, gPre.size);
    }
    const out: Gradient[] = [null, null];
    const [wRow, wCol] = options.transposed ? [1, n] : [k, 1];
    if (ctx.needs(0)) {
      const gx = ctx.out(x.shape);
      gemm(gPre, n, 1, 0, w, wRow, wCol, 0, gx, k, 0, 1, m, k, n, 1, 0);
      out[0] = gx;
    }
    if (ctx.needs(1)) {
      const into = ctx.gathered(1);
      const gw = into ?? ctx.out(weight.shape);
      if (options.transposed) gemm(from, 1, k, 0, gPre, n, 1, 0, gw, n, 0, 1, k, n, m, 1, into ? 1 : 0);
      else gemm(gPre, 1, n, 0, from, k, 1, 0, gw, k, 0, 1, n, k, m, 1, into ? 1 : 0);
      out[1] = into ? ACCUMULATED : gw;
    }
    for (let i = 0; i < extras.length; i++) {
      if (!ctx.needs(2 + i)) out.push(null);
      else if (hasBias && i === 0) {
        const gb = ctx.out([n]);
        backend().reduce(0, gPre, gb, 1, m, n);
        out.push(gb);
      } else out.push(gy);
    }
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
 * activation(x · weightᵀ + bias) + residual in one pass over the product.
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
  const extras = [bias, residual].filter((t): t is Tensor => t !== null && t !== undefined);
  return linearOp(x, weight, { activation, transposed }, extras, bias !== null);
}

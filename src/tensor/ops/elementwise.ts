/** Functions of each item alone: unary, binary with broadcasting, comparison, selection. */
import { ShapeError } from "../../errors.ts";
import { type Context, type Gradient, noGrad } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE, isFloat, promote } from "../dtype.ts";
import { BINARY, type Binary, type DType, UNARY, type Unary } from "../kernels.ts";
import { defineOp, type Sample } from "../op.ts";
import { values } from "../samples.ts";
import { broadcast, broadcastStrides, type Shape, sameShape, sizeOf } from "../shape.ts";
import { checkTensor, full, Tensor, tensor } from "../tensor.ts";
import { cast, packed, reshape, sumTo } from "./movement.ts";

/** A tensor, or a number that is broadcast. */
export type Numeric = Tensor | number;

const codeOf = new Map<string, number>([...UNARY.map((n, i) => [n, i] as const), ...BINARY.map((n, i) => [n, i] as const)]);
const code = (name: Unary | Binary): number => codeOf.get(name) as number;

/** @internal x in float32 and contiguous: what the float kernels read. */
export function f32(x: Tensor): Tensor {
  return packed(x.dtype === "f32" ? x : noGrad(() => cast(x, "f32")));
}

/** @internal Stores an f32 result in the dtype it should have. */
function as(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : noGrad(() => cast(x, dtype));
}

/** Where functions go wrong first: zeros, infinities, not a number, very small and very large. */
const EDGES = [0, -0, 1, -1, 2.5, -2.5, 1e-40, 1e-7, 88.5, -104, 1e20, -1e30, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];

function unary(name: Unary, torch: string, options: { low?: number; high?: number; flat?: boolean } = {}) {
  const kind = code(name);
  const { low = -2, high = 2, flat = false } = options;
  return defineOp<[x: Tensor]>({
    name,
    shape: (x) => x.shape,
    forward: (ctx, shape, x) => {
      const from = f32(x);
      const out = ctx.out(shape);
      backend().unary(kind, from, out, out.size);
      ctx.save(from, out);
      return as(out, isFloat(x.dtype) ? x.dtype : "f32");
    },
    backward: (ctx, [x], g) => {
      const gx = ctx.out(x.shape);
      backend().unaryGrad(kind, ctx.get(0), ctx.get(1), packed(g as Tensor), gx, gx.size);
      return [gx];
    },
    samples: () => [
      { name: "a matrix", args: () => [values([5, 7], { low, high })], torch, differences: !flat },
      { name: "one item", args: () => [values([], { low, high })], torch, differences: !flat },
      { name: "none", args: () => [values([0, 3])], torch },
      { name: "at the edges", args: () => [tensor(EDGES)], torch, differences: false },
      { name: "gradient at zero and far out", args: () => [tensor([0, -0, 1e-7, 30, -30, 88.5, -104], { requiresGrad: true })], torch, differences: false },
    ],
  });
}

/** −x, of each item: x (…) → (…), as all functions of one tensor here: floats keep their dtype, whole numbers and bools become f32. */
export const neg = unary("neg", "-x0");
/** |x| of each item; its gradient at 0 is 0. */
export const abs = unary("abs", "x0.abs()");
/** eˣ of each item, within 1 unit in the last place. */
export const exp = unary("exp", "x0.exp()");
/** The natural logarithm of each item: −∞ at 0, NaN below. */
export const log = unary("log", "x0.log()", { low: 0.1, high: 3 });
/** The square root of each item; NaN below 0. */
export const sqrt = unary("sqrt", "x0.sqrt()", { low: 0.1, high: 3 });
/** 1/√x of each item; ∞ at 0, NaN below. */
export const rsqrt = unary("rsqrt", "x0.rsqrt()", { low: 0.3, high: 3 });
/** x² of each item. */
export const square = unary("square", "x0.square()");
/** 1/x of each item. */
export const reciprocal = unary("reciprocal", "x0.reciprocal()", { low: 0.4, high: 3 });
/** The sine of each item, in radians. */
export const sin = unary("sin", "x0.sin()");
/** The cosine of each item, in radians. */
export const cos = unary("cos", "x0.cos()");
/** The hyperbolic tangent of each item. */
export const tanh = unary("tanh", "x0.tanh()");
/** 1/(1 + e⁻ˣ) of each item. */
export const sigmoid = unary("sigmoid", "x0.sigmoid()");
/** max(x, 0) of each item; NaN stays NaN, and the gradient at 0 is 0. */
export const relu = unary("relu", "x0.relu()");
/** Gaussian error linear unit, exact: x·Φ(x) (Hendrycks and Gimpel 2016). */
export const gelu = unary("gelu", "F.gelu(x0)");
/** GELU by its tanh form, as GPT-2 has it. */
export const geluTanh = unary("gelu_tanh", "F.gelu(x0, approximate='tanh')");
/** x·sigmoid(x), also called swish. */
export const silu = unary("silu", "F.silu(x0)");
/** The error function of each item, 2/√π · ∫₀ˣ e^(−t²) dt. */
export const erf = unary("erf", "x0.erf()");
/** The largest whole number not above each item. Its gradient is 0. */
export const floor = unary("floor", "x0.floor()", { flat: true });
/** The smallest whole number not below each item. Its gradient is 0. */
export const ceil = unary("ceil", "x0.ceil()", { flat: true });
/** To the nearest whole number, ties to even. */
export const round = unary("round", "x0.round()", { flat: true });
/** −1, 0 or 1 for each item. Its gradient is 0. */
export const sign = unary("sign", "x0.sign()", { flat: true });
/** log(1 + x) of each item, exact near 0. */
export const log1p = unary("log1p", "x0.log1p()", { low: -0.5, high: 2 });
/** eˣ − 1 of each item, exact near 0. */
export const expm1 = unary("expm1", "x0.expm1()");
/** log(1 + eˣ). */
export const softplus = unary("softplus", "F.softplus(x0)");

const COMPARISONS = new Set<string>(["eq", "ne", "lt", "le", "gt", "ge"]);

function computeBinary(ctx: Context, shape: Shape, name: Binary, a: Tensor, b: Tensor): Tensor {
  const dtype = promote(a.dtype, b.dtype);
  const whole = !isFloat(dtype) && name !== "div" && name !== "pow";
  const inner: DType = whole ? "i32" : "f32";
  const x = a.dtype === inner ? a : noGrad(() => cast(a, inner));
  const y = b.dtype === inner ? b : noGrad(() => cast(b, inner));
  const compares = COMPARISONS.has(name);
  const out = ctx.out(shape, compares ? "bool" : inner);
  if (sameShape(x.shape, y.shape) && x.isContiguous && y.isContiguous) {
    backend().binary(code(name), CODE[inner], x, ONE, y, ONE, out, [sizeOf(shape)]);
  } else {
    backend().binary(code(name), CODE[inner], x, broadcastStrides(x.shape, x.strides, shape), y, broadcastStrides(y.shape, y.strides, shape), out, shape);
  }
  if (compares) return out;
  return as(out, isFloat(dtype) ? dtype : whole ? (dtype === "bool" ? "i32" : dtype) : "f32");
}

const ONE = [1];

/** The two gradients of a binary function, each summed over what was repeated. */
type Halves = (ctx: Context, a: Tensor, b: Tensor, g: Tensor) => [() => Tensor, () => Tensor];

/** The gradient of what was broadcast to g's shape. */
const summedTo = (g: Tensor, shape: Shape): Tensor => (sameShape(g.shape, shape) ? g : sumTo(g, shape));

function binary(name: Binary, torch: string, halves: Halves | null, options: { low?: number; keepsInputs?: boolean } = {}) {
  const { low = -2, keepsInputs = true } = options;
  const samples = (): Sample<[Tensor, Tensor]>[] => [
    { name: "one shape", args: () => [values([3, 4], { low }), values([3, 4], { seed: 2, low })], torch, differences: halves !== null },
    { name: "a row", args: () => [values([3, 4], { low }), values([4], { seed: 2, low })], torch, differences: halves !== null },
    { name: "a column and a row", args: () => [values([3, 1], { low }), values([1, 4], { seed: 2, low })], torch, differences: halves !== null },
    { name: "a scalar", args: () => [values([2, 3], { low }), values([], { seed: 3, low, high: 1.7 })], torch, differences: halves !== null },
    { name: "empty", args: () => [values([0, 3]), values([3], { low })], torch },
    { name: "at the edges", args: () => [reshape(tensor(EDGES), [-1, 1]), tensor(EDGES)], torch },
  ];
  const op = defineOp<[a: Tensor, b: Tensor]>({
    name,
    tensors: 2,
    shape: (a, b) => broadcast(name, a.shape, b.shape),
    forward: (ctx, shape, a, b) => {
      if (keepsInputs) ctx.save(a, b);
      return computeBinary(ctx, shape, name, a, b);
    },
    backward:
      halves === null
        ? "none: the result is a yes or no, or does not change smoothly"
        : (ctx, [a, b], g) => {
            const rules = keepsInputs ? halves(ctx, ctx.get(0), ctx.get(1), g as Tensor) : halves(ctx, a, b, g as Tensor);
            return [ctx.needs(0) ? summedTo(rules[0](), a.shape) : null, ctx.needs(1) ? summedTo(rules[1](), b.shape) : null];
          },
    samples,
  });
  return (a: Numeric, b: Numeric): Tensor => {
    if (typeof a === "number") {
      checkTensor(name, b, 1);
      return op(numberLike(a, b), b);
    }
    if (typeof b !== "number") return op(a, b);
    checkTensor(name, a);
    return op(a, numberLike(b, a));
  };
}

/** A number beside a tensor takes the tensor's kind: whole numbers stay whole beside integers. */
function numberLike(x: number, beside: Tensor): Tensor {
  return full([], x, { dtype: isFloat(beside.dtype) ? beside.dtype : Number.isInteger(x) ? "i32" : "f32" });
}

/** x + y, item by item; shapes broadcast, dtypes are promoted (docs/tensors.md), a number takes the kind of the tensor beside it. So it is with all functions of two. */
export const add = binary("add", "x0 + x1", (_, __, ___, g) => [() => g, () => g], { keepsInputs: false });
/** x − y, item by item; shapes broadcast. */
export const sub = binary("sub", "x0 - x1", (_, __, ___, g) => [() => g, () => neg(g)], { keepsInputs: false });
/** x · y, item by item; shapes broadcast. The matrix product is `matmul`. */
export const mul = binary("mul", "x0 * x1", (_, a, b, g) => [() => mul(g, b), () => mul(g, a)]);
// d(a/b)/db = −a/b²
/** x / y, item by item; shapes broadcast. Whole numbers give f32. */
export const div = binary("div", "x0 / x1", (_, a, b, g) => [() => div(g, b), () => neg(div(mul(g, a), square(b)))]);
// d(aᵇ)/da = b·aᵇ⁻¹, d(aᵇ)/db = aᵇ·ln a (0 where a is 0)
/** xʸ, item by item; shapes broadcast. NaN for a negative x and a fractional y. Whole numbers give f32. */
export const pow = binary(
  "pow",
  "x0 ** x1",
  (_, a, b, g) => [() => mul(g, mul(b, pow(a, sub(b, 1)))), () => mul(g, where(eq(a, 0), full([], 0), mul(pow(a, b), log(a))))],
  { low: 0.3 },
);
// Ties share the gradient, as in PyTorch.
/** The larger of x and y, item by item; NaN if either is. Shapes broadcast. */
export const maximum = binary("maximum", "torch.maximum(x0, x1)", (_, a, b, g) => [
  () => mul(g, share(gt(a, b), eq(a, b))),
  () => mul(g, share(lt(a, b), eq(a, b))),
]);
/** The smaller of x and y, item by item; NaN if either is. Shapes broadcast. */
export const minimum = binary("minimum", "torch.minimum(x0, x1)", (_, a, b, g) => [
  () => mul(g, share(lt(a, b), eq(a, b))),
  () => mul(g, share(gt(a, b), eq(a, b))),
]);
/** The rest of a division, with the divisor's sign. */
export const remainder = binary("remainder", "x0.remainder(x1)", null);
/** x = y as bool, item by item; shapes broadcast. NaN equals nothing. */
export const eq = binary("eq", "x0 == x1", null);
/** x ≠ y as bool, item by item; shapes broadcast. */
export const ne = binary("ne", "x0 != x1", null);
/** x < y as bool, item by item; shapes broadcast. */
export const lt = binary("lt", "x0 < x1", null);
/** x ≤ y as bool, item by item; shapes broadcast. */
export const le = binary("le", "x0 <= x1", null);
/** x > y as bool, item by item; shapes broadcast. */
export const gt = binary("gt", "x0 > x1", null);
/** x ≥ y as bool, item by item; shapes broadcast. */
export const ge = binary("ge", "x0 >= x1", null);

function share(wins: Tensor, ties: Tensor): Tensor {
  return add(cast(wins, "f32"), mul(cast(ties, "f32"), 0.5));
}

const whereOp = defineOp<[condition: Tensor, a: Tensor, b: Tensor]>({
  name: "where",
  tensors: 3,
  shape: (condition, a, b) => broadcast("where", condition.shape, broadcast("where", a.shape, b.shape)),
  forward: (ctx, shape, condition, a, b) => {
    if (condition.dtype !== "bool") throw new ShapeError(`where: expected a bool condition, got ${condition.dtype}. Compare first, e.g. ne(x, 0)`);
    const dtype = promote(a.dtype, b.dtype);
    const inner: DType = isFloat(dtype) ? "f32" : "i32";
    const [x, y] = noGrad(() => [cast(a, inner), cast(b, inner)]) as [Tensor, Tensor];
    const out = ctx.out(shape, inner);
    const s = (t: Tensor) => broadcastStrides(t.shape, t.strides, shape);
    backend().where(condition, s(condition), x, s(x), y, s(y), out, shape);
    ctx.save(condition);
    return as(out, isFloat(dtype) ? dtype : dtype === "bool" ? "bool" : dtype);
  },
  backward: (ctx, [, a, b], g): Gradient[] => {
    const zero = full([], 0);
    return [
      null,
      ctx.needs(1) ? sumTo(whereOp(ctx.get(0), g as Tensor, zero), a.shape) : null,
      ctx.needs(2) ? sumTo(whereOp(ctx.get(0), zero, g as Tensor), b.shape) : null,
    ];
  },
  samples: () => [
    {
      name: "broadcast",
      args: () => [noGrad(() => gt(values([3, 4], { requiresGrad: false }), 0)), values([3, 4], { seed: 2 }), values([4], { seed: 3 })],
      torch: "torch.where(x0, x1, x2)",
    },
  ],
});
/**
 * a where the condition holds, else b, item by item: condition is bool, a and b tensors or numbers; all three broadcast. The gradient goes to the one chosen.
 * @throws ShapeError where the condition is not bool or shapes do not broadcast
 */
export function where(condition: Tensor, a: Numeric, b: Numeric): Tensor {
  const like = a instanceof Tensor ? a : b instanceof Tensor ? b : full([], 0);
  return whereOp(condition, typeof a === "number" ? numberLike(a, like) : a, typeof b === "number" ? numberLike(b, like) : b);
}

/** x with `value` where the bool mask holds. */
export function maskedFill(x: Tensor, mask: Tensor, value: number): Tensor {
  checkTensor("maskedFill", x);
  return where(mask, full([], value, { dtype: isFloat(x.dtype) ? "f32" : "i32" }), x);
}

/** Whether each item is 0 or false, as bool (…). */
export const logicalNot = (x: Tensor): Tensor => eq(x, 0);
/** Whether both items are other than 0, as bool; shapes broadcast. */
export const logicalAnd = (a: Tensor, b: Tensor): Tensor => ne(mul(cast(a, "bool"), cast(b, "bool")), 0);
/** Whether one item at least is other than 0, as bool; shapes broadcast. */
export const logicalOr = (a: Tensor, b: Tensor): Tensor => ne(add(cast(a, "bool"), cast(b, "bool")), 0);
/** Whether just one of two items is other than 0, as bool; shapes broadcast. */
export const logicalXor = (a: Tensor, b: Tensor): Tensor => ne(cast(a, "bool"), cast(b, "bool"));

/** Items held between two bounds: x (…) → (…). The gradient passes inside the bounds, not at them, as in PyTorch 2.15. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  checkTensor("clamp", x);
  const held = noGrad(() => minimum(maximum(x, low), high));
  if (!x.requiresGrad) return held;
  const inside = noGrad(() => logicalAnd(gt(x, low), lt(x, high)));
  return where(inside, x, held);
}

/** cap·tanh(x/cap), item by item: nearly x far below the cap, and never beyond it. As Gemma 2 bends its scores and logits. */
export const softcapped = (x: Tensor, cap: number): Tensor => mul(tanh(mul(x, 1 / cap)), cap);

/** Item by item: functions of one number and of two, choice, and linear combination. */
import { ShapeError } from "../../errors.ts";
import { BINARY, type Binary, type Kernels } from "../kernels.ts";
import { reach } from "../shape.ts";
import { unaryCurve } from "./curves.ts";
import { dtypeNamed, forEachRow, type Views } from "./memory.ts";

type OfTwo = (a: number, b: number) => number;

/** ** differs from C's pow, and so from PyTorch, in two places: 1 to the power of NaN, and ±1 to the power of ±∞; both are 1 there. */
function pow(a: number, b: number): number {
  return a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY) ? 1 : a ** b;
}

/** As Python's %: the result has the divisor's sign. */
function remainder(a: number, b: number): number {
  const r = a % b;
  return r !== 0 && r < 0 !== b < 0 ? r + b : r;
}

const OF_FLOATS: Record<Binary, OfTwo> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow,
  maximum: Math.max, // NaN if either is, as in PyTorch
  minimum: Math.min,
  remainder,
  eq: (a, b) => Number(a === b),
  ne: (a, b) => Number(a !== b),
  lt: (a, b) => Number(a < b),
  le: (a, b) => Number(a <= b),
  gt: (a, b) => Number(a > b),
  ge: (a, b) => Number(a >= b),
};

function notZero(op: string, a: number, b: number): void {
  if (b === 0)
    throw new ShapeError(`${op}: division of an integer by zero, expected a divisor that is not 0, got ${a} and 0. Divide floats, or mask the zeros`);
}

/** Where i32 differs: sums and products wrap at 32 bits, division truncates towards zero. */
const OF_INTEGERS: Record<Binary, OfTwo> = {
  ...OF_FLOATS,
  mul: Math.imul,
  div: (a, b) => {
    notZero("div", a, b);
    return Math.trunc(a / b);
  },
  remainder: (a, b) => {
    notZero("remainder", a, b);
    return remainder(a, b);
  },
  pow: () => {
    throw new ShapeError("pow: not defined for i32, expected f32. Cast first");
  },
};

const FIRST_COMPARISON = BINARY.indexOf("eq");

export function elementwiseKernels(at: Views): Pick<Kernels, "unary" | "unaryGrad" | "binary" | "where" | "axpby"> {
  return {
    unary(kind, x, out, n) {
      const { f } = unaryCurve(kind);
      const from = at.f32(x, n);
      const to = at.f32(out, n);
      for (let i = 0; i < n; i++) to[i] = f(from[i]);
    },

    unaryGrad(kind, x, y, gy, gx, n) {
      const { df } = unaryCurve(kind);
      const [xs, ys, gys, gxs] = [x, y, gy, gx].map((place) => at.f32(place, n));
      for (let i = 0; i < n; i++) gxs[i] = df(xs[i], ys[i]) * gys[i];
    },

    binary(kind, dtype, a, aStrides, b, bStrides, out, shape) {
      const name = dtypeNamed(dtype);
      if (name !== "f32" && name !== "i32") throw new ShapeError(`${BINARY[kind]}: dtype not supported, expected f32 or i32, got ${name}`);
      const f = (name === "i32" ? OF_INTEGERS : OF_FLOATS)[BINARY[kind]];
      const x = at.items(a, dtype, reach(shape, aStrides));
      const y = at.items(b, dtype, reach(shape, bStrides));
      const size = shape.reduce((p, s) => p * s, 1);
      const to = kind >= FIRST_COMPARISON ? at.u8(out, size) : at.items(out, dtype, size);
      const n = shape.at(-1) ?? 1;
      const aStep = aStrides.at(-1) ?? 0;
      const bStep = bStrides.at(-1) ?? 0;
      let o = 0;
      forEachRow(shape, [aStrides, bStrides], ([i, j]) => {
        for (let p = 0; p < n; p++) to[o++] = f(x[i + p * aStep], y[j + p * bStep]);
      });
    },

    where(condition, conditionStrides, a, aStrides, b, bStrides, out, shape) {
      // As integers, so that any 4-byte item passes unchanged.
      const c = at.u8(condition, reach(shape, conditionStrides));
      const x = at.i32(a, reach(shape, aStrides));
      const y = at.i32(b, reach(shape, bStrides));
      const to = at.i32(
        out,
        shape.reduce((p, s) => p * s, 1),
      );
      const n = shape.at(-1) ?? 1;
      const steps = [conditionStrides, aStrides, bStrides].map((s) => s.at(-1) ?? 0);
      let o = 0;
      forEachRow(shape, [conditionStrides, aStrides, bStrides], ([k, i, j]) => {
        for (let p = 0; p < n; p++) to[o++] = c[k + p * steps[0]] !== 0 ? x[i + p * steps[1]] : y[j + p * steps[2]];
      });
    },

    axpby(alpha, x, beta, y, out, n) {
      const xs = at.f32(x, n);
      const ys = y === null ? null : at.f32(y, n);
      const to = at.f32(out, n);
      for (let i = 0; i < n; i++) to[i] = alpha * xs[i] + (ys === null ? 0 : beta * ys[i]);
    },
  };
}

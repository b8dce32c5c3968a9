/**
 * The functions of one number, each beside its derivative: one row for each member of UNARY. All in float64.
 *
 * df(x, y) is f'(x), where y = f(x). A function reads x or y, never both, so that a backward pass keeps only one of them.
 */
import { ACTIVATIONS, type Activation, UNARY, type Unary } from "../kernels.ts";

export interface Curve {
  readonly f: (x: number) => number;
  readonly df: (x: number, y: number) => number;
}

const { abs, cos, exp, max, PI, sin, sqrt, tanh } = Math;

/** 0 for NaN, as in PyTorch. */
const sign = (x: number) => (x > 0 ? 1 : x < 0 ? -1 : 0);

/** erf x = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·5·…·(2n+1)): every term has x's sign, so nothing cancels (Abramowitz and Stegun 7.1.6). */
export function erf(x: number): number {
  if (abs(x) > 6) return sign(x); // 1 − erf 6 = 2·10⁻¹⁷, less than half a step below 1
  let term = x;
  let sum = x;
  for (let n = 1; abs(term) > abs(sum) * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / sqrt(PI)) * exp(-x * x) * sum;
}

/**
 * 1 − erf x without losing the small values at large x, by the continued fraction
 * e^(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))) (Abramowitz and Stegun 7.1.14), evaluated from its far end.
 */
export function erfc(x: number): number {
  if (!(x > 2)) return 1 - erf(x);
  let tail = x;
  for (let n = 60; n >= 1; n--) tail = x + n / 2 / tail;
  return exp(-x * x) / sqrt(PI) / tail;
}

/** The normal distribution's Φ and its density φ. */
const Phi = (x: number) => erfc(-x / Math.SQRT2) / 2;
const phi = (x: number) => exp((-x * x) / 2) / sqrt(2 * PI);

const sigmoid = (x: number) => 1 / (1 + exp(-x));
/** Halves go to the even neighbour, as in IEEE 754 and PyTorch. */
const roundEven = (x: number) => (abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// The tanh form of GELU: x/2 · (1 + tanh u), u = √(2/π)·(x + 0.044715 x³) (Hendrycks and Gimpel 2016).
const geluTanh = (x: number) => tanh(sqrt(2 / PI) * (x + 0.044715 * x * x * x));
const geluSlope = (x: number) => sqrt(2 / PI) * (1 + 3 * 0.044715 * x * x);

export const CURVES: Record<Unary, Curve> = {
  neg: { f: (x) => -x, df: () => -1 },
  abs: { f: abs, df: sign },
  exp: { f: exp, df: (_, y) => y },
  log: { f: Math.log, df: (x) => 1 / x },
  sqrt: { f: sqrt, df: (_, y) => 0.5 / y },
  rsqrt: { f: (x) => 1 / sqrt(x), df: (_, y) => -0.5 * y * y * y },
  square: { f: (x) => x * x, df: (x) => 2 * x },
  reciprocal: { f: (x) => 1 / x, df: (_, y) => -y * y },
  sin: { f: sin, df: cos },
  cos: { f: cos, df: (x) => -sin(x) },
  tanh: { f: tanh, df: (_, y) => 1 - y * y },
  sigmoid: { f: sigmoid, df: (_, y) => y * (1 - y) },
  relu: { f: (x) => max(x, 0), df: (x) => (x > 0 ? 1 : 0) },
  gelu: { f: (x) => x * Phi(x), df: (x) => Phi(x) + x * phi(x) },
  gelu_tanh: {
    f: (x) => 0.5 * x * (1 + geluTanh(x)),
    df: (x) => 0.5 * (1 + geluTanh(x)) + 0.5 * x * (1 - geluTanh(x) ** 2) * geluSlope(x),
  },
  silu: { f: (x) => x * sigmoid(x), df: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))) },
  erf: { f: erf, df: (x) => (2 / sqrt(PI)) * exp(-x * x) },
  floor: { f: Math.floor, df: () => 0 },
  ceil: { f: Math.ceil, df: () => 0 },
  round: { f: roundEven, df: () => 0 },
  sign: { f: sign, df: () => 0 },
  log1p: { f: Math.log1p, df: (x) => 1 / (1 + x) },
  expm1: { f: Math.expm1, df: (_, y) => y + 1 },
  // log(1 + eˣ), with the large part taken out so that eˣ can't overflow.
  softplus: { f: (x) => max(x, 0) + Math.log1p(exp(-abs(x))), df: sigmoid },
};

/** The curve of a place in UNARY. */
export const unaryCurve = (kind: number): Curve => CURVES[UNARY[kind]];

const identity: Curve = { f: (x) => x, df: () => 1 };

/** The curve of a place in ACTIVATIONS. */
export function activationCurve(kind: number): Curve {
  const name: Activation = ACTIVATIONS[kind];
  return name === "none" ? identity : CURVES[name];
}

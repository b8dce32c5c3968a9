import { expect, test } from "vitest";
import { BINARY, type Binary, DTYPES, UNARY, type Unary } from "../kernels.ts";
import { CURVES, erf, erfc } from "./curves.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const INF = Number.POSITIVE_INFINITY;

function unary(name: Unary, ...items: number[]): number[] {
  const x = place(be, Float32Array.from(items));
  be.unary(UNARY.indexOf(name), x, x, items.length);
  return [...x.values()];
}

test("erf and erfc have the tables' values", () => {
  // Abramowitz and Stegun, tables 7.1 and 7.3, to 15 digits.
  const known = [
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [3, 0.9999779095030014],
  ];
  for (const [x, y] of known) {
    expect(Math.abs(erf(x) - y)).toBeLessThan(1e-15);
    expect(erf(-x)).toBe(-erf(x));
  }
  expect(erfc(3) / 2.209049699858544e-5).toBeCloseTo(1, 13);
  expect(erfc(5) / 1.5374597944280349e-12).toBeCloseTo(1, 13);
  expect([erf(0), erf(9), erf(-9), erf(INF), erfc(INF), erfc(-INF)]).toEqual([0, 1, -1, 1, 0, 2]);
  expect(erf(Number.NaN)).toBeNaN();
  expect(erfc(Number.NaN)).toBeNaN();
  expect(Math.abs(erfc(2 + 1e-12) - (1 - erf(2)))).toBeLessThan(1e-13); // the two ways meet at 2
});

test("functions of one number at places where the answer is known", () => {
  expect(unary("round", 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, -2.6)).toEqual([0, 2, 2, -0, -2, -2, 2, -3]);
  expect(unary("gelu", 0, 1, -1)).toEqual([0, 0.8413447460685429, -0.15865525393145707].map(Math.fround));
  expect(unary("gelu_tanh", 1)[0]).toBeCloseTo(0.8411919906, 7);
  expect(unary("silu", 0, 1)).toEqual([0, Math.fround(0.7310585786300049)]);
  expect(unary("sigmoid", -200, 0, 200)).toEqual([0, 0.5, 1]);
  expect(unary("softplus", 0, 1000, -1000)).toEqual([Math.fround(Math.LN2), 1000, 0]);
  expect(unary("relu", -3, 4, Number.NaN)).toEqual([0, 4, Number.NaN]);
  expect(unary("sign", -3, 0, 4)).toEqual([-1, 0, 1]);
  expect(unary("rsqrt", 4)).toEqual([0.5]);
  expect(unary("reciprocal", 4)).toEqual([0.25]);
  expect(unary("square", -3)).toEqual([9]);
  expect(unary("log1p", 2 ** -30)).toEqual([2 ** -30]);
  expect(unary("expm1", 2 ** -30)).toEqual([2 ** -30]);
});

test.each(UNARY)("the derivative of %s is its slope, from x or y alone", (name) => {
  const { f, df } = CURVES[name];
  const readsY = ["exp", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "expm1"].includes(name);
  for (const x of [0.3, 0.7, 1.2, 2.3, -0.4, -1.7]) {
    if (Number.isNaN(f(x))) continue; // outside the domain
    const h = 1e-3;
    const slope = (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
    const derivative = readsY ? df(Number.NaN, f(x)) : df(x, Number.NaN);
    expect(Math.abs(derivative - slope)).toBeLessThan(1e-8 * Math.max(1, Math.abs(slope)));
  }
});

test("unaryGrad multiplies by the gradient from above, in place too", () => {
  const x = place(be, Float32Array.of(3, -2));
  const gy = place(be, Float32Array.of(10, 100));
  be.unaryGrad(UNARY.indexOf("square"), x, x, gy, gy, 2);
  expect([...gy.values()]).toEqual([60, -400]);
});

function binary(name: Binary, dtype: "f32" | "i32", a: number[], b: number[]): number[] {
  const Type = dtype === "f32" ? Float32Array : Int32Array;
  const out = place(be, new (BINARY.indexOf(name) >= BINARY.indexOf("eq") ? Uint8Array : Type)(a.length));
  be.binary(BINARY.indexOf(name), DTYPES.indexOf(dtype), place(be, Type.from(a)), [1], place(be, Type.from(b)), [1], out, [a.length]);
  return [...out.values()];
}

test("functions of two numbers", () => {
  expect(binary("sub", "f32", [5, 1], [3, 4])).toEqual([2, -3]);
  expect(binary("div", "f32", [1, -1, 0], [0, 0, 0])).toEqual([INF, -INF, Number.NaN]);
  expect(binary("pow", "f32", [2, 1, -1, -8, 0], [10, Number.NaN, INF, 3, 0])).toEqual([1024, 1, 1, -512, 1]);
  // Python: 7 % 3, -7 % 3, 7 % -3, -7 % -3, 5.5 % 2
  expect(binary("remainder", "f32", [7, -7, 7, -7, 5.5], [3, 3, -3, -3, 2])).toEqual([1, 2, -2, -1, 1.5]);
  expect(binary("remainder", "i32", [7, -7, 7, -7], [3, 3, -3, -3])).toEqual([1, 2, -2, -1]);
  expect(binary("maximum", "f32", [1, Number.NaN, 2], [3, 1, Number.NaN])).toEqual([3, Number.NaN, Number.NaN]);
  expect(binary("lt", "f32", [1, 2, Number.NaN], [2, 2, 1])).toEqual([1, 0, 0]);
  expect(binary("ne", "f32", [1, 2, Number.NaN], [2, 2, Number.NaN])).toEqual([1, 0, 1]);
  expect(binary("ge", "i32", [1, 2], [2, 2])).toEqual([0, 1]);
});

test("i32 wraps, divides towards zero, and refuses zero and pow", () => {
  expect(binary("add", "i32", [2147483647], [1])).toEqual([-2147483648]);
  expect(binary("mul", "i32", [65537, 2147483647], [65537, 2147483647])).toEqual([131073, 1]);
  expect(binary("div", "i32", [-7, 7, -2147483648], [2, -2, -1])).toEqual([-3, -3, -2147483648]);
  expect(() => binary("div", "i32", [1, 5], [1, 0])).toThrow("got 5 and 0");
  expect(() => binary("remainder", "i32", [1], [0])).toThrow("division of an integer by zero");
  expect(() => binary("pow", "i32", [1], [1])).toThrow("expected f32");
});

test("operands are broadcast by strides", () => {
  const a = place(be, Float32Array.of(10, 20));
  const b = place(be, Float32Array.of(1, 2, 3));
  const out = place(be, new Float32Array(6));
  be.binary(BINARY.indexOf("add"), 0, a, [1, 0], b, [0, 1], out, [2, 3]);
  expect([...out.values()]).toEqual([11, 12, 13, 21, 22, 23]);
  const c = place(be, Uint8Array.of(1, 0, 1));
  be.where(c, [0, 1], a, [1, 0], b, [0, 1], out, [2, 3]);
  expect([...out.values()]).toEqual([10, 2, 10, 20, 2, 20]);
});

test("axpby, with and without its second operand", () => {
  const x = place(be, Float32Array.of(1, 2));
  const y = place(be, Float32Array.of(10, 20));
  be.axpby(2, x, 0, null, x, 2);
  expect([...x.values()]).toEqual([2, 4]);
  be.axpby(3, x, -1, y, y, 2);
  expect([...y.values()]).toEqual([-4, -8]);
});

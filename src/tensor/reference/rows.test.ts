/** Norms, softmax, losses, rotary embedding and gated units: small rows worked out by hand. Their gradients: gradients.test.ts. */
import { expect, test } from "vitest";
import { ACTIVATIONS } from "../kernels.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const NAN = Number.NaN;
const INF = Number.POSITIVE_INFINITY;
const floats = (...items: number[]) => place(be, Float32Array.from(items));
const rounded = (items: number[]) => items.map(Math.fround);

test("layer norm of 1, 2, 3, 4: mean 5/2, variance 5/4", () => {
  const [out, mean, rstd] = [floats(0, 0, 0, 0), floats(0), floats(0)];
  be.layerNorm(floats(1, 2, 3, 4), null, null, out, mean, rstd, 1, 4, 0);
  const s = 1 / Math.sqrt(1.25);
  expect([...mean.values(), ...rstd.values()]).toEqual([2.5, Math.fround(s)]);
  expect([...out.values()]).toEqual(rounded([-1.5 * s, -0.5 * s, 0.5 * s, 1.5 * s]));
  be.layerNorm(floats(1, 2, 3, 4), floats(1, 2, 3, 4), floats(10, 20, 30, 40), out, mean, rstd, 1, 4, 2.75);
  expect([...out.values()]).toEqual([9.25, 19.5, 30.75, 43]); // 1/√(5/4 + 11/4) = 1/2
});

test("RMS norm of 3, 4: mean square 25/2", () => {
  const [out, rstd] = [floats(0, 0), floats(0)];
  be.rmsNorm(floats(3, 4), floats(1, -2), out, rstd, 1, 2, 3.5);
  expect([...out.values(), ...rstd.values()]).toEqual([0.75, -2, 0.25]); // 1/√(25/2 + 7/2) = 1/4
});

test("softmax of the logarithms of 1, 2, 3 is 1/6, 2/6, 3/6; large numbers and −∞ are no trouble", () => {
  const logs = [0, Math.log(2), Math.log(3)];
  const y = floats(...logs, ...logs.map((x) => x + 8192), 0, -INF, 0, -INF, -INF, -INF);
  be.softmax(y, y, 4, 3, 0);
  const values = [...y.values()];
  [1 / 6, 2 / 6, 3 / 6].forEach((p, i) => {
    expect(values[i]).toBeCloseTo(p, 6);
    expect(values[3 + i]).toBeCloseTo(p, 3); // 8192 + log 2 has few bits left
  });
  expect(values.slice(6)).toEqual([0.5, 0, 0.5, NAN, NAN, NAN]);
  const z = floats(1000, 1000);
  be.softmax(z, z, 1, 2, 1);
  expect([...z.values()]).toEqual(rounded([-Math.LN2, -Math.LN2]));
});

test("cross-entropy: log n for equal logits, smoothing, ignored rows", () => {
  const [losses, lse] = [floats(0, 0, 0), floats(0, 0, 0)];
  const logits = floats(1, 1, 1, 1, 0, Math.log(2), -INF, Math.log(5), 3, 3, 3, 3);
  const targets = place(be, Int32Array.of(2, 1, -100));
  be.crossEntropy(logits, targets, losses, lse, 3, 4, -100, 0);
  const l = losses.values();
  expect(l[0]).toBeCloseTo(Math.log(4), 6);
  expect(l[1]).toBeCloseTo(Math.log(8 / 2), 6); // p = 2/(1 + 2 + 0 + 5)
  expect(l[2]).toBe(0);
  expect(lse.values()[1]).toBeCloseTo(Math.log(8), 6);
  // Smoothed: 0.9·(lse − x₁) + 0.1·(lse − mean x)
  be.crossEntropy(floats(0, 2, 4, 6), place(be, Int32Array.of(3)), losses, lse, 1, 4, -100, 0.1);
  const sum = Math.log(1 + Math.exp(2) + Math.exp(4) + Math.exp(6));
  expect(losses.values()[0]).toBeCloseTo(0.9 * (sum - 6) + 0.1 * (sum - 3), 6);
});

test("cross-entropy's gradient is softmax minus target, times the row's scale", () => {
  const logits = floats(0, 0, Math.log(2), 5, 5, 5);
  const lse = floats(Math.log(4), 0);
  const targets = place(be, Int32Array.of(2, -1));
  be.crossEntropyGrad(logits, targets, lse, floats(8, NAN), 1, logits, 2, 3, -1, 0);
  [2, 2, -4, 0, 0, 0].forEach((g, i) => {
    expect(logits.values()[i]).toBeCloseTo(g, 5);
  });
});

test("a target out of range is named", () => {
  const x = floats(0, 0, 0, 0);
  const out = floats(7, 7);
  const bad = place(be, Int32Array.of(1, 2));
  expect(() => be.crossEntropy(x, bad, out, out, 2, 2, -100, 0)).toThrow("expected 0 <= target < 2 (or -100 to ignore it), got 2 at place 1");
  expect(() => be.crossEntropyGrad(x, bad, out, out, 0, x, 2, 2, -100, 0)).toThrow("got 2 at place 1");
  expect([...out.values()]).toEqual([7, 7]);
});

test("rope turns pairs: a quarter turn, half a turn, and back", () => {
  // Table of two positions with angles (0, 0) and (90°, 180°).
  const [cos, sin] = [floats(1, 1, 0, -1), floats(0, 0, 1, 0)];
  const at1 = place(be, Int32Array.of(1, 0));
  const x = floats(1, 2, 3, 4, 5, /* row 2: */ 1, 2, 3, 4, 5);
  const out = place(be, new Float32Array(12));
  be.rope(x, 5, out, 6, cos, sin, at1, 2, 1, 5, 4, 0, 0);
  expect([...out.values()]).toEqual([-3, -2, 1, -4, 5, 0, 1, 2, 3, 4, 5, 0]); // pairs (1, 3) and (2, 4); 5 is not turned
  be.rope(out, 6, out, 6, cos, sin, at1, 2, 1, 5, 4, 0, 1);
  expect([...out.values()]).toEqual([1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]);
  be.rope(x, 5, out, 6, cos, sin, at1, 1, 1, 5, 4, 1, 0);
  expect([...out.values()].slice(0, 5)).toEqual([-2, 1, -3, -4, 5]); // pairs (1, 2) and (3, 4)
  expect(() => be.rope(x, 5, out, 6, cos, sin, place(be, Int32Array.of(0, 2)), 2, 1, 5, 4, 0, 0)).toThrow(
    "rope: index out of range, expected 0 <= index < 2, got 2 at place 1",
  );
  expect(() => be.rope(x, 5, out, 6, cos, sin, at1, 1, 1, 5, 3, 0, 0)).toThrow("expected an even number up to the head's 5 items, got 3");
});

test("gated units", () => {
  const out = floats(0, 0);
  be.gated(ACTIVATIONS.indexOf("relu"), floats(2, -1), floats(5, 5), out, 2);
  expect([...out.values()]).toEqual([10, 0]);
  be.gated(ACTIVATIONS.indexOf("silu"), floats(0, 1), floats(5, 2), out, 2);
  expect([...out.values()]).toEqual([0, Math.fround(2 / (1 + Math.exp(-1)))]);
  be.gated(ACTIVATIONS.indexOf("none"), floats(3, 4), floats(5, 2), out, 2);
  expect([...out.values()]).toEqual([15, 8]);
});

import { expect, test } from "vitest";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const floats = (...items: number[]) => place(be, Float32Array.from(items));

test("adamw: the first step is a sign, the second worked out by hand", () => {
  const [p, q] = [floats(1, 2), floats(-4)];
  const [m, v] = [
    [floats(0, 0), floats(0)],
    [floats(0, 0), floats(0)],
  ];
  const step = (g: number[], t: number, decoupled = 1) =>
    be.adamw([p, q], [floats(g[0], g[1]), floats(g[2])], m, v, [2, 1], [0.5, 0.25], [0, 0.5], 0.5, 0.75, 0, t, 0.5, decoupled);
  step([2, -6, 8], 1);
  // m/(1 − β1) = g and √(v/(1 − β2)) = |g|, so p − lr·sign(g); the second tensor decays first: −4·(1 − 0.25·0.5) = −3.5
  expect([...p.values(), ...q.values()]).toEqual([0.5, 2.5, -3.75]);
  expect([...m[0].values()]).toEqual([0.5, -1.5]); // (1 − 0.5)·(g·0.5)
  expect([...v[0].values()]).toEqual([0.25, 2.25]);
  step([0, 0, 0], 2);
  // m = 0.25, m̂ = 0.25/0.75; v = 0.1875, v̂ = 0.1875/0.4375
  expect(p.values()[0]).toBeCloseTo(0.5 - (0.5 * (1 / 3)) / Math.sqrt(3 / 7), 6);
  expect(q.values()[0]).toBeCloseTo(-3.75 * 0.875 - (0.25 * (1 / 3)) / Math.sqrt(3 / 7), 6);
});

test("Adam with L2 puts the decay into the gradient", () => {
  const [p, m, v] = [floats(4), floats(0), floats(0)];
  be.adamw([p], [floats(1)], [m], [v], [1], [0.5], [0.25], 0.5, 0.5, 0, 1, 1, 0);
  expect([p, m, v].map((x) => x.values()[0])).toEqual([3.5, 1, 2]); // g = 1 + 0.25·4 = 2
});

test("sgd: plain, momentum, Nesterov, decay", () => {
  const run = (momentum: number, nesterov: number) => {
    const p = floats(10);
    const buf = momentum === 0 ? p : floats(99);
    for (const first of [1, 0]) be.sgd([p], [floats(2)], [buf], [1], [0.5], [0], momentum, nesterov, first, 2);
    return p.values()[0];
  };
  expect(run(0, 0)).toBe(6); // g = 4: 10 − 2 − 2
  expect(run(0.5, 0)).toBe(5); // buf = 4, then 6: 10 − 2 − 3
  expect(run(0.5, 1)).toBe(3.5); // 4 + 2 = 6, then 4 + 3 = 7: 10 − 3 − 3.5
  const p = floats(10);
  be.sgd([p], [floats(0)], [p], [1], [0.5], [0.1], 0, 0, 1, 1);
  expect(p.values()[0]).toBe(9.5);
});

test("rmsprop divides by the running root mean square", () => {
  const [p, v] = [floats(1), floats(0)];
  be.rmsprop([p], [floats(3)], [v], [1], [0.5], [0], 0.75, 0.5, 1);
  expect(v.values()[0]).toBe(2.25);
  expect(p.values()[0]).toBe(Math.fround(1 - 1.5 / 2)); // √2.25 + 0.5 = 2
});

test("sumSquares over tensors, firstNonFinite within one", () => {
  expect(be.sumSquares([floats(1, 2), floats(3, 100)], [2, 1])).toBe(14);
  expect(be.sumSquares([], [])).toBe(0);
  expect(be.firstNonFinite(floats(1, 2, 3), 3)).toBe(-1);
  expect(be.firstNonFinite(floats(1, Number.NEGATIVE_INFINITY, Number.NaN), 3)).toBe(1);
  expect(be.firstNonFinite(floats(1, 2, Number.NaN), 2)).toBe(-1);
  expect(() => be.sumSquares([floats(1)], [1, 1])).toThrow("expected 2 tensors, got 1");
  expect(() => be.rmsprop([floats(1)], [floats(1)], [floats(1)], [1], [1], [], 0.9, 0, 1)).toThrow("expected 1 entries, got 0");
});

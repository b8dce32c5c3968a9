import { expect, test } from "vitest";
import { ShapeError } from "../../errors.ts";
import { CODE } from "../dtype.ts";
import { ACTIVATIONS } from "../kernels.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
/** Small whole numbers: every product and sum is exact. */
const whole = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => ((i * 7 + seed * 13) % 11) - 5);

test("a product by hand", () => {
  const c = place(be, new Float32Array(4));
  be.gemm(place(be, Float32Array.of(1, 2, 3, 4)), 2, 1, 0, place(be, Float32Array.of(5, 6, 7, 8)), 2, 1, 0, c, 2, 0, 1, 2, 2, 2, 1, 0);
  expect([...c.values()]).toEqual([19, 22, 43, 50]);
  be.gemm(place(be, Float32Array.of(1, 2)), 2, 1, 0, place(be, Float32Array.of(5, 6)), 1, 1, 0, c, 1, 0, 1, 1, 1, 2, 10, 0); // scaled, over what was there
  expect(c.values()[0]).toBe(170);
});

test.each([
  [1, 5, 3],
  [2, 4, 9],
  [4, 4, 4],
  [5, 7, 3],
  [66, 3, 5],
  [67, 9, 2],
  [3, 2, 0],
  [0, 2, 3],
  [3, 0, 2],
])("gemm %i×%i over %i, plain and transposed, batched, scaled, added", (m, n, k) => {
  for (const [aRow, aCol] of [
    [k, 1],
    [1, m],
  ]) {
    for (const [bRow, bCol] of [
      [n, 1],
      [1, k],
    ]) {
      const [a, b] = [whole(2 * m * k, 1), whole(k * n, 2)];
      const cRow = n + 1;
      const c = place(be, new Float32Array(2 * m * cRow).fill(1));
      be.gemm(place(be, a, 5), aRow, aCol, m * k, place(be, b), bRow, bCol, 0, c, cRow, m * cRow, 2, m, n, k, 0.5, 1);
      const expected = new Float32Array(2 * m * cRow).fill(1);
      for (let z = 0; z < 2; z++) {
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            for (let p = 0; p < k; p++) expected[z * m * cRow + i * cRow + j] += 0.5 * a[z * m * k + i * aRow + p * aCol] * b[p * bRow + j * bCol];
          }
        }
      }
      expect(c.values()).toEqual(expected);
    }
  }
});

test("a row's bytes do not depend on the other rows", () => {
  const [m, n, k] = [70, 9, 130];
  const noise = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + 1) * 43.5);
  const b = place(be, noise(k * n));
  const a = noise(m * k);
  const all = place(be, new Float32Array(m * n));
  be.gemm(place(be, a), k, 1, 0, b, n, 1, 0, all, n, 0, 1, m, n, k, 1, 0);
  for (const row of [0, 5, 69]) {
    const one = place(be, new Float32Array(n));
    be.gemm(place(be, a.slice(row * k, (row + 1) * k)), k, 1, 0, b, n, 1, 0, one, n, 0, 1, 1, n, k, 1, 0);
    expect(one.values()).toEqual(all.values().slice(row * n, (row + 1) * n));
  }
});

test("linear adds bias, bends the sum, keeps the slope there, and adds the residual last", () => {
  const x = place(be, Float32Array.of(1, 2)); // (1, 2)
  const weight = place(be, Float32Array.of(1, 0, 0, -1, 3, 1)); // (3, 2): PyTorch's Linear
  const bias = place(be, Float32Array.of(10, 0, -7));
  const residual = place(be, Float32Array.of(100, 200, 300));
  const slope = place(be, new Float32Array(3));
  be.linear(x, weight, 2, 1, bias, residual, residual, slope, 1, 3, 2, ACTIVATIONS.indexOf("relu"));
  expect([...slope.values()]).toEqual([1, 0, 0]); // of the sums 11, −2, −2
  expect([...residual.values()]).toEqual([111, 200, 300]);

  const transposed = place(be, Float32Array.of(1, 0, 3, 0, -1, 1)); // (2, 3): GPT-2's Conv1D
  const out = place(be, new Float32Array(3));
  be.linear(x, transposed, 1, 3, null, null, out, null, 1, 3, 2, ACTIVATIONS.indexOf("none"));
  expect([...out.values()]).toEqual([1, -2, 5]);
  expect(() => be.linear(x, weight, 2, 1, null, null, out, null, 1, 4, 2, 0)).toThrow("expected room for 8 items");
});

test("linear's gradients: of x times a slope, of weight either way around, of bias", () => {
  const x = place(be, Float32Array.of(1, 2, 3, 4)); // (2, 2)
  const weight = place(be, Float32Array.of(1, 0, 0, -1, 3, 1)); // (3, 2)
  const gy = place(be, Float32Array.of(1, 10, 100, 0, 1, 2)); // (2, 3)
  const gx = place(be, Float32Array.of(1, 1, 1, 1));
  be.linearInputGrad(gy, weight, 2, 1, null, gx, 2, 3, 2, 1);
  expect([...gx.values()]).toEqual([302, 91, 7, 2]); // added to ones
  const slope = place(be, Float32Array.of(0, 1, 2, 0.5));
  be.linearInputGrad(gy, weight, 2, 1, slope, slope, 2, 3, 2, 0);
  expect([...slope.values()]).toEqual([0, 90, 12, 0.5]);

  const [gw, gb] = [place(be, new Float32Array(6).fill(7)), place(be, new Float32Array(3).fill(7))];
  be.linearWeightGrad(x, gy, gw, gb, 2, 3, 2, 0, 0);
  expect([...gw.values()]).toEqual([1, 2, 13, 24, 106, 208]);
  expect([...gb.values()]).toEqual([1, 11, 102]);
  be.linearWeightGrad(x, gy, gw, null, 2, 3, 2, 1, 1);
  expect([...gw.values()]).toEqual([2, 15, 119, 26, 130, 416]); // the same turned around, added
});

test("a packed weight gives linear's bytes", () => {
  for (const [m, n, k] of [
    [1, 5, 3],
    [3, 16, 4],
    [2, 35, 7],
    [2, 3, 0],
  ]) {
    const x = place(be, whole(m * k, 3));
    const weight = place(be, whole(n * k, 4));
    const bias = place(be, whole(n, 5));
    const packed = place(be, new Float32Array(Math.ceil(n / 16) * 16 * k).fill(Number.NaN));
    be.packWeight(weight, k, 1, packed, n, k);
    const [plain, got] = [place(be, new Float32Array(m * n)), place(be, new Float32Array(m * n))];
    be.linear(x, weight, k, 1, bias, null, plain, null, m, n, k, ACTIVATIONS.indexOf("relu"));
    be.linearPacked(x, packed, bias, null, got, null, m, n, k, ACTIVATIONS.indexOf("relu"));
    expect(got.values()).toEqual(plain.values());
    if (n % 16 === 0) {
      const rows = place(be, weight.values());
      be.packWeightInPlace(rows, n, k);
      expect(rows.values()).toEqual(packed.values());
    } else expect(() => be.packWeightInPlace(weight, n, k)).toThrow("whole groups of 16");
    const ids = place(be, Int32Array.of(n - 1, 0, n >> 1));
    const [rows, taken] = [place(be, new Float32Array(3 * k)), place(be, new Float32Array(3 * k))];
    be.embedding(weight, CODE.f32, ids, rows, 3, n, k);
    be.embeddingPacked(packed, ids, taken, 3, n, k);
    expect(taken.values()).toEqual(rows.values());
  }
  expect(() => be.embeddingPacked(place(be, new Float32Array(16)), place(be, Int32Array.of(3)), place(be, new Float32Array(1)), 1, 3, 1)).toThrow(ShapeError);
});

import { inspect } from "node:util";
import { expect, test } from "vitest";
import { arange, eye, full, print, scope, tensor, zeros } from "./index.ts";

const lines = (...text: string[]): string => text.join("\n");

test("columns are aligned; whole numbers have a bare point", () =>
  scope(() => {
    expect(
      String(
        tensor([
          [1, -2.5],
          [10.125, 0],
        ]),
      ),
    ).toBe(lines("tensor([[ 1.0000, -2.5000],", "        [10.1250,  0.0000]], f32(2, 2))"));
    expect(String(tensor([1, -2, 30]))).toBe("tensor([ 1., -2., 30.], f32(3,))");
    expect(
      String(
        tensor(
          [
            [1, -2],
            [300, 4],
          ],
          { dtype: "i32" },
        ),
      ),
    ).toBe(lines("tensor([[  1,  -2],", "        [300,   4]], i32(2, 2))"));
    expect(String(tensor([true, false]))).toBe("tensor([ true, false], bool(2,))");
    expect(String(tensor(1.5, { dtype: "bf16" }))).toBe("tensor(1.5000, bf16())");
    expect(String(zeros([0, 3]))).toBe("tensor([], f32(0, 3))");
  }));

test("scientific where the range needs it", () =>
  scope(() => {
    expect(String(tensor([1e-5, 1]))).toBe("tensor([1.0000e-05, 1.0000e+00], f32(2,))");
    expect(String(tensor([0.5, 2e9]))).toBe("tensor([5.0000e-01, 2.0000e+09], f32(2,))");
    expect(String(tensor([0.5, 499]))).toBe("tensor([  0.5000, 499.0000], f32(2,))");
    expect(String(tensor([1, 1e-40]))).toContain("e-41");
  }));

test("numbers that are none, and zero with a sign", () =>
  scope(() => {
    expect(String(tensor([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1.5]))).toBe("tensor([   nan,    inf,   -inf, 1.5000], f32(4,))");
    expect(String(tensor([-0, 1]))).toBe("tensor([-0.,  1.], f32(2,))");
  }));

test("three dimensions stand apart; views print their own items", () =>
  scope(() => {
    expect(String(arange(8).reshape([2, 2, 2]).transpose())).toBe(
      lines("tensor([[[0, 2],", "         [1, 3]],", "", "        [[4, 6],", "         [5, 7]]], i32(2, 2, 2))"),
    );
  }));

test("long rows are wrapped at 80 characters", () =>
  scope(() => {
    const text = String(full([20], 0.5));
    expect(text).toBe(
      lines(`tensor([${Array(9).fill("0.5000").join(", ")},`, `        ${Array(9).fill("0.5000").join(", ")},`, "        0.5000, 0.5000], f32(20,))"),
    );
    expect(Math.max(...text.split("\n").map((l) => l.length))).toBeLessThanOrEqual(80);
  }));

test("the middle of more than 1000 items is left out", () =>
  scope(() => {
    expect(String(arange(2000))).toBe("tensor([   0,    1,    2, ..., 1997, 1998, 1999], i32(2000,))");
    expect(String(eye(100))).toBe(
      lines(
        "tensor([[1., 0., 0., ..., 0., 0., 0.],",
        "        [0., 1., 0., ..., 0., 0., 0.],",
        "        [0., 0., 1., ..., 0., 0., 0.],",
        "        ...,",
        "        [0., 0., 0., ..., 1., 0., 0.],",
        "        [0., 0., 0., ..., 0., 1., 0.],",
        "        [0., 0., 0., ..., 0., 0., 1.]], f32(100, 100))",
      ),
    );
    expect(print(arange(5), { threshold: 4, edgeItems: 1 })).toBe("tensor([0, ..., 4], i32(5,))");
  }));

test("the graph and console.log", () =>
  scope(() => {
    const x = tensor([1.5], { requiresGrad: true });
    expect(inspect(x)).toBe("tensor([1.5000], f32(1,), requiresGrad)");
    expect(inspect({ y: x.mul(2) })).toBe("{ y: tensor([3.], f32(1,), gradFn=mul) }");
    x.dispose();
    expect(String(x)).toBe("tensor(freed by dispose(), f32(1,))");
  }));

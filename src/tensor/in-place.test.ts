import { expect, test } from "vitest";
import { noGrad, scope, tensor, zeros } from "./index.ts";

test("addInPlace adds a scaled, broadcast tensor or a number", () =>
  scope(() => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ]);
    expect([
      ...x
        .addInPlace(
          tensor([
            [1, 1],
            [1, 1],
          ]),
          2,
        )
        .dataSync(),
    ]).toEqual([3, 4, 5, 6]);
    expect([...x.addInPlace(tensor([10, 20]), -1).dataSync()]).toEqual([-7, -16, -5, -14]);
    expect([...x.addInPlace(7).dataSync()]).toEqual([0, -9, 2, -7]);
    expect([
      ...tensor(Int32Array.of(1, 2))
        .addInPlace(tensor(Int32Array.of(3, 4)))
        .dataSync(),
    ]).toEqual([4, 6]);
  }));

test("copyFrom and fill write through views", () =>
  scope(() => {
    const x = zeros([2, 3]);
    x.narrow(1, 1, 2).copyFrom(tensor([5, 6]));
    x.transpose().narrow(0, 0, 1).fill(9);
    expect([...x.dataSync()]).toEqual([9, 5, 6, 9, 5, 6]);
    x.copyFrom(x.flip(1));
    expect([...x.dataSync()]).toEqual([6, 5, 9, 6, 5, 9]);
    // From an overlapping part of itself.
    const y = tensor([1, 2, 3, 4]);
    y.narrow(0, 1, 3).copyFrom(y.narrow(0, 0, 3));
    expect([...y.dataSync()]).toEqual([1, 1, 2, 3]);
    expect([
      ...zeros([2], { dtype: "bf16" })
        .fill(1.5)
        .copyFrom(tensor(Int32Array.of(2, 3)))
        .dataSync(),
    ]).toEqual([2, 3]);
  }));

test("a tensor with a graph is only written under noGrad, and backward notices", () =>
  scope(() => {
    const w = tensor([1, 2], { requiresGrad: true });
    expect(() => w.fill(0)).toThrow("fill: a tensor that takes part in a graph can't be changed in place");
    expect(() => w.mul(2).addInPlace(1)).toThrow("noGrad");
    expect(() => zeros([2]).copyFrom(w)).toThrow("copyFrom: a tensor that takes part in a graph");
    const loss = w.square().sum();
    noGrad(() => w.addInPlace(1));
    expect([...w.dataSync()]).toEqual([2, 3]);
    expect(() => loss.backward()).toThrow("changed in place after the forward pass");
  }));

test("shapes that don't fit and expanded targets are errors in words", () =>
  scope(() => {
    expect(() => zeros([2]).copyFrom(zeros([3]))).toThrow("copyFrom: expected items that broadcast to (2,), got shape (3,)");
    expect(() => zeros([2]).addInPlace(zeros([2, 2]))).toThrow("addInPlace: expected items that broadcast to (2,)");
    expect(() => zeros([1]).expand([3]).fill(1)).toThrow("several items lie in one place");
  }));

/** What the samples don't show: errors in words, and other dtypes. */
import { describe, expect, test } from "vitest";
import { ShapeError } from "../../errors.ts";
import { einsum, gather, indexSelect, oneHot, scope, tensor, topk, zeros } from "../index.ts";

const ids = (...n: number[]) => tensor(Int32Array.from(n));

describe("places outside are errors that name the place, and nothing is written", () => {
  test.each([
    ["gather", () => gather(zeros([3]), 0, ids(0, 3))],
    ["gather", () => gather(zeros([3]), 0, ids(-1))],
    ["scatterAdd", () => zeros([3]).scatterAdd(0, ids(0, 7), zeros([2]))],
    ["indexSelect by rows", () => indexSelect(zeros([3, 2]), 0, ids(1, 5))],
    ["indexSelect by columns", () => indexSelect(zeros([3, 2]), 1, ids(2))],
    ["oneHot", () => oneHot(ids(1, 9), 4)],
  ])("%s", (_, call) => {
    scope(() => {
      expect(call).toThrow(/-1|3|7|5|2|9/);
      expect(call).toThrow(ShapeError);
    });
  });
});

test("shapes and dtypes that don't fit are ShapeErrors in words", () =>
  scope(() => {
    expect(() => gather(zeros([3, 2]), 0, tensor([0]))).toThrow("gather: expected i32 places, got f32");
    expect(() => gather(zeros([3, 2]), 0, ids(0))).toThrow("gather: expected places of shape (3, 2) but for dimension 0, got (1,)");
    expect(() => zeros([3]).scatterAdd(0, ids(1, 2), zeros([1]))).toThrow("scatterAdd: expected one place for each item of src (1,), got (2,)");
    expect(() => ids(1).scatterAdd(0, ids(0), ids(1))).toThrow("scatterAdd: expected floating tensors");
    expect(() => topk(zeros([2, 3]), 4)).toThrow("topk: expected k from 0 to the 3 items of a row, got 4");
    expect(() =>
      zeros([2]).pad([
        [1, 1],
        [0, 0],
      ]),
    ).toThrow("pad: expected 1 pairs");
    expect(() => zeros([2]).pad([[-1, 0]])).toThrow("Use narrow to cut");
    expect(() => zeros([2, 2]).repeat([2])).toThrow("repeat: expected at least 2 whole numbers, got [2]");
    expect(() => zeros([2]).tril()).toThrow("tril: expected matrices");
    expect(() => zeros([2]).cumsum(1)).toThrow(ShapeError);
    expect(() => zeros([2, 2]).diagonal(0, -2)).toThrow("diagonal: expected two different dimensions");
  }));

test("other dtypes keep theirs", () =>
  scope(() => {
    const half = tensor([3, 1, 2], { dtype: "bf16" });
    const sorted = half.sort();
    expect([sorted.values.dtype, ...sorted.values.dataSync(), ...sorted.indices.dataSync()]).toEqual(["bf16", 1, 2, 3, 1, 2, 0]);
    expect(half.gather(0, ids(2)).dtype).toBe("bf16");
    expect([...tensor([true, false, true]).indexSelect(0, ids(1, 2)).dataSync()]).toEqual([0, 1]);
    // Beyond the whole numbers that f32 holds.
    const large = ids(16777217, -5, 16777219);
    expect([...large.sort(0, { descending: true }).values.dataSync()].sort()).toEqual([-5, 16777217, 16777219]);
    expect([...large.topk(2).values.dataSync()].sort()).toEqual([16777217, 16777219]);
    expect([...large.gather(0, ids(2, 0)).dataSync()]).toEqual([16777219, 16777217]);
  }));

describe("einsum", () => {
  test.each([
    ["ij,jk", [[2, 3]], 'einsum: expected 2 tensors for "ij,jk", got 1'],
    ["ij->ik", [[2, 3]], 'expected each letter of the result once and among the inputs, got "k"'],
    ["ij->ii", [[2, 3]], "expected each letter of the result once"],
    ["ij", [[2, 3, 4]], 'einsum: expected 2 dimensions for "ij" in "ij", got shape (2, 3, 4)'],
    [
      "ij,jk",
      [
        [2, 3],
        [4, 5],
      ],
      'einsum: "j" has two sizes in "ij,jk", expected one (or 1), got 3 and 4',
    ],
    ["ii", [[2, 3]], '"i" has two sizes'],
    ["i1", [[2, 3]], 'expected letters, commas, "..." and one "->", got "1"'],
    ["i->i->i", [[2]], 'expected at most one "->", got 2'],
    ["...i...", [[2, 3]], 'expected at most one "..." in a part'],
    ["..ij", [[2, 3]], "expected"],
  ] as const)("%s", (equation, shapes, message) => {
    scope(() => {
      expect(() => einsum(equation, ...shapes.map((s) => zeros(s)))).toThrow(message);
    });
  });

  test("empty sums are zero", () =>
    scope(() => {
      const out = einsum("ij,jk->ik", zeros([2, 0]), zeros([0, 3]));
      expect([out.shape, [...out.dataSync()]]).toEqual([
        [2, 3],
        [0, 0, 0, 0, 0, 0],
      ]);
    }));
});

import { expect, test } from "vitest";
import { REDUCTIONS, type Reduction } from "../kernels.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const NAN = Number.NaN;

function reduce(kind: Reduction, items: number[], outer: number, n: number, inner: number): number[] {
  const out = place(be, new Float32Array(outer * inner));
  be.reduce(REDUCTIONS.indexOf(kind), place(be, Float32Array.from(items)), out, outer, n, inner);
  return [...out.values()];
}

test("reductions over the last, the middle and an empty dimension", () => {
  const x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]; // (2, 3, 2)
  expect(reduce("sum", x, 4, 3, 1)).toEqual([6, 15, 24, 33]);
  expect(reduce("sum", x, 2, 3, 2)).toEqual([9, 12, 27, 30]);
  expect(reduce("max", x, 2, 3, 2)).toEqual([5, 6, 11, 12]);
  expect(reduce("min", x, 1, 3, 4)).toEqual([1, 2, 3, 4]);
  expect(reduce("prod", x, 4, 3, 1)).toEqual([6, 120, 504, 1320]);
  expect(reduce("sum", [], 2, 0, 1)).toEqual([0, 0]);
  expect(reduce("prod", [], 1, 0, 2)).toEqual([1, 1]);
  expect(reduce("max", [1, NAN, 3, 4], 2, 2, 1)).toEqual([NAN, 4]);
});

test("a sum that float32 would lose", () => {
  expect(reduce("sum", [1e8, 1, -1e8], 1, 3, 1)).toEqual([1]);
});

test("argReduce gives the first of equals, and NaN wins both ways", () => {
  const arg = (least: number, items: number[], outer: number, n: number, inner: number) => {
    const out = place(be, new Int32Array(outer * inner));
    be.argReduce(least, place(be, Float32Array.from(items)), out, outer, n, inner);
    return [...out.values()];
  };
  expect(arg(0, [1, 3, 3, 2], 1, 4, 1)).toEqual([1]);
  expect(arg(1, [2, 1, 5, 1], 1, 4, 1)).toEqual([1]);
  expect(arg(0, [1, 9, 8, 2], 1, 2, 2)).toEqual([1, 0]);
  expect(arg(0, [1, NAN, 7, NAN], 1, 4, 1)).toEqual([1]);
  expect(arg(1, [1, NAN, -7, NAN], 1, 4, 1)).toEqual([1]);
  expect(() => arg(0, [], 1, 0, 1)).toThrow("argmax: nothing to choose from");
});

test("cumsum runs both ways along any dimension", () => {
  const x = place(be, Float32Array.of(1, 2, 3, 4, 5, 6));
  const out = place(be, new Float32Array(6));
  be.cumsum(x, out, 2, 3, 1, 0);
  expect([...out.values()]).toEqual([1, 3, 6, 4, 9, 15]);
  be.cumsum(x, out, 2, 3, 1, 1);
  expect([...out.values()]).toEqual([6, 5, 3, 15, 11, 6]);
  be.cumsum(x, out, 1, 3, 2, 0);
  expect([...out.values()]).toEqual([1, 2, 4, 6, 9, 12]);
});

test("sort is stable both ways, with NaN largest; topk is its start", () => {
  const items = [2, NAN, 1, 2, Number.POSITIVE_INFINITY, 1, Number.NEGATIVE_INFINITY];
  const n = items.length;
  const x = place(be, Float32Array.from(items));
  const values = place(be, new Float32Array(n));
  const places = place(be, new Int32Array(n));
  be.sort(x, values, places, 1, n, 0);
  expect([...places.values()]).toEqual([6, 2, 5, 0, 3, 4, 1]);
  expect([...values.values()]).toEqual([Number.NEGATIVE_INFINITY, 1, 1, 2, 2, Number.POSITIVE_INFINITY, NAN]);
  be.sort(x, values, places, 1, n, 1);
  expect([...places.values()]).toEqual([1, 4, 0, 3, 2, 5, 6]);

  const rows = place(be, Float32Array.of(1, 3, 3, 9, 8, 7));
  be.topk(rows, values, places, 2, 3, 2);
  expect([...values.values()].slice(0, 4)).toEqual([3, 3, 9, 8]);
  expect([...places.values()].slice(0, 4)).toEqual([1, 2, 0, 1]);
  expect(() => be.topk(rows, values, places, 2, 3, 4)).toThrow("expected k <= 3, got 4");
});

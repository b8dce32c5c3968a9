import { expect, test } from "vitest";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const ids = (...items: number[]) => place(be, Int32Array.from(items));

test("gather and its gradient", () => {
  const x = place(be, Float32Array.of(1, 2, 3, 4, 5, 6)); // (1, 3, 2)
  const index = ids(2, 0, 2, 1); // (1, 2, 2)
  const out = place(be, new Float32Array(4));
  be.gather(x, index, out, 1, 3, 2, 2);
  expect([...out.values()]).toEqual([5, 2, 5, 4]);

  const g = place(be, Float32Array.of(100, 0, 0, 0, 0, 0)); // adds to what is there
  be.scatterAdd(place(be, Float32Array.of(1, 10, 2, 20)), index, g, 1, 3, 2, 2);
  expect([...g.values()]).toEqual([100, 10, 0, 20, 3, 0]);
});

test("embedding reads f32, bf16 and f16 rows; its gradient adds repeated ids up", () => {
  const out = place(be, new Float32Array(4));
  be.embedding(place(be, Float32Array.of(1, 2, 3, 4)), 0, ids(1, 0), out, 2, 2, 2);
  expect([...out.values()]).toEqual([3, 4, 1, 2]);
  be.embedding(place(be, Uint16Array.of(0x3f80, 0x4000, 0xbf80, 0)), 1, ids(1, 1), out, 2, 2, 2);
  expect([...out.values()]).toEqual([-1, 0, -1, 0]);
  be.embedding(place(be, Uint16Array.of(0x3c00, 0x4000, 0xbc00, 1)), 2, ids(0, 1), out, 2, 2, 2);
  expect([...out.values()]).toEqual([1, 2, -1, 2 ** -24]);
  expect(() => be.embedding(out, 3, ids(0), out, 1, 1, 1)).toThrow("expected f32, bf16 or f16, got i32");

  const gw = place(be, Float32Array.of(0, 0, 1, 1));
  be.embeddingGrad(ids(1, 1, 0), place(be, Float32Array.of(1, 2, 10, 20, 5, 6)), gw, 3, 2, 2);
  expect([...gw.values()]).toEqual([5, 6, 12, 23]);
});

test("an index out of range is named, and nothing has been written", () => {
  const out = place(be, Float32Array.of(9, 9));
  const w = place(be, Float32Array.of(1, 2));
  expect(() => be.embedding(w, 0, ids(0, 2), out, 2, 2, 1)).toThrow("embedding: index out of range, expected 0 <= index < 2, got 2 at place 1");
  expect(() => be.gather(w, ids(0, -1), out, 1, 2, 2, 1)).toThrow("got -1 at place 1");
  expect(() => be.scatterAdd(w, ids(0, 5), out, 1, 2, 2, 1)).toThrow("got 5 at place 1");
  expect(() => be.embeddingGrad(ids(0, 7), w, out, 2, 2, 1)).toThrow("got 7 at place 1");
  expect([...out.values()]).toEqual([9, 9]);
});

import { expect, test } from "vitest";
import { philox4x32 } from "../philox.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const [KEY_LOW, KEY_HIGH, STREAM] = [0xdeadbeef, 42, 7];

test("uniform is the upper 24 bits of the words, also across 2^32 blocks", () => {
  const out = place(be, new Float32Array(6));
  const block = 5 * 2 ** 32 + 0xffffffff;
  be.uniform(out, 6, KEY_LOW, KEY_HIGH, STREAM, block, -1, 3);
  const words = [...philox4x32([0xffffffff, 5, STREAM, 0], [KEY_LOW, KEY_HIGH]), ...philox4x32([0, 6, STREAM, 0], [KEY_LOW, KEY_HIGH])];
  expect([...out.values()]).toEqual(words.slice(0, 6).map((w) => Math.fround(-1 + 4 * (Math.floor(w / 256) / 2 ** 24))));
});

test("normal has the moments of a normal distribution, and its pairs share one radius", () => {
  const n = 40001;
  const out = place(be, new Float32Array(n));
  be.normal(out, n, KEY_LOW, KEY_HIGH, STREAM, 0, 3, 2);
  const z = [...out.values()].map((x) => (x - 3) / 2);
  const moment = (k: number) => z.reduce((sum, x) => sum + x ** k, 0) / n;
  // Four standard errors: √(1/n), √(2/n), √(96/n).
  expect(Math.abs(moment(1))).toBeLessThan(4 * Math.sqrt(1 / n));
  expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
  expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
  const [w0, , w2, w3] = philox4x32([0, 0, STREAM, 0], [KEY_LOW, KEY_HIGH]);
  const radius = (w: number) => Math.sqrt(-2 * Math.log((Math.floor(w / 256) + 1) / 2 ** 24));
  expect(Math.hypot(z[0], z[1])).toBeCloseTo(radius(w0), 5);
  expect(Math.hypot(z[2], z[3])).toBeCloseTo(radius(w2), 5);
  expect(Math.atan2(z[3], z[2])).toBeCloseTo(Math.atan2(Math.sin((2 * Math.PI * w3) / 2 ** 32), Math.cos((2 * Math.PI * w3) / 2 ** 32)), 5);
});

test("the smallest fraction, 0, still gives a finite normal", () => {
  const out = place(be, new Float32Array(1));
  be.normal(out, 1, 0, 0, 0, 14883995, 0, 1); // found by search: this block's first word is 147, whose upper 24 bits are 0
  const [w0, w1] = philox4x32([14883995, 0, 0, 0], [0, 0]);
  expect(w0).toBe(147);
  expect(out.values()[0]).toBeCloseTo(Math.sqrt(48 * Math.LN2) * Math.cos((2 * Math.PI * w1) / 2 ** 32), 5);
});

test("randint is the exact upper half of the 64-bit product", () => {
  for (const [low, high] of [
    [0, 10],
    [-2147483648, 2147483647],
    [5, 6],
    [-3, 1000003],
  ]) {
    const out = place(be, new Int32Array(8));
    be.randint(out, 8, KEY_LOW, KEY_HIGH, STREAM, 9, low, high);
    const words = [...philox4x32([9, 0, STREAM, 0], [KEY_LOW, KEY_HIGH]), ...philox4x32([10, 0, STREAM, 0], [KEY_LOW, KEY_HIGH])];
    expect([...out.values()]).toEqual(words.map((w) => low + Number((BigInt(w) * BigInt(high - low)) >> 32n)));
  }
});

test("dropout drops where uniform is below p and scales the rest", () => {
  const n = 1000;
  const u = place(be, new Float32Array(n));
  be.uniform(u, n, 1, 2, 3, 4, 0, 1);
  const x = place(
    be,
    Float32Array.from({ length: n }, (_, i) => i + 1),
  );
  be.dropout(x, x, n, 0.25, 1, 2, 3, 4);
  expect([...x.values()]).toEqual([...u.values()].map((r, i) => (r < 0.25 ? 0 : Math.fround((i + 1) / 0.75))));
  expect([...x.values()].filter((v) => v === 0).length).toBeGreaterThan(195);
  const limit = u.values()[5];
  const kept = place(be, new Float32Array(n).fill(1));
  be.dropout(kept, kept, n, limit, 1, 2, 3, 4);
  expect(kept.values()[5]).toBeGreaterThan(1); // u = p is kept
});

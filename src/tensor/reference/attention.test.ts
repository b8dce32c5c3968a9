import { describe, expect, test } from "vitest";
import type { Operand } from "../kernels.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const floats = (items: ArrayLike<number>) => place(be, Float32Array.from(items));
const ints = (...items: number[]) => place(be, Int32Array.from(items));
const noise = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233));

interface Setting {
  q: ArrayLike<number>;
  k: ArrayLike<number>;
  v: ArrayLike<number>;
  dim: number;
  heads?: number;
  kvHeads?: number;
  cuQ?: number[];
  startK?: number[];
  lenK?: number[];
  scale?: number;
  causal?: number;
  window?: number;
  softcap?: number;
  slopes?: number[];
  mask?: Operand;
  maskStrides?: number[];
}

/** One sequence of all rows unless told otherwise; out and lse as arrays. */
function attend(s: Setting): { out: number[]; lse: number[] } {
  const { dim, heads = 1, kvHeads = 1, scale = 1, causal = 0, window = 0, softcap = 0, maskStrides = [0, 0, 0, 0] } = s;
  const [qWidth, kWidth] = [heads * dim, kvHeads * dim];
  const [rowsQ, rowsK] = [s.q.length / qWidth, s.k.length / kWidth];
  const { cuQ = [0, rowsQ], lenK = [rowsK], startK = lenK.map(() => 0) } = s;
  const out = place(be, new Float32Array(s.q.length));
  const lse = place(be, new Float32Array(heads * rowsQ));
  be.attention(
    floats(s.q),
    qWidth,
    floats(s.k),
    kWidth,
    floats(s.v),
    kWidth,
    out,
    qWidth,
    lse,
    ints(...cuQ),
    ints(...startK),
    ints(...lenK),
    lenK.length,
    rowsQ,
    rowsK,
    heads,
    kvHeads,
    dim,
    scale,
    causal,
    window,
    softcap,
    s.slopes ? floats(s.slopes) : null,
    s.mask ?? null,
    maskStrides,
  );
  return { out: [...out.values()], lse: [...lse.values()] };
}

function expectClose(a: number[], b: number[], digits = 6): void {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(a[i]).toBeCloseTo(b[i], digits);
}

// Keys of zeros: every score is 0 before bias, so a query's output is the mean of the values it sees.
const zeros = (n: number) => new Float32Array(n);
const POWERS = [1, 2, 4, 8, 16];
const blind = { q: zeros(5), k: zeros(5), v: POWERS, dim: 1 };

describe("by hand", () => {
  test("two keys with scores 0 and scale·ln 3", () => {
    const { out, lse } = attend({ q: [Math.log(3), 9], k: [0, 0, 2, 0], v: [10, 0, 20, 4], dim: 2, scale: 0.5 });
    expectClose(out, [17.5, 3], 5);
    expectClose(lse, [Math.log(4)]);
  });

  test("causal, window, and both", () => {
    expectClose(attend(blind).out, [6.2, 6.2, 6.2, 6.2, 6.2]);
    expectClose(attend({ ...blind, causal: 1 }).out, [1, 3 / 2, 7 / 3, 15 / 4, 31 / 5]);
    expectClose(attend({ ...blind, causal: 1, window: 2 }).out, [1, 1.5, 3, 6, 12]);
    expectClose(attend({ ...blind, window: 2 }).out, [1.5, 7 / 3, 14 / 3, 28 / 3, 12]);
    expectClose(attend({ ...blind, causal: 1 }).lse, [1, 2, 3, 4, 5].map(Math.log));
  });

  test("fewer queries than keys stand at the end; more queries than keys begin before any key", () => {
    expectClose(attend({ ...blind, q: zeros(2), causal: 1 }).out, [15 / 4, 31 / 5]);
    const early = attend({ ...blind, q: zeros(3), k: zeros(2), v: [1, 2], causal: 1 });
    expectClose(early.out, [0, 1, 1.5]);
    expect(early.lse[0]).toBe(Number.NEGATIVE_INFINITY);
    expectClose(attend({ ...blind, q: zeros(1), k: [], v: [] }).out, [0]);
  });

  test("ALiBi adds slope times distance", () => {
    // Position 2 sees distances −2, −1, 0 with slope ln 2: weights 1/4, 1/2, 1.
    const { out } = attend({ q: zeros(1), k: zeros(3), v: [1, 2, 4], dim: 1, slopes: [Math.LN2] });
    expectClose(out, [(1 / 4 + 2 / 2 + 4) / (7 / 4)]);
  });

  test("softcap bends scores, before the bias", () => {
    const { lse } = attend({ q: [1], k: [1000], v: [1], dim: 1, softcap: 5, slopes: [3] });
    expectClose(lse, [5]);
    expectClose(attend({ q: [1], k: [3], v: [1], dim: 1, softcap: 2, scale: 0.5 }).lse, [2 * Math.tanh(0.75)]);
  });

  test("the mask is read by its strides; −∞ hides a key, or all of them", () => {
    const NO = Number.NEGATIVE_INFINITY;
    const mask = floats([0, NO, 0, /* second query: */ NO, NO, NO]);
    const two = { q: zeros(2), k: zeros(3), v: [1, 2, 4], dim: 1, mask, maskStrides: [0, 0, 3, 1] };
    const { out, lse } = attend(two);
    expectClose(out, [2.5, 0]);
    expect(lse[1]).toBe(NO);
    expectClose(attend({ ...two, maskStrides: [0, 0, 0, 1] }).out, [2.5, 2.5]);
    // One value for each head (0, then ln 9 on top): the same for all keys, so that only lse moves.
    const perHead = attend({ q: zeros(2), k: zeros(3), v: [1, 2, 4], dim: 1, heads: 2, mask: floats([0, Math.log(9)]), maskStrides: [0, 1, 0, 0] });
    expectClose(perHead.lse, [Math.log(3), Math.log(27)]);
    expect(() => attend({ ...two, mask: floats([0, 0]) })).toThrow("expected room for 6 items");
  });

  test("heads share kv heads in order", () => {
    const { out } = attend({ q: zeros(4), k: zeros(2), v: [5, 7], dim: 1, heads: 4, kvHeads: 2 });
    expect(out).toEqual([5, 5, 7, 7]);
  });
});

describe("ragged sequences", () => {
  const [heads, kvHeads, dim] = [4, 2, 3];
  const shared = { heads, kvHeads, dim, scale: 0.6, causal: 1 };
  const rows = (n: number, width: number, seed: number) => noise(n * width, seed);

  test("sequences in one call get the same bytes as alone", () => {
    const lengths = [
      [3, 3],
      [1, 70],
      [2, 5],
    ]; // queries, keys
    const parts = lengths.map(([queries, keys], s) => ({
      q: rows(queries, heads * dim, s),
      k: rows(keys, kvHeads * dim, s + 10),
      v: rows(keys, kvHeads * dim, s + 20),
    }));
    const join = (name: "q" | "k" | "v") => parts.flatMap((p) => [...p[name]]);
    const together = attend({ q: join("q"), k: join("k"), v: join("v"), cuQ: [0, 3, 4, 6], startK: [0, 3, 73], lenK: [3, 70, 5], ...shared });
    const alone = parts.map((p) => attend({ ...p, ...shared }));
    expect(together.out).toEqual(alone.flatMap((a) => a.out));
    // lse is (heads, rowsQ)
    expect(together.lse.slice(6, 12)).toEqual(alone.flatMap((a, s) => a.lse.slice(lengths[s][0], 2 * lengths[s][0])));
  });

  test("what lies outside is named", () => {
    const base = { ...blind, q: zeros(2) };
    expect(() => attend({ ...base, cuQ: [0, 3] })).toThrow("cuQ out of range, expected 0 to 2, got 3 at place 1");
    expect(() => attend({ ...base, cuQ: [0, 2, 1], lenK: [1, 1] })).toThrow("cuQ out of range, expected 2 to 2, got 1 at place 2");
    expect(() => attend({ ...base, lenK: [6] })).toThrow("lenK out of range, expected 0 to 5, got 6 at place 0");
    expect(() => attend({ ...base, startK: [3], lenK: [3] })).toThrow("startK out of range, expected 0 to 2, got 3 at place 0");
  });
});

/** Attention's kernels, called without tensors: where sequences are alike and have no boundaries, and where keys lie in pages. On both backends. */
import { describe, expect, test } from "vitest";
import { native } from "../../../tests/where-native.ts";
import type { Backend } from "../backend.ts";
import { CODE, f16ToF32, f32ToF16 } from "../dtype.ts";
import type { Operand } from "../kernels.ts";
import { createReference } from "../reference/index.ts";
import { place } from "../reference/place.ts";

const backends: Backend[] = native === null ? [createReference()] : [createReference(), native];
const noise = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233));

interface Boundaries {
  cuQ: Operand | null;
  startK: Operand | null;
  lenK: Operand | null;
}
const NONE: Boundaries = { cuQ: null, startK: null, lenK: null };

interface Case {
  sequences: number;
  queries: number;
  keys: number;
  heads: number;
  kvHeads: number;
  masked?: boolean;
}

const DIM = 5;

/** out, lse and the three gradients of a case. */
function run(be: Backend, c: Case, bounds: Boundaries, bf16 = false): Float32Array[] {
  const { sequences, queries, keys, heads, kvHeads } = c;
  const [rowsQ, rowsK, width, kvWidth] = [sequences * queries, sequences * keys, heads * DIM, kvHeads * DIM];
  const given = (rows: number, row: number, seed: number) => place(be, noise(rows * row, seed));
  const room = (items: number) => place(be, new Float32Array(items).fill(9));
  const [q, k, v, gout] = [given(rowsQ, width, 1), given(rowsK, kvWidth, 2), given(rowsK, kvWidth, 3), given(rowsQ, width, 4)];
  const [out, lse, gq, gk, gv] = [rowsQ * width, rowsQ * heads, rowsQ * width, rowsK * kvWidth, rowsK * kvWidth].map(room);
  const mask = c.masked ? place(be, noise(sequences * queries * keys, 5)) : null;
  const rules = [0.4, 1, 0, 0, null, mask, c.masked ? [queries * keys, 0, keys, 1] : [0, 0, 0, 0]] as const;
  const sizes = [sequences, rowsQ, rowsK, heads, kvHeads, DIM] as const;
  const { cuQ, startK, lenK } = bounds;
  be[bf16 ? "attentionBf16" : "attention"](q, width, k, kvWidth, v, kvWidth, out, width, lse, cuQ, startK, lenK, ...sizes, ...rules);
  be[bf16 ? "attentionGradBf16" : "attentionGrad"](
    ...([q, width, k, kvWidth, v, kvWidth, out, width, lse, gout, width, gq, width, gk, kvWidth, gv, kvWidth] as const),
    ...([cuQ, startK, lenK] as const),
    ...sizes,
    ...rules,
  );
  return [out, lse, gq, gk, gv].map((x) => x.values());
}

function explicit(be: Backend, { sequences, queries, keys }: Case): Boundaries {
  const numbers = (n: number, of: (s: number) => number) =>
    place(
      be,
      Int32Array.from({ length: n }, (_, s) => of(s)),
    );
  return { cuQ: numbers(sequences + 1, (s) => s * queries), startK: numbers(sequences, (s) => s * keys), lenK: numbers(sequences, () => keys) };
}

describe.each(backends.map((be) => [be.name, be] as const))("%s", (_, be) => {
  test.each<Case>([
    { sequences: 1, queries: 7, keys: 7, heads: 2, kvHeads: 2 },
    { sequences: 3, queries: 5, keys: 5, heads: 4, kvHeads: 2 },
    { sequences: 2, queries: 2, keys: 70, heads: 2, kvHeads: 1, masked: true },
    { sequences: 3, queries: 4, keys: 2, heads: 1, kvHeads: 1 },
    { sequences: 4, queries: 3, keys: 0, heads: 1, kvHeads: 1 },
    { sequences: 4, queries: 0, keys: 3, heads: 1, kvHeads: 1 },
    { sequences: 4, queries: 0, keys: 0, heads: 1, kvHeads: 1 },
    { sequences: 0, queries: 0, keys: 0, heads: 1, kvHeads: 1 },
  ])("$sequences sequences of $queries queries and $keys keys have the bytes that they have with boundaries", (c) => {
    for (const bf16 of [false, true]) expect(run(be, c, NONE, bf16)).toEqual(run(be, c, explicit(be, c), bf16));
  });

  /** A call of both passes over the same few items. */
  const call = (sequences: number, rowsQ: number, rowsK: number, { cuQ, startK, lenK }: Boundaries = NONE): void => {
    const rules = [1, 1, 0, 0, null, null, [0, 0, 0, 0]] as const;
    const room = () => place(be, new Float32Array(16));
    const [q, k, v, out, lse, gout, gq, gk, gv] = [room(), room(), room(), room(), room(), room(), room(), room(), room()];
    const sizes = [sequences, rowsQ, rowsK, 1, 1, 1] as const;
    be.attention(q, 1, k, 1, v, 1, out, 1, lse, cuQ, startK, lenK, ...sizes, ...rules);
    be.attentionGrad(q, 1, k, 1, v, 1, out, 1, lse, gout, 1, gq, 1, gk, 1, gv, 1, cuQ, startK, lenK, ...sizes, ...rules);
  };

  test("rows that are no multiple of the sequences are refused", () => {
    expect(() => call(3, 4, 6)).toThrow("the queries without boundaries, expected a multiple of 3 sequences");
    expect(() => call(3, 6, 4)).toThrow("the keys without boundaries, expected a multiple of 3 sequences");
    expect(() => call(0, 1, 0)).toThrow("the queries without boundaries, expected a multiple of 0 sequences");
    expect(() => call(2 ** 40, 0, 1)).toThrow("the keys without boundaries, expected a multiple of 1099511627776 sequences");
  });

  test("some boundaries without the others are refused", () => {
    const { cuQ, startK, lenK } = explicit(be, { sequences: 2, queries: 2, keys: 3, heads: 1, kvHeads: 1 });
    call(2, 4, 6, { cuQ, startK, lenK });
    const some = [
      { cuQ, startK: null, lenK: null },
      { cuQ: null, startK, lenK: null },
      { cuQ: null, startK: null, lenK },
      { cuQ, startK, lenK: null },
      { cuQ: null, startK, lenK },
      { cuQ, startK: null, lenK },
    ];
    for (const bounds of some) expect(() => call(2, 4, 6, bounds)).toThrow(/expected a tensor, got none|expected cuQ, startK and lenK/);
  });

  test("memory is taken for rows that are there, not for as many sequences as are claimed", () => {
    for (const many of [2 ** 52, 2 ** 40, 2 ** 31]) call(many, 0, 0);
    for (const many of [2 ** 31 - 1, 2 ** 31, 2 ** 40]) {
      expect(() => call(many, many, 0)).toThrow("expected room for");
      expect(() => call(many, 0, many)).toThrow("expected room for");
      expect(() => call(1, many, many)).toThrow("expected room for");
    }
  });

  describe("pages", () => {
    const [heads, kvHeads, rowsQ, length] = [4, 2, 3, 130];
    const [width, kvWidth] = [heads * DIM, kvHeads * DIM];
    const PAGES = 4;
    const table = [2, 0, 3, -7]; // the last is never looked at
    const items = PAGES * kvWidth * 64;
    const slots = Int32Array.from({ length }, (_, p) => table[Math.floor(p / 64)] * 64 + (p % 64));
    const rules = [0.4, 1, 0, 0, null] as const;
    const ints = (...x: number[]) => place(be, Int32Array.from(x));

    /** Pages of f32 or f16 in which nothing but what is written is a number. */
    const empty = (dtype: "f32" | "f16") => place(be, dtype === "f32" ? new Float32Array(items).fill(Number.NaN) : new Uint16Array(items).fill(0x7e00));

    function written(dtype: "f32" | "f16", rows: Float32Array, keys: boolean) {
      const pages = empty(dtype);
      be.writePages(place(be, rows), kvWidth, pages, CODE[dtype], keys ? 1 : 0, place(be, slots), length, PAGES, kvHeads, DIM);
      return pages;
    }

    test.each(["f32", "f16"] as const)("of %s, in any order, give the bytes of neighbouring rows of what they hold", (dtype) => {
      const [q, k, v] = [noise(rowsQ * width, 1), noise(length * kvWidth, 2), noise(length * kvWidth, 3)];
      const held = (x: Float32Array) => place(be, dtype === "f32" ? x : x.map((y) => f16ToF32(f32ToF16(y))));
      for (const bf16 of [false, true]) {
        const [out, lse, out2, lse2] = [rowsQ * width, rowsQ * heads, rowsQ * width, rowsQ * heads].map((n) => place(be, new Float32Array(n)));
        const [cuQ, startK, lenK] = [ints(0, rowsQ), ints(0), ints(length)];
        const sizes = [1, rowsQ, length, heads, kvHeads, DIM] as const;
        be[bf16 ? "attentionBf16" : "attention"](
          ...([place(be, q), width, held(k), kvWidth, held(v), kvWidth, out, width, lse, cuQ, startK, lenK] as const),
          ...sizes,
          ...rules,
          null,
          [0, 0, 0, 0],
        );
        be[bf16 ? "pagedAttentionBf16" : "pagedAttention"](
          ...([place(be, q), width, written(dtype, k, true), written(dtype, v, false), CODE[dtype], out2, width, lse2, cuQ, lenK] as const),
          ...([ints(...table), table.length, 1, rowsQ, PAGES, heads, kvHeads, DIM] as const),
          ...rules,
        );
        expect(out2.values()).toEqual(out.values());
        expect(lse2.values()).toEqual(lse.values());
      }
    });

    test("hold each item of their keys side by side, and their values as rows", () => {
      const rows = noise(length * kvWidth, 2);
      const [keys, values] = [written("f32", rows, true).values(), written("f32", rows, false).values()];
      const [p, h, d] = [70, 1, 3]; // position 6 of the second page, which is page 0
      const item = rows[p * kvWidth + h * DIM + d];
      expect([keys[(h * DIM + d) * 64 + 6], values[h * DIM * 64 + 6 * DIM + d]]).toEqual([item, item]);
      expect(keys.filter((x) => !Number.isNaN(x)).length).toBe(length * kvWidth);
      // 1 + 2⁻¹¹ lies in the middle of two halves, and goes to the even one; what is too large becomes infinite.
      const some = Float32Array.from(rows).fill(0);
      some.set([1 + 2 ** -11, 1 + 3 * 2 ** -11, 70000, -(2 ** -25)]);
      expect([
        ...written("f16", some, false)
          .values()
          .subarray(2 * kvWidth * 64, 2 * kvWidth * 64 + 4),
      ]).toEqual([0x3c00, 0x3c02, 0x7c00, 0x8000]);
    });

    test("of rows with one place the last stays", () => {
      const pages = place(be, new Float32Array(64 * DIM));
      be.writePages(place(be, noise(2 * DIM, 1)), DIM, pages, CODE.f32, 0, ints(9, 9), 2, 1, 1, DIM);
      expect(pages.values().subarray(9 * DIM, 10 * DIM)).toEqual(noise(2 * DIM, 1).subarray(DIM));
    });

    test("that are not there, or are no pages, are refused", () => {
      const x = place(be, noise(2 * DIM, 1));
      const room = () => place(be, new Float32Array(2 * 64 * DIM));
      const write = (slots: Operand, dtype: number = CODE.f32, pages = 2) => be.writePages(x, DIM, room(), dtype, 1, slots, 2, pages, 1, DIM);
      write(ints(0, 127));
      expect(() => write(ints(0, 128))).toThrow(/place of row 1, expected one in 2 pages of 64, got 128|slot out of range, expected 0 to 127, got 128/);
      expect(() => write(ints(-1, 0))).toThrow(/place of row 0|slot out of range/);
      expect(() => write(ints(0, 1), CODE.bf16)).toThrow("the pages' dtype, expected f32 or f16, got code 1");
      expect(() => write(ints(0, 1), CODE.f32, 3)).toThrow("expected room for 960 items");
      const attend = (lenK: number, page: number, { dtype = CODE.f32, most = 1, k = room() }: { dtype?: number; most?: number; k?: Operand } = {}) =>
        be.pagedAttention(
          ...([x, DIM, k, room(), dtype, place(be, new Float32Array(2 * DIM)), DIM, null, ints(0, 2), ints(lenK), ints(page)] as const),
          ...([most, 1, 2, 2, 1, 1, DIM] as const),
          ...rules,
        );
      attend(64, 1);
      expect(() => attend(65, 1)).toThrow(/lenK of sequence 0, expected at most 64|lenK out of range, expected 0 to 64, got 65/);
      expect(() => attend(1, 2)).toThrow(/page 0 of sequence 0, expected a page below 2, got 2|page out of range, expected 0 to 1, got 2/);
      expect(() => attend(1, -1)).toThrow(/expected a page below 2, got -1|page out of range/);
      expect(() => attend(-1, 0)).toThrow(/lenK/);
      expect(() => attend(1, 0, { dtype: CODE.i32 })).toThrow("the pages' dtype, expected f32 or f16, got code 3");
      expect(() => attend(1, 0, { most: 2 })).toThrow("expected room for 2 items");
      expect(() => attend(1, 0, { k: place(be, new Float32Array(639)) })).toThrow("expected room for 640 items");
    });
  });
});

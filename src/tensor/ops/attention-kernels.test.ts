/** Attention's kernels, called without tensors, where sequences are alike and have no boundaries: on both backends. */
import { describe, expect, test } from "vitest";
import { native } from "../../../tests/where-native.ts";
import type { Backend } from "../backend.ts";
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
  be[bf16 ? "attentionBf16" : "attention"](q, width, k, kvWidth, v, kvWidth, out, width, lse, cuQ, startK, lenK, null, 0, ...sizes, ...rules);
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
    be.attention(q, 1, k, 1, v, 1, out, 1, lse, cuQ, startK, lenK, null, 0, ...sizes, ...rules);
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
    for (const bounds of some) expect(() => call(2, 4, 6, bounds)).toThrow(/expected a tensor, got none|expected cuQ and lenK|expected startK or pages/);
  });

  test("memory is taken for rows that are there, not for as many sequences as are claimed", () => {
    for (const many of [2 ** 52, 2 ** 40, 2 ** 31]) call(many, 0, 0);
    for (const many of [2 ** 31 - 1, 2 ** 31, 2 ** 40]) {
      expect(() => call(many, many, 0)).toThrow("expected room for");
      expect(() => call(many, 0, many)).toThrow("expected room for");
      expect(() => call(1, many, many)).toThrow("expected room for");
    }
  });
});

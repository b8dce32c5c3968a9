/** Kernels that no operation's samples reach: random numbers and optimisers, native against reference. */
import { expect, test } from "vitest";
import { whereNative } from "../../tests/where-native.ts";
import type { Backend } from "./backend.ts";
import { createReference } from "./reference/index.ts";

const KEY = [0xa4093822, 0x299f31d0, 7, 2 ** 32 - 3] as const;

/** A block that holds `values`, as an operand. */
function operand(on: Backend, values: Float32Array | Int32Array) {
  const buffer = on.alloc(Math.max(4, values.byteLength));
  on.write(buffer, 0, values);
  return { storage: { buffer }, offset: 0 };
}

function floats(on: Backend, place: { storage: { buffer: number } }, n: number): Float32Array {
  const into = new Float32Array(n);
  on.read(place.storage.buffer, 0, into);
  return into;
}

const wave = (n: number, step: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * step));

whereNative("native equals reference", (native) => {
  const both = [createReference(), native];

  test.each([1, 63, 1000])("random numbers, %i of them", (n) => {
    const [expected, actual] = both.map((on) => {
      const out = operand(on, new Float32Array(n));
      const whole = operand(on, new Int32Array(n));
      const results: Float32Array[] = [];
      on.uniform(out, n, ...KEY, 0, 1);
      results.push(floats(on, out, n));
      on.dropout(operand(on, wave(n, 0.7)), out, n, 0.25, ...KEY);
      results.push(floats(on, out, n));
      on.randint(whole, n, ...KEY, -(2 ** 31), 2 ** 31);
      results.push(floats(on, whole, n));
      on.normal(out, n, ...KEY, 1, 2);
      return { exact: results.map((r) => new Int32Array(r.buffer)), normal: floats(on, out, n) };
    });
    expect(actual.exact[0]).toEqual(expected.exact[0]);
    expect(actual.exact[2]).toEqual(expected.exact[2]);
    const [a, e] = [actual.exact[1], expected.exact[1]].map((bits) => new Float32Array(bits.buffer));
    for (let i = 0; i < n; i++) {
      expect(a[i] === 0, `item ${i} is dropped`).toBe(e[i] === 0);
      expect(a[i]).toBeCloseTo(e[i], 6);
      expect(actual.normal[i]).toBeCloseTo(expected.normal[i], 5);
    }
  });

  test("optimiser steps over several tensors, and the looks at gradients", () => {
    const sizes = [5, 40, 1];
    const [expected, actual] = both.map((on) => {
      const list = (step: number) => sizes.map((n) => operand(on, wave(n, step)));
      const squares = sizes.map((n) =>
        operand(
          on,
          wave(n, 0.2).map((x) => x * x),
        ),
      );
      const [p, g, m] = [list(0.3), list(0.5), list(0.9)];
      on.adamw(p, g, m, squares, sizes, [0.1, 0.01, 0.2], [0.1, 0, 0.3], 0.9, 0.95, 1e-8, 3, 0.5, 1);
      on.adamw(p, g, m, squares, sizes, [0.1, 0.01, 0.2], [0.1, 0, 0.3], 0.9, 0.95, 1e-8, 4, 0.5, 0);
      on.sgd(p, g, m, sizes, [0.1, 0.01, 0.2], [0.1, 0, 0.3], 0.9, 1, 0, 1);
      on.rmsprop(p, g, squares, sizes, [0.1, 0.01, 0.2], [0.1, 0, 0.3], 0.99, 1e-8, 1);
      const bad = operand(on, Float32Array.of(1, 2, Number.NEGATIVE_INFINITY, Number.NaN));
      const looks = [on.sumSquares(g, sizes), on.firstNonFinite(bad, 4), on.firstNonFinite(bad, 2)];
      return [...looks, ...[p, m, squares].flatMap((l) => l.flatMap((place, i) => [...floats(on, place, sizes[i])]))];
    });
    expect(actual.length).toBe(3 + 3 * 46);
    for (let i = 0; i < expected.length; i++) expect(actual[i]).toBeCloseTo(expected[i], 5);
  });

  test("indices are checked before anything is written", () => {
    const gw = operand(native, Float32Array.of(1, 2));
    const ids = operand(native, Int32Array.of(0, 2));
    expect(() => native.embeddingGrad(ids, operand(native, Float32Array.of(5, 5)), gw, 2, 2, 1)).toThrow(/embeddingGrad: .*0 <= index < 2, got 2 at place 1/);
    expect([...floats(native, gw, 2)]).toEqual([1, 2]);
  });
});

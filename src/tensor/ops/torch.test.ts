/**
 * Every sample with a PyTorch expression against PyTorch: our error is at most 4 times that of PyTorch's own float32, plus 1e-6 of the largest
 * value; what is no finite number there is the same here. The fixture and how to make it anew: tests/fixtures/ops/make.py.
 */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { type Backend, backend, scope, useBackend } from "../index.ts";
import { createNative } from "../native.ts";
import { loadNative, type NativeBinding } from "../native-binding.ts";
import { createReference } from "../reference/index.ts";
import { digestOf, inputsOf, run, subjects } from "./run-sample.ts";

interface Entry {
  shape: number[];
  data: string;
  error?: number;
  errors?: string;
  special?: [number, string][];
}

interface Fixture {
  torch: string;
  samples: Record<string, { torch: string; inputs: string; results: Entry[]; gradients: (Entry | null)[] }>;
}

const fixture = JSON.parse(readFileSync(new URL("../../../tests/fixtures/ops/torch.json", import.meta.url), "utf8")) as Fixture;
const former = backend();
const binding = loadNative().binding;
const backends: Backend[] = [createReference(), ...(binding === null ? [] : [createNative(binding as NativeBinding)])];
afterAll(() => void useBackend(former));

const numbers = (text: string): Float32Array => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const special: Record<string, number> = { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, "-inf": Number.NEGATIVE_INFINITY };

function check(actual: ArrayLike<number>, expected: Entry, what: string): void {
  const oracle = numbers(expected.data);
  expect(actual.length, what).toBe(oracle.length);
  const errors = expected.errors === undefined ? null : numbers(expected.errors);
  const marked = new Map(expected.special ?? []);
  const largest = oracle.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
  for (let i = 0; i < oracle.length; i++) {
    const [a, e] = [actual[i] as number, oracle[i] as number];
    const mark = marked.get(i);
    if (mark !== undefined) {
      const wanted = special[mark] ?? Number(mark);
      if (!Object.is(a, wanted)) throw new Error(`${what}: item ${i}: expected ${wanted}, got ${a}`);
      continue;
    }
    const allowed = errors === null ? 4 * (expected.error as number) + 1e-6 * largest : 4 * (errors[i] as number) + 1e-6 * Math.max(Math.abs(e), 1e-30);
    if (!(Math.abs(a - e) <= allowed)) throw new Error(`${what}: item ${i}: expected ${e}, got ${a} (off by ${Math.abs(a - e)}, allowed ${allowed})`);
  }
}

describe.each(backends.map((b) => [b.name, b] as const))("against PyTorch on %s", (_, on) => {
  const cases = subjects().flatMap((s) => s.samples.filter((x) => x.torch !== undefined).map((x) => [`${s.name}: ${x.name}`, s, x] as const));
  test.each(cases)("%s", (name, subject, sample) => {
    const expected = fixture.samples[name];
    if (expected === undefined) throw new Error(`${name} is not in tests/fixtures/ops/torch.json. Make it anew with make.py`);
    useBackend(on);
    const inputs = scope(() => digestOf(inputsOf(sample.args())));
    expect([expected.torch, expected.inputs], "the fixture was made from other samples: make it anew with make.py").toEqual([sample.torch, inputs]);
    const { values, gradients } = run(subject.call, sample.args, on);
    expect(values.length).toBe(expected.results.length);
    for (const [i, r] of expected.results.entries()) check(values[i] as Float32Array, r, `result ${i}`);
    for (const [i, g] of gradients.entries()) {
      if (g === null) continue;
      const e = expected.gradients[i];
      if (e) check(g, e, `gradient ${i}`);
      else
        expect(
          g.every((x) => x === 0),
          `gradient ${i}: PyTorch has none`,
        ).toBe(true);
    }
  });
});

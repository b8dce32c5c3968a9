/**
 * The op contract. Every declared operation is run on its samples: native against reference, forward and gradients; gradients against
 * central differences; fused operations against their composed twin.
 */
import { readdirSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { native } from "../../../tests/where-native.ts";
import { autocast, backend, operations, type Tensor, useBackend } from "../index.ts";
import { createReference } from "../reference/index.ts";
import { scope } from "../scope.ts";
import { compositions } from "./compositions.ts";
import { resultsOf, run, subjects, tensorsOf, weightOf } from "./run-sample.ts";

const former = backend();
const reference = createReference();
/** What is held against the reference: without the library, the reference once more, which must at least run everything and say the same again. */
const other = native ?? createReference();
const OTHER = native === null ? "the reference once more" : "native";
afterAll(() => void useBackend(former));

/** The operations that are matrix products, which autocast changes. */
const multiplies = new Set(["matmul", "linear", "mlp", "linearCrossEntropy"]);

function close(actual: ArrayLike<number>, expected: ArrayLike<number>, relative: number, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i] as number));
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (Object.is(a, e) || a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    const error = Math.abs(a - e);
    if (!(error <= relative * Math.max(Math.abs(e), largest * 0.1, 1e-3))) throw new Error(`${what}: item ${i}: expected ${e}, got ${a} (largest ${largest})`);
  }
}

test("every function of ops/ is an operation or has samples among the compositions", async () => {
  const plain = (name: string) => name.replaceAll("_", "").toLowerCase();
  const known = new Set([...operations.keys(), ...compositions.map((c) => c.name)].map(plain));
  // Parts of the operations beside them, whose samples run them. `placesOf` takes plain arrays: there is nothing to differentiate.
  const helpers = new Set(["packed", "copyInto", "asRows", "rules", "f32", "placesOf", "throughQuantized"].map(plain));
  for (const file of readdirSync(new URL(".", import.meta.url))) {
    // These hold no functions of tensors: the runner itself, and writes in place with tests of their own.
    if (file.endsWith(".test.ts") || ["run-sample.ts", "optimise.ts", "state.ts"].includes(file)) continue;
    for (const [name, value] of Object.entries((await import(/* @vite-ignore */ `./${file}`)) as Record<string, unknown>)) {
      if (typeof value === "function" && !known.has(plain(name)) && !helpers.has(plain(name)))
        throw new Error(`${file}: ${name} has no samples. Declare it with defineOp, or add it to compositions.ts`);
    }
  }
});

describe.each(subjects().map((op) => [op.name, op] as const))("%s", (_, op) => {
  const samples = op.samples;

  test("has samples", () => {
    expect(samples.length).toBeGreaterThan(0);
  });

  describe.each(samples.map((s) => [s.name, s] as const))("%s", (_name, sample) => {
    test(`${OTHER} equals reference`, () => {
      const expected = run(op.call, sample.args, reference);
      const actual = run(op.call, sample.args, other);
      for (const [i, v] of expected.values.entries()) close(actual.values[i] as Float32Array, v, 2e-5, `result ${i}`);
      for (const [i, g] of expected.gradients.entries()) {
        expect(actual.gradients[i] === null, `gradient ${i} is there`).toBe(g === null);
        if (g !== null) close(actual.gradients[i] as Float32Array, g, 5e-5, `gradient ${i}`);
      }
    });

    // Quantised weights multiply integers, whatever the precision.
    if (multiplies.has(op.name) && sample.name !== "quantised weight")
      test(`${OTHER} equals reference under autocast`, () => {
        const call: typeof op.call = (...args) => autocast("bf16", () => op.call(...args) as Tensor);
        const [expected, plain] = [run(call, sample.args, reference), run(op.call, sample.args, reference)];
        const actual = run(call, sample.args, other);
        for (const [i, v] of expected.values.entries()) close(actual.values[i] as Float32Array, v, 2e-5, `result ${i}`);
        for (const [i, g] of expected.gradients.entries()) if (g !== null) close(actual.gradients[i] as Float32Array, g, 5e-5, `gradient ${i}`);
        // Without rounding, both would be the float32 result.
        if (plain.values[0]?.some((x) => x !== 0)) expect(expected.values).not.toEqual(plain.values);
      });

    if (op.composed !== undefined)
      test("equals its composed twin", () => {
        const expected = run(op.composed as typeof op.call, sample.args, other);
        const actual = run(op.call, sample.args, other);
        for (const [i, v] of expected.values.entries()) close(actual.values[i] as Float32Array, v, 1e-4, `result ${i}`);
        for (const [i, g] of expected.gradients.entries())
          if (g !== null && actual.gradients[i]) close(actual.gradients[i] as Float32Array, g, 3e-4, `gradient ${i}`);
      });

    if (sample.differences !== false && op.differentiable)
      test("gradient equals central differences", () => {
        const { gradients } = run(op.call, sample.args, reference);
        useBackend(reference);
        const h = 1e-2;
        let compared = 0;
        const inputs = scope(() => tensorsOf(sample.args()).map((t) => ({ size: t.size, leaf: t.node === null && t.requiresGrad && t.isContiguous })));
        for (const [i, input] of inputs.entries()) {
          const g = gradients[i];
          if (!input.leaf || g === null || g === undefined) continue;
          const numeric = new Float32Array(input.size);
          const step = Math.max(1, Math.floor(input.size / 24));
          const at = (j: number, by: number): number =>
            scope(() => {
              const args = sample.args();
              const t = tensorsOf(args)[i] as ReturnType<typeof tensorsOf>[number];
              const data = t.dataSync() as Float32Array;
              data[j] = (data[j] as number) + by;
              t.write(data.slice());
              let total = 0;
              for (const r of resultsOf(op.call(...args)))
                if (r.dtype === "f32") for (const [n, y] of (r.dataSync() as Float32Array).entries()) total += weightOf(n) * y;
              return { total };
            }).total;
          const picked: number[] = [];
          for (let j = 0; j < input.size; j += step) {
            // Fourth-order central differences: f32 results allow no small step.
            numeric[j] = (8 * (at(j, h) - at(j, -h)) - (at(j, 2 * h) - at(j, -2 * h))) / (12 * h);
            picked.push(j);
          }
          close(
            picked.map((j) => g[j] as number),
            picked.map((j) => numeric[j] as number),
            2e-2,
            `gradient of input ${i}`,
          );
          compared += picked.length;
        }
        // An operation whose inputs are all views (transposes) is compared by the other samples.
        if (inputs.some((x) => x.leaf && x.size > 0)) expect(compared).toBeGreaterThan(0);
      });
  });
});

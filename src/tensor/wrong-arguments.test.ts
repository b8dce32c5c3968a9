/** Wrong dtypes and shapes are refused in words. */
import { describe, expect, test } from "vitest";
import { ConfigError, ShapeError } from "../errors.ts";
import * as tensors from "./index.ts";
import { linspace, scope, Tensor, tensor, zeros } from "./index.ts";
import { BINARY } from "./kernels.ts";
import { subjects } from "./ops/run-sample.ts";

test("a dtype that does not exist", () => {
  expect(() => zeros([2], { dtype: "float32" as never })).toThrow(/unknown dtype, expected one of .*f32.*, got "float32"/);
  expect(() => scope(() => tensor([1]).to("f64" as never))).toThrow(/unknown dtype, expected one of .*f32.*, got "f64"/);
});

test("what is no backend is refused before anything uses it", () => {
  const before = tensors.backend();
  const wrong: [unknown, string][] = [
    ["nonsense", '"nonsense"'],
    [undefined, "undefined"],
    [null, "null"],
    [{}, "an object without a name"],
    [{ ...before, name: "cuda" }, 'one named "cuda"'],
    [{ name: "native" }, "an object without kernels"],
  ];
  for (const [other, got] of wrong)
    expect(() => tensors.useBackend(other as never)).toThrow(
      new ConfigError(
        `useBackend: not a backend, expected an object as backend() gives it, named native or reference, got ${got}. To choose by name, start with GROUNDUP_BACKEND=reference.`,
      ),
    );
  expect(tensors.backend()).toBe(before);
});

test("a size in place of a shape", () => {
  expect(() => zeros(3 as never)).toThrow(/expected an array of sizes, got 3\. One dimension is \[3\]/);
});

test("linspace has both ends, and one number is the start", () => {
  scope(() => {
    expect([...linspace(-1, 1, 5).dataSync()]).toEqual([-1, -0.5, 0, 0.5, 1]);
    expect([...linspace(4, 9, 1).dataSync()]).toEqual([4]);
    expect(linspace(0, 1, 0).shape).toEqual([0]);
    return undefined;
  });
});

const NOT_TENSORS: [name: string, value: unknown][] = [
  ["a list", [1, 2]],
  ["a nested list", [[1, 2]]],
  ["a typed array", new Float32Array(2)],
  ["text", "x"],
  ["a number", 3],
  ["nothing", undefined],
  ["null", null],
];
/** Functions that take numbers in place of tensors. */
const NUMERIC = new Set<string>([...BINARY, "where", "mseLoss"]);

/** What a call with `value` at a place throws, or null. */
function thrown(call: (...args: unknown[]) => unknown, args: readonly unknown[], place: number, value: unknown): unknown {
  try {
    scope(() => void call(...args.map((a, i) => (i === place ? value : a))));
    return null;
  } catch (error) {
    return error;
  }
}

describe("what is no tensor is refused in words by every operation and composition", () => {
  test.each(subjects().map((s) => [s.name, s] as const))("%s", (name, subject) => {
    scope(() => {
      const args = subject.samples[0].args();
      for (const [kind, value] of NOT_TENSORS) {
        for (const [place, arg] of args.entries()) {
          if (!(arg instanceof Tensor) || (kind === "a number" && NUMERIC.has(name))) continue;
          const error = thrown(subject.call, args, place, value);
          expect(error, `${name}: ${kind} at ${place}`).toBeInstanceOf(ShapeError);
          expect((error as Error).message).toMatch(/^\w+: .*expected .*, got /);
        }
      }
      return undefined;
    });
  });
});

const x = () => tensor([[1, 2]]);
const FACES: [name: string, place: number, args: () => unknown[]][] = [
  ["softmax", 1, () => [[1, 2]]],
  ["matmul", 1, () => [3, x()]],
  ["matmul", 2, () => [x(), [[1], [2]]]],
  ["add", 1, () => [[1, 2], x()]],
  ["add", 2, () => [x(), [1, 2]]],
  ["add", 2, () => [3, 4]],
  ["mul", 2, () => [x()]],
  ["where", 1, () => [true, x(), 0]],
  ["where", 2, () => [x().gt(0), [1, 2], 0]],
  ["linear", 3, () => [x(), x(), [1]]],
  ["layerNorm", 2, () => [x(), [1, 1]]],
  ["rmsNorm", 2, () => [x(), new Float32Array(2)]],
  ["sum", 1, () => [[1, 2]]],
  ["argmax", 1, () => [[1, 2]]],
  ["sort", 1, () => [[1, 2]]],
  ["dropout", 1, () => [[1, 2], 0]],
  ["crossEntropy", 2, () => [x(), [1]]],
  ["attention", 3, () => [x(), x(), [1]]],
  ["gather", 3, () => [x(), 0, [0]]],
  ["stack", 1, () => [[[1, 2]]]],
  ["einsum", 3, () => ["ij,ij->i", x(), [1, 2]]],
  ["addInPlace", 2, () => [x(), [1, 2]]],
  ["fill", 1, () => [[1, 2], 0]],
  ["backward", 1, () => [3]],
];
test.each(FACES)("%s says that argument %i is no tensor", (name, place, args) => {
  const call = (tensors as unknown as Record<string, (...args: unknown[]) => unknown>)[name];
  const error = scope(() => ({ error: thrown(call, args(), -1, null) })).error as Error;
  expect(error).toBeInstanceOf(ShapeError);
  expect(error.message).toMatch(
    new RegExp(`^${name}: argument ${place} is no tensor, expected a Tensor, got .*\\. (Make one of it with tensor|Pass a tensor)`),
  );
});

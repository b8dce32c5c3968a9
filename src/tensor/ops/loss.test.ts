/** What a row weighs in the cross-entropies: targets that count, wherever they lie, and graphs that are kept. */
import { afterAll, describe, expect, test } from "vitest";
import { native } from "../../../tests/where-native.ts";
import { backend, type CrossEntropyOptions, crossEntropy, linearCrossEntropy, narrow, type Tensor, tensor, tensorFrom, useBackend } from "../index.ts";
import { createReference } from "../reference/index.ts";

const former = backend();
const backends = native === null ? [createReference()] : [createReference(), native];
afterAll(() => void useBackend(former));

const [ROWS, WIDTH, CLASSES] = [4, 3, 5];
const noise = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233));
const hidden = () => tensorFrom(noise(ROWS * WIDTH, 1), [ROWS, WIDTH], { requiresGrad: true });
const weight = () => tensorFrom(noise(CLASSES * WIDTH, 2), [CLASSES, WIDTH], { requiresGrad: true });
const logits = () => tensorFrom(noise(ROWS * CLASSES, 3), [ROWS, CLASSES], { requiresGrad: true });
const items = (t: Tensor | null) => [...((t as Tensor).dataSync() as Float32Array)];

/** The losses of both functions, and the gradients of what they learn. */
function outcome(targets: Tensor, options: CrossEntropyOptions = {}): number[][] {
  const [x, h, w] = [logits(), hidden(), weight()];
  const [alone, fused] = [crossEntropy(x, targets, options), linearCrossEntropy(h, w, targets, options)];
  alone.backward();
  fused.backward();
  return [items(alone), items(fused), ...[x, h, w].map(({ grad }) => items(grad))];
}

/** The same, times a factor. */
const times = (factor: number, all: number[][]) => all.map((list) => list.map((x) => factor * x));
function expectClose(a: number[][], b: number[][]): void {
  for (const [i, list] of a.entries()) for (const [j, x] of list.entries()) expect(x).toBeCloseTo((b[i] as number[])[j] as number, 5);
}

describe.each(backends.map((be) => [be.name, be] as const))("%s", (_, be) => {
  test("the mean is over the rows that count, or over as many as are said", () => {
    useBackend(be);
    const targets = tensor([Int32Array.of(1, -100, 2, 0)]).reshape([ROWS]);
    const sum = outcome(targets, { reduction: "sum" });
    expectClose(outcome(targets), times(1 / 3, sum));
    expectClose(outcome(targets, { count: 8 }), times(1 / 8, sum));
    // "sum" is a sum, whatever the number.
    expectClose(outcome(targets, { reduction: "sum", count: 8 }), sum);
    // Another value is ignored: two of these rows count.
    const twos = tensor([Int32Array.of(1, 2, 2, 0)]).reshape([ROWS]);
    expectClose(outcome(twos, { ignoreIndex: 2 }), times(1 / 2, outcome(twos, { ignoreIndex: 2, reduction: "sum" })));
  });

  test("where every row is ignored, the loss and the gradients are 0", () => {
    useBackend(be);
    for (const labelSmoothing of [0, 0.1]) {
      const all = outcome(tensor([new Int32Array(ROWS).fill(-100)]).reshape([ROWS]), { labelSmoothing });
      expect(all.flat().every((x) => x === 0)).toBe(true);
    }
  });

  test("targets are read where they lie: parts of a larger tensor give the bytes of a copy", () => {
    useBackend(be);
    const table = tensor([Int32Array.of(9, 9), Int32Array.of(9, 1), Int32Array.of(-100, -100), Int32Array.of(9, 2), Int32Array.of(-100, 0)]);
    const column = narrow(narrow(table, 0, 1, ROWS), 1, 1, 1).reshape([ROWS]);
    expect(column.isContiguous).toBe(false);
    const run = narrow(tensorFrom(Int32Array.of(-100, -100, 1, -100, 2, 0), [2 + ROWS]), 0, 2, ROWS);
    const copy = tensor([Int32Array.of(1, -100, 2, 0)]).reshape([ROWS]);
    for (const part of [column, run]) expect(outcome(part)).toEqual(outcome(copy));
  });

  test("a graph that is kept gives the same gradient again", () => {
    useBackend(be);
    const x = logits();
    const loss = crossEntropy(x, tensor([Int32Array.of(1, -100, 2, 0)]).reshape([ROWS]));
    loss.backward({ retainGraph: true });
    const once = items(x.grad);
    loss.backward();
    expectClose([items(x.grad)], times(2, [once]));
  });
});

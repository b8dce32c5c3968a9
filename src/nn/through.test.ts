import { expect, test } from "vitest";
import { keep, memory, noGrad, resetPeakMemory, scope, type Tensor, tensor, zeros } from "../tensor/index.ts";
import { through } from "./through.ts";

const LAYERS = [1, 2, 3, 4, 5, 6, 7, 8];

test("every layer sees what the one before it gave, and its place", () => {
  const seen: number[] = [];
  const y = through(LAYERS, tensor([1]), (layer, x, i) => {
    seen.push(i);
    return x.mul(layer);
  });
  expect(Number(y.dataSync()[0])).toBe(40320);
  expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  const x = tensor([1]);
  expect(through([], x, () => zeros([1]))).toBe(x);
});

test("without gradients two results are held at a time; x and what is kept stay", () => {
  const size = 1 << 16;
  let kept: Tensor | undefined;
  scope(() => {
    const x = zeros([size]);
    const before = memory().liveBytes;
    resetPeakMemory();
    const y = noGrad(() =>
      through(LAYERS, x, (layer, now) => {
        if (layer === 4) kept = keep(now);
        return now.add(layer);
      }),
    );
    // And numbers, which are tensors too.
    expect(Math.floor((memory().peakBytes - before) / (4 * size))).toBe(3);
    expect([x.dataSync()[0], kept?.dataSync()[0], y.dataSync()[0]]).toEqual([0, 6, 36]);
  });
  kept?.dispose();
});

test("layers that give what they got, or a view of it", () => {
  scope(() => {
    const y = through(LAYERS, tensor([[1, 2]]), (layer, x) => (layer % 2 === 0 ? x : x.add(1).transpose()));
    expect([...y.dataSync()]).toEqual([5, 6]);
  });
});

test("gradients go through all of them", () => {
  const x = tensor([3], { dtype: "f32", requiresGrad: true });
  scope(() =>
    through([1, 2, 3], x, (_, now) => now.mul(now))
      .sum()
      .backward(),
  );
  expect(x.grad?.dataSync()[0]).toBe(8 * 3 ** 7);
});

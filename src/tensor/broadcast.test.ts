/** Broadcasting: the rule in a few naive lines against the operations, over many random shapes; and the words where shapes do not fit. */
import { expect, test } from "vitest";
import { add, randint, randomStream, scope, type Tensor, tensorFrom, zeros } from "./index.ts";

/** The item that `index` of the wide shape reads: places are counted from the right, and a size of 1 is always at 0. */
function read(data: ArrayLike<number>, shape: readonly number[], index: readonly number[]): number {
  let at = 0;
  for (let d = 0; d < shape.length; d++) at = at * shape[d] + (shape[d] === 1 ? 0 : index[index.length - shape.length + d]);
  return data[at];
}

test("results and gradients equal a naive loop, over random shapes", () => {
  const stream = randomStream(7, 0);
  const draw = (low: number, high: number) => scope(() => ({ n: randint(low, high, [1], { stream }).itemSync() })).n;
  let stretched = 0;
  for (let round = 0; round < 150; round++) {
    scope(() => {
      const wide = Array.from({ length: draw(0, 5) }, () => draw(1, 5));
      // Each operand has some of the wide shape's last dimensions, some of them as 1; one of the two has every size that is not 1.
      const narrow = () => wide.slice(draw(0, wide.length + 1)).map((n) => (draw(0, 3) === 0 ? 1 : n));
      const [left, right] = [narrow(), narrow()];
      const rank = Math.max(left.length, right.length);
      const shape = Array.from({ length: rank }, (_, i) => Math.max(left[i - rank + left.length] ?? 1, right[i - rank + right.length] ?? 1));
      if (left.length !== right.length || left.some((n, i) => n !== right[i])) stretched++;
      const make = (s: number[], factor: number) => {
        const data = Float32Array.from({ length: s.reduce((a, b) => a * b, 1) }, (_, i) => factor * (i + 1));
        return { data, t: tensorFrom(data, s, { requiresGrad: true }) };
      };
      const [a, b] = [make(left, 1), make(right, 1000)];
      const sum = add(a.t, b.t);
      expect(sum.shape).toEqual(shape);
      const size = shape.reduce((x, y) => x * y, 1);
      const indices = Array.from({ length: size }, (_, flat) => {
        const index: number[] = [];
        for (let d = rank - 1, rest = flat; d >= 0; d--) {
          index[d] = rest % shape[d];
          rest = Math.floor(rest / shape[d]);
        }
        return index;
      });
      expect([...sum.dataSync()]).toEqual(indices.map((index) => read(a.data, left, index) + read(b.data, right, index)));
      sum.sum().backward();
      // An item's gradient is the number of places that read it.
      for (const [{ t, data }, s] of [
        [a, left],
        [b, right],
      ] as const) {
        const places = Float32Array.from(data, (_, i) => i);
        const counts = new Array<number>(data.length).fill(0);
        for (const index of indices) counts[read(places, s, index)]++;
        expect([...(t.grad as Tensor).dataSync()]).toEqual(counts);
      }
      return undefined;
    });
  }
  expect(stretched).toBeGreaterThan(50);
});

test("shapes that do not fit are shown aligned, with the places marked", () => {
  scope(() => {
    expect(() => add(zeros([8, 12, 3, 6]), zeros([4, 6]))).toThrow(
      /^add: shapes do not broadcast, expected equal sizes or 1 at dimension -2, got \(8, 12, 3, 6\) and \(4, 6\)\. Reshape or unsqueeze one of them\. Aligned at the right:\n {2}8 {2}12 {2}3 {2}6\n {9}4 {2}6\n {9}\^$/,
    );
    expect(() => add(zeros([2, 1]), zeros([10, 3, 5]))).toThrow(/\n {6}2 {2}1\n {2}10 {2}3 {2}5\n {6}\^$/);
    return undefined;
  });
});

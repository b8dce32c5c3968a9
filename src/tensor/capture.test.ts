import { afterEach, expect, test } from "vitest";
import { whereNative } from "../../tests/where-native.ts";
import { GroundupError } from "../errors.ts";
import { autocast } from "./autocast.ts";
import { backend, useBackend } from "./backend.ts";
import { Capture, canCapture } from "./capture.ts";
import { keep, linear, memory, noGrad, randn, scope, type Tensor, tensor } from "./index.ts";
import { createReference } from "./reference/index.ts";

const open: { dispose(): void }[] = [];
const use = <T extends { dispose(): void }>(x: T): T => {
  open.push(x);
  return x;
};
afterEach(() => {
  for (const x of open.splice(0).reverse()) x.dispose();
});

const held = (...values: number[]): Tensor => use(keep(tensor(Float32Array.from(values))));
const captured = (work: () => readonly Tensor[], former: Capture | null = null): Capture =>
  use(scope(() => ({ capture: noGrad(() => Capture.of(() => scope(work), former)) })).capture);
const read = (c: Capture): number[][] => c.results.map((t) => [...t.dataSync()]);
const capturedBytes = (): number => memory().owners.find((o) => o.name === "captured work")?.bytes ?? 0;

whereNative("capture", () => {
  test("calls made again see the values that there are then", () => {
    const [x, w] = [held(1, 2, 3), held(2, 2, 2)];
    const before = memory().liveBytes;
    const work = () => [x.mul(w).add(1).mul(x), x.sum()];
    const c = captured(work);
    expect(read(c)).toEqual([[3, 10, 21], [6]]);
    expect(c.problem).toBeNull();
    x.write(Float32Array.of(4, 5, 6));
    w.write(Float32Array.of(0, 1, -1));
    expect(read(c)[0]).toEqual([3, 10, 21]);
    // Others use memory in between.
    const others = scope(() => [...x.mul(w).add(w).mul(3).dataSync()]);
    c.replay();
    expect(read(c)).toEqual([[4, 30, -30], [15]]);
    expect(scope(() => [...x.mul(w).add(w).mul(3).dataSync()])).toEqual(others);
    expect(capturedBytes()).toBeGreaterThan(0);
    c.dispose();
    expect(capturedBytes()).toBe(0);
    expect(memory().liveBytes).toBe(before);
    expect(c.holds).toBe(false);
    expect(() => c.replay()).toThrow(GroundupError);
  });

  test("the same work again is the same, and takes over the memory; other work is not", () => {
    const x = held(1, 2, 3);
    const buffers = memory().processBytes;
    const work = () => [x.mul(2).add(x)];
    let c = captured(work);
    for (let i = 0; i < 3; i++) {
      const next = captured(work, c);
      expect(next.same(c)).toBe(true);
      expect(c.holds).toBe(false);
      c = next;
    }
    x.write(Float32Array.of(1, 1, 1));
    c.replay();
    expect(read(c)).toEqual([[3, 3, 3]]);
    for (const other of [() => [x.mul(2).add(x).add(1)], () => [x.mul(3).add(x)], () => [x.add(x).concat([x, x, x]).mul(2)], work]) {
      const next = captured(other, c);
      expect(next.same(c)).toBe(false);
      const expected = scope(() => [...(other()[0] as Tensor).dataSync()]);
      next.replay();
      expect(read(next)).toEqual([expected]);
      c = next;
    }
    c.dispose();
    expect(memory().processBytes).toBe(buffers);
  });

  test("work that looks at values, gets some from the host, or leaves tensors behind can't be made again", () => {
    const x = held(1, 2, 3);
    let left: Tensor | undefined;
    const cases: [() => Tensor[], string][] = [
      [() => [x.mul(x.sum().itemSync())], "the host read values"],
      [() => [x.add(tensor([1, 2, 3]))], "values of the host's were written"],
      [
        () => {
          left = keep(x.mul(7));
          return [x.add(left)];
        },
        "it made tensors that live on",
      ],
    ];
    for (const [work, problem] of cases) {
      const c = captured(work);
      expect(c.problem).toBe(problem);
      expect(c.holds).toBe(false);
      expect(() => c.replay()).toThrow(problem);
      c.dispose();
    }
    // What was left behind is as good as any other tensor.
    expect([...(left?.dataSync() ?? [])]).toEqual([7, 14, 21]);
    for (let i = 0; i < 5; i++) scope(() => void x.mul(i));
    expect([...(left?.dataSync() ?? [])]).toEqual([7, 14, 21]);
    left?.dispose();
  });

  test("what lives on keeps its memory when the same work is captured again", () => {
    const x = held(1, 2, 3);
    const lasting: Tensor[] = [];
    const first = captured(() => {
      lasting.push(keep(x.mul(7)));
      return [x.add(1)];
    });
    const second = captured(() => [x.mul(3), x.add(1)], first);
    expect(read(second)).toEqual([
      [3, 6, 9],
      [2, 3, 4],
    ]);
    second.replay();
    expect(lasting.map((t) => [...t.dataSync()])).toEqual([[7, 14, 21]]);
    for (const t of lasting) t.dispose();
  });

  test.each([
    [256, 300],
    [512, 600],
    [512, 608],
  ])("products with a weight's packed copy hold as long as the weight is as it was: %s to %s", (k, n) => {
    const [x, w] = [use(keep(randn([2, k]))), use(keep(randn([n, k])))];
    const call = () => [linear(x, w)];
    const plain = noGrad(() => scope(() => [...(call()[0] as Tensor).dataSync()]));
    const packing = captured(call);
    expect(packing.problem).toBe("a weight was packed");
    const c = captured(call, packing);
    expect([c.problem, c.holds]).toEqual([null, true]);
    c.replay();
    expect(read(c)).toEqual([plain]);
    w.write(w.dataSync().map((v) => 2 * v));
    expect(c.holds).toBe(false);
    expect(noGrad(() => scope(() => [...(call()[0] as Tensor).dataSync()]))).toEqual(plain.map((v) => 2 * v));
  });

  test("memory that has gone, another precision or another backend ends it", () => {
    const x = held(1, 2, 3);
    const other = keep(tensor(new Float32Array(3)));
    const c = captured(() => [x.add(other)]);
    expect(c.holds).toBe(true);
    autocast("bf16", () => expect(c.holds).toBe(false));
    const native = useBackend(createReference());
    expect([c.holds, canCapture()]).toEqual([false, false]);
    expect(() => Capture.of(() => [])).toThrow("a backend that cannot make calls again");
    useBackend(native);
    expect(c.holds).toBe(true);
    other.dispose();
    expect(c.holds).toBe(false);
    expect(() => c.replay()).toThrow("memory that has gone");
  });

  test("an error in the work leaves nothing behind, and captures don't nest", () => {
    const x = held(1, 2, 3);
    const [bytes, buffers] = [memory().processBytes, memory().liveBuffers];
    expect(() => captured(() => [x.add(1), x.add(tensor(new Float32Array(5)))])).toThrow("broadcast");
    expect(() => captured(() => captured(() => [x.add(1)]).results)).toThrow("one inside another");
    expect(memory().liveBuffers).toBe(buffers);
    expect(memory().processBytes).toBe(bytes);
    const c = captured(() => [x.add(1)]);
    expect(c.holds).toBe(true);
  });

  test("broken calls are refused in words", () => {
    const replay = (calls: readonly number[]) => backend().calls?.replay(Float64Array.from(calls));
    for (const [calls, words] of [
      [[1], "expected a count of slots"],
      [[1, 5, 0], "expected a count of slots"],
      [[1, -1], "expected a count of slots"],
      [[1, 0.5, 1], "expected a count of slots"],
      [[9999, 0], "no kernel has the number 9999"],
      [[0, 0], "more than 0 argument slots"],
    ] as const)
      expect(() => replay(calls)).toThrow(words);
  });
});

import { expect, test } from "vitest";
import { whereNative } from "../../tests/where-native.ts";
import { keep, linear, memory, noGrad, ones, scope, type Tensor, zeros } from "./index.ts";
import { randn } from "./random.ts";

const packedBytes = (): number => memory().owners.find((o) => o.name === "packed weights")?.bytes ?? 0;
const call = (x: Tensor, w: Tensor, transposed = false): Float32Array =>
  noGrad(() => scope(() => ({ data: linear(x, w, null, { transposed }).dataSync() as Float32Array })).data);

whereNative("packed weights", () => {
  test.each([false, true])("a weight that serves few rows again and again is packed, with the same bytes (transposed: %s)", (transposed) => {
    const [n, k] = [300, 200];
    const w = keep(randn(transposed ? [k, n] : [n, k]));
    const xs = [1, 5, 70].map((m) => keep(randn([m, k])));
    expect(packedBytes()).toBe(0);
    // Many rows need no packed copy, and a row has the same bytes among others as alone.
    const plain = xs.map((x) => call(keep(x.concat([zeros([100, k])])), w, transposed).slice(0, x.shape[0] * n));
    expect(call(xs[0], w, transposed)).toEqual(plain[0]);
    expect(packedBytes()).toBe(0);
    for (const [i, x] of xs.entries()) expect(call(x, w, transposed)).toEqual(plain[i]);
    expect(packedBytes()).toBe(304 * k * 4);

    // Written over: the old copy is of no use.
    w.write(new Float32Array(n * k).fill(2));
    const two = call(ones([1, k]), w, transposed);
    expect([two[0], two[n - 1]]).toEqual([2 * k, 2 * k]);
    expect(packedBytes()).toBe(0);
    call(xs[0], w, transposed);
    expect(packedBytes()).toBe(304 * k * 4);

    // Training drops it; so does the end of the weight.
    w.requiresGrad = true;
    scope(() => linear(xs[0], w, null, { transposed }).sum().backward());
    expect(packedBytes()).toBe(0);
    call(xs[0], w, transposed);
    call(xs[0], w, transposed);
    expect(packedBytes()).toBeGreaterThan(0);
    const before = memory().liveBuffers;
    w.grad?.dispose();
    w.dispose();
    expect(packedBytes()).toBe(0);
    expect(memory().liveBuffers).toBe(before - 3);
    for (const x of xs) x.dispose();
  });

  test("32 rows are few, 33 are not", () => {
    const [few, many] = [32, 33].map((m) => keep(randn([m, 256])));
    for (const [x, packs] of [
      [many, false],
      [few, true],
    ] as const) {
      const w = keep(randn([256, 256]));
      for (let i = 0; i < 3; i++) call(x, w);
      expect(packedBytes()).toBe(packs ? 256 * 256 * 4 : 0);
      w.dispose();
    }
    for (const x of [few, many]) x.dispose();
  });

  test("results of a scope are not packed before their second use, and leave nothing behind", () => {
    const x = keep(randn([2, 256]));
    const before = memory().liveBytes;
    for (let i = 0; i < 3; i++) scope(() => void noGrad(() => linear(x, randn([256, 256]))));
    expect([memory().liveBytes, packedBytes()]).toEqual([before, 0]);
    x.dispose();
  });

  test.each([
    [false, 600],
    [true, 605],
  ])("a large weight lies in its copy alone, and comes back when it is read, written or trained (transposed: %s)", (transposed, n) => {
    const k = 512;
    const w = keep(randn(transposed ? [k, n] : [n, k]));
    const x = keep(randn([2, k]));
    const values = w.dataSync();
    const plain = call(x, w, transposed);
    const pack = () => {
      const before = memory().liveBytes;
      for (let i = 0; i < 3; i++) expect(call(x, w, transposed)).toEqual(plain);
      expect(packedBytes()).toBe(Math.ceil(n / 16) * 16 * k * 4);
      return memory().liveBytes - before;
    };
    const grown = (Math.ceil(n / 16) * 16 - n) * k * 4;
    expect(pack()).toBe(grown);
    // Many rows take the copy too.
    const many = keep(x.concat([zeros([100, k])]));
    expect(call(many, w, transposed).slice(0, 2 * n)).toEqual(plain);
    expect(memory().owners.find((o) => o.name === "packed weights")?.count).toBe(1);
    expect(w.dataSync()).toEqual(values);
    expect(packedBytes()).toBeGreaterThan(0);

    // Training: the copy goes, and the weight is what it was.
    w.requiresGrad = true;
    scope(() => linear(x, w, null, { transposed }).sum().backward());
    expect(packedBytes()).toBe(0);
    expect(w.dataSync()).toEqual(values);
    expect(pack()).toBe(grown);
    scope(() => linear(x, w, null, { transposed }).sum().backward());
    expect(w.dataSync()).toEqual(values);
    w.grad?.dispose();
    w.requiresGrad = false;

    // Written in part, and as a whole.
    pack();
    scope(() => void noGrad(() => w.narrow(0, 0, 1).fill(3)));
    expect(w.dataSync().slice(1000)).toEqual(values.slice(1000));
    expect(call(x, w, transposed)).not.toEqual(plain);
    w.write(values);
    pack();
    w.write(values.map((v) => 2 * v));
    expect(call(x, w, transposed)).toEqual(plain.map((v) => 2 * v));
    w.write(values);
    pack();
    const bytes = memory().processBytes;
    w.dispose();
    expect(packedBytes()).toBe(0);
    expect(memory().processBytes).toBeLessThan(bytes);
    for (const t of [x, many]) t.dispose();
  });
});

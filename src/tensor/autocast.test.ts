/** Mixed precision: what is rounded, what is not, and that backward remembers it. The fixture and how to make it anew: autocast.fixture.py. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { bf16ToF32, f32ToBf16 } from "./dtype.ts";
import {
  attention,
  autocast,
  autocastPrecision,
  type Backend,
  backend,
  checkpoint,
  crossEntropy,
  linear,
  linearCrossEntropy,
  matmul,
  scope,
  type Tensor,
  tensorFrom,
  useBackend,
} from "./index.ts";
import { createNative } from "./native.ts";
import { loadNative, type NativeBinding } from "./native-binding.ts";
import { createReference } from "./reference/index.ts";
import { integers, values } from "./samples.ts";

const fixture = JSON.parse(readFileSync(new URL("autocast.fixture.json", import.meta.url), "utf8")) as Record<
  "y" | "gx" | "gw" | "o" | "gq" | "gk" | "gv",
  number[]
>;
const former = backend();
const { binding } = loadNative();
const native = binding === null ? null : createNative(binding as NativeBinding);
const isa = native?.isa();
// The reference, and every instruction set of this machine: with bf16 products of its own, and without.
const backends: [string, Backend, string][] = [
  ["reference", createReference(), "javascript"],
  ...(native?.isas() ?? []).map((name): [string, Backend, string] => [`native ${name}`, native as Backend, name]),
];
afterAll(() => {
  if (isa !== undefined) native?.isa(isa);
  useBackend(former);
});

const [M, N, K] = [24, 20, 96];
const fill = (rows: number, columns: number, seed: number): Float32Array =>
  Float32Array.from({ length: rows * columns }, (_, i) => ((i * i * 48271 + i * 7919 + seed * 104729) % 100003) / 100003 - 0.5);
const leaf = (items: Float32Array, shape: number[]): Tensor => tensorFrom(items, shape, { requiresGrad: true });
const [xs, ws, gs] = [fill(M, K, 1), fill(N, K, 2), fill(M, N, 3)];

/** Σ_p a(i, p)·b(p, j) in float64, of rounded or plain items. */
function product(m: number, n: number, k: number, a: (i: number, p: number) => number, b: (p: number, j: number) => number, rounded: boolean): number[] {
  const of = rounded ? (v: number) => bf16ToF32(f32ToBf16(v)) : (v: number) => v;
  return Array.from({ length: m * n }, (_, at) => {
    let sum = 0;
    for (let p = 0; p < k; p++) sum += of(a(Math.floor(at / n), p)) * of(b(p, at % n));
    return sum;
  });
}

const expected = (rounded: boolean) => ({
  y: product(
    M,
    N,
    K,
    (i, p) => xs[i * K + p],
    (p, j) => ws[j * K + p],
    rounded,
  ),
  gx: product(
    M,
    K,
    N,
    (i, p) => gs[i * N + p],
    (p, j) => ws[p * K + j],
    rounded,
  ),
  gw: product(
    N,
    K,
    M,
    (i, p) => gs[p * N + i],
    (p, j) => xs[p * K + j],
    rounded,
  ),
});

const largest = (x: ArrayLike<number>): number => Array.from(x).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
/** The largest difference, as a share of the largest item. */
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => largest(Array.from(a, (v, i) => v - (b[i] as number))) / largest(b);

describe.each(backends)("%s", (_, on, set) => {
  /** y and the gradients of x and w of one linear layer. The backward pass runs outside of the autocast. */
  const layer = (call: (x: Tensor, w: Tensor) => Tensor): Record<"y" | "gx" | "gw", number[]> => {
    useBackend(on);
    on.isa(set);
    return scope(() => {
      const [x, w] = [leaf(xs, [M, K]), leaf(ws, [N, K])];
      const y = autocast("bf16", () => call(x, w));
      y.backward({ gradient: tensorFrom(gs, [M, N]) });
      return { y: [...y.dataSync()], gx: [...(x.grad as Tensor).dataSync()], gw: [...(w.grad as Tensor).dataSync()] };
    });
  };

  test.each([
    ["linear", (x: Tensor, w: Tensor) => linear(x, w)],
    ["matmul", (x: Tensor, w: Tensor) => matmul(x, w.transpose())],
    ["linear in a checkpoint", (x: Tensor, w: Tensor) => checkpoint((a) => linear(a, w), x)],
  ])("%s and both its gradients are products of rounded operands", (_name, call) => {
    const [got, rounded, plain] = [layer(call), expected(true), expected(false)];
    for (const part of ["y", "gx", "gw"] as const) {
      // Products of two bf16 numbers are exact in float32; only the additions of at most 96 of them round, each to 2⁻²⁴ of a partial sum.
      expect(distance(got[part], rounded[part]), part).toBeLessThan(1e-6);
      // Float32 products would pass here only if nothing were rounded.
      expect(distance(got[part], plain[part]), part).toBeGreaterThan(5e-4);
    }
  });

  test("linear agrees with PyTorch's autocast", () => {
    const [got, plain] = [layer((x, w) => linear(x, w)), expected(false)];
    for (const part of ["y", "gx", "gw"] as const) {
      // PyTorch also rounds its results to bf16: half a unit in the last of its 8 bits, at most 2⁻⁸ of each; our sums differ from its own by float32 rounding.
      const far = (x: number[]) => {
        const floor = 1e-6 * largest(fixture[part]);
        return fixture[part].filter((t, i) => Math.abs((x[i] as number) - t) > 2 ** -8 * Math.abs(t) + floor).length;
      };
      expect(far(got[part]), part).toBe(0);
      expect(far(plain[part]), `${part} of float32`).toBeGreaterThan(20);
    }
  });

  test("attention and its gradients agree with PyTorch's autocast", () => {
    useBackend(on);
    on.isa(set);
    const run = (precision: "f32" | "bf16") =>
      scope(() => {
        const [q, k, v] = [4, 5, 6].map((seed) =>
          leaf(
            fill(70, 32, seed).map((x) => 4 * x),
            [1, 70, 2, 16],
          ),
        );
        const o = autocast(precision, () => attention(q, k, v));
        o.backward({ gradient: tensorFrom(fill(70, 32, 7), [1, 70, 2, 16]) });
        return { o: [...o.dataSync()], gq: [...(q.grad as Tensor).dataSync()], gk: [...(k.grad as Tensor).dataSync()], gv: [...(v.grad as Tensor).dataSync()] };
      });
    const [got, plain] = [run("bf16"), run("f32")];
    for (const part of ["o", "gq", "gk", "gv"] as const) {
      // Both sides round weights, derivatives and (PyTorch only) results, each by at most 2⁻⁹ of an item, at places of their own.
      expect(distance(got[part], fixture[part]), part).toBeLessThan(2 ** -7);
      expect(distance(got[part], plain[part]), `${part} of float32`).toBeGreaterThan(5e-4);
    }
  });

  test("the fused linear + cross-entropy is the composed one", () => {
    useBackend(on);
    on.isa(set);
    scope(() => {
      const run = (fused: boolean, precision: "f32" | "bf16") => {
        const [x, w] = [values([9, 40]), values([13, 40], { seed: 2 })];
        const targets = integers([9], 0, 13);
        const loss = autocast(precision, () => (fused ? linearCrossEntropy(x, w, targets) : crossEntropy(linear(x, w), targets)));
        loss.backward();
        return [loss, x.grad as Tensor, w.grad as Tensor].map((t) => [...t.dataSync()]);
      };
      const [fused, composed, plain] = [run(true, "bf16"), run(false, "bf16"), run(true, "f32")];
      for (let i = 0; i < 3; i++) {
        expect(distance(fused[i], composed[i])).toBeLessThan(1e-5);
        expect(distance(fused[i], plain[i])).toBeGreaterThan(2e-4);
      }
    });
  });
});

test("autocast is a scope: nested, left again after an error, and the outer one is that of gradients", () => {
  useBackend(former);
  expect(autocastPrecision()).toBe("f32");
  const seen = autocast("bf16", () => [autocastPrecision(), autocast("f32", () => autocastPrecision()), autocastPrecision()]);
  expect(seen).toEqual(["bf16", "f32", "bf16"]);
  expect(() =>
    autocast("bf16", () => {
      throw new Error("inside");
    }),
  ).toThrow("inside");
  expect(autocastPrecision()).toBe("f32");
  scope(() => {
    const gradient = (inside: boolean): number[] => {
      const [x, w] = [leaf(xs, [M, K]), leaf(ws, [N, K])];
      const y = linear(x, w);
      const back = () => void y.backward({ gradient: tensorFrom(gs, [M, N]) });
      if (inside) autocast("bf16", back);
      else back();
      return [...(x.grad as Tensor).dataSync()];
    };
    // A float32 forward has a float32 backward wherever it is called.
    expect(gradient(true)).toEqual(gradient(false));
  });
});

test("a function that returns a Promise, and another precision, are errors", () => {
  expect(() => autocast("bf16", (async () => 1) as unknown as () => number)).toThrow(
    /autocast: expected a synchronous function, got one that returned a Promise/,
  );
  expect(autocastPrecision()).toBe("f32");
  expect(() => autocast("fp16" as "bf16", () => 1)).toThrow(/autocast: no such precision, expected f32 or bf16, got fp16/);
});

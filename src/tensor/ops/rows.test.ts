/** The row contract: a row's bytes are the same alone and among others, for any number of threads, and on every instruction set of this machine. */
import { afterAll, describe, expect, test } from "vitest";
import { native, whereNative } from "../../../tests/where-native.ts";
import {
  attention,
  autocast,
  backend,
  crossEntropy,
  gated,
  gelu,
  layerNorm,
  linear,
  matmul,
  rmsNorm,
  rope,
  scope,
  softmax,
  type Tensor,
  tensorFrom,
  useBackend,
} from "../index.ts";
import { integers, values } from "../samples.ts";
import { run, subjects } from "./run-sample.ts";

const former = backend();
if (native !== null) useBackend(native);
const b = backend();
const [threads, isa] = [b.threads(), b.isa()];
afterAll(() => {
  b.threads(threads);
  b.isa(isa);
  useBackend(former);
});

/** Every pair of instruction set and thread count, the present one first. */
const settings = (): (readonly [isa: string, threads: number])[] => b.isas().flatMap((name) => [1, 2].map((n) => [name, n] as const));

/** The bytes in text. The sign and payload of a NaN are not part of the contract. */
function hex(x: Float32Array | Int32Array | Uint8Array): string {
  const y = x instanceof Float32Array ? x.map((v) => (Number.isNaN(v) ? Number.NaN : v)) : x;
  return Buffer.from(y.buffer, y.byteOffset, y.byteLength).toString("hex");
}

whereNative("one sample, any instruction set and threads: the same bytes", () => {
  const cases = subjects().flatMap((s) => s.samples.map((sample) => [`${s.name}: ${sample.name}`, s, sample] as const));
  test.each(cases)("%s", (_, subject, sample) => {
    const outcomes = settings().map(([name, n]) => {
      b.isa(name);
      b.threads(n);
      const { values, gradients } = run(subject.call, sample.args, b);
      return { setting: `${name}, ${n} threads`, bytes: [...values, ...gradients].map((x) => (x === null ? "none" : hex(x))) };
    });
    for (const o of outcomes.slice(1)) expect(o.bytes, `${o.setting} against ${outcomes[0]?.setting}`).toEqual(outcomes[0]?.bytes);
  });
});

const ROWS = 64;
const WIDTH = 300; // beyond one block of the inner dimension, and no multiple of the lanes

/** Functions of rows (M, WIDTH); everything else they need is fixed. */
const functions: Record<string, (x: Tensor, from: number) => Tensor> = {
  linear: (x) => linear(x, values([70, WIDTH], { seed: 2 }), values([70], { seed: 3 })),
  "linear with everything": (x) =>
    linear(x, values([WIDTH, 33], { seed: 2 }), values([33], { seed: 3 }), {
      activation: "gelu_tanh",
      transposed: true,
      residual: x.narrow(1, 0, 33).contiguous(),
    }),
  matmul: (x) => matmul(x, values([WIDTH, 17], { seed: 2 })),
  "linear under autocast": (x) => autocast("bf16", () => linear(x, values([70, WIDTH], { seed: 2 }), values([70], { seed: 3 }), { activation: "gelu" })),
  "matmul under autocast": (x) => autocast("bf16", () => matmul(x, values([WIDTH, 17], { seed: 2 }))),
  layerNorm: (x) => layerNorm(x, values([WIDTH], { seed: 2 }), values([WIDTH], { seed: 3 })),
  rmsNorm: (x) => rmsNorm(x, values([WIDTH], { seed: 2 })),
  softmax: (x) => softmax(x),
  gelu: (x) => gelu(x),
  gated: (x) => gated(x.narrow(1, 0, 150).contiguous(), x.narrow(1, 150, 150).contiguous(), "silu"),
  sum: (x) => x.sum(-1, { keepDim: true }),
  crossEntropy: (x, from) => crossEntropy(x, integers([ROWS], 0, WIDTH).narrow(0, from, x.shape[0] as number), { reduction: "none" }).unsqueeze(1),
  rope: (x, from) => {
    const m = x.shape[0] as number;
    const table = (f: (a: number) => number) =>
      tensorFrom(
        Array.from({ length: ROWS * 75 }, (_, i) => f(Math.floor(i / 75) * 0.01 * (i % 75))),
        [ROWS, 75],
      );
    return rope(
      x.reshape([m, 2, 150]),
      table(Math.cos),
      table(Math.sin),
      tensorFrom(
        Int32Array.from({ length: m }, (_, i) => from + i),
        [m],
      ),
    ).reshape([m, WIDTH]);
  },
  // Row i is the only query of a sequence of its own with 1 + 3·i keys.
  "attention, one query a sequence": (x, from) => {
    const m = x.shape[0] as number;
    const starts = (n: number) => 0.5 * n * (3 * n - 1);
    const [first, last] = [starts(from), starts(from + m)];
    const keys = values([starts(ROWS), 1, 10], { seed: 5 })
      .narrow(0, first, last - first)
      .contiguous();
    const q = x.narrow(1, 0, 40).contiguous().reshape([m, 4, 10]);
    return attention(q, keys, keys.mul(0.5), {
      cuSeqlens: Int32Array.from({ length: m + 1 }, (_, i) => i),
      cuSeqlensK: Int32Array.from({ length: m + 1 }, (_, i) => starts(from + i) - first),
    }).reshape([m, 40]);
  },
};

describe("M = 1 … 64 rows: each has the bytes that it has alone", () => {
  test.each(Object.entries(functions))("%s", (_, f) => {
    b.isa(isa);
    b.threads(1);
    const rowsOf = (from: number, m: number): string[] =>
      scope(() => {
        const y = f(values([ROWS, WIDTH], { requiresGrad: false }).narrow(0, from, m).contiguous(), from).dataSync();
        const n = y.length / m;
        return Array.from({ length: m }, (_r, i) => hex(y.subarray(i * n, (i + 1) * n)));
      });
    const alone = Array.from({ length: ROWS }, (_r, i) => rowsOf(i, 1)[0]);
    expect(new Set(alone).size).toBe(ROWS);
    b.threads(2);
    for (let m = 2; m <= ROWS; m++) expect(rowsOf(0, m), `${m} rows`).toEqual(alone.slice(0, m));
    for (const m of [2, 5, 31]) expect(rowsOf(ROWS - m, m), `the last ${m} rows`).toEqual(alone.slice(ROWS - m));
  });
});

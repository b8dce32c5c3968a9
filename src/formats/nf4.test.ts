import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { random } from "../../tests/random.ts";
import { FormatError } from "../errors.ts";
import { dequantizeInt8, dequantizeNf4, NF4_SIZES, NF4_VALUES, quantizeInt8, quantizeNf4 } from "./nf4.ts";

/** Φ by its series, Φ⁻¹ by halving: slow and plain. */
function phi(x: number): number {
  let [term, sum] = [x, x];
  for (let k = 1; k < 100; k++) {
    term *= (-x * x * (2 * k - 1)) / (2 * k * (2 * k + 1));
    sum += term;
  }
  return 0.5 + sum / Math.sqrt(2 * Math.PI);
}
function quantile(p: number): number {
  let [low, high] = [-4, 4];
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (phi(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

test("NF4's values are those of the published construction", () => {
  const first = 1 - (1 / 32 + 1 / 30) / 2;
  const half = (steps: number) => Array.from({ length: steps }, (_, i) => quantile(first + ((0.5 - first) * i) / steps));
  const largest = quantile(first);
  const made = [...half(7).map((v) => -v / largest), 0, ...half(8).map((v) => v / largest)].sort((a, b) => a - b);
  expect(made.length).toBe(16);
  for (const [i, value] of NF4_VALUES.entries()) expect(Math.abs(value - (made[i] as number)), String(i)).toBeLessThan(2e-6);
});

/** About normal: the sum of twelve. */
function normals(count: number, std: number): Float32Array {
  const r = random(4);
  return Float32Array.from({ length: count }, () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += r.below(1 << 20) / (1 << 20);
    return sum * std;
  });
}
const relative = (x: Float32Array, y: Float32Array): number => Math.sqrt(x.reduce((s, v, i) => s + (v - y[i]) ** 2, 0) / x.reduce((s, v) => s + v * v, 0));

test("NF4 keeps normal numbers within a tenth, in 4.13 bits", () => {
  const x = normals(64 * 600 + 7, 0.02);
  const made = quantizeNf4(x);
  const error = relative(x, dequantizeNf4(made));
  expect(error).toBeGreaterThan(0.08);
  expect(error).toBeLessThan(0.1);
  const bits = (8 * (made.codes.length + made.sizes.length) + 32 * made.scales.length) / x.length;
  expect(bits).toBeLessThan(4.13);
});

test("NF4: a block of the values themselves comes back, zeros and nothing too", () => {
  const x = Float32Array.from({ length: 64 }, (_, i) => (NF4_VALUES[i % 16] as number) * 0.5);
  expect(dequantizeNf4(quantizeNf4(x))).toEqual(x);
  expect([...dequantizeNf4(quantizeNf4(new Float32Array(70)))].every((value) => value === 0)).toBe(true);
  expect(dequantizeNf4(quantizeNf4(new Float32Array(0))).length).toBe(0);
});

test("int8: each row by its own largest number", () => {
  const x = Float32Array.of(127, -64, 1, 0.127, 0.05, -0.001, 0, 0, 0);
  const made = quantizeInt8(x, 3);
  expect([...made.codes]).toEqual([127, -64, 1, 127, 50, -1, 0, 0, 0]);
  for (const [i, value] of dequantizeInt8(made).entries()) expect(Math.abs(value - (x[i] as number))).toBeLessThan(1e-8 + 1e-6 * Math.abs(x[i] as number));
  expect(relative(normals(4096, 0.02), dequantizeInt8(quantizeInt8(normals(4096, 0.02), 4)))).toBeLessThan(0.01);
});

test("what does not fit is refused", () => {
  expect(() => quantizeNf4(Float32Array.of(1, Number.NaN))).toThrow(FormatError);
  expect(() => quantizeInt8(Float32Array.of(1, Number.POSITIVE_INFINITY), 1)).toThrow(
    /int8: can't hold every number, expected finite ones, got Infinity at place 1/,
  );
  expect(() => quantizeInt8(new Float32Array(5), 2)).toThrow(/no whole rows, expected a number that divides 5, got 2/);
});

const fixture = JSON.parse(readFileSync(new URL("nf4.fixture.json", import.meta.url), "utf8")) as {
  nf4: Record<"codes" | "sizes" | "scales" | "values" | "nested values" | "numbers", string> & { offset: number };
  int8: { codes: string; sizes: string };
};
const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, "base64"));
const floatsOf = (text: string): Float32Array => new Float32Array(bytesOf(text).buffer);
const hashed = (values: ArrayBufferView): string =>
  createHash("sha256")
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest("hex");

/** What nf4.fixture.py makes too. */
function numbers(count: number): Float32Array {
  let state = 7;
  return Float32Array.from({ length: count }, (_, i) => {
    let total = 0;
    for (let j = 0; j < 4; j++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      total += state >>> 12;
    }
    return ((total - 2 ** 21) * (1 + (i % 5))) / 2 ** 25;
  });
}

test("the codes, sizes and numbers are bitsandbytes', bit for bit", () => {
  const { nf4, int8 } = fixture;
  const x = numbers(48 * 352);
  expect(NF4_VALUES).toEqual(floatsOf(nf4.values));
  expect(NF4_SIZES).toEqual(floatsOf(nf4["nested values"]));
  const made = quantizeNf4(x);
  expect(made.codes).toEqual(bytesOf(nf4.codes));
  // Its mean is of sums in float32: a size that is next to the mean is another one of the smallest values.
  const sizes = bytesOf(nf4.sizes);
  const apart = [...made.sizes].map((code, b) => Math.abs(NF4_SIZES[code] - NF4_SIZES[sizes[b]]));
  expect([Math.max(...apart) < 3e-5, apart.filter((d) => d > 0).length]).toEqual([true, 1]);
  expect(Math.abs(made.offset - nf4.offset)).toBeLessThan(1e-6 * nf4.offset);
  const theirs = { ...made, sizes, scales: floatsOf(nf4.scales) as Float32Array<ArrayBuffer>, offset: nf4.offset };
  for (const [i, scale] of made.scales.entries()) expect(Math.abs(scale - theirs.scales[i])).toBeLessThan(1e-6 * scale);
  expect(hashed(dequantizeNf4(theirs))).toBe(nf4.numbers);
  const rows = quantizeInt8(x, 48);
  expect(hashed(rows.codes)).toBe(int8.codes);
  expect(rows.sizes).toEqual(floatsOf(int8.sizes));
});

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { f16ToF32, f32ToBf16, f32ToF16 } from "./dtype.ts";
import { type DType, logicalAnd, logicalNot, logicalOr, logicalXor, ones, promote, scope, type Tensor, tensor } from "./index.ts";
import { DTYPES } from "./kernels.ts";

/** The table that users read: rows and columns by dtype. */
const published = readFileSync(new URL("../../docs/tensors.md", import.meta.url), "utf8")
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.replaceAll("*", "").trim()));
const header = published.findIndex((cells) => cells[2] === "bool");
const ORDER = published[header]?.slice(2, -1) as DType[];
const TABLE = ORDER.map((_, i) => published[header + 2 + i]?.slice(2, -1) as DType[]);

describe("type promotion", () => {
  test("is the published table", () => {
    expect([...ORDER].sort()).toEqual([...DTYPES].sort());
    expect(ORDER.map((_, i) => published[header + 2 + i]?.[1])).toEqual(ORDER);
    for (const [i, a] of ORDER.entries()) for (const [j, b] of ORDER.entries()) expect(promote(a, b), `${a} with ${b}`).toBe(TABLE[i]?.[j]);
  });

  test("holds for arithmetic, with bool counted as i32, true division and comparisons apart", () =>
    scope(() => {
      const floats = ["f16", "bf16", "f32"];
      for (const [i, a] of ORDER.entries()) {
        for (const [j, b] of ORDER.entries()) {
          const [x, y] = [ones([2], { dtype: a }), ones([2], { dtype: b })];
          const common = TABLE[i]?.[j] as DType;
          expect(x.mul(y).dtype, `${a} · ${b}`).toBe(common === "bool" ? "i32" : common);
          expect(x.div(y).dtype, `${a} / ${b}`).toBe(floats.includes(common) ? common : "f32");
          expect(x.le(y).dtype).toBe("bool");
        }
      }
    }));

  test("a number takes the tensor's kind", () =>
    scope(() => {
      const kind = (t: Tensor) => t.dtype;
      expect(kind(tensor(Int32Array.of(1)).add(2))).toBe("i32");
      expect(kind(tensor(Int32Array.of(1)).add(0.5))).toBe("f32");
      expect(kind(tensor([1], { dtype: "bf16" }).mul(3))).toBe("bf16");
    }));
});

describe("data", () => {
  test("typed arrays keep their type, numbers are f32, booleans bool", () =>
    scope(() => {
      const dtypes = [[1.5], [true], new Uint8Array(1), new Int32Array(1), new Float64Array(1), [new Int32Array(2)], new BigInt64Array(1)].map(
        (d) => tensor(d as number[]).dtype,
      );
      expect(dtypes).toEqual(["f32", "bool", "u8", "i32", "f32", "i32", "i32"]);
    }));

  test("what does not fit is an error that names the place", () =>
    scope(() => {
      expect(() => tensor([1, 2 ** 31], { dtype: "i32" })).toThrow("value does not fit i32, expected a whole number of 32 bits, got 2147483648 at place 1");
      expect(() => tensor(BigInt64Array.of(1n, 2n ** 40n))).toThrow("got 1099511627776 at place 1");
      expect(() => tensor([0.5], { dtype: "u8" })).toThrow("expected a whole number from 0 to 255, got 0.5 at place 0");
      expect(() => tensor([[1], [2, 3]])).toThrow("tensor: ragged data, expected every part of shape (1,), got (2,) at place 1");
    }));

  test("half formats round to nearest even", () => {
    expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80);
    expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(f32ToF16(65519)).toBe(0x7bff);
    expect(f32ToF16(65520)).toBe(0x7c00);
    expect(f16ToF32(f32ToF16(2 ** -24))).toBe(2 ** -24);
    expect(f32ToF16(2 ** -25)).toBe(0);
    expect(f16ToF32(f32ToF16(-0))).toBe(-0);
    expect(f16ToF32(f32ToF16(Number.NaN))).toBeNaN();
  });
});

test("a fraction is true for every logical function", () => {
  scope(() => {
    const [half, zero] = [tensor([0.5, 0.5]), tensor([0, 0.25])];
    const items = (t: Tensor) => [...t.dataSync()].map(Boolean);
    expect(items(logicalAnd(half, zero))).toEqual([false, true]);
    expect(items(logicalOr(half, zero))).toEqual([true, true]);
    expect(items(logicalXor(half, zero))).toEqual([true, false]);
    expect(items(logicalNot(zero))).toEqual([true, false]);
    return undefined;
  });
});

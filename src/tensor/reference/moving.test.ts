import { expect, test } from "vitest";
import { bf16ToF32, f16ToF32 } from "../dtype.ts";
import { DTYPES, type ItemDType } from "../kernels.ts";
import { createReference } from "./index.ts";
import { place } from "./place.ts";

const be = createReference();
const code = (dtype: ItemDType) => DTYPES.indexOf(dtype);
const ARRAYS = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, i32: Int32Array, u8: Uint8Array, bool: Uint8Array };

function cast(from: ItemDType, to: ItemDType, items: ArrayLike<number>): number[] {
  const x = place(be, ARRAYS[from].from(items));
  const out = place(be, new ARRAYS[to](items.length));
  be.cast(x, code(from), out, code(to), items.length);
  return [...out.values()];
}

test("fill stores a number in each dtype", () => {
  const filled = (dtype: ItemDType, value: number) => {
    const out = place(be, new ARRAYS[dtype](3), 1);
    be.fill(out, code(dtype), 2, value);
    return [...out.values()];
  };
  expect(filled("f32", 0.1)).toEqual([Math.fround(0.1), Math.fround(0.1), 0]);
  expect(filled("bf16", 1)).toEqual([0x3f80, 0x3f80, 0]);
  expect(filled("f16", -2)).toEqual([0xc000, 0xc000, 0]);
  expect(filled("i32", -7.9)).toEqual([-7, -7, 0]);
  expect(filled("u8", 300)).toEqual([255, 255, 0]);
  expect(filled("bool", 5)).toEqual([1, 1, 0]);
});

test("integers truncate and clamp, bool asks for nonzero", () => {
  expect(cast("f32", "i32", [1.9, -1.9, Number.NaN, 3e9, -3e9, Number.POSITIVE_INFINITY])).toEqual([1, -1, 0, 2147483647, -2147483648, 2147483647]);
  expect(cast("f32", "u8", [1.9, -1, 256, Number.NaN])).toEqual([1, 0, 255, 0]);
  expect(cast("i32", "u8", [256 + 7, -1, 255])).toEqual([7, 255, 255]);
  expect(cast("f32", "bool", [0, -0, 0.5, Number.NaN])).toEqual([0, 0, 1, 1]);
  expect(cast("i32", "f32", [16777217, -3])).toEqual([16777216, -3]);
  expect(cast("i32", "i32", [16777217])).toEqual([16777217]);
  expect(cast("bool", "f32", [0, 1])).toEqual([0, 1]);
});

test("bf16 rounds to nearest, ties to even", () => {
  const one = 0x3f80; // 1, whose neighbour above is 1 + 2^-7
  const half = 2 ** -8;
  expect(cast("f32", "bf16", [1 + half, 1 + half + 2 ** -23, 1 + 3 * half, 1 + 3 * half - 2 ** -22])).toEqual([one, one + 1, one + 2, one + 1]);
  expect(cast("f32", "bf16", [3.4e38, Number.NEGATIVE_INFINITY, -0])).toEqual([0x7f80, 0xff80, 0x8000]); // 3.4e38 is nearer to the next step, which is ∞
  const [nan] = cast("f32", "bf16", [Number.NaN]);
  expect(bf16ToF32(nan)).toBeNaN();
});

test("every f16 survives the way to f32 and back, and the middle of two neighbours goes to the even one", () => {
  const all = Uint16Array.from({ length: 0x7c01 }, (_, i) => i); // 0 … ∞
  const asFloat = cast("f16", "f32", all);
  expect(asFloat[1]).toBe(2 ** -24);
  expect(asFloat[0x3c00]).toBe(1);
  expect(asFloat[0x7bff]).toBe(65504);
  expect(asFloat[0x7c00]).toBe(Number.POSITIVE_INFINITY);
  expect(cast("f32", "f16", asFloat)).toEqual([...all]);
  expect(
    cast(
      "f32",
      "f16",
      asFloat.map((x) => -x),
    ),
  ).toEqual([...all].map((i) => i + 0x8000));

  const next = (i: number) => (i === 0x7bff ? 65536 : asFloat[i + 1]); // where the grid would go on, were it not for ∞
  const middle = [...all.subarray(0, 0x7c00)].map((i) => (asFloat[i] + next(i)) / 2);
  expect(cast("f32", "f16", middle)).toEqual(middle.map((_, i) => (i % 2 === 0 ? i : i + 1)));
  const above = middle.map((x) => x * (1 + 2 ** -20));
  expect(cast("f32", "f16", above)).toEqual(above.map((_, i) => i + 1));
  expect(f16ToF32(cast("f32", "f16", [Number.NaN])[0])).toBeNaN();
  expect(cast("f16", "bf16", [0x3c01])).toEqual([0x3f80]); // 1 + 2^-10 is below half a step of bf16
});

test("copy transposes, repeats and keeps the bits of NaN, for items of 1, 2 and 4 bytes", () => {
  for (const [bytes, Type] of [
    [1, Uint8Array],
    [2, Uint16Array],
    [4, Int32Array],
  ] as const) {
    const x = place(be, Type.of(1, 2, 3, 4, 5, 6), 3);
    const out = place(be, new Type(12));
    be.copy(x, [1, 3], out, [4, 2], [3, 2], bytes); // the transpose of 2×3, spread out
    expect([...out.values()]).toEqual([1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0]);
    be.copy(x, [0, 1], out, [3, 1], [2, 3], bytes);
    expect([...out.values()].slice(0, 6)).toEqual([1, 2, 3, 1, 2, 3]);
  }
  const nan = place(be, Int32Array.of(0x7fa12345));
  const out = place(be, new Int32Array(1));
  be.copy(nan, [], out, [], [], 4);
  expect([...out.values()]).toEqual([0x7fa12345]);
  be.copy(nan, [1, 1], out, [1, 1], [0, 5], 4);
  expect(() => be.copy(nan, [1], out, [1], [1], 8)).toThrow("expected 1, 2 or 4 bytes, got 8");
  expect(() => be.copy(nan, [1], out, [1], [2], 4)).toThrow("expected room for 2 items");
});

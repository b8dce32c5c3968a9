import { expect, test } from "vitest";
import { alibiSlopes, bf16Slopes } from "./alibi.ts";

test("slopes of a power of two fall by one factor", () => {
  expect([...alibiSlopes(8)]).toEqual([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
  expect([...alibiSlopes(1)]).toEqual([2 ** -8]);
});

test("others continue with every other slope of the next power", () => {
  expect([...alibiSlopes(6)]).toEqual([2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]);
});

test("rounded to bfloat16, ties to even", () => {
  expect([...bf16Slopes(Float32Array.of(0.25, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -7 + 2 ** -12))]).toEqual([0.25, 1, 1 + 2 ** -6, 1 + 2 ** -7]);
});

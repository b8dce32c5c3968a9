import { expect, test } from "vitest";
import { ShapeError } from "../errors.ts";
import { ones, reshape, tensorFrom } from "./index.ts";
import { reach } from "./shape.ts";

test("a tensor has a shape of its own, whatever becomes of the array that was given", () => {
  const given = [2, 3];
  const made = [ones(given), tensorFrom([1, 2, 3, 4, 5, 6], given), reshape(ones([6]), given)];
  given[0] = 50;
  for (const t of made) {
    expect(t.shape).toEqual([2, 3]);
    t.dispose();
  }
});

test("reach counts up to the last item; nothing for an empty shape", () => {
  expect(reach([2, 3], [10, 2])).toBe(15);
  expect(reach([], [])).toBe(1);
  expect(reach([4, 0], [1, 1])).toBe(0);
  expect(() => reach([2], [1, 1])).toThrow(ShapeError);
  expect(() => reach([2], [1, 1])).toThrow("reach: strides do not fit the shape, expected 1 strides, got 2");
});

test("a tensor without items takes any other shape without items, however its dimensions lie", () => {
  const turned = ones([4, 0]).transpose(0, 1);
  expect(reshape(ones([2, 0, 3]).permute([2, 0, 1]), [0, 5]).shape).toEqual([0, 5]);
  expect(reshape(turned, [2, 0]).shape).toEqual([2, 0]);
  expect(reshape(turned, [0]).shape).toEqual([0]);
  expect(() => reshape(turned, [1])).toThrow(ShapeError);
});

import { expect, test } from "vitest";
import { ShapeError } from "../errors.ts";
import { reach } from "./shape.ts";

test("reach counts up to the last item; nothing for an empty shape", () => {
  expect(reach([2, 3], [10, 2])).toBe(15);
  expect(reach([], [])).toBe(1);
  expect(reach([4, 0], [1, 1])).toBe(0);
  expect(() => reach([2], [1, 1])).toThrow(ShapeError);
  expect(() => reach([2], [1, 1])).toThrow("reach: strides do not fit the shape, expected 1 strides, got 2");
});

/** Wrong dtypes and shapes are refused in words. */
import { expect, test } from "vitest";
import { linspace, scope, tensor, zeros } from "./index.ts";

test("a dtype that does not exist", () => {
  expect(() => zeros([2], { dtype: "float32" as never })).toThrow(/unknown dtype, expected one of .*f32.*, got "float32"/);
  expect(() => scope(() => tensor([1]).to("f64" as never))).toThrow(/unknown dtype, expected one of .*f32.*, got "f64"/);
});

test("a size in place of a shape", () => {
  expect(() => zeros(3 as never)).toThrow(/expected an array of sizes, got 3\. One dimension is \[3\]/);
});

test("linspace has both ends, and one number is the start", () => {
  scope(() => {
    expect([...linspace(-1, 1, 5).dataSync()]).toEqual([-1, -0.5, 0, 0.5, 1]);
    expect([...linspace(4, 9, 1).dataSync()]).toEqual([4]);
    expect(linspace(0, 1, 0).shape).toEqual([0]);
    return undefined;
  });
});

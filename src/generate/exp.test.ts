import { expect, test } from "vitest";
import { expOfNegative } from "./exp.ts";

test("is within two ulps of e^x for x from -708 to 0, and 0 below", () => {
  let worst = 0;
  for (let i = 0; i <= 200_000; i++) {
    const x = i % 2 === 0 ? -i / 283 : -((i / 200_000) ** 6) * 40;
    if (x < -708) continue;
    worst = Math.max(worst, Math.abs(expOfNegative(x) / Math.exp(x) - 1));
  }
  expect(worst).toBeLessThan(2 * 2 ** -52);
  expect(worst).toBeGreaterThan(0);
  expect([0, -0, -708.1, -1e300, -Infinity, Number.NaN].map(expOfNegative)).toEqual([1, 1, 0, 0, 0, 0]);
  expect(expOfNegative(-708)).toBeGreaterThan(3e-308);
});

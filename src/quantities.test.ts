import { expect, test } from "vitest";
import { byteSize, duration, grouped, metric } from "./quantities.ts";

test("counts, bytes, arithmetic and times have one form each", () => {
  expect([0, 999, 1234567].map(grouped)).toEqual(["0", "999", "1,234,567"]);
  expect([0, 999, 1000, 999_949, 999_950, 12_345_678, 999_950_000, 24e9].map(byteSize)).toEqual([
    "0 bytes",
    "999 bytes",
    "1.0 kB",
    "999.9 kB",
    "1.0 MB",
    "12.3 MB",
    "1.0 GB",
    "24.0 GB",
  ]);
  expect([0, 999, 999_999, 1.234e9, 5e16].map((n) => metric(n, "FLOP"))).toEqual(["0.00 FLOP", "999 FLOP", "1.00 MFLOP", "1.23 GFLOP", "50.0 PFLOP"]);
  expect([0.4, 59, 61, 3700, 48 * 3600, 49 * 3600, 6589.2 * 3600].map(duration)).toEqual(["0s", "59s", "1m01s", "1h01m", "48h00m", "2d01h", "274d13h"]);
});

import { expect, test } from "vitest";
import { textChart } from "./text-chart.ts";

test("a falling line, its labels and its mark", () => {
  const points = Array.from({ length: 7 }, (_, i) => ({ x: i - 6, y: 6 - i }));
  expect(textChart(points, { width: 7, height: 4, mark: -3, labelX: (x) => `1e${x}` })).toEqual([
    "    6.00 │•",
    "         │ ••",
    "         │   ••",
    "    0.00 │     ••",
    "         └───────",
    "             ▲",
    "          1e-6 1e0",
  ]);
});

test("a level line, one point, two points in a column", () => {
  const flat = textChart(
    [
      { x: 0, y: 2 },
      { x: 1, y: 2 },
    ],
    { width: 3, height: 2, labelX: String },
  );
  expect(flat[0]).toBe("    2.00 │• •");
  expect(textChart([{ x: 5, y: 1 }], { width: 3, height: 2, labelX: String })[0]).toBe("    1.00 │•");
  const mean = textChart(
    [
      { x: 0, y: 0 },
      { x: 0, y: 2 },
      { x: 10, y: 3 },
    ],
    { width: 2, height: 3, labelX: String },
  );
  expect(mean[2]).toBe("    1.00 │•");
});

import { expect, test } from "vitest";
import { chart, ticks } from "./chart.ts";

test("ticks are round numbers inside the range", () => {
  expect(ticks(0, 1000, 7)).toEqual([0, 200, 400, 600, 800, 1000]);
  expect(ticks(2.13, 4.9, 5).map((t) => Number(t.toFixed(6)))).toEqual([3, 4]);
  expect(ticks(5, 5, 3)).toEqual([5]);
});

test("text from outside can't become markup, and numbers that are not finite leave no mark", () => {
  const svg = chart({
    title: "<script>",
    series: [
      {
        name: "a&b",
        colour: 1,
        points: [
          [0, 1],
          [1, Number.NaN],
          [2, 3],
        ],
      },
      { name: "c", colour: 2, points: [[0, 2]], dots: true },
    ],
  });
  expect(svg).not.toContain("<script>");
  expect(svg).toContain("a&#38;b");
  expect(svg).not.toContain("NaN");
  expect(chart({ title: "none", series: [] })).toBe("");
});

import { expect, test } from "vitest";
import { bars, chart, ticks } from "./chart.ts";

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

test("every line is in the legend, the faint one too", () => {
  const points = [
    [0, 1],
    [1, 2],
  ] as const;
  const svg = chart({
    title: "speed",
    series: [
      { name: "each step", colour: 1, points, faint: true },
      { name: "smoothed", colour: 1, points },
    ],
  });
  expect(svg).toContain('<i class="k1 pale"></i>each step');
  expect(svg).toContain('<i class="k1"></i>smoothed');
});

test("a long line of raw values keeps its leaps, a smoothed one gives means", () => {
  const points = Array.from({ length: 6000 }, (_, i) => [i, i === 2500 ? 9 : i === 4100 ? Number.NaN : 1 + (i % 2)] as const);
  const drawn = (faint: boolean) => chart({ title: "loss", series: [{ name: "line", colour: 1, points, faint }] });
  const places = (svg: string) => {
    const [, path = ""] = / d="M([^"]*)"/.exec(svg) ?? [];
    return path.split("L");
  };
  expect(drawn(true)).toContain(">8</text>");
  expect(drawn(false)).not.toContain(">8</text>");
  // The least and the largest of 300 runs; 600 means, but for the run that has no mean.
  expect(places(drawn(true))).toHaveLength(600);
  expect(places(drawn(false))).toHaveLength(599);
  expect(drawn(true)).not.toContain("NaN");
});

test("bars of two figures are as long as their numbers say", () => {
  expect(bars("first", [["the", 1000, "1,000"]], 1000)).toContain("width:100.0%");
  expect(bars("next", [["of", 250, "250"]], 1000)).toContain("width:25.0%");
});

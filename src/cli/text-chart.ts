/** A curve as lines of text, for the terminal. */

export interface TextChartOptions {
  /** Size of the plot without its labels. Default 60 by 12. */
  width?: number;
  height?: number;
  /** A place on the horizontal axis that a ▲ points at. */
  mark?: number;
  labelX: (x: number) => string;
}

/** One • in each column that has points, at the mean of their heights; the axis below with its two ends and the mark. */
export function textChart(points: readonly { x: number; y: number }[], options: TextChartOptions): string[] {
  const { width = 60, height = 12, mark, labelX } = options;
  const [low, high] = [Math.min(...points.map(({ x }) => x)), Math.max(...points.map(({ x }) => x))];
  const column = (x: number) => (high === low ? 0 : Math.round(((x - low) / (high - low)) * (width - 1)));
  const columns = new Map<number, number[]>();
  for (const { x, y } of points) columns.set(column(x), [...(columns.get(column(x)) ?? []), y]);
  const heights = new Map([...columns].map(([c, ys]) => [c, ys.reduce((sum, y) => sum + y, 0) / ys.length]));
  const [bottom, top] = [Math.min(...heights.values()), Math.max(...heights.values())];
  const row = (y: number) => (top === bottom ? 0 : Math.round(((top - y) / (top - bottom)) * (height - 1)));
  const grid = Array.from({ length: height }, () => new Array<string>(width).fill(" "));
  for (const [c, y] of heights) grid[row(y)][c] = "•";
  const label = (i: number) => (i === 0 ? top.toFixed(2) : i === height - 1 ? bottom.toFixed(2) : "").padStart(8);
  const [left, right] = [labelX(low), labelX(high)];
  const pointer = mark === undefined ? [] : [`${" ".repeat(10 + column(mark))}▲`];
  return [
    ...grid.map((cells, i) => `${label(i)} │${cells.join("")}`.trimEnd()),
    `${" ".repeat(8)} └${"─".repeat(width)}`,
    ...pointer,
    `${" ".repeat(10)}${left}${right.padStart(Math.max(right.length + 1, width - left.length))}`,
  ];
}

import { afterEach, expect, test, vi } from "vitest";
import type { TrainingEvent } from "./loop.ts";
import { createProgress } from "./progress.ts";

afterEach(() => vi.restoreAllMocks());

const step = (n: number, loss: number): TrainingEvent => ({
  type: "step",
  metrics: { step: n, loss, learning_rate: 1e-3, grad_norm: 1, tokens: 100 * n, tokens_per_second: 1000, seconds: n / 10 },
});

test("without a terminal there are whole lines: the first step, then one now and then, and the last", () => {
  let text = "";
  const progress = createProgress({ write: (t) => (text += t), live: false, steps: 3, flopsPerToken: 1e6, peakFlops: 1e10 });
  for (const event of [step(1, 3), step(2, 2.5), step(3, 2)]) progress.show(event);
  const lines = text.trimEnd().split("\n");
  expect(lines[0]).toMatch(/^step 1\/3 {2}loss 3\.000 {2}1000 tok\/s {2}10 % of peak {2}0s left$/);
  expect(lines.at(-1)).toMatch(/^step 3\/3 {2}loss 2\.\d+ .* took \d+s$/);
  expect(lines).toHaveLength(2);
  expect(text).not.toContain("\r");
});

test("a peak below what the run has reached gives way to it", () => {
  let text = "";
  const progress = createProgress({ write: (t) => (text += t), live: false, steps: 1, flopsPerToken: 1e6, peakFlops: 5e8 });
  progress.show(step(1, 3));
  expect(text).toContain("100 % of peak");
});

test("in a terminal one line is rewritten, and cleared before other text", () => {
  let text = "";
  const progress = createProgress({ write: (t) => (text += t), live: true, steps: 2, flopsPerToken: 1, peakFlops: 1, columns: 40 });
  progress.show(step(1, 3));
  progress.show({ type: "note", text: "by the\u0007 way" });
  expect(text.startsWith("\r█")).toBe(true);
  expect(text.endsWith(`\r${" ".repeat(39)}\rby the␇ way\n`)).toBe(true);
  for (const line of text.split(/[\r\n]/)) expect(line.length).toBeLessThan(40);
});

/** What stands on the line after one event, in a terminal of `columns`. */
function lineAt(columns: number | undefined, n: number, steps: number): string {
  let text = "";
  vi.spyOn(performance, "now").mockReturnValue(1e6);
  createProgress({ write: (t) => (text += t), live: true, steps, flopsPerToken: 1e6, peakFlops: 1e10, columns }).show(step(n, 4.804));
  return text.slice(1);
}

test("the line fits the terminal: the bar gives way first, then whole parts, and the time left stays", () => {
  const rest = "step 804/4400  loss 4.804  1000 tok/s  10 % of peak  6m00s left";
  expect(lineAt(100, 804, 4400)).toBe(`${"█".repeat(4)}${"░".repeat(16)} ${rest}`.padEnd(99));
  expect(lineAt(80, 804, 4400)).toBe(`${"█".repeat(3)}${"░".repeat(12)} ${rest}`.padEnd(79));
  expect(lineAt(66, 804, 4400)).toBe(rest.padEnd(65));
  expect(lineAt(60, 804, 4400)).toBe(`${"█".repeat(2)}${"░".repeat(7)} step 804/4400  loss 4.804  1000 tok/s  6m00s left`.padEnd(59));
  expect(lineAt(30, 804, 4400).trimEnd()).toMatch(/^step 804\/4400 {2}6m00s left$/);
  expect(lineAt(12, 804, 4400)).toBe("step 804/44");
});

test("a terminal that reports no width counts as 80 columns", () => {
  for (const columns of [undefined, 0]) expect(lineAt(columns, 804, 4400)).toBe(lineAt(80, 804, 4400));
});

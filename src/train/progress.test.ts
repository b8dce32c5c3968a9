import { expect, test } from "vitest";
import type { TrainingEvent } from "./loop.ts";
import { createProgress } from "./progress.ts";

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

test("in a terminal one line is rewritten, and cleared before other text", () => {
  let text = "";
  const progress = createProgress({ write: (t) => (text += t), live: true, steps: 2, flopsPerToken: 1, peakFlops: 1, columns: 40 });
  progress.show(step(1, 3));
  progress.show({ type: "note", text: "by the way" });
  expect(text.startsWith("\r█")).toBe(true);
  expect(text.endsWith(`\r${" ".repeat(39)}\rby the way\n`)).toBe(true);
  for (const line of text.split(/[\r\n]/)) expect(line.length).toBeLessThan(40);
});

import { expect, test } from "vitest";
import { killAndResume } from "./kill-and-resume.ts";

test("a run killed at random moments and resumed ends with the same bytes", { timeout: 120_000 }, async () => {
  const { kills, midCheckpoint, straight, interrupted } = await killAndResume(5, 1);
  expect(kills).toBe(5);
  expect(midCheckpoint).toBeGreaterThan(0);
  expect(interrupted.losses).toBe(straight.losses);
  expect(interrupted.samples).toBe(straight.samples);
  expect(interrupted.weights.equals(straight.weights)).toBe(true);
  expect(interrupted.optimizer.equals(straight.optimizer)).toBe(true);
  // Nothing unfinished is left over.
  expect(interrupted.checkpoints).toEqual(straight.checkpoints);
});

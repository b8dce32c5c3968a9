import { expect, test } from "vitest";
import { killAndResume } from "../kill-and-resume.ts";

test("twenty kills", { timeout: 600_000 }, async () => {
  for (let kills = 0, seed = 100; kills < 20; seed++) {
    const outcome = await killAndResume(7, seed);
    kills += outcome.kills;
    expect(outcome.midCheckpoint).toBeGreaterThan(0);
    expect(outcome.interrupted.losses).toBe(outcome.straight.losses);
    expect(outcome.interrupted.samples).toBe(outcome.straight.samples);
    expect(outcome.interrupted.weights.equals(outcome.straight.weights)).toBe(true);
    expect(outcome.interrupted.optimizer.equals(outcome.straight.optimizer)).toBe(true);
    expect(outcome.interrupted.checkpoints).toEqual(outcome.straight.checkpoints);
  }
});

/** The learning-rate range test (Smith 2017, "Cyclical Learning Rates", 3.3): the rate rises from step to step until the loss leaves. */
import { ConfigError } from "../errors.ts";
import type { Module } from "../nn/index.ts";
import type { Optimizer } from "../optim/index.ts";
import { checkOptions } from "../options.ts";
import { scope, type Tensor } from "../tensor/index.ts";
import { turn } from "../turn.ts";

/** The range of rates, and in how many steps it is walked. */
export interface FindLearningRateOptions {
  /** The first and the last rate; between them each is the same multiple of the one before. Default 1e-6 and 1. */
  from?: number;
  to?: number;
  /** Default 100. */
  steps?: number;
  /** Stops between two steps, with the signal's reason. */
  signal?: AbortSignal;
}

/** What the test saw, and the rate it suggests. */
export interface LearningRateCurve {
  /** The rate at which the smoothed loss falls fastest for each doubling: a good highest rate. */
  suggestion: number;
  /** Each step's rate, loss, and smoothed loss (an exponential average, without the bias of its start). */
  points: { rate: number; loss: number; smoothed: number }[];
}

// The average remembers about ten steps; a smoothed loss of this many times the best has left for good.
const REMEMBERED = 0.9;
const LEFT = 4;

/**
 * Trains for a few steps with rising rates and says which rate suits. The model's weights are put back; the optimiser is made for the test and disposed of.
 *
 * @param lossOf the loss of step i on its own batch; it runs in a scope
 * @throws ConfigError for a range or a number of steps that is none, and when the loss never falls
 */
export async function findLearningRate(
  model: Module,
  makeOptimizer: () => Optimizer,
  lossOf: (step: number) => Tensor,
  options: FindLearningRateOptions = {},
): Promise<LearningRateCurve> {
  checkOptions("findLearningRate", options, { from: true, to: true, steps: true, signal: true });
  const { from = 1e-6, to = 1, steps = 100, signal } = options;
  if (!(from > 0 && to > from && Number.isSafeInteger(steps) && steps >= 10))
    throw new ConfigError(`findLearningRate: bad range, expected 0 < from < to and at least 10 steps, got from ${from}, to ${to}, steps ${steps}. Correct it.`);
  const before = [...model.stateDict().values()].map((t) => [t, t.dataSync()] as const);
  const optimizer = makeOptimizer();
  const points: LearningRateCurve["points"] = [];
  try {
    let [average, best] = [0, Number.POSITIVE_INFINITY];
    for (let step = 0; step < steps; step++) {
      signal?.throwIfAborted();
      const rate = from * (to / from) ** (step / (steps - 1));
      const loss = scope(() => {
        const l = lossOf(step);
        l.backward();
        return l.itemSync();
      });
      if (!Number.isFinite(loss)) break;
      average = REMEMBERED * average + (1 - REMEMBERED) * loss;
      const smoothed = average / (1 - REMEMBERED ** (step + 1));
      points.push({ rate, loss, smoothed });
      best = Math.min(best, smoothed);
      if (smoothed > best + (LEFT - 1) * Math.abs(best)) break;
      optimizer.learningRate = rate;
      optimizer.step();
      optimizer.zeroGrad();
      await turn();
    }
  } finally {
    model.zeroGrad();
    optimizer.dispose();
    for (const [t, data] of before) t.write(data);
  }
  // Rates are evenly spaced by their logarithm, so the steepest step is the steepest fall for each doubling. What comes behind the lowest loss does not count.
  const lowest = points.reduce((low, { smoothed }, i) => (smoothed < points[low].smoothed ? i : low), 0);
  let [steepest, fall] = [-1, 0];
  for (let i = 1; i <= lowest; i++) {
    const by = points[i - 1].smoothed - points[i].smoothed;
    if (by > fall) [steepest, fall] = [i, by];
  }
  if (steepest < 0)
    throw new ConfigError(
      `findLearningRate: the loss never fell, expected one that falls somewhere between rates ${from} and ${to}, got ${points.length} steps without. Widen the range.`,
    );
  return { suggestion: points[steepest].rate, points };
}

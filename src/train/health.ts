/** Is the run still sane? Finite numbers, and losses that do not leap. */

import type { Batch } from "../data/index.ts";
import { NonFiniteError, RunError } from "../errors.ts";
import { type CausalLM, CausalLMOutput } from "../models/index.ts";
import { firstNonFinite, noGrad, scope, Tensor } from "../tensor/index.ts";
import { inputsOf } from "./step.ts";

/** Running mean of the loss and variance around its course; plain numbers, saved in checkpoints. */
export interface LossWatch {
  mean: number;
  variance: number;
  /** Losses seen. */
  count: number;
  /** The loss before; absent in checkpoints of earlier versions. */
  last?: number;
}

/** A watch that has seen no loss yet. */
export const newWatch = (): LossWatch => ({ mean: 0, variance: 0, count: 0 });

// About 50 steps of memory: long enough for a steady variance, short enough to follow the fall of the loss.
const MEMORY = 0.98;
const LEARN_FIRST = 50;

/**
 * The spike rule: a loss more than `sigmas` standard deviations above its exponentially weighted mean is a leap; the first 50 losses are only learned from. The
 * variance is half the mean square of successive differences (von Neumann 1941), which the steady fall of the loss hardly touches: around a lagging mean the fall
 * itself would pass for noise. Leaps do not enter. Returns whether this loss is one, and takes it in if not.
 */
export function isSpike(watch: LossWatch, loss: number, sigmas: number): boolean {
  const { mean, variance, count, last = mean } = watch;
  // Below a hundredth of the loss nothing is called a leap, however quiet the run was.
  const allowed = Math.max(sigmas * Math.sqrt(variance), 0.01 * Math.abs(mean));
  if (count >= LEARN_FIRST && loss - mean > allowed) return true;
  const weight = Math.max(1 - MEMORY, 1 / (count + 1));
  watch.mean = mean + weight * (loss - mean);
  // The first loss has none before it.
  if (count > 0) watch.variance = variance + Math.max(1 - MEMORY, 1 / count) * ((loss - last) ** 2 / 2 - variance);
  watch.last = loss;
  watch.count++;
  return false;
}

// A run goes on by the recipe that it began with.
const NEW_RUN = "Begin a new run with a lower training.learning_rate or more training.warmup_steps";

function firstBad(t: Tensor): string | null {
  if (t.dtype !== "f32") return null;
  const at = firstNonFinite(t);
  return at < 0 ? null : `at place ${at} of (${t.shape.join(", ")})`;
}

/** @throws NonFiniteError naming the first weight that is NaN or infinite: such a model must not become "the last good one" */
export function checkWeights(model: CausalLM, step: number): void {
  for (const [name, p] of model.namedParameters()) {
    const place = firstBad(p);
    if (place !== null)
      throw new NonFiniteError(
        `training: step ${step}: the weight ${name} is not finite, expected numbers, got NaN or infinity ${place}; no checkpoint was written. ${NEW_RUN}; the checkpoints before it are good.`,
      );
  }
}

/** Where a number that is not finite first shows: parameters in order, then the modules' results in the order in which they ran. */
export function findNonFinite(model: CausalLM, batches: readonly Batch[]): string {
  for (const [name, p] of model.namedParameters()) {
    const place = firstBad(p);
    if (place !== null) return `the weight ${name}, ${place}`;
  }
  let found: string | null = null;
  // The head is left out: watching it would hold all logits at once, and its weight and what it reads are looked at anyway.
  const watched = [...model.namedModules()].filter(([, module]) => module !== model.lm_head);
  const unhook = watched.map(([name, module]) =>
    module.hook<unknown>("", (output) => {
      const t = output instanceof CausalLMOutput ? output.hidden : output;
      const place = found === null && t instanceof Tensor ? firstBad(t) : null;
      if (place !== null) found = `the result of ${name === "" ? "the model" : name}, ${place}`;
      return undefined;
    }),
  );
  try {
    for (const batch of batches) {
      scope(() => noGrad(() => void model.forward(inputsOf(batch))));
      if (found !== null) return found;
    }
  } finally {
    for (const remove of unhook) remove();
  }
  return "the loss itself";
}

/** The error for a loss that is NaN or infinite at `step`; with `rollback` the run goes on and needs no advice. */
export function nonFiniteLoss(step: number, loss: number, model: CausalLM, batches: readonly Batch[], rollback: boolean): NonFiniteError {
  const advice = rollback ? "" : ` ${NEW_RUN}, or with training.on_non_finite=rollback.`;
  return new NonFiniteError(
    `training: step ${step}: the loss is not finite, expected a number, got ${loss}; the first bad tensor is ${findNonFinite(model, batches)}.${advice}`,
  );
}

/** What went wrong last, with the reason why the run does not go back once more. */
export function rollbacksSpent(trouble: NonFiniteError | RunError, spent: number, allowed: number): NonFiniteError | RunError {
  const ErrorClass = trouble instanceof NonFiniteError ? NonFiniteError : RunError;
  return new ErrorClass(`${trouble.message} All rollbacks are spent: ${spent} of training.max_rollbacks ${allowed}. ${NEW_RUN}.`, { cause: trouble });
}

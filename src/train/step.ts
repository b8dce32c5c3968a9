/** One step's gradients: forward and backward over the micro-batches of a step. */
import type { Batch } from "../data/index.ts";
import { DataError } from "../errors.ts";
import type { CausalLM, CausalLMInputs } from "../models/index.ts";
import { autocast, type Precision, scope, tensorFrom } from "../tensor/index.ts";

/** A batch as a model takes it: windows are (B, T), packed documents ragged rows (1, B·T). Call it inside a scope. */
export function inputsOf(batch: Batch, targetCount = batch.targetTokens): CausalLMInputs {
  const shape = batch.cuSeqlens === undefined ? [batch.rows, batch.context] : [1, batch.rows * batch.context];
  return {
    inputIds: tensorFrom(batch.inputIds, shape),
    targets: tensorFrom(batch.targets, shape),
    targetCount,
    ...(batch.cuSeqlens === undefined ? {} : { cuSeqlens: batch.cuSeqlens, positions: tensorFrom(batch.positions as Int32Array, shape) }),
  };
}

/**
 * Adds the gradients of these batches to the parameters', as those of one large batch: every loss is divided by the targets of
 * all of them, so a token counts the same wherever it lies.
 *
 * @param precision of matrix products, forward and backward
 * @returns the mean loss (nats a token) and the tokens that counted
 */
export function accumulateGradients(model: CausalLM, batches: readonly Batch[], precision: Precision = "f32"): { loss: number; tokens: number } {
  const tokens = batches.reduce((n, batch) => n + batch.targetTokens, 0);
  if (tokens === 0)
    throw new DataError("training: a step without a target, expected at least one token to predict, got none. Use a longer context or more text.");
  let loss = 0;
  for (const batch of batches) {
    loss += scope(() => {
      const out = autocast(precision, () => model.forward(inputsOf(batch, tokens)));
      out.loss?.backward();
      return out.loss?.itemSync() ?? 0;
    });
  }
  return { loss, tokens };
}

/** Loss over the whole of a token set. */
import { type Batch, batchesOnce, IGNORE, sequentialWindows, type TokenData } from "../data/index.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions } from "../options.ts";
import { autocast, noGrad, type Precision, scope } from "../tensor/index.ts";
import { turn } from "../turn.ts";
import { inputsOf } from "./step.ts";

/** What `evaluateLoss` measured. */
export interface EvaluationResult {
  /** Mean of −ln p over all targets. */
  loss: number;
  perplexity: number;
  /** Of the text in UTF-8; null when its size is not known. */
  bitsPerByte: number | null;
  tokens: number;
  seconds: number;
}

/**
 * Every token of `data` but the first is predicted once, from at most `context` − 1 tokens before it in its window.
 *
 * @param options.precision of matrix products, as PyTorch evaluates under the autocast of training. Default f32
 * @param options.bytes size of the text that the tokens were made from, for bits per byte
 */
export async function evaluateLoss(
  model: CausalLM,
  data: TokenData,
  options: { context: number; batchSize?: number; bytes?: number; precision?: Precision; signal?: AbortSignal },
): Promise<EvaluationResult> {
  checkOptions("evaluateLoss", options, { context: true, batchSize: true, bytes: true, precision: true, signal: true });
  const started = performance.now();
  const wasTraining = model.training;
  const { precision = "f32" } = options;
  let [sum, tokens] = [0, 0];
  let rows = 0;
  model.eval();
  try {
    for await (const read of batchesOnce(sequentialWindows(data, { context: options.context }), options.batchSize ?? 16)) {
      options.signal?.throwIfAborted();
      rows ||= read.rows;
      const batch = filledUp(read, rows);
      // Divided by 1, the loss is the sum over the batch.
      sum += scope(() => noGrad(() => autocast(precision, () => model.forward(inputsOf(batch, 1)).loss?.itemSync() ?? 0)));
      tokens += batch.targetTokens;
      await turn();
    }
  } finally {
    model.train(wasTraining);
  }
  const loss = sum / tokens;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: options.bytes === undefined ? null : sum / Math.LN2 / options.bytes,
    tokens,
    seconds: (performance.now() - started) / 1000,
  };
}

/**
 * The batch with as many rows as those before it; in the rows added nothing is to predict. A smaller last batch would compute less, but its tensors
 * would come from memory of their own: freed memory serves its own size again.
 */
function filledUp(batch: Batch, rows: number): Batch {
  if (batch.rows === rows) return batch;
  const length = rows * batch.context;
  const [inputIds, targets] = [new Int32Array(length), new Int32Array(length).fill(IGNORE)];
  inputIds.set(batch.inputIds);
  targets.set(batch.targets);
  return { ...batch, rows, inputIds, targets };
}

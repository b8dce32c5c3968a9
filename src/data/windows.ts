/** Rows cut from a stream of tokens without regard to documents: at random for training, in order for evaluation. */
import { DataError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { DRAW, randomBelow } from "./random-order.ts";
import { checkContext, IGNORE, type Sample, type SampleSource, tooSmall } from "./samples.ts";
import type { TokenData } from "./token-data.ts";

/**
 * Windows of T + 1 tokens that begin anywhere with equal probability, with replacement, as nanoGPT trains: inputs are the
 * first T, targets the last T. Sample `i` depends on (seed, i) alone.
 *
 * @throws DataError when the text is smaller than one window
 */
export function sampledWindows(data: TokenData, options: { context: number; seed?: number }): SampleSource {
  checkOptions("sampledWindows", options, { context: true, seed: true });
  const { context, seed = 0 } = options;
  checkContext(context, data.name);
  if (data.tokens < context + 1) throw tooSmall(data.name, `at least ${context + 1} tokens (context + 1)`, data.tokens);
  return {
    context,
    samples: Number.POSITIVE_INFINITY,
    identity: `sampledWindows(context ${context}, seed ${seed}, data ${data.identity})`,
    async read(index) {
      const start = randomBelow(data.tokens - context, seed, index, DRAW.window);
      const ids = await data.read(start, context + 1);
      return { inputIds: ids.subarray(0, context), targets: ids.subarray(1) };
    },
  };
}

/**
 * Windows in order, for evaluation: every token but the first is a target exactly once.
 *
 * @param options.overlap tokens at the start of each window (but the first) that are read again as context and not scored;
 *   default 0. More of them give each scored token a longer past, at the price of more windows.
 * @throws DataError when there is nothing to predict
 */
export function sequentialWindows(data: TokenData, options: { context: number; overlap?: number }): SampleSource {
  checkOptions("sequentialWindows", options, { context: true, overlap: true });
  const { context, overlap = 0 } = options;
  checkContext(context, data.name);
  if (!Number.isSafeInteger(overlap) || overlap < 0 || overlap >= context) {
    throw new DataError(`${data.name}: bad overlap of windows, expected 0 to ${context - 1}, got ${overlap}. Correct it.`);
  }
  if (data.tokens < 2) throw tooSmall(data.name, "at least 2 tokens", data.tokens);
  const step = context - overlap;
  const samples = 1 + Math.ceil(Math.max(0, data.tokens - 1 - context) / step);
  return {
    context,
    samples,
    identity: `sequentialWindows(context ${context}, overlap ${overlap}, data ${data.identity})`,
    async read(index): Promise<Sample> {
      if (!(index >= 0 && index < samples)) {
        throw new DataError(`${data.name}: no such window, expected 0 to ${samples - 1}, got ${index}. Stop at the last one.`);
      }
      const start = index * step;
      const length = Math.min(context, data.tokens - 1 - start);
      const ids = await data.read(start, length + 1);
      // The last window is filled up with id 0, whose loss does not count and which nothing before it can see.
      const inputIds = new Int32Array(context);
      const targets = new Int32Array(context).fill(IGNORE);
      inputIds.set(ids.subarray(0, length));
      targets.set(ids.subarray(1));
      if (index > 0) targets.fill(IGNORE, 0, overlap);
      return { inputIds, targets };
    },
  };
}

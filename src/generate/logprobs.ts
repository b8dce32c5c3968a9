/** How likely a model finds a text that is there. */
import { DataError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { crossEntropy, noGrad, scope, tensor } from "../tensor/index.ts";
import { checkTokenIds } from "../token-ids.ts";
import { OF_MODEL } from "./paged-state.ts";

/**
 * How likely a model finds a text: item t is log p(ids[t + 1] | ids[0 … t]) in nats, so there is one less than there are ids. Nothing
 * stands before the first id, so it has none.
 *
 * @throws DataError for fewer than two ids, more than the model's context, or ids outside its vocabulary
 */
export function logprobs(model: CausalLM, ids: ArrayLike<number>): Float32Array {
  const { context, vocabulary } = model.dimensions;
  if (ids.length < 2) throw new DataError(`logprobs: too few ids, expected at least 2, got ${ids.length}. The first is only what the second follows.`);
  if (ids.length > context)
    throw new DataError(
      `logprobs: too many ids, expected at most ${context} (the model's context), got ${ids.length}. Use perplexity(), which slides a window over longer texts.`,
    );
  checkTokenIds("logprobs", ids, vocabulary, OF_MODEL);
  const training = model.training;
  if (training) model.eval();
  try {
    return scope(() => ({
      data: noGrad(() => {
        const n = ids.length - 1;
        const all = Int32Array.from(ids);
        const out = model.forward({ inputIds: tensor([all.subarray(0, n)]) });
        const rows = out.hidden.reshape([n, -1]); // (T − 1, C)
        // A part at a time: all logits of a long text would take far more memory than the model.
        const step = Math.max(16, Math.floor(2 ** 24 / vocabulary));
        const result = new Float32Array(n);
        for (let at = 0; at < n; at += step) {
          const m = Math.min(step, n - at);
          const part = scope(() => ({
            data: crossEntropy(out.logitsOf(rows.narrow(0, at, m)), tensor(all.slice(at + 1, at + 1 + m)), { reduction: "none" }).dataSync(),
          })).data;
          for (let i = 0; i < m; i++) result[at + i] = -part[i];
        }
        return result;
      }),
    })).data;
  } finally {
    if (training) model.train();
  }
}

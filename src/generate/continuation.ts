/**
 * One text that grows and is taken back again, as a conversation does: what a call's prompt has in common with what is held already is not computed again. The
 * only user of the paged state besides `generateStream`.
 */
import { DataError, NonFiniteError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { logsumexp, noGrad, scope } from "../tensor/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import type { Done } from "./generate.ts";
import { createPagedState, type Sequence } from "./paged-state.ts";
import { checkSampling, type SamplingOptions, sample, uniformAt } from "./samplers.ts";
import { createTextStream } from "./text-stream.ts";

/** How a prompt is continued. */
export interface ContinueOptions {
  tokenizer: Tokenizer;
  /** How tokens are drawn; nothing given, from the model's own distribution. */
  sampling: SamplingOptions;
  /** Tokens at most, or as many as the context has room for. */
  maxNewTokens: number;
  /** Ids that end the text and give none. */
  stopIds: readonly number[];
  /** Texts that it ends before. */
  stop: readonly string[];
  seed: number;
  signal?: AbortSignal;
}

const OPTIONS: KnownOptions<ContinueOptions> = {
  tokenizer: true,
  sampling: true,
  maxNewTokens: true,
  stopIds: true,
  stop: true,
  seed: true,
  signal: true,
};

/** A token as it comes. */
export interface ContinuedToken {
  readonly id: number;
  /** Text that is certain with this token. */
  readonly text: string;
  /** Set with the last one. */
  readonly done: Done | null;
}

/** A growing text. */
export interface Continuation {
  /** Ids whose keys and values are held. */
  readonly held: number;
  /** Of the last prompt, how many ids were held already. */
  readonly reused: number;
  /**
   * Continues `prompt`, all of it, token by token. What was generated stays held for a later prompt that begins so.
   *
   * @throws DataError for a prompt that is empty or beyond the model's context, the signal's reason when it is stopped
   */
  run(prompt: Int32Array, options: ContinueOptions): AsyncGenerator<ContinuedToken, void, undefined>;
  dispose(): void;
}

/** Prompt tokens of one step: a long prompt leaves the event loop its turns. */
const PREFILL = 256;

/** Room for one text of a model. */
export function createContinuation(model: CausalLM): Continuation {
  const state = createPagedState(model);
  const { context } = model.dimensions;
  let sequence: Sequence = state.allocate();
  let ids: number[] = [];
  let reused = 0;

  /** Takes back what is not the prompt's, but leaves its last token to be computed: its logits are needed. */
  function keepBeginning(prompt: Int32Array): void {
    let common = 0;
    while (common < prompt.length - 1 && common < ids.length && ids[common] === prompt[common]) common++;
    if (common < ids.length) {
      const shorter = state.fork(sequence, common);
      state.free(sequence);
      sequence = shorter;
      ids = ids.slice(0, common);
    }
    reused = common;
  }

  /** Logits behind the last of the new ids. */
  function step(more: Int32Array): { logits: Float32Array; norm: number } {
    const result = scope(() => {
      const logits = state.step([{ sequence, ids: more }]);
      return { logits: logits.dataSync() as Float32Array, norm: noGrad(() => logsumexp(logits, -1)).dataSync()[0] };
    });
    for (const id of more) ids.push(id);
    return result;
  }

  return {
    get held() {
      return ids.length;
    },
    get reused() {
      return reused;
    },
    async *run(prompt, options) {
      checkOptions("continuation", options, OPTIONS);
      const { tokenizer, sampling, maxNewTokens, stopIds, stop, seed, signal } = options;
      checkSampling(sampling);
      if (prompt.length === 0 || prompt.length > context)
        throw new DataError(`continuation: bad prompt, expected 1 to ${context} tokens (the model's context), got ${prompt.length}. Shorten it.`);
      keepBeginning(prompt);
      let next: { logits: Float32Array; norm: number } | null = null;
      for (let at = ids.length; at < prompt.length; at = ids.length) {
        signal?.throwIfAborted();
        next = step(prompt.subarray(at, at + PREFILL));
        await turn();
      }
      const text = createTextStream(tokenizer, stop);
      const ends = new Set(stopIds);
      const generated: number[] = [];
      // The last token needs no place in the context: nothing follows it.
      const room = context - prompt.length + 1;
      const most = Math.min(maxNewTokens, room);
      while (next !== null && generated.length < most) {
        signal?.throwIfAborted();
        const { logits, norm } = next;
        if (!Number.isFinite(norm))
          throw new NonFiniteError(
            `continuation: the model's logits are not finite after ${ids.length} tokens, expected numbers, got ${norm}. The weights are damaged.`,
          );
        const id = sample(logits, sampling, prompt, generated, uniformAt(seed, generated.length));
        generated.push(id);
        if (ends.has(id)) {
          yield { id, text: text.end().text, done: "stop" };
          return;
        }
        const { text: certain, stopped } = text.push(id);
        const last: Done | null = stopped ? "stop" : generated.length < most ? null : maxNewTokens <= room ? "length" : "context";
        yield { id, text: last === null || stopped ? certain : certain + text.end().text, done: last };
        if (last !== null) return;
        next = step(Int32Array.of(id));
        await turn();
      }
    },
    dispose: () => state.dispose(),
  };
}

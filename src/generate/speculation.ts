/**
 * Guessing several tokens ahead and checking them in one step (Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023). A
 * guess counts where it equals the token that is drawn at its place from the model's own distribution with the request's own number (`uniformAt`), so the text is
 * the one without speculation, byte for byte, whatever the sampler; the distribution is the model's by construction.
 */
import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions } from "../options.ts";
import { scope } from "../tensor/index.ts";
import { createPagedState, type Sequence } from "./paged-state.ts";
import type { Request } from "./request.ts";
import { sample, uniformAt } from "./samplers.ts";

/** Who guesses. */
export interface SpeculationOptions {
  /**
   * `"prompt-lookup"`: what followed the last tokens where they stood before (Saxena, "Prompt Lookup Decoding", 2023), free of cost and good where a text repeats its
   * prompt, as in editing and summaries. Or a smaller model with the same vocabulary.
   */
  draft: "prompt-lookup" | CausalLM;
  /** Tokens that are guessed at once at most. Default 8. */
  maxTokens?: number;
}

/** How far a request's guesses reach: further while they are right, and not at all for a while where they do not pay. */
export interface Pace {
  /** Guesses for the next step, at most. */
  length: number;
  /** Share of guesses that were right, the latest weighing most. */
  rate: number;
  /** Steps left without guesses, and how many there will be next time. */
  pause: number;
  nextPause: number;
}

export const startPace = (): Pace => ({ length: 2, rate: 0.6, pause: 0, nextPause: 16 });

// A row of a small batch costs about a tenth of a step (the weights are read once for all), and guessing has its own cost: below this share nothing is won.
const WORTHWHILE = 0.3;

/** Learns from one step: `accepted` of `drafted` guesses were right. */
export function adapt(pace: Pace, drafted: number, accepted: number, maxTokens: number): void {
  if (drafted === 0) return;
  pace.rate += 0.25 * (accepted / drafted - pace.rate);
  pace.length = accepted === drafted ? Math.min(maxTokens, 2 * pace.length) : Math.max(1, Math.min(maxTokens, accepted + 1));
  if (accepted === drafted) pace.nextPause = 16;
  if (pace.rate >= WORTHWHILE) return;
  pace.pause = pace.nextPause;
  pace.nextPause = Math.min(512, 2 * pace.nextPause);
  pace.rate = 0.5;
  pace.length = 2;
}

/** Guesses next tokens. */
export interface Drafter {
  /** Sets `draft` of each request to at most `counts[i]` guesses. */
  draft(requests: readonly Request[], counts: readonly number[]): void;
  /** A request has ended or was set back. */
  forget(request: Request): void;
  dispose(): void;
}

/** @throws ConfigError for a draft model with another vocabulary, or options out of range */
export function createDrafter(where: string, model: CausalLM, options: SpeculationOptions): Drafter {
  checkOptions(where, options, { draft: true, maxTokens: true });
  const { draft, maxTokens = 8 } = options;
  if (!(Number.isInteger(maxTokens) && maxTokens >= 1))
    throw new ConfigError(`${where}: bad speculation.maxTokens, expected a whole number of at least 1, got ${maxTokens}. Correct it.`);
  if (typeof draft === "string") {
    if (draft !== "prompt-lookup")
      throw new ConfigError(`${where}: unknown speculation.draft, expected "prompt-lookup" or a model, got "${draft}". Correct it.`);
    return lookupDrafter();
  }
  const [wanted, got] = [model.dimensions.vocabulary, draft.dimensions.vocabulary];
  if (wanted !== got)
    throw new ConfigError(`${where}: the draft model has another vocabulary, expected ${wanted} tokens, got ${got}. Take a smaller model of the same family.`);
  return modelDrafter(draft);
}

/** Where each pair of ids stood: the latest place of each, and for each place the one before with the same pair. */
interface PairIndex {
  latest: Map<number, number>;
  before: number[];
}

const LONGEST_MATCH = 32;
const CANDIDATES = 16;

function lookupDrafter(): Drafter {
  const indexes = new Map<Request, PairIndex>();

  function guess(request: Request, count: number): number[] {
    const { ids, length } = request;
    let index = indexes.get(request);
    if (index === undefined) indexes.set(request, (index = { latest: new Map(), before: [-1] }));
    const { latest, before } = index;
    const pair = (at: number): number => ids[at - 1] * 2 ** 26 + ids[at];
    // The last pair itself is not in the index yet: it has no follower.
    for (let at = before.length; at < length - 1; at++) {
      before.push(latest.get(pair(at)) ?? -1);
      latest.set(pair(at), at);
    }
    if (length < 3) return [];
    let [best, bestLength] = [-1, 1];
    for (let at = latest.get(pair(length - 1)) ?? -1, tried = 0; at > 0 && tried < CANDIDATES; at = before[at], tried++) {
      let n = 2;
      while (n < LONGEST_MATCH && at - n >= 0 && ids[at - n] === ids[length - 1 - n]) n++;
      if (n > bestLength) [best, bestLength] = [at, n];
      if (n === LONGEST_MATCH) break;
    }
    if (best < 0) return [];
    // Where the match ends close behind its own beginning, the guess goes round.
    const guesses: number[] = [];
    const period = length - 1 - best;
    for (let i = 0; i < count; i++) guesses.push(ids[best + 1 + (i % period)]);
    return guesses;
  }

  return {
    draft(requests, counts) {
      for (const [i, request] of requests.entries()) request.draft = guess(request, counts[i]);
    },
    forget: (request) => void indexes.delete(request),
    dispose: () => indexes.clear(),
  };
}

/** Tokens of a request that the draft model takes in one step while it catches up with a prompt. */
const CATCH_UP = 128;

function modelDrafter(model: CausalLM): Drafter {
  const { context, vocabulary } = model.dimensions;
  const state = createPagedState(model);
  /** What the model has of each request: its tokens up to `base`, then guesses. */
  const known = new Map<Request, { sequence: Sequence; base: number; guesses: readonly number[] }>();
  let data = new Float32Array(0);

  /** Lets sequences take tokens; `data` has the row after each then. */
  function run(entries: readonly { sequence: Sequence; ids: ArrayLike<number> }[]): void {
    scope(() => {
      const logits = state.step(entries);
      if (data.length !== logits.size) data = new Float32Array(logits.size);
      logits.readInto(data);
    });
  }

  /** The request's sequence, cut back to what has come true, at least one token short of the whole. */
  function sequenceOf(request: Request): Sequence {
    const { ids, length } = request;
    const have = known.get(request);
    if (have === undefined) {
      const sequence = state.allocate();
      known.set(request, { sequence, base: 0, guesses: [] });
      return sequence;
    }
    const { sequence, base, guesses } = have;
    let right = Math.min(base, sequence.length);
    while (right < sequence.length && right < length - 1 && ids[right] === guesses[right - base]) right++;
    state.truncate(sequence, Math.min(right, length - 1));
    return sequence;
  }

  /**
   * The next guess, with the same options and the same number as the check will draw with: where the models agree, so do the tokens. Null where
   * nothing can be drawn, which the check will say.
   */
  function guess(request: Request, mine: readonly number[], row: Float32Array, sampler: Request["sampler"]): number | null {
    const { generated, sampling, prompt, seed } = request;
    const place = generated.length;
    generated.push(...mine);
    try {
      return sample(row, sampling, prompt, generated, uniformAt(seed, generated.length), sampler);
    } catch (error) {
      if (error instanceof ConfigError) return null;
      throw error;
    } finally {
      generated.length = place;
    }
  }

  return {
    draft(requests, counts) {
      let open: { request: Request; sequence: Sequence; ids: ArrayLike<number>; count: number; mine: number[]; sampler: Request["sampler"] }[] = [];
      for (const [i, request] of requests.entries()) {
        request.draft = [];
        // The last guess needs no place: nothing follows it.
        const count = Math.min(counts[i], context - request.length + 1);
        if (count < 1) continue;
        const sequence = sequenceOf(request);
        const ids = request.ids.subarray(sequence.length, Math.min(request.length, sequence.length + CATCH_UP));
        if (sequence.length + ids.length < request.length) {
          scope(() => void state.step([{ sequence, ids, logits: 0 }]));
          known.set(request, { sequence, base: sequence.length, guesses: [] });
          continue;
        }
        const mine: number[] = [];
        known.set(request, { sequence, base: request.length, guesses: mine });
        request.draft = mine;
        open.push({ request, sequence, ids, count, mine, sampler: { ...request.sampler } });
      }
      while (open.length > 0) {
        run(open);
        open = open.filter((entry, i) => {
          const id = guess(entry.request, entry.mine, data.subarray(i * vocabulary, (i + 1) * vocabulary), entry.sampler);
          if (id === null) return false;
          entry.mine.push(id);
          entry.ids = [id];
          return entry.mine.length < entry.count;
        });
      }
    },
    forget(request) {
      const have = known.get(request);
      if (have !== undefined) state.free(have.sequence);
      known.delete(request);
    },
    dispose() {
      known.clear();
      state.dispose();
    },
  };
}

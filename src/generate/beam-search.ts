/**
 * Beam search: the likeliest whole texts that a search of fixed width finds, not a draw. The rules of ending, of length and of ties between finished and
 * running beams are those of Hugging Face's `generate(num_beams=…)`. Beams share the pages of what they have in common.
 */
import { ConfigError, NonFiniteError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { logsumexp, noGrad, scope } from "../tensor/index.ts";
import { endIds } from "../tokenizers/end-ids.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { createPagedState, type Sequence, type StepEntry } from "./paged-state.ts";
import { type Done, type Prompt, promptIds } from "./request.ts";

/** How far and how wide to search. */
export interface BeamSearchOptions {
  /** Needed for prompts of text and for text in the result. */
  tokenizer?: Tokenizer;
  /** Tokens to generate at most. Default 128, or as many as the model's context has room for. */
  maxNewTokens?: number;
  /** Texts that are followed at once. Default 4. */
  numBeams?: number;
  /** A finished text's score is Σ ln p / length^lengthPenalty: above 0 favours longer texts, below 0 shorter ones. Default 1. */
  lengthPenalty?: number;
  /**
   * When to stop: true, as soon as `numBeams` texts are finished; false, when it is unlikely that a running one becomes better; "never", only when it cannot
   * (for a positive length penalty, counted at `maxNewTokens`). Default false.
   */
  earlyStopping?: boolean | "never";
  /** Texts to return, best first; at most numBeams. Default 1. */
  numReturnSequences?: number;
  /** Ids that finish a text. Default: the tokenizer's end-of-text token. */
  stopIds?: readonly number[];
  /** Stops between two steps; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

const OPTIONS: KnownOptions<BeamSearchOptions> = {
  tokenizer: true,
  maxNewTokens: true,
  numBeams: true,
  lengthPenalty: true,
  earlyStopping: true,
  numReturnSequences: true,
  stopIds: true,
  signal: true,
};

/** One text that the search found. */
export interface Beam {
  /** What was generated, the prompt not included; a stop id is the last of them. */
  ids: Int32Array;
  text: string;
  /** Σ ln p / length^lengthPenalty. */
  score: number;
  done: Done;
}

interface Running {
  ids: readonly number[];
  /** Σ ln p. */
  total: number;
  sequence: Sequence;
}

/**
 * The best texts first.
 * @throws ConfigError for options out of range, DataError for a prompt that the model cannot take, NonFiniteError where the logits are no numbers
 */
export async function beamSearch(model: CausalLM, prompt: Prompt, options: BeamSearchOptions = {}): Promise<Beam[]> {
  const { tokenizer, maxNewTokens = 128, numBeams = 4, lengthPenalty = 1, earlyStopping = false, numReturnSequences = 1, signal } = options;
  const stopIds = new Set(options.stopIds ?? (tokenizer === undefined ? [] : endIds(tokenizer)));
  check(options, model, numBeams, Math.max(2, 1 + stopIds.size) * numBeams);
  const ids = promptIds("beamSearch", model, prompt, "the prompt", tokenizer);
  const most = Math.min(maxNewTokens, model.dimensions.context - ids.length + 1);
  const limit: Done = most === maxNewTokens ? "length" : "context";
  // So many that numBeams remain where each running text could end in every way.
  const kept = Math.max(2, 1 + stopIds.size) * numBeams;
  const state = createPagedState(model);
  let finished: { ids: readonly number[]; score: number; done: Done }[] = [];
  try {
    let running: Running[] = [{ ids: [], total: 0, sequence: state.allocate() }];
    for (let length = 1; length <= most; length++) {
      signal?.throwIfAborted();
      const entries = running.map((r): StepEntry => ({ sequence: r.sequence, ids: r.ids.length === 0 ? ids : r.ids.slice(-1) }));
      const { logits, norms } = scope(() => {
        const rows = state.step(entries);
        return { logits: rows.dataSync(), norms: noGrad(() => logsumexp(rows, -1)).dataSync() };
      });
      const vocabulary = logits.length / running.length;
      const candidates: { beam: number; id: number; total: number }[] = [];
      for (const [beam, { total }] of running.entries()) {
        if (!Number.isFinite(norms[beam]))
          throw new NonFiniteError(
            `beamSearch: the model's logits are not finite after ${ids.length + length - 1} tokens, expected numbers, got ${norms[beam]}. The weights are damaged, or training diverged; try an earlier checkpoint.`,
          );
        for (let id = 0; id < vocabulary; id++) insert(candidates, kept, { beam, id, total: total + logits[beam * vocabulary + id] - norms[beam] });
      }
      const ends = ({ id }: { id: number }): boolean => stopIds.has(id) || length === most;
      // Only the best numBeams may finish; the others are there to go on.
      for (const c of candidates.slice(0, numBeams)) {
        if (ends(c)) finished.push({ ids: [...running[c.beam].ids, c.id], score: c.total / length ** lengthPenalty, done: stopIds.has(c.id) ? "stop" : limit });
      }
      finished = finished.sort((a, b) => b.score - a.score).slice(0, numBeams);
      const next = candidates.filter((c) => !ends(c)).slice(0, numBeams);
      if (next.length === 0) break;
      if (finished.length === numBeams) {
        if (earlyStopping === true) break;
        const reach = earlyStopping === "never" && lengthPenalty > 0 ? most : length;
        if (next[0].total / reach ** lengthPenalty <= finished[numBeams - 1].score) break;
      }
      running = follow(running, next, state);
      await turn();
    }
  } finally {
    state.dispose();
  }
  return finished.slice(0, numReturnSequences).map(({ ids, score, done }) => ({ ids: Int32Array.from(ids), text: textOf(ids, tokenizer), score, done }));
}

/** The beams that go on, each on pages of its own where it differs; the last that goes on from a beam takes that beam's own. */
function follow(
  running: readonly Running[],
  next: readonly { beam: number; id: number; total: number }[],
  state: ReturnType<typeof createPagedState>,
): Running[] {
  const last = new Map(next.map((c, i) => [c.beam, i]));
  const followed = next.map(({ beam, id, total }, i) => {
    const { ids, sequence } = running[beam];
    return { ids: [...ids, id], total, sequence: last.get(beam) === i ? sequence : state.fork(sequence) };
  });
  for (const [beam, { sequence }] of running.entries()) if (!last.has(beam)) state.free(sequence);
  return followed;
}

/** Keeps `list` sorted, largest first, at most `most` long; of equals the earlier comes first. */
function insert<T extends { total: number }>(list: T[], most: number, item: T): void {
  if (list.length === most && !(item.total > list[most - 1].total)) return;
  if (list.length === most) list.pop();
  let at = list.length;
  while (at > 0 && item.total > list[at - 1].total) at--;
  list.splice(at, 0, item);
}

/** The text of generated ids; special tokens and ids that the tokenizer lacks give none. */
export const textOf = (ids: readonly number[], tokenizer: Tokenizer | undefined): string =>
  tokenizer === undefined
    ? ""
    : tokenizer.decode(
        ids.filter((id) => id < tokenizer.vocabSize),
        { skipSpecialTokens: true },
      );

function check(options: BeamSearchOptions, model: CausalLM, numBeams: number, kept: number): void {
  checkOptions("beamSearch", options, OPTIONS);
  const { maxNewTokens = 1, lengthPenalty = 1, earlyStopping = false, numReturnSequences = 1 } = options;
  const { vocabulary } = model.dimensions;
  const problems: string[] = [];
  const whole = (name: string, value: number, least: number, most = Number.POSITIVE_INFINITY): void => {
    if (!(Number.isInteger(value) && value >= least && value <= most))
      problems.push(`${name}: expected a whole number of at least ${least}${most < Number.POSITIVE_INFINITY ? `, at most ${most}` : ""}, got ${value}`);
  };
  whole("maxNewTokens", maxNewTokens, 0);
  whole("numBeams", numBeams, 1);
  whole("numReturnSequences", numReturnSequences, 1, numBeams);
  if (!Number.isFinite(lengthPenalty)) problems.push(`lengthPenalty: expected a finite number, got ${lengthPenalty}`);
  if (![true, false, "never"].includes(earlyStopping)) problems.push(`earlyStopping: expected true, false or "never", got ${String(earlyStopping)}`);
  if (kept > vocabulary)
    problems.push(`numBeams: expected few enough for a vocabulary of ${vocabulary} tokens, got ${numBeams}, which look at ${kept} at once`);
  if (problems.length > 0) throw new ConfigError(`beamSearch: bad options. ${problems.join("; ")}. Correct them.`);
}

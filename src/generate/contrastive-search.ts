/**
 * Contrastive search: of the likeliest few, the token that is likely and says something new (Su et al., "A Contrastive Framework for Neural Text
 * Generation", 2022, eq. 5). New is what the model's last hidden state is unlike all hidden states before.
 */
import { ConfigError, NonFiniteError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { scope } from "../tensor/index.ts";
import { endIds } from "../tokenizers/end-ids.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { textOf } from "./beam-search.ts";
import type { Generation } from "./generate.ts";
import { createPagedState, type StepEntry } from "./paged-state.ts";
import { type Done, type Prompt, promptIds } from "./request.ts";

/** How likely and how new. */
export interface ContrastiveSearchOptions {
  /** Needed for prompts of text and for text in the result. */
  tokenizer?: Tokenizer;
  /** Tokens to generate at most. Default 128, or as many as the model's context has room for. */
  maxNewTokens?: number;
  /** Tokens that are compared at each place. Default 4. */
  topK?: number;
  /** How much being unlike what was said counts against being likely, from 0 (greedy) to 1. Default 0.6. */
  penaltyAlpha?: number;
  /** Ids that end the text. Default: the tokenizer's end-of-text token. */
  stopIds?: readonly number[];
  /** Stops between two steps; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

const OPTIONS: KnownOptions<ContrastiveSearchOptions> = { tokenizer: true, maxNewTokens: true, topK: true, penaltyAlpha: true, stopIds: true, signal: true };

/**
 * One text, the same each time.
 * @throws ConfigError for options out of range, DataError for a prompt that the model cannot take, NonFiniteError where the logits are no numbers
 */
export async function contrastiveSearch(model: CausalLM, prompt: Prompt, options: ContrastiveSearchOptions = {}): Promise<Generation> {
  checkOptions("contrastiveSearch", options, OPTIONS);
  const { tokenizer, maxNewTokens = 128, topK = 4, penaltyAlpha: alpha = 0.6, signal } = options;
  const problems: string[] = [];
  if (!(Number.isInteger(maxNewTokens) && maxNewTokens >= 0)) problems.push(`maxNewTokens: expected a whole number of at least 0, got ${maxNewTokens}`);
  if (!(Number.isInteger(topK) && topK >= 1)) problems.push(`topK: expected a whole number of at least 1, got ${topK}`);
  if (!(alpha >= 0 && alpha <= 1)) problems.push(`penaltyAlpha: expected a number from 0 to 1, got ${alpha}`);
  if (problems.length > 0) throw new ConfigError(`contrastiveSearch: bad options. ${problems.join("; ")}. Correct them.`);
  const stopIds = new Set(options.stopIds ?? (tokenizer === undefined ? [] : endIds(tokenizer)));
  const ids = promptIds("contrastiveSearch", model, prompt, "the prompt", tokenizer);
  // Each token is looked at before it is chosen, the last one too: all need a place.
  const most = Math.min(maxNewTokens, model.dimensions.context - ids.length);
  const state = createPagedState(model);
  /** Unit vectors of all hidden states so far. */
  const said: Float64Array[] = [];
  const [chosen, logprobs]: [number[], number[]] = [[], []];
  let done: Done = most === maxNewTokens ? "length" : "context";

  /** One pass: a row of log-probabilities for each entry, and the hidden states of all new tokens as unit vectors. */
  function pass(entries: readonly StepEntry[]): { logs: Float64Array[]; units: Float64Array[] } {
    const { logits, hidden } = scope(() => {
      const out = state.stepHidden(entries);
      return { logits: out.logits.dataSync() as Float32Array, hidden: out.hidden.dataSync() as Float32Array };
    });
    const vocabulary = logits.length / entries.length;
    const rows = entries.reduce((n, e) => n + e.ids.length, 0);
    const width = hidden.length / rows;
    return {
      logs: entries.map((_, i) => logSoftmax(logits.subarray(i * vocabulary, (i + 1) * vocabulary))),
      units: Array.from({ length: rows }, (_, i) => unit(hidden.subarray(i * width, (i + 1) * width))),
    };
  }

  try {
    let sequence = state.allocate();
    const first = pass([{ sequence, ids }]);
    said.push(...first.units);
    let logs = first.logs[0];
    while (chosen.length < most) {
      signal?.throwIfAborted();
      const candidates = likeliest(logs, topK);
      const forks = candidates.map(() => state.fork(sequence));
      const next = pass(candidates.map((id, i) => ({ sequence: forks[i], ids: [id] })));
      let [best, bestScore] = [0, -Infinity];
      for (const [i, id] of candidates.entries()) {
        const likeness = said.reduce((a, h) => Math.max(a, dot(h, next.units[i])), -Infinity);
        const score = (1 - alpha) * Math.exp(logs[id]) - alpha * likeness;
        if (score > bestScore) [best, bestScore] = [i, score];
      }
      chosen.push(candidates[best]);
      logprobs.push(logs[candidates[best]]);
      state.free(sequence);
      for (const [i, fork] of forks.entries()) if (i !== best) state.free(fork);
      sequence = forks[best];
      said.push(next.units[best]);
      logs = next.logs[best];
      if (stopIds.has(candidates[best])) {
        done = "stop";
        break;
      }
      await turn();
    }
  } finally {
    state.dispose();
  }
  return { ids: Int32Array.from(chosen), text: textOf(chosen, tokenizer), logprobs: Float32Array.from(logprobs), done };
}

function logSoftmax(row: Float32Array): Float64Array {
  const most = row.reduce((a, x) => Math.max(a, x), -Infinity);
  const norm = most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
  if (!Number.isFinite(norm))
    throw new NonFiniteError(
      `contrastiveSearch: the model's logits are not finite, expected numbers, got ${norm}. The weights are damaged, or training diverged; try an earlier checkpoint.`,
    );
  return Float64Array.from(row, (x) => x - norm);
}

function unit(row: Float32Array): Float64Array {
  const length = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  return Float64Array.from(row, (x) => (length === 0 ? 0 : x / length));
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** The k largest, largest first, equals by id. */
function likeliest(row: Float64Array, k: number): number[] {
  const top: number[] = [];
  for (let id = 0; id < row.length; id++) {
    if (top.length === k && !(row[id] > row[top[k - 1]])) continue;
    if (top.length === k) top.pop();
    let at = top.length;
    while (at > 0 && row[id] > row[top[at - 1]]) at--;
    top.splice(at, 0, id);
  }
  return top;
}

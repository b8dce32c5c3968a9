/** Text from a model: prompts in, tokens out one by one, any number of prompts in one ragged batch. */
import { ConfigError, DataError, NonFiniteError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions as checkKeys, type KnownOptions } from "../options.ts";
import { crossEntropy, logsumexp, noGrad, scope, tensor } from "../tensor/index.ts";
import { checkTokenIds } from "../token-ids.ts";
import { endIds } from "../tokenizers/end-ids.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { createPagedState, OF_MODEL, type Sequence, type StateOptions } from "./paged-state.ts";
import { checkSampling, SAMPLING_OPTIONS, type SamplingOptions, sample, uniformAt } from "./samplers.ts";
import { createTextStream, type TextStream } from "./text-stream.ts";

/** Text (with a tokenizer) or token ids. */
export type Prompt = string | Int32Array;

/** How prompts are continued. */
export interface GenerateOptions extends SamplingOptions, Pick<StateOptions, "stateDtype"> {
  /** Needed for prompts of text, for text in the result, and for stop strings. */
  tokenizer?: Tokenizer;
  /** Tokens to generate at most. Default 128, or as many as the model's context has room for. */
  maxNewTokens?: number;
  /** Generation ends before the first of these strings. */
  stop?: readonly string[];
  /** Generation ends at any of these ids, which give no text. Default: the tokenizer's end-of-text token (`endIds`); an empty list never ends early. */
  stopIds?: readonly number[];
  /** What each request's draws depend on, and nothing else does: the same seed gives the same text, alone or in any batch. A list has one for each prompt. Default 0. */
  seed?: number | readonly number[];
  /** Stops between two steps; the generator then throws the signal's reason. */
  signal?: AbortSignal;
  /** Prompt tokens that one step takes at most, over all requests. Default 512. */
  prefillTokens?: number;
}

const OPTIONS: KnownOptions<GenerateOptions> = {
  ...SAMPLING_OPTIONS,
  tokenizer: true,
  maxNewTokens: true,
  stop: true,
  stopIds: true,
  seed: true,
  signal: true,
  prefillTokens: true,
  stateDtype: true,
};

/** Why a request ended: a stop string or id, `maxNewTokens`, or the end of the model's context. */
export type Done = "stop" | "length" | "context";

/** A token as it is generated. */
export interface TokenEvent {
  /** Which prompt, counted from 0. */
  request: number;
  id: number;
  /** Text that is certain with this token, often empty or more than the token's own; all of a request's joined is its text. */
  text: string;
  /** log p of the token in the model's own distribution (before penalties, temperature and cuts), in nats. */
  logprob: number;
  /** Set with a request's last token. */
  done: Done | null;
}

/** A prompt's continuation. */
export interface Generation {
  /** What was generated, the prompt not included; a stop id is the last of them. */
  ids: Int32Array;
  text: string;
  /** As `TokenEvent.logprob`, one for each id. */
  logprobs: Float32Array;
  done: Done;
}

interface Request {
  index: number;
  prompt: Int32Array;
  /** Prompt tokens that the state has. */
  filled: number;
  sequence: Sequence;
  generated: number[];
  text: TextStream | null;
  seed: number;
  /** Tokens that it may generate, and why it ends there. */
  most: number;
  limit: Done;
}

/** Yields each token of each request as it comes. */
export async function* generateStream(
  model: CausalLM,
  prompts: Prompt | readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<TokenEvent, void, undefined> {
  const { tokenizer, signal, prefillTokens = 512 } = options;
  const list = typeof prompts === "string" || prompts instanceof Int32Array ? [prompts] : prompts;
  checkOptions(list, options);
  const stopIds = new Set(options.stopIds ?? (tokenizer === undefined ? [] : endIds(tokenizer)));
  const stop = options.stop ?? [];
  const sampling = samplingOf(options);
  const state = createPagedState(model, { stateDtype: options.stateDtype });
  try {
    let open = list.map((prompt, index): Request => {
      const ids = promptIds(model, prompt, index, tokenizer);
      // The last token needs no place in the context: nothing follows it.
      const room = model.dimensions.context - ids.length + 1;
      const wanted = options.maxNewTokens ?? 128;
      return {
        index,
        prompt: ids,
        filled: 0,
        sequence: state.allocate(),
        generated: [],
        text: tokenizer === undefined ? null : createTextStream(tokenizer, stop),
        seed: typeof options.seed === "object" ? options.seed[index] : (options.seed ?? 0),
        most: Math.min(wanted, room),
        limit: wanted <= room ? "length" : "context",
      };
    });
    open = open.filter((r) => r.most > 0);
    // (entries, vocabulary), read anew at each step.
    let data = new Float32Array(0);
    while (open.length > 0) {
      signal?.throwIfAborted();
      // Requests that generate take one token each; the rest of the step goes to prompts, in order.
      let room = prefillTokens;
      const entries: { request: Request; sequence: Sequence; ids: ArrayLike<number>; draws: boolean }[] = [];
      for (const request of open) {
        const { prompt, filled, sequence, generated } = request;
        if (filled === prompt.length) entries.push({ request, sequence, ids: [generated[generated.length - 1]], draws: true });
        else if (room > 0) {
          const ids = prompt.subarray(filled, filled + room);
          room -= ids.length;
          request.filled += ids.length;
          entries.push({ request, sequence, ids, draws: request.filled === prompt.length });
        }
      }
      const norms = scope(() => {
        const logits = state.step(entries);
        if (data.length !== logits.size) data = new Float32Array(logits.size);
        logits.readInto(data);
        return noGrad(() => logsumexp(logits, -1)).dataSync();
      });
      for (const [i, { request, draws }] of entries.entries()) {
        if (!draws) continue;
        const vocabulary = data.length / entries.length;
        const logits = data.subarray(i * vocabulary, (i + 1) * vocabulary);
        const event = next(request, logits, norms[i], sampling, stopIds);
        if (event.done !== null) {
          state.free(request.sequence);
          open = open.filter((r) => r !== request);
        }
        yield event;
      }
      // Timers, sockets and Ctrl-C get their turn.
      await turn();
    }
  } finally {
    state.dispose();
  }
}

/** Draws a request's next token and says what it means. */
function next(request: Request, logits: Float32Array, norm: number, options: SamplingOptions, stopIds: ReadonlySet<number>): TokenEvent {
  const { index, prompt, generated, seed, most, limit, text: stream } = request;
  if (!Number.isFinite(norm)) {
    throw new NonFiniteError(
      `generate: the model's logits are not finite after ${prompt.length + generated.length} tokens of prompt ${index}, expected numbers, got ${norm}. The weights are damaged, or training diverged; try an earlier checkpoint.`,
    );
  }
  const id = sample(logits, options, prompt, generated, uniformAt(seed, generated.length));
  generated.push(id);
  const event: TokenEvent = { request: index, id, text: "", logprob: Math.fround(logits[id] - norm), done: generated.length === most ? limit : null };
  if (stopIds.has(id)) event.done = "stop";
  else if (stream !== null) {
    const { text, stopped } = stream.push(id);
    event.text = text;
    if (stopped) return { ...event, done: "stop" };
  }
  if (event.done !== null && stream !== null) event.text += stream.end().text;
  return event;
}

/** All of one prompt's text at once. */
export function generate(model: CausalLM, prompt: Prompt, options?: GenerateOptions): Promise<Generation>;
/** All texts of a batch, in the order of the prompts. */
export function generate(model: CausalLM, prompts: readonly Prompt[], options?: GenerateOptions): Promise<Generation[]>;
export async function generate(model: CausalLM, prompts: Prompt | readonly Prompt[], options: GenerateOptions = {}): Promise<Generation | Generation[]> {
  const single = typeof prompts === "string" || prompts instanceof Int32Array;
  const list = single ? [prompts] : prompts;
  const parts = list.map(() => ({ ids: [] as number[], text: "", logprobs: [] as number[], done: "length" as Done }));
  for await (const { request, id, text, logprob, done } of generateStream(model, list, options)) {
    const part = parts[request];
    part.ids.push(id);
    part.text += text;
    part.logprobs.push(logprob);
    if (done !== null) part.done = done;
  }
  const results = parts.map((p): Generation => ({ ...p, ids: Int32Array.from(p.ids), logprobs: Float32Array.from(p.logprobs) }));
  return single ? results[0] : results;
}

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

function promptIds(model: CausalLM, prompt: Prompt, index: number, tokenizer: Tokenizer | undefined): Int32Array {
  const { context, vocabulary } = model.dimensions;
  let ids: Int32Array;
  if (typeof prompt !== "string") ids = prompt;
  else if (tokenizer === undefined)
    throw new ConfigError("generate: a prompt of text without a tokenizer, expected options.tokenizer, got none. Pass the model's tokenizer, or token ids.");
  else {
    ids = tokenizer.encode(prompt).ids;
    if (ids.length === 0 && prompt.trim() !== "")
      throw new DataError(
        `generate: prompt ${index} has no tokens, expected at least one, got none from ${prompt.length} characters of text. The tokenizer's vocabulary is empty or not of this text; use the model's own.`,
      );
    // An empty text begins where the one before it ended.
    if (ids.length === 0) ids = Int32Array.from(endIds(tokenizer).slice(0, 1));
  }
  if (ids.length === 0) throw new DataError(`generate: prompt ${index} is empty, expected at least one token, got none. Give it a first word.`);
  if (ids.length > context)
    throw new DataError(`generate: prompt ${index} is too long, expected at most ${context} tokens (the model's context), got ${ids.length}. Shorten it.`);
  checkTokenIds(`generate: prompt ${index}`, ids, vocabulary, OF_MODEL);
  return ids;
}

/** Those of the options that decide how a token is drawn. */
function samplingOf(options: GenerateOptions): SamplingOptions {
  return Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(SAMPLING_OPTIONS, key)));
}

function checkOptions(prompts: readonly Prompt[], options: GenerateOptions): void {
  checkKeys("generate", options, OPTIONS);
  checkSampling(samplingOf(options));
  const { maxNewTokens, stop = [], seed = 0, prefillTokens = 1, tokenizer } = options;
  const problems: string[] = [];
  if (maxNewTokens !== undefined && !(Number.isInteger(maxNewTokens) && maxNewTokens >= 0))
    problems.push(`maxNewTokens: expected a whole number of at least 0, got ${maxNewTokens}`);
  if (!(Number.isInteger(prefillTokens) && prefillTokens >= 1)) problems.push(`prefillTokens: expected a whole number of at least 1, got ${prefillTokens}`);
  if (stop.includes("")) problems.push("stop: expected strings with at least one character, got an empty one");
  if (stop.length > 0 && tokenizer === undefined) problems.push("stop: expected a tokenizer with stop strings, got none");
  const seeds = typeof seed === "object" ? seed : [seed];
  if (typeof seed === "object" && seed.length !== prompts.length)
    problems.push(`seed: expected ${prompts.length} of them, one for each prompt, got ${seed.length}`);
  for (const s of seeds) if (!(Number.isSafeInteger(s) && s >= 0)) problems.push(`seed: expected a whole number of at least 0, got ${s}`);
  if (problems.length > 0) throw new ConfigError(`generate: bad options. ${problems.join("; ")}. Correct them.`);
}

/** One prompt on its way: what was asked, what has come so far, and what its next token means. */
import { ConfigError, DataError, NonFiniteError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { endIds } from "../tokenizers/end-ids.ts";
import { type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { OF_MODEL, type Sequence } from "./paged-state.ts";
import type { PrefixNode } from "./prefix-cache.ts";
import { checkSampling, SAMPLING_OPTIONS, type SamplerState, type SamplingOptions, sample, samplerState, takesLargest, uniformAt } from "./samplers.ts";
import { type Pace, startPace } from "./speculation.ts";
import { createTextStream, type TextStream } from "./text-stream.ts";

/** Text (with a tokenizer) or token ids. */
export type Prompt = string | Int32Array;

/** How one prompt is continued. */
export interface RequestOptions extends SamplingOptions {
  /** Tokens to generate at most. Default 128, or as many as the model's context has room for. */
  maxNewTokens?: number;
  /** Generation ends before the first of these strings. */
  stop?: readonly string[];
  /** Generation ends at any of these ids, which give no text. Default: the tokenizer's end-of-text token (`endIds`); an empty list never ends early. */
  stopIds?: readonly number[];
  /** What the request's draws depend on, and nothing else does: the same seed gives the same text, alone or in any batch. Default 0. */
  seed?: number;
  /** With each token, log p of so many of the likeliest ones at its place. Default 0. */
  topLogprobs?: number;
}

export const REQUEST_OPTIONS: KnownOptions<RequestOptions> = {
  ...SAMPLING_OPTIONS,
  maxNewTokens: true,
  stop: true,
  stopIds: true,
  seed: true,
  topLogprobs: true,
};

/** Why a request ended: a stop string or id, `maxNewTokens`, or the end of the model's context. */
export type Done = "stop" | "length" | "context";

/** A token and log p of it in the model's own distribution (before penalties, temperature and cuts), in nats. */
export interface TokenLogprob {
  id: number;
  logprob: number;
}

/** A token as it is generated. */
export interface TokenEvent extends TokenLogprob {
  /** Which prompt, counted from 0. */
  request: number;
  /** Text that is certain with this token, often empty or more than the token's own; all of a request's joined is its text. */
  text: string;
  /** Set with a request's last token. */
  done: Done | null;
  /** The likeliest tokens at this place, likeliest first, where `topLogprobs` asked for them. */
  topLogprobs?: readonly TokenLogprob[];
  /** What the request took, with its last token. */
  usage?: RequestUsage;
}

/** What a request took. */
export interface RequestUsage {
  promptTokens: number;
  /** Prompt tokens whose keys and values were there already. */
  cachedTokens: number;
  generatedTokens: number;
  /** Tokens that speculation guessed, and those of them that were right. */
  draftedTokens: number;
  acceptedTokens: number;
  /** How often its pages were taken away and computed again. */
  preemptions: number;
}

/** The batch's view of a request. @internal */
export interface Request {
  /** Which one, in order of arrival. */
  readonly index: number;
  /** What messages call its prompt: `prompt 3` of several, `the prompt` where there is one. */
  readonly name: string;
  readonly prompt: Int32Array;
  readonly generated: number[];
  /** Prompt and generated tokens, the first `length` items. */
  ids: Int32Array;
  length: number;
  /** Its keys and values; null while it waits. */
  sequence: Sequence | null;
  /** Where its pages end in the prefix cache; null where they are not kept. */
  node: PrefixNode | null;
  /** Positions that the prefix cache has seen of it. */
  kept: number;
  /** The step that last took some of its prompt. */
  served: number;
  cancelled: boolean;
  readonly options: RequestOptions;
  readonly sampling: SamplingOptions;
  readonly sampler: SamplerState;
  readonly stopIds: ReadonlySet<number>;
  readonly text: TextStream | null;
  readonly seed: number;
  /** Tokens that it may generate, and why it ends there. */
  readonly most: number;
  readonly limit: Done;
  /** Guesses for its next tokens, checked by the step that is next. */
  draft: readonly number[];
  readonly pace: Pace;
  readonly usage: RequestUsage;
}

/** @throws ConfigError for bad options, DataError for a prompt that the model cannot take; both name it */
export function createRequest(
  where: string,
  model: CausalLM,
  prompt: Prompt,
  { index, name }: Pick<Request, "index" | "name">,
  options: RequestOptions,
  tokenizer?: Tokenizer,
): Request {
  // Copied: the caller may go on with the array.
  const ids = promptIds(where, model, prompt, name, tokenizer).slice();
  const { maxNewTokens: wanted = 128, stop = [], seed = 0 } = options;
  // The last token needs no place in the context: nothing follows it.
  const room = model.dimensions.context - ids.length + 1;
  const sampling = samplingOf(options);
  const beyond = Object.keys(sampling.logitBias ?? {}).filter((id) => Number(id) >= model.dimensions.vocabulary);
  if (beyond.length > 0)
    throw new ConfigError(
      `${where}: logitBias for tokens that the model lacks, expected ids below ${model.dimensions.vocabulary}, got ${beyond.slice(0, 5).join(", ")}. Was the text looked up in another tokenizer?`,
    );
  return {
    index,
    name,
    prompt: ids,
    generated: [],
    ids,
    length: ids.length,
    sequence: null,
    node: null,
    kept: 0,
    served: -1,
    cancelled: false,
    options,
    sampling,
    sampler: samplerState(sampling),
    stopIds: new Set(options.stopIds ?? (tokenizer === undefined ? [] : endIds(tokenizer))),
    text: tokenizer === undefined ? null : createTextStream(tokenizer, stop),
    seed,
    most: Math.min(wanted, room),
    limit: wanted <= room ? "length" : "context",
    draft: [],
    pace: startPace(),
    usage: { promptTokens: ids.length, cachedTokens: 0, generatedTokens: 0, draftedTokens: 0, acceptedTokens: 0, preemptions: 0 },
  };
}

/** Those of the options that decide how a token is drawn. */
function samplingOf(options: RequestOptions): SamplingOptions {
  return Object.fromEntries(Object.entries(options).filter(([key, value]) => Object.hasOwn(SAMPLING_OPTIONS, key) && value !== undefined));
}

/** One row of logits: what generation always needs of it, and the row itself, which costs a copy. */
export interface LogitsRow {
  /** Its logsumexp. */
  readonly norm: number;
  /** The largest, and the first place where it stands. */
  readonly largest: number;
  readonly at: number;
  /** All of them, where a request of the step `readsLogits`. */
  readonly logits: Float32Array;
}

/** Whether a request's next token takes more than the largest logit. */
export const readsLogits = ({ sampling, options }: Request): boolean => !takesLargest(sampling) || (options.topLogprobs ?? 0) > 0;

/**
 * Draws a request's next token from its row of logits and says what it means.
 * @throws NonFiniteError where the logits are no numbers
 */
export function nextToken(request: Request, { norm, largest, at, logits }: LogitsRow): TokenEvent {
  const { index, generated, text: stream } = request;
  if (!Number.isFinite(norm)) {
    throw new NonFiniteError(
      `generate: the model's logits are not finite after ${request.length} tokens of ${request.name}, expected numbers, got ${norm}. The weights are damaged, or training diverged; try an earlier checkpoint.`,
    );
  }
  const reads = readsLogits(request);
  const id = reads ? sample(logits, request.sampling, request.prompt, generated, uniformAt(request.seed, generated.length), request.sampler) : at;
  append(request, id);
  const event: TokenEvent = {
    request: index,
    id,
    text: "",
    logprob: Math.fround((reads ? logits[id] : largest) - norm),
    done: generated.length === request.most ? request.limit : null,
  };
  const { topLogprobs = 0 } = request.options;
  if (topLogprobs > 0) event.topLogprobs = likeliest(logits, norm, topLogprobs);
  if (request.stopIds.has(id)) event.done = "stop";
  else if (stream !== null) {
    const { text, stopped } = stream.push(id);
    event.text = text;
    if (stopped) return { ...event, done: "stop" };
  }
  if (event.done !== null && stream !== null) event.text += stream.end().text;
  return event;
}

function append(request: Request, id: number): void {
  request.generated.push(id);
  if (request.length === request.ids.length) {
    const grown = new Int32Array(Math.min(2 * request.length, request.length + request.most) + 16);
    grown.set(request.ids);
    request.ids = grown;
  }
  request.ids[request.length++] = id;
}

/** The n largest, largest first, equals by id. */
function likeliest(logits: Float32Array, norm: number, n: number): TokenLogprob[] {
  const top: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    if (top.length === n && !(logits[id] > logits[top[n - 1]])) continue;
    if (top.length === n) top.pop();
    let at = top.length;
    while (at > 0 && logits[id] > logits[top[at - 1]]) at--;
    top.splice(at, 0, id);
  }
  return top.map((id) => ({ id, logprob: Math.fround(logits[id] - norm) }));
}

/** @throws DataError or ConfigError that calls the prompt by its name */
export function promptIds(where: string, model: CausalLM, prompt: Prompt, name: string, tokenizer: Tokenizer | undefined): Int32Array {
  const { context, vocabulary } = model.dimensions;
  let ids: Int32Array;
  if (typeof prompt !== "string") ids = prompt;
  else if (tokenizer === undefined)
    throw new ConfigError(`${where}: a prompt of text without a tokenizer, expected options.tokenizer, got none. Pass the model's tokenizer, or token ids.`);
  else {
    ids = tokenizer.encode(prompt, WHOLE).ids;
    if (ids.length === 0 && prompt.trim() !== "")
      throw new DataError(
        `${where}: ${name} has no tokens, expected at least one, got none from ${prompt.length} characters of text. The tokenizer's vocabulary is empty or not of this text; use the model's own.`,
      );
    // An empty text begins where the one before it ended.
    if (ids.length === 0) ids = Int32Array.from(endIds(tokenizer).slice(0, 1));
  }
  if (ids.length === 0) throw new DataError(`${where}: ${name} is empty, expected at least one token, got none. Give it a first word.`);
  if (ids.length > context)
    throw new DataError(`${where}: ${name} is too long, expected at most ${context} tokens (the model's context), got ${ids.length}. Shorten it.`);
  checkTokenIds(`${where}: ${name}`, ids, vocabulary, OF_MODEL);
  return ids;
}

/** @throws ConfigError that lists every bad option of a request, and `more` found elsewhere */
export function checkRequest(where: string, options: RequestOptions, tokenizer: Tokenizer | undefined, more: readonly string[] = []): void {
  checkOptions(where, options, REQUEST_OPTIONS);
  checkSampling(samplingOf(options), where);
  const { maxNewTokens, stop = [], seed = 0, topLogprobs = 0 } = options;
  const problems: string[] = [];
  if (maxNewTokens !== undefined && !(Number.isInteger(maxNewTokens) && maxNewTokens >= 0))
    problems.push(`maxNewTokens: expected a whole number of at least 0, got ${maxNewTokens}`);
  if (stop.includes("")) problems.push("stop: expected strings with at least one character, got an empty one");
  if (stop.length > 0 && tokenizer === undefined) problems.push("stop: expected a tokenizer with stop strings, got none");
  if (!(Number.isSafeInteger(seed) && seed >= 0)) problems.push(`seed: expected a whole number of at least 0, got ${seed}`);
  if (!(Number.isInteger(topLogprobs) && topLogprobs >= 0)) problems.push(`topLogprobs: expected a whole number of at least 0, got ${topLogprobs}`);
  problems.push(...more);
  if (problems.length > 0) throw new ConfigError(`${where}: bad options. ${problems.join("; ")}. Correct them.`);
}

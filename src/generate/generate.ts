/** Text from a model: prompts in, tokens out one by one, any number of prompts in one ragged batch. */
import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions as checkKeys, type KnownOptions } from "../options.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { checkRequest, createRequest, type Done, type Prompt, REQUEST_OPTIONS, type RequestOptions, type TokenEvent, type TokenLogprob } from "./request.ts";
import { BATCH_OPTIONS, type BatchOptions, createScheduler } from "./scheduler.ts";

/** How prompts are continued. */
export interface GenerateOptions extends Omit<RequestOptions, "seed">, BatchOptions {
  /** Needed for prompts of text, for text in the result, and for stop strings. */
  tokenizer?: Tokenizer;
  /** What each request's draws depend on, and nothing else does: the same seed gives the same text, alone or in any batch. A list has one for each prompt. Default 0. */
  seed?: number | readonly number[];
  /** Stops between two steps; the generator then throws the signal's reason. */
  signal?: AbortSignal;
}

const OPTIONS: KnownOptions<GenerateOptions> = { ...REQUEST_OPTIONS, ...BATCH_OPTIONS, tokenizer: true, signal: true };

/** Options of the functions that search for a text in place of drawing one. */
const SEARCHES: Readonly<Record<string, string>> = {
  numBeams: "beamSearch",
  lengthPenalty: "beamSearch",
  earlyStopping: "beamSearch",
  numReturnSequences: "beamSearch",
  penaltyAlpha: "contrastiveSearch",
};

/** A prompt's continuation. */
export interface Generation {
  /** What was generated, the prompt not included; a stop id is the last of them. */
  ids: Int32Array;
  text: string;
  /** As `TokenEvent.logprob`, one for each id. */
  logprobs: Float32Array;
  /** As `TokenEvent.topLogprobs`, one for each id, where they were asked for. */
  topLogprobs?: (readonly TokenLogprob[])[];
  done: Done;
}

const listOf = (prompts: Prompt | readonly Prompt[]): readonly Prompt[] => (typeof prompts === "string" || prompts instanceof Int32Array ? [prompts] : prompts);

/** Yields each token of each request as it comes. The texts are computed as they are asked for: nothing runs between two events but what they need. */
export async function* generateStream(
  model: CausalLM,
  prompts: Prompt | readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<TokenEvent, void, undefined> {
  const { tokenizer, signal } = options;
  const list = listOf(prompts);
  const { request, batch, seeds } = checked(list, options);
  const scheduler = createScheduler("generate", model, batch);
  try {
    for (const [index, prompt] of list.entries()) {
      const r = createRequest(
        "generate",
        model,
        prompt,
        { index, name: list.length === 1 ? "the prompt" : `prompt ${index}` },
        { ...request, seed: seeds[index] },
        tokenizer,
      );
      if (r.most > 0) scheduler.add(r);
    }
    while (scheduler.size() > 0) {
      signal?.throwIfAborted();
      for (const { event, error } of scheduler.step()) {
        if (error !== undefined) throw error;
        yield event;
      }
      // Timers, sockets and Ctrl-C get their turn.
      await turn();
    }
  } finally {
    scheduler.dispose();
  }
}

/** All of one prompt's text at once. */
export function generate(model: CausalLM, prompt: Prompt, options?: GenerateOptions): Promise<Generation>;
/** All texts of a batch, in the order of the prompts. */
export function generate(model: CausalLM, prompts: readonly Prompt[], options?: GenerateOptions): Promise<Generation[]>;
export async function generate(model: CausalLM, prompts: Prompt | readonly Prompt[], options: GenerateOptions = {}): Promise<Generation | Generation[]> {
  const list = listOf(prompts);
  const parts: TokenEvent[][] = list.map(() => []);
  for await (const event of generateStream(model, list, options)) parts[event.request].push(event);
  const results = parts.map(joined);
  return list === prompts ? results : results[0];
}

/** The events of one request as a whole. */
export function joined(events: readonly TokenEvent[]): Generation {
  const whole: Generation = {
    ids: Int32Array.from(events, (e) => e.id),
    text: events.map((e) => e.text).join(""),
    logprobs: Float32Array.from(events, (e) => e.logprob),
    done: events.at(-1)?.done ?? "length",
  };
  if (events[0]?.topLogprobs !== undefined) whole.topLogprobs = events.map((e) => e.topLogprobs ?? []);
  return whole;
}

/** The options of a call, each where it belongs, after their checks. */
function checked(prompts: readonly Prompt[], options: GenerateOptions): { request: RequestOptions; batch: BatchOptions; seeds: readonly number[] } {
  for (const key in options)
    if (Object.hasOwn(SEARCHES, key))
      throw new ConfigError(
        `generate: ${key} is an option of ${SEARCHES[key]}, expected options of drawing tokens, got one of a search. Call ${SEARCHES[key]}(model, prompt, { ${key}, … }).`,
      );
  checkKeys("generate", options, OPTIONS);
  const { seed = 0, tokenizer } = options;
  const part = <T>(known: Readonly<Record<string, true>>): T =>
    Object.fromEntries(Object.entries(options).filter(([key]) => key !== "seed" && Object.hasOwn(known, key))) as T;
  const request = part<RequestOptions>(REQUEST_OPTIONS);
  const seeds = typeof seed === "object" ? seed : prompts.map(() => seed);
  const problems: string[] = [];
  if (typeof seed === "object" && seed.length !== prompts.length)
    problems.push(`seed: expected ${prompts.length} of them, one for each prompt, got ${seed.length}`);
  for (const s of new Set(typeof seed === "object" ? seed : [seed]))
    if (!(Number.isSafeInteger(s) && s >= 0)) problems.push(`seed: expected a whole number of at least 0, got ${s}`);
  checkRequest("generate", request, tokenizer, problems);
  return { request, batch: part<BatchOptions>(BATCH_OPTIONS), seeds };
}

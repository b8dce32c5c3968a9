/** Perplexity of a text by a sliding window: every token is predicted once, from as much before it as the stride leaves. */
import { ConfigError, DataError } from "../errors.ts";
import { logprobs } from "../generate/index.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { type Encoding, type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { type Likelihood, likelihood } from "./likelihood.ts";

/** The windows that a text is scored in. */
export interface PerplexityOptions {
  /** Tokens in a window. Default: the model's context. */
  context?: number;
  /** New tokens that each window after the first scores: the smaller, the more context they have and the longer it takes. Default: half of `context`. */
  stride?: number;
  signal?: AbortSignal;
  /** Told after each window; `of` is null where documents come one by one, so that nobody knows how many follow. */
  progress?: (scored: number, of: number | null) => void;
}

const OPTIONS: KnownOptions<PerplexityOptions> = { context: true, stride: true, signal: true, progress: true };

/** How well a model predicts a text. */
export interface TextFit extends Likelihood {
  bitsPerByte: number;
  bytes: number;
  /** Words of the text, as white space parts it. */
  words: number;
}

/**
 * How well a model predicts a text, or several documents, each on its own; of those that come one by one it holds one. Nothing stands before a document's first token, so it is
 * not scored, nor are its bytes counted (unless it is a special token that the tokenizer puts there, which has none).
 *
 * @throws DataError when no document has two tokens, ConfigError for a context or stride that does not fit
 */
export async function perplexity(
  model: CausalLM,
  tokenizer: Tokenizer,
  text: string | readonly string[] | AsyncIterable<string>,
  options: PerplexityOptions = {},
): Promise<TextFit> {
  checkOptions("perplexity", options, OPTIONS);
  const documents = typeof text === "string" ? [text] : text;
  const bytesOf = (t: string) => new TextEncoder().encode(t).length;
  const { progress } = options;
  const all =
    progress && !(Symbol.asyncIterator in documents) ? documents.reduce((n, document) => n + Math.max(0, tokenizer.count(document, WHOLE) - 1), 0) : null;
  let [sum, tokens, bytes, words] = [0, 0, 0, 0];
  for await (const document of documents) {
    const encoding = tokenizer.encode(document, WHOLE);
    const { ids } = encoding;
    if (ids.length < 2) continue;
    const before = tokens;
    const fit = await negativeLogLikelihood(model, ids, { ...options, progress: (scored) => progress?.(before + scored - 1, all) });
    sum += fit.sum;
    tokens += fit.tokens;
    bytes += bytesOf(document) - ownBytes(tokenizer, encoding, document);
    words += document.split(/\s+/).filter((w) => w !== "").length;
  }
  if (tokens === 0) throw new DataError("perplexity: the text is too short, expected at least 2 tokens, got fewer. Give a longer text.");
  return { ...likelihood(sum, tokens, bytes), bytes, bitsPerByte: sum / Math.LN2 / bytes, words };
}

/** Bytes of the text that its first token stands for; a blank that the tokenizer puts before it is none of them. */
function ownBytes({ spec: { model }, byteLength }: Tokenizer, encoding: Encoding, text: string): number {
  if (model.kind === "pipeline" || model.kind === "sentencepiece") return new TextEncoder().encode(text.slice(...encoding.offsets[0])).length;
  // These have no places yet, and working them out takes a pass over the text.
  const blank = model.kind === "bpe" && model.addPrefixSpace && !text.startsWith(" ") ? 1 : 0;
  return Math.max(0, byteLength(encoding.ids[0]) - blank);
}

/** The same for token ids of any length: Σ −log p in nats over all but the first, and how many they are. */
export async function negativeLogLikelihood(model: CausalLM, ids: Int32Array, options: PerplexityOptions = {}): Promise<{ sum: number; tokens: number }> {
  checkOptions("perplexity", options, OPTIONS);
  const { signal, progress } = options;
  const most = model.dimensions.context;
  const context = options.context ?? most;
  if (!(Number.isInteger(context) && context >= 2 && context <= most))
    throw new ConfigError(`perplexity: bad context, expected a whole number from 2 to ${most} (the model's context), got ${context}. Correct it.`);
  const stride = options.stride ?? Math.ceil(context / 2);
  if (!(Number.isInteger(stride) && stride >= 1 && stride < context))
    throw new ConfigError(`perplexity: bad stride, expected a whole number from 1 to ${context - 1} (the context less one), got ${stride}. Correct it.`);
  let sum = 0;
  let scored = 1;
  for (let end = Math.min(context, ids.length); ; end = Math.min(end + stride, ids.length)) {
    signal?.throwIfAborted();
    const begin = Math.max(0, end - context);
    const window = logprobs(model, ids.subarray(begin, end));
    // Item t is about id begin + t + 1; those before `scored` have been counted by earlier windows.
    for (let t = scored - begin - 1; t < window.length; t++) sum -= window[t];
    scored = end;
    progress?.(scored, ids.length);
    if (end === ids.length) return { sum, tokens: ids.length - 1 };
    await turn();
  }
}

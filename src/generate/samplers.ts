/**
 * From logits to the next token. What applies, in this order, which is that of Hugging Face's `generate` where that has it:
 *
 * | step | options                                                | at temperature 0 too |
 * | ---- | ------------------------------------------------------ | -------------------- |
 * | 1    | logitBias                                              | yes                  |
 * | 2    | repetitionPenalty                                      | yes                  |
 * | 3    | presencePenalty, frequencyPenalty                      | yes                  |
 * | 4    | dryMultiplier, dryBase, dryAllowedLength, dryRange, dryBreakers | yes         |
 * | 5    | topNSigma                                              |                      |
 * | 6    | temperature                                            |                      |
 * | 7    | topK                                                   |                      |
 * | 8    | topP                                                   |                      |
 * | 9    | minP                                                   |                      |
 * | 10   | typicalP                                               |                      |
 * | 11   | mirostatTau, mirostatEta                               |                      |
 *
 * Then the token is drawn. The steps themselves are in `shapers.ts`.
 */

import { ConfigError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { STREAMS } from "../tensor/index.ts";
import { philoxInto } from "../tensor/philox.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { expOfNegative } from "./exp.ts";
import {
  addLogitBias,
  applyTemperature,
  keepMinP,
  keepSurprise,
  keepTopK,
  keepTopNSigma,
  keepTopP,
  keepTypical,
  maximum,
  penalizeDry,
  penalizePresence,
  penalizeRepetition,
} from "./shapers.ts";

/** How the next token is drawn from the logits. */
export interface SamplingOptions {
  /** Divides the logits: below 1 sharper, above 1 flatter; 0 always takes the likeliest token. Default 1. */
  temperature?: number;
  /** Only the k likeliest tokens (and those as likely as the k-th); 0 is off. Default 0. */
  topK?: number;
  /** Only the likeliest tokens that together reach this probability (nucleus sampling, Holtzman et al. 2020). Default 1: off. */
  topP?: number;
  /** Only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024). Default 0: off. */
  minP?: number;
  /** Divides positive and multiplies negative logits of every token so far, the prompt's included (Keskar et al. 2019, CTRL, 4.1). Default 1: off. */
  repetitionPenalty?: number;
  /** Taken from the logit of each token that has been generated (OpenAI's API). Default 0. */
  presencePenalty?: number;
  /** Taken from a token's logit for each time it has been generated (OpenAI's API). Default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of single tokens: id → bias; −Infinity forbids a token. */
  logitBias?: Readonly<Record<number, number>>;
  /** Only the tokens whose surprise is nearest to the distribution's entropy, up to this probability (Meister et al. 2023). Default 1: off. */
  typicalP?: number;
  /** Only tokens whose logit is within so many standard deviations of the largest (Tang et al. 2024). Default 0: off. */
  topNSigma?: number;
  /** Bits of surprise a token that the text is steered to, by Mirostat 2.0 (Basu et al. 2021): 3 is tame, 5 usual, 8 wild. Default 0: off. */
  mirostatTau?: number;
  /** How fast Mirostat steers. Default 0.1. */
  mirostatEta?: number;
  /** DRY: taken from the logit of a token that would go on with a repetition, times `dryBase` for each token by which the repetition is longer than `dryAllowedLength`. Usual 0.8; default 0: off. */
  dryMultiplier?: number;
  /** Default 1.75. */
  dryBase?: number;
  /** Repetitions shorter than this cost nothing. Default 2. */
  dryAllowedLength?: number;
  /** Tokens that are looked back for repetitions, prompt included; 0 is all. Default 0. */
  dryRange?: number;
  /** Ids that no repetition reaches across (line breaks, quotes: `breakerIds`). */
  dryBreakers?: readonly number[];
}

export const SAMPLING_OPTIONS: KnownOptions<SamplingOptions> = {
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  repetitionPenalty: true,
  presencePenalty: true,
  frequencyPenalty: true,
  logitBias: true,
  typicalP: true,
  topNSigma: true,
  mirostatTau: true,
  mirostatEta: true,
  dryMultiplier: true,
  dryBase: true,
  dryAllowedLength: true,
  dryRange: true,
  dryBreakers: true,
};

const RANGES: readonly [key: Exclude<keyof SamplingOptions, "logitBias" | "dryBreakers">, expected: string, good: (x: number) => boolean][] = [
  ["temperature", "a number of at least 0", (x) => x >= 0 && x < Infinity],
  ["topK", "a whole number of at least 0 (0 is off)", (x) => Number.isInteger(x) && x >= 0],
  ["topP", "a number above 0, at most 1", (x) => x > 0 && x <= 1],
  ["minP", "a number from 0 to 1", (x) => x >= 0 && x <= 1],
  ["repetitionPenalty", "a number above 0 (1 is off)", (x) => x > 0 && x < Infinity],
  ["presencePenalty", "a finite number", Number.isFinite],
  ["frequencyPenalty", "a finite number", Number.isFinite],
  ["typicalP", "a number above 0, at most 1", (x) => x > 0 && x <= 1],
  ["topNSigma", "a number of at least 0 (0 is off)", (x) => x >= 0],
  ["mirostatTau", "a number of at least 0 (0 is off)", (x) => x >= 0 && x < Infinity],
  ["mirostatEta", "a number above 0", (x) => x > 0 && x < Infinity],
  ["dryMultiplier", "a number of at least 0 (0 is off)", (x) => x >= 0 && x < Infinity],
  ["dryBase", "a number of at least 1", (x) => x >= 1 && x < Infinity],
  ["dryAllowedLength", "a whole number of at least 1", (x) => Number.isInteger(x) && x >= 1],
  ["dryRange", "a whole number of at least 0 (0 is all)", (x) => Number.isInteger(x) && x >= 0],
];

/** @throws ConfigError that lists every option outside its range */
export function checkSampling(options: SamplingOptions, where = "generate"): void {
  checkOptions(where, options, SAMPLING_OPTIONS);
  const problems = RANGES.filter(([key, , good]) => options[key] !== undefined && !good(options[key] as number)).map(
    ([key, expected]) => `${key}: expected ${expected}, got ${options[key]}`,
  );
  for (const [id, bias] of Object.entries(options.logitBias ?? {})) {
    if (!(Number.isInteger(Number(id)) && Number(id) >= 0) || Number.isNaN(bias) || bias === Infinity)
      problems.push(`logitBias: expected token ids with numbers below infinity, got ${id}: ${bias}`);
  }
  for (const id of options.dryBreakers ?? []) if (!(Number.isInteger(id) && id >= 0)) problems.push(`dryBreakers: expected token ids, got ${id}`);
  if (problems.length > 0) throw new ConfigError(`${where}: bad sampling options. ${problems.join("; ")}. Correct them.`);
}

/** What a request's sampler carries from one token to the next. */
export interface SamplerState {
  /** Mirostat's cut, in bits of surprise. */
  mu: number;
}

/** Where a text begins. */
export const samplerState = (options: SamplingOptions): SamplerState => ({ mu: 2 * (options.mirostatTau ?? 0) });

/** Everything that stands between the model's logits and the draw, in order. `prompt` and `generated` are the ids so far. */
export function shapeLogits(
  logits: Float32Array,
  options: SamplingOptions,
  prompt: ArrayLike<number>,
  generated: readonly number[],
  state: SamplerState = samplerState(options),
): Float32Array {
  checkOptions("shapeLogits", options, SAMPLING_OPTIONS);
  const { temperature = 1, topK = 0, topP = 1, minP = 0, typicalP = 1, topNSigma = 0, mirostatTau = 0 } = options;
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias, dryMultiplier = 0 } = options;
  if (logitBias !== undefined) addLogitBias(logits, logitBias);
  if (repetitionPenalty !== 1) penalizeRepetition(logits, [...Array.from(prompt), ...generated], repetitionPenalty);
  if (presencePenalty !== 0 || frequencyPenalty !== 0) penalizePresence(logits, generated, presencePenalty, frequencyPenalty);
  if (dryMultiplier > 0) {
    const { dryBase = 1.75, dryAllowedLength = 2, dryRange = 0, dryBreakers = [] } = options;
    const ids = [...Array.from(prompt), ...generated].slice(-dryRange);
    penalizeDry(logits, ids, { multiplier: dryMultiplier, base: dryBase, allowedLength: dryAllowedLength, breakers: new Set(dryBreakers) });
  }
  if (temperature === 0) return logits;
  if (topNSigma > 0) keepTopNSigma(logits, topNSigma);
  applyTemperature(logits, temperature);
  if (topK > 0) keepTopK(logits, topK);
  keepTopP(logits, topP);
  keepMinP(logits, minP);
  keepTypical(logits, typicalP);
  return mirostatTau > 0 ? keepSurprise(logits, state.mu) : logits;
}

/** The place of the largest logit, the first of equals. */
export function greedy(logits: Float32Array): number {
  const n = logits.length;
  let most = -Infinity;
  let at = -1;
  let i = 0;
  while (i < n) {
    // Four at a time take half as long, and hardly any four have a new largest.
    if (i + 4 <= n && !(logits[i] > most || logits[i + 1] > most || logits[i + 2] > most || logits[i + 3] > most)) {
      i += 4;
      continue;
    }
    if (logits[i] > most) {
      most = logits[i];
      at = i;
    }
    i++;
  }
  return at >= 0 ? at : Math.max(0, logits.indexOf(-Infinity)); // nothing above −∞, or nothing but NaN
}

/** Tokens whose weights `draw` adds up as one. */
const PART = 256;

/** The token at `u` in [0, 1) of the distribution softmax(logits), laid out in the order of ids; `most` is the largest logit. */
export function draw(logits: Float32Array, u: number, most = maximum(logits)): number {
  const n = logits.length;
  // Sums of parts first: then only the part where the draw falls is gone through again.
  const sums = new Float64Array(Math.ceil(n / PART));
  let total = 0;
  for (let p = 0; p < sums.length; p++) {
    const end = Math.min(n, (p + 1) * PART);
    let sum = 0;
    for (let i = p * PART; i < end; i++) sum += expOfNegative(logits[i] - most);
    sums[p] = sum;
    total += sum;
  }
  let rest = u * total;
  let part = 0;
  while (part + 1 < sums.length && rest >= sums[part]) rest -= sums[part++];
  let last = -1;
  for (let i = part * PART; i < n; i++) {
    const weight = expOfNegative(logits[i] - most);
    if (weight === 0) continue;
    rest -= weight;
    if (rest < 0) return i;
    last = i;
  }
  if (last >= 0) return last; // rounding may leave a rest at the very end
  for (let i = part * PART - 1; i > 0; i--) if (expOfNegative(logits[i] - most) > 0) return i;
  return 0;
}

/** The number in [0, 1) that a request draws its token at `place` (0, 1, …) with: Philox on the sampling stream, 53 bits. */
export function uniformAt(seed: number, place: number): number {
  const words = new Uint32Array(4);
  philoxInto(words, place, Math.floor(place / 0x1_0000_0000), STREAMS.sampling, 0, seed, Math.floor(seed / 0x1_0000_0000));
  return ((words[0] >>> 5) * 67108864 + (words[1] >>> 6)) / 9007199254740992;
}

/** Whether the next token is that of the largest logit as the model gives them, whatever has come before. */
export function takesLargest(options: SamplingOptions): boolean {
  const { temperature = 1, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias, dryMultiplier = 0 } = options;
  const penalized = repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0 || logitBias !== undefined || dryMultiplier > 0;
  return temperature === 0 && !penalized;
}

/** The next token. The logits stay as they are; `state`, which Mirostat needs, goes on by one token. */
export function sample(
  logits: Float32Array,
  options: SamplingOptions,
  prompt: ArrayLike<number>,
  generated: readonly number[],
  u: number,
  state: SamplerState = samplerState(options),
): number {
  checkOptions("sample", options, SAMPLING_OPTIONS);
  const { temperature = 1, mirostatTau = 0 } = options;
  // The commonest case needs no copy of a whole vocabulary.
  if (takesLargest(options)) return greedy(logits);
  const shaped = shapeLogits(logits.slice(), options, prompt, generated, state);
  const most = maximum(shaped);
  if (most === -Infinity)
    throw new ConfigError("sample: every token is forbidden, expected one that may come, got logitBias −Infinity for all. Allow at least one.");
  if (temperature === 0) return greedy(shaped);
  const id = draw(shaped, u, most);
  if (mirostatTau > 0) {
    // The surprise among what was left (Basu et al., algorithm 2): the cut moves until it is tau on average.
    const { mirostatEta = 0.1 } = options;
    let total = 0;
    for (let i = 0; i < shaped.length; i++) total += expOfNegative(shaped[i] - most);
    state.mu -= mirostatEta * (Math.log2(total) - (shaped[id] - most) / Math.LN2 - mirostatTau);
  }
  return id;
}

/** The ids whose text has one of `texts` in it, for `dryBreakers`. */
export function breakerIds(tokenizer: Tokenizer, texts: readonly string[]): number[] {
  const ids: number[] = [];
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    const text = tokenizer.decode([id]);
    if (texts.some((t) => text.includes(t))) ids.push(id);
  }
  return ids;
}

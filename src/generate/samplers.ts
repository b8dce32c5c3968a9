/**
 * From logits to the next token. Every function takes one row of logits (vocabulary), changes it in place and gives it back; what may
 * not come is −∞. `shapeLogits` applies them in the order of Hugging Face's `generate`: logit bias, penalties, temperature, top-k, top-p,
 * min-p. Nothing sorts the whole vocabulary.
 */
import { ConfigError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { STREAMS } from "../tensor/index.ts";
import { philoxInto } from "../tensor/philox.ts";

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
};

const RANGES: readonly [key: keyof SamplingOptions, expected: string, good: (x: number) => boolean][] = [
  ["temperature", "a number of at least 0", (x) => x >= 0 && x < Infinity],
  ["topK", "a whole number of at least 0 (0 is off)", (x) => Number.isInteger(x) && x >= 0],
  ["topP", "a number above 0, at most 1", (x) => x > 0 && x <= 1],
  ["minP", "a number from 0 to 1", (x) => x >= 0 && x <= 1],
  ["repetitionPenalty", "a number above 0 (1 is off)", (x) => x > 0 && x < Infinity],
  ["presencePenalty", "a finite number", Number.isFinite],
  ["frequencyPenalty", "a finite number", Number.isFinite],
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
  if (problems.length > 0) throw new ConfigError(`${where}: bad sampling options. ${problems.join("; ")}. Correct them.`);
}

// A penalty may be larger than what float32 holds; the token is then the likeliest there can be, and not infinitely likely, which nothing can be drawn from.
const LARGEST = 3.4028234663852886e38;
const bounded = (logit: number): number => Math.min(logit, LARGEST);

/** Adds a bias to single tokens. Ids beyond the vocabulary are ignored. */
export function addLogitBias(logits: Float32Array, bias: Readonly<Record<number, number>>): Float32Array {
  for (const [id, b] of Object.entries(bias)) if (Number(id) < logits.length) logits[Number(id)] = bounded(logits[Number(id)] + b);
  return logits;
}

/** Makes every token of `ids` less likely, once each: logit/penalty where it is positive, logit·penalty where it is negative. */
export function penalizeRepetition(logits: Float32Array, ids: Iterable<number>, penalty: number): Float32Array {
  for (const id of new Set(ids)) logits[id] = bounded(logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty);
  return logits;
}

/** Takes `presence` from each token of `ids`, and `frequency` for each time it stands there. */
export function penalizePresence(logits: Float32Array, ids: Iterable<number>, presence: number, frequency: number): Float32Array {
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const [id, count] of counts) logits[id] = bounded(logits[id] - (presence + frequency * count));
  return logits;
}

/** Divides every logit by a temperature above 0. */
export function applyTemperature(logits: Float32Array, temperature: number): Float32Array {
  if (temperature === 1) return logits;
  const most = maximum(logits);
  // Where a tiny temperature would take the largest to infinity, all are measured from it: they only fall, and the draw is the same.
  const from = Number.isFinite(most) && Math.abs(most) / temperature > LARGEST ? most : 0;
  for (let i = 0; i < logits.length; i++) logits[i] = (logits[i] - from) / temperature;
  return logits;
}

/** Leaves the k largest logits and those that equal the smallest of them. */
export function keepTopK(logits: Float32Array, k: number): Float32Array {
  if (k >= logits.length) return logits;
  const least = kthLargest(logits, k);
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
  return logits;
}

/** Leaves the fewest tokens, likeliest first, whose probabilities reach p together; of equally likely ones those with the lower ids. */
export function keepTopP(logits: Float32Array, p: number): Float32Array {
  if (p >= 1) return logits;
  const most = maximum(logits);
  const [weights, kept] = [new Float64Array(logits.length), new Float64Array(logits.length)];
  let total = 0;
  let n = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] === -Infinity) continue;
    weights[i] = Math.exp(logits[i] - most);
    total += weights[i];
    kept[n++] = weights[i];
  }
  let { least, equals } = leastOfMass(kept.subarray(0, n), p * total);
  for (let i = 0; i < logits.length; i++) if (weights[i] < least || (weights[i] === least && equals-- <= 0)) logits[i] = -Infinity;
  return logits;
}

/** Leaves the tokens whose probability is at least `p` times that of the likeliest. */
export function keepMinP(logits: Float32Array, p: number): Float32Array {
  if (p <= 0) return logits;
  const least = maximum(logits) + Math.log(p);
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
  return logits;
}

/** Everything that stands between the model's logits and the draw, in order. `prompt` and `generated` are the ids so far. */
export function shapeLogits(logits: Float32Array, options: SamplingOptions, prompt: ArrayLike<number>, generated: readonly number[]): Float32Array {
  checkOptions("shapeLogits", options, SAMPLING_OPTIONS);
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias } = options;
  if (logitBias !== undefined) addLogitBias(logits, logitBias);
  if (repetitionPenalty !== 1) penalizeRepetition(logits, [...Array.from(prompt), ...generated], repetitionPenalty);
  if (presencePenalty !== 0 || frequencyPenalty !== 0) penalizePresence(logits, generated, presencePenalty, frequencyPenalty);
  if (temperature === 0) return logits;
  applyTemperature(logits, temperature);
  if (topK > 0) keepTopK(logits, topK);
  keepTopP(logits, topP);
  return keepMinP(logits, minP);
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

/** The token at `u` in [0, 1) of the distribution softmax(logits), laid out in the order of ids. */
export function draw(logits: Float32Array, u: number): number {
  const most = maximum(logits);
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weights[i] = logits[i] === -Infinity ? 0 : Math.exp(logits[i] - most);
  let rest = u * total;
  let last = 0;
  for (let i = 0; i < logits.length; i++) {
    if (weights[i] === 0) continue;
    rest -= weights[i];
    if (rest < 0) return i;
    last = i;
  }
  return last; // rounding may leave a rest at the very end
}

/** The number in [0, 1) that a request draws its token at `place` (0, 1, …) with: Philox on the sampling stream, 53 bits. */
export function uniformAt(seed: number, place: number): number {
  const words = new Uint32Array(4);
  philoxInto(words, place, Math.floor(place / 0x1_0000_0000), STREAMS.sampling, 0, seed, Math.floor(seed / 0x1_0000_0000));
  return ((words[0] >>> 5) * 67108864 + (words[1] >>> 6)) / 9007199254740992;
}

/** The next token. The logits stay as they are. */
export function sample(logits: Float32Array, options: SamplingOptions, prompt: ArrayLike<number>, generated: readonly number[], u: number): number {
  checkOptions("sample", options, SAMPLING_OPTIONS);
  const { temperature = 1, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias } = options;
  // The commonest case needs no copy of a whole vocabulary.
  if (temperature === 0 && repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0 && logitBias === undefined) return greedy(logits);
  const shaped = shapeLogits(logits.slice(), options, prompt, generated);
  if (maximum(shaped) === -Infinity)
    throw new ConfigError("sample: every token is forbidden, expected one that may come, got logitBias −Infinity for all. Allow at least one.");
  return temperature === 0 ? greedy(shaped) : draw(shaped, u);
}

function maximum(x: Float32Array): number {
  let most = -Infinity;
  for (let i = 0; i < x.length; i++) if (x[i] > most) most = x[i];
  return most;
}

/** The k-th largest item (Hoare's selection), k from 1. */
function kthLargest(x: Float32Array, k: number): number {
  const items = x.slice();
  let [low, high] = [0, items.length - 1];
  const wanted = k - 1;
  while (low < high) {
    const pivot = items[(low + high) >>> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (items[i] > pivot) i++;
      while (items[j] < pivot) j--;
      if (i > j) break;
      [items[i], items[j]] = [items[j], items[i]];
      i++;
      j--;
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else break;
  }
  return items[wanted];
}

/** The fewest of the largest items that sum up to `target`: the smallest of them, and how many of that size are needed. Reorders the items. */
function leastOfMass(items: Float64Array, target: number): { least: number; equals: number } {
  let [low, high] = [0, items.length];
  let above = 0;
  while (low < high) {
    const pivot = items[(low + high) >>> 1];
    // Three parts: larger, equal, smaller.
    let [i, equal, end] = [low, low, high];
    let larger = 0;
    while (i < end) {
      const x = items[i];
      if (x > pivot) {
        larger += x;
        items[i++] = items[equal];
        items[equal++] = x;
      } else if (x < pivot) {
        items[i] = items[--end];
        items[end] = x;
      } else i++;
    }
    const count = end - equal;
    if (above + larger >= target && equal > low) high = equal;
    else if (above + larger + count * pivot >= target || end === high)
      return { least: pivot, equals: Math.max(1, Math.min(count, Math.ceil((target - above - larger) / pivot))) };
    else {
      above += larger + count * pivot;
      low = end;
    }
  }
  return { least: 0, equals: 0 };
}

/**
 * What changes a row of logits before a token is drawn from it. Every function takes one row (vocabulary), changes it in place and gives it back; what may
 * not come is −∞. `shapeLogits` says in which order they apply. Nothing sorts the whole vocabulary.
 */
import { expOfNegative } from "./exp.ts";

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
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += weights[i] = expOfNegative(logits[i] - most);
  // Tokens of less than their share of what p leaves do not reach it together, so the others reach p without them.
  const share = ((1 - p) * total) / logits.length;
  let n = 0;
  for (let i = 0; i < weights.length; i++) if (weights[i] >= share && weights[i] > 0) n++;
  const candidates = new Float64Array(n);
  for (let i = 0, at = 0; i < weights.length; i++) if (weights[i] >= share && weights[i] > 0) candidates[at++] = weights[i];
  let { least, equals } = leastOfMass(candidates, p * total);
  for (let i = 0; i < logits.length; i++) if (weights[i] < least || (weights[i] === least && equals-- <= 0)) logits[i] = -Infinity;
  return logits;
}

/**
 * Leaves the tokens whose surprise, −ln p, is nearest to the distribution's entropy, the fewest that reach `mass` together: what is as surprising as
 * text usually is (Meister et al., "Locally Typical Sampling", 2023, eq. 6 and 7). Equally near ones stay together.
 */
export function keepTypical(logits: Float32Array, mass: number): Float32Array {
  if (mass >= 1) return logits;
  const { logs, entropy } = logProbabilities(logits);
  const [far, weights] = [new Float64Array(logits.length), new Float64Array(logits.length)];
  let n = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logs[i] === -Infinity) continue;
    far[n] = Math.abs(-logs[i] - entropy);
    weights[n++] = expOfNegative(logs[i]);
  }
  const most = nearestOfMass(far.subarray(0, n), weights.subarray(0, n), mass);
  for (let i = 0; i < logits.length; i++) if (Math.abs(-logs[i] - entropy) > most) logits[i] = -Infinity;
  return logits;
}

/** Leaves the tokens whose logit is within `n` standard deviations (of all logits that are not −∞) of the largest (Tang et al., "Top-nσ: Not All Logits Are You Need", 2024). */
export function keepTopNSigma(logits: Float32Array, n: number): Float32Array {
  let [count, sum] = [0, 0];
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] === -Infinity) continue;
    count++;
    sum += logits[i];
  }
  const mean = sum / count;
  let squares = 0;
  for (let i = 0; i < logits.length; i++) if (logits[i] !== -Infinity) squares += (logits[i] - mean) ** 2;
  const least = maximum(logits) - n * Math.sqrt(squares / count);
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
  return logits;
}

/** Leaves the tokens whose surprise, −log₂ p, is at most `mu` bits, and always the likeliest: Mirostat 2.0's cut (Basu et al., "Mirostat", 2021). */
export function keepSurprise(logits: Float32Array, mu: number): Float32Array {
  const { logs } = logProbabilities(logits);
  const most = maximum(logits);
  for (let i = 0; i < logits.length; i++) if (-logs[i] / Math.LN2 > mu && logits[i] < most) logits[i] = -Infinity;
  return logits;
}

/** What DRY goes by. */
export interface DryOptions {
  multiplier: number;
  base: number;
  /** Repeated sequences up to this length cost nothing. */
  allowedLength: number;
  /** Ids that no repetition reaches across. */
  breakers: ReadonlySet<number>;
}

/**
 * "Don't Repeat Yourself": a token that would go on with something said before is made less likely, the more the longer the repetition already is. Where the last n tokens
 * of `ids` stood before, followed by t, the logit of t falls by multiplier · base^(n − allowedLength), for the longest such n ≥ allowedLength (defined in text-generation-webui's
 * pull request 5677 and llama.cpp's `dry` sampler). Linear in the number of ids.
 */
export function penalizeDry(logits: Float32Array, ids: ArrayLike<number>, { multiplier, base, allowedLength, breakers }: DryOptions): Float32Array {
  const n = ids.length;
  /** The latest first. */
  const back = (i: number): number => ids[n - 1 - i];
  let reach = 0;
  while (reach < n && !breakers.has(back(reach))) reach++;
  if (reach === 0) return logits;
  // Z-function: how far the ids before place i agree with the last ones.
  const agree = new Int32Array(n);
  const longest = new Map<number, number>();
  let [left, right] = [0, 0];
  for (let i = 1; i < n; i++) {
    let z = i < right ? Math.min(right - i, agree[i - left]) : 0;
    while (i + z < n && back(z) === back(i + z)) z++;
    agree[i] = z;
    if (i + z > right) [left, right] = [i, i + z];
    const length = Math.min(z, reach);
    const next = back(i - 1);
    if (length >= allowedLength && length > 0 && !breakers.has(next)) longest.set(next, Math.max(longest.get(next) ?? 0, length));
  }
  for (const [id, length] of longest) {
    if (id < logits.length) logits[id] = Math.max(-LARGEST, logits[id] - Math.min(LARGEST, multiplier * base ** (length - allowedLength)));
  }
  return logits;
}

/** Leaves the tokens whose probability is at least `p` times that of the likeliest. */
export function keepMinP(logits: Float32Array, p: number): Float32Array {
  if (p <= 0) return logits;
  const least = maximum(logits) + Math.log(p);
  for (let i = 0; i < logits.length; i++) if (logits[i] < least) logits[i] = -Infinity;
  return logits;
}

export function maximum(x: Float32Array): number {
  let most = -Infinity;
  const whole = x.length - (x.length % 4);
  // Hardly any four have a new largest.
  for (let i = 0; i < whole; i += 4)
    if (x[i] > most || x[i + 1] > most || x[i + 2] > most || x[i + 3] > most) for (let j = i; j < i + 4; j++) if (x[j] > most) most = x[j];
  for (let i = whole; i < x.length; i++) if (x[i] > most) most = x[i];
  return most;
}

/** Up to so many are kept sorted while all items go by: nearly all of them are smaller. */
const FEW = 256;

/** The k-th largest item, k from 1. */
function kthLargest(x: Float32Array, k: number): number {
  if (k > FEW) return selected(x.slice(), k);
  // The smallest on top of a heap.
  const heap = x.slice(0, k).sort();
  for (let i = k; i < x.length; i++) {
    const item = x[i];
    if (!(item > heap[0])) continue;
    let at = 0;
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= item) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = item;
  }
  return heap[0];
}

/** The k-th largest item (Hoare's selection), k from 1. Reorders the items. */
function selected(items: Float32Array, k: number): number {
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

/** ln p of each token in softmax(logits), and the entropy in nats. */
function logProbabilities(logits: Float32Array): { logs: Float64Array; entropy: number } {
  const most = maximum(logits);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += expOfNegative(logits[i] - most);
  const norm = most + Math.log(total);
  const logs = Float64Array.from(logits, (x) => x - norm);
  let entropy = 0;
  for (let i = 0; i < logs.length; i++) if (logs[i] !== -Infinity) entropy -= expOfNegative(logs[i]) * logs[i];
  return { logs, entropy };
}

/** The smallest distance within which the weights reach `mass` together. Reorders both lists. */
function nearestOfMass(far: Float64Array, weights: Float64Array, mass: number): number {
  let [low, high, before] = [0, far.length, 0];
  const swap = (i: number, j: number): void => {
    [far[i], far[j]] = [far[j], far[i]];
    [weights[i], weights[j]] = [weights[j], weights[i]];
  };
  while (low < high) {
    const pivot = far[(low + high) >>> 1];
    // Three parts: nearer, equal, farther.
    let [i, equal, end] = [low, low, high];
    let [nearer, same] = [0, 0];
    while (i < end) {
      if (far[i] < pivot) {
        nearer += weights[i];
        swap(i++, equal++);
      } else if (far[i] > pivot) swap(i, --end);
      else same += weights[i++];
    }
    if (before + nearer >= mass && equal > low) high = equal;
    else if (before + nearer + same >= mass || end === high) return pivot;
    else {
      before += nearer + same;
      low = end;
    }
  }
  return Number.POSITIVE_INFINITY;
}

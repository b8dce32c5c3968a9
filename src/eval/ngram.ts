/**
 * The n-gram baseline: interpolated Kneser-Ney smoothing with three discounts an order (Chen and Goodman, "An Empirical Study of
 * Smoothing Techniques for Language Modeling", 1998, equations 21 to 26). It trains in seconds, and a neural model that does not
 * beat it has learned little more than word neighbours.
 */
import { ConfigError, DataError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type Likelihood, likelihood } from "./likelihood.ts";

const OF_TOKENIZER = { advice: "Pass the tokenizer's vocabSize." };

/** How long n-grams are, and over what they spread. */
export interface NgramOptions {
  /** Tokens that an n-gram spans, 1 to 6: the last is predicted from those before. Default 4. */
  order?: number;
  /** Tokens that share the probability of what was never seen. Default: one more than the largest training id. */
  vocabSize?: number;
}

/** An n-gram model of ids, the baseline for language models. */
export interface NgramModel {
  readonly order: number;
  readonly vocabSize: number;
  /** Different n-grams of all orders that it holds. */
  readonly size: number;
  /** log p of each id given those before it (at most order − 1 of them), in nats; as many as there are ids. */
  logprobs(ids: ArrayLike<number>): Float64Array;
  /** Fit to held-out ids; `bytes` is the length of their text in UTF-8, for bits per byte. */
  perplexity(ids: ArrayLike<number>, options?: { bytes?: number }): Likelihood;
}

/** n-grams as a tree: a node is its first n − 1 tokens' node and its last token, found through one open-addressing table. */
interface Grams {
  find(prefix: number, token: number): number;
  /** The node, made if need be: then `made` is true. */
  add(prefix: number, token: number, depth: number): number;
  made: boolean;
  count(): number;
  prefixOf(node: number): number;
  depthOf(node: number): number;
}

function createGrams(tokens: number): Grams {
  let slots = 1 << 16;
  let table = new Int32Array(slots).fill(-1);
  let capacity = 1 << 15;
  let prefixes = new Int32Array(capacity);
  let lasts = new Int32Array(capacity);
  let depths = new Uint8Array(capacity);
  let nodes = 0;
  const slotOf = (prefix: number, token: number): number => {
    // Fibonacci hashing of the pair; the high bits are the mixed ones.
    const h = Math.imul(Math.imul(prefix, tokens + 1) + token, 0x9e3779b1);
    return (h ^ (h >>> 15)) & (slots - 1);
  };
  const locate = (prefix: number, token: number): number => {
    let slot = slotOf(prefix, token);
    for (let node = table[slot]; node >= 0; node = table[slot]) {
      if (prefixes[node] === prefix && lasts[node] === token) return slot;
      slot = (slot + 1) & (slots - 1);
    }
    return slot;
  };
  function grow(): void {
    capacity *= 2;
    const [p, l, d] = [new Int32Array(capacity), new Int32Array(capacity), new Uint8Array(capacity)];
    p.set(prefixes);
    l.set(lasts);
    d.set(depths);
    [prefixes, lasts, depths] = [p, l, d];
    slots *= 2;
    table = new Int32Array(slots).fill(-1);
    for (let node = 0; node < nodes; node++) table[locate(prefixes[node], lasts[node])] = node;
  }
  const grams: Grams = {
    made: false,
    find: (prefix, token) => table[locate(prefix, token)],
    add(prefix, token, depth) {
      let slot = locate(prefix, token);
      grams.made = table[slot] < 0;
      if (!grams.made) return table[slot];
      if (nodes === capacity) {
        grow();
        slot = locate(prefix, token);
      }
      prefixes[nodes] = prefix;
      lasts[nodes] = token;
      depths[nodes] = depth;
      table[slot] = nodes;
      return nodes++;
    },
    count: () => nodes,
    prefixOf: (node) => prefixes[node],
    depthOf: (node) => depths[node],
  };
  return grams;
}

const ROOT = -1;

/**
 * Counts n-grams and smooths them.
 *
 * @param trainIds token ids; several lists are separate documents, whose beginnings are seen as such
 * @throws DataError without any id, ConfigError for an order outside 1…6
 */
export function ngramModel(trainIds: ArrayLike<number> | readonly ArrayLike<number>[], options: NgramOptions = {}): NgramModel {
  checkOptions("ngramModel", options, { order: true, vocabSize: true });
  const { order = 4 } = options;
  if (!Number.isInteger(order) || order < 1 || order > 6)
    throw new ConfigError(`ngramModel: bad order, expected a whole number from 1 to 6, got ${order}. Give another order.`);
  const documents = Array.isArray(trainIds) && typeof trainIds[0] === "object" ? (trainIds as readonly ArrayLike<number>[]) : [trainIds as ArrayLike<number>];
  const vocabSize = options.vocabSize ?? 1 + largest(documents);
  if (documents.every((ids) => ids.length === 0)) throw new DataError("ngramModel: no training ids, expected at least one, got none. Check the training text.");
  for (const ids of documents) checkTokenIds("ngramModel", ids, vocabSize, OF_TOKENIZER);

  // The beginning of a document is a token of its own that is never predicted.
  const begin = vocabSize;
  const grams = createGrams(vocabSize);
  let values = new Float64Array(1 << 16);
  const raise = (node: number): void => {
    if (node >= values.length) {
      const more = new Float64Array(2 * values.length);
      more.set(values);
      values = more;
    }
    values[node]++;
  };

  // The highest order counts occurrences; each lower one counts in how many different contexts its n-grams stand (their "continuations").
  const start = beginning(grams, begin, order);
  for (const ids of documents) {
    let context = Int32Array.from(start);
    let next = new Int32Array(order);
    for (let i = 0; i < ids.length; i++) {
      const token = ids[i];
      let longer = false;
      for (let n = order; n >= 1; n--) {
        const node = grams.add(n === 1 ? ROOT : context[n - 2], token, n);
        const fresh = grams.made;
        if (n === order || longer) raise(node);
        longer = fresh;
        next[n - 1] = node;
      }
      [context, next] = [next, context];
    }
  }

  const count = grams.count();
  const discounts = discountsOf(grams, values, count, order);
  // For each context: the sum of its continuations' values, and the mass that discounting takes from them.
  const [sums, masses] = [new Float64Array(count + 1), new Float64Array(count + 1)];
  for (let node = 0; node < count; node++) {
    const value = values[node];
    const at = grams.prefixOf(node) + 1;
    sums[at] += value;
    masses[at] += discount(discounts[grams.depthOf(node)], value);
  }

  /** p of a token after the contexts of 0 to order − 1 tokens whose nodes are given (−2: never seen). */
  function probability(token: number, context: Int32Array): number {
    let p = 1 / vocabSize;
    for (let n = 1; n <= order; n++) {
      const prefix = n === 1 ? ROOT : context[n - 2];
      const sum = prefix === UNSEEN ? 0 : sums[prefix + 1];
      if (sum === 0) continue;
      const node = grams.find(prefix, token);
      const value = node < 0 ? 0 : values[node];
      p = (value - discount(discounts[n], value) + masses[prefix + 1] * p) / sum;
    }
    return p;
  }

  function logprobs(ids: ArrayLike<number>): Float64Array {
    checkTokenIds("ngramModel.logprobs", ids, vocabSize, OF_TOKENIZER);
    const out = new Float64Array(ids.length);
    let context = Int32Array.from(start);
    let next = new Int32Array(order);
    for (let i = 0; i < ids.length; i++) {
      const token = ids[i];
      out[i] = Math.log(probability(token, context));
      for (let n = 1; n <= order; n++) {
        const prefix = n === 1 ? ROOT : context[n - 2];
        const node = prefix === UNSEEN ? -1 : grams.find(prefix, token);
        next[n - 1] = node < 0 ? UNSEEN : node;
      }
      [context, next] = [next, context];
    }
    return out;
  }

  return {
    order,
    vocabSize,
    size: count,
    logprobs,
    perplexity(ids, options = {}) {
      checkOptions("ngramModel.perplexity", options, { bytes: true });
      if (ids.length === 0) throw new DataError("ngramModel.perplexity: no ids, expected at least one, got none. Check the held-out text.");
      return likelihood(-logprobs(ids).reduce((a, b) => a + b, 0), ids.length, options.bytes ?? null);
    },
  };
}

const UNSEEN = -2;

/** The contexts before a document's first token: 1, 2, … beginnings in a row. */
function beginning(grams: Grams, begin: number, order: number): Int32Array {
  const nodes = new Int32Array(order);
  for (let n = 1; n <= order; n++) nodes[n - 1] = n === order ? UNSEEN : grams.add(n === 1 ? ROOT : nodes[n - 2], begin, n);
  return nodes;
}

/** What is taken from n-grams seen once, twice, and three times or more. */
type Discounts = readonly [one: number, two: number, more: number];

const discount = (d: Discounts, value: number): number => (value === 0 ? 0 : d[Math.min(value, 3) - 1]);

/** Chen and Goodman's equation 26 for each order; texts too small for it get plain discounts. */
function discountsOf(grams: Grams, values: Float64Array, count: number, order: number): Discounts[] {
  const seen = Array.from({ length: order + 1 }, () => [0, 0, 0, 0, 0]);
  for (let node = 0; node < count; node++) {
    const value = values[node];
    if (value >= 1 && value <= 4) seen[grams.depthOf(node)][value]++;
  }
  return seen.map(([, n1, n2, n3, n4]) => {
    const [a, b, c, d] = [n1, n2, n3, n4] as [number, number, number, number];
    const y = a / (a + 2 * b);
    const exact = [1 - (2 * y * b) / a, 2 - (3 * y * c) / b, 3 - (4 * y * d) / c] as const;
    return exact.every((x, i) => x > 0 && x <= i + 1) ? exact : ([0.5, 0.75, 0.9] as const);
  });
}

function largest(documents: readonly ArrayLike<number>[]): number {
  let most = -1;
  for (const ids of documents) for (let i = 0; i < ids.length; i++) if (ids[i] > most) most = ids[i];
  return most;
}

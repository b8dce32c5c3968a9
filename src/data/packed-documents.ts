/**
 * Whole documents packed into rows of T tokens, without padding and without looking across: each epoch lays the documents
 * in a new random order end to end, cuts the result every T tokens and shuffles these rows (else a book's pages would come
 * one after another). Within a row each document is a sequence of its own
 * (block-diagonal attention by `cuSeqlens`, positions from 0); one that a cut goes through goes on in the next row as a new
 * sequence. Every step from a token to the next within a document is a target exactly once in an epoch.
 */

import { checkOptions } from "../options.ts";
import { DRAW, randomPermutation } from "./random-order.ts";
import { checkContext, IGNORE, type SampleSource, tooSmall } from "./samples.ts";
import { type TokenData, upperBound } from "./token-data.ts";

/** One epoch's order: rows, documents, and where each document begins. Twelve bytes for a document, four for a row. */
interface Epoch {
  number: number;
  rows: Int32Array;
  order: Int32Array;
  starts: Float64Array;
}

/**
 * @param options.shuffle false keeps the order of the data; default true
 * @throws DataError when no document has two tokens
 */
export function packedDocuments(data: TokenData, options: { context: number; seed?: number; shuffle?: boolean }): SampleSource {
  checkOptions("packedDocuments", options, { context: true, seed: true, shuffle: true });
  const { context, seed = 0, shuffle = true } = options;
  checkContext(context, data.name);
  const places = data.documentStarts;
  const documents = places.length - 1;
  if (data.tokens <= documents) throw tooSmall(data.name, "a document of at least 2 tokens", data.tokens);
  const samples = Math.ceil(data.tokens / context);
  let cached: Epoch | undefined;

  function epochOf(number: number): Epoch {
    if (cached?.number === number) return cached;
    const inOrder = (count: number) => Int32Array.from({ length: count }, (_, i) => i);
    const order = shuffle ? randomPermutation(documents, seed, number, DRAW.documents) : inOrder(documents);
    const rows = shuffle ? randomPermutation(samples, seed, number, DRAW.rows) : inOrder(samples);
    const starts = new Float64Array(documents + 1);
    for (let i = 0; i < documents; i++) starts[i + 1] = starts[i] + (places[order[i] + 1] - places[order[i]]);
    cached = { number, rows, order, starts };
    return cached;
  }

  return {
    context,
    samples,
    identity: `packedDocuments(context ${context}, seed ${seed}, shuffle ${shuffle}, data ${data.identity})`,
    async read(index) {
      const { rows, order, starts } = epochOf(Math.floor(index / samples));
      const inputIds = new Int32Array(context);
      const targets = new Int32Array(context).fill(IGNORE);
      const positions = new Int32Array(context);
      const borders: number[] = [];
      let at = rows[index % samples] * context;
      let filled = 0;
      let slot = upperBound(starts, at) - 1;
      while (filled < context) {
        borders.push(filled);
        let take = context - filled;
        if (slot < documents) {
          const from = places[order[slot]] + (at - starts[slot]);
          const left = places[order[slot] + 1] - from;
          take = Math.min(take, left);
          // One more id than inputs, when the document has it: the last target.
          const ids = await data.read(from, Math.min(take + 1, left));
          inputIds.set(ids.subarray(0, take), filled);
          targets.set(ids.subarray(1), filled);
        }
        // Past the epoch's end the last row is filled up with id 0 as a sequence of its own that has no targets.
        for (let i = 0; i < take; i++) positions[filled + i] = i;
        filled += take;
        at += take;
        slot++;
      }
      return { inputIds, targets, positions, starts: borders };
    },
  };
}

/**
 * Merging the pair of neighbours that is seen most often, again and again: the heart of training BPE and WordPiece.
 *
 * Sennrich, Haddow and Birch 2016 (arXiv:1508.07909), algorithm 1, with counts kept up to date instead of taken anew. The merges equal those of the
 * `BpeTrainer` of Hugging Face tokenizers: of pairs of equal count the smaller (left, right) ids go first, and a waiting pair's count is looked at
 * again only when the pair comes up.
 */
import { createHeap } from "../heap.ts";

/** Tokens by id, and back. */
export interface Spellings {
  readonly spelling: readonly string[];
  readonly idOf: ReadonlyMap<string, number>;
  /** The id of a token, a new one where it has none. */
  add(token: string): number;
}

export function createSpellings(): Spellings & { readonly spelling: string[]; readonly idOf: Map<string, number> } {
  const spelling: string[] = [];
  const idOf = new Map<string, number>();
  return {
    spelling,
    idOf,
    add(token) {
      const known = idOf.get(token);
      if (known !== undefined) return known;
      idOf.set(token, spelling.length);
      spelling.push(token);
      return spelling.length - 1;
    },
  };
}

export interface MergingOptions {
  /** Tokens at most, those that are there already included. */
  readonly vocabSize: number;
  /** A pair seen less often is not merged. */
  readonly minFrequency: number;
  /** The token that two neighbours make. */
  join(left: string, right: string): string;
}

interface Candidate {
  count: number;
  left: number;
  right: number;
  /** When the pair was pushed; tells two entries of one pair apart. */
  step: number;
  words: Set<number>;
}

function goesBefore(a: Candidate, b: Candidate): boolean {
  if (a.count !== b.count) return a.count > b.count;
  if (a.left !== b.left) return a.left < b.left;
  return a.right !== b.right ? a.right < b.right : a.step < b.step;
}

/** Merges in order of rank. `words` hold ids and are merged in place; each counts `counts` times. A pair can come up twice, where one string is made in two ways. */
export function mergePairs(words: number[][], counts: readonly number[], tokens: Spellings, options: MergingOptions): [left: number, right: number][] {
  const SIZE = 2 ** 26;
  const pairCounts = new Map<number, number>();
  const fresh = new Map<number, Set<number>>();
  const queue = createHeap(goesBefore);
  function more(left: number, right: number, word: number): void {
    const pair = left * SIZE + right;
    pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + counts[word]);
    const where = fresh.get(pair);
    if (where === undefined) fresh.set(pair, new Set([word]));
    else where.add(word);
  }
  function fewer(left: number, right: number, word: number): void {
    const pair = left * SIZE + right;
    pairCounts.set(pair, (pairCounts.get(pair) ?? 0) - counts[word]);
  }
  function enqueue(step: number): void {
    for (const [pair, where] of fresh) {
      const count = pairCounts.get(pair) as number;
      if (count > 0) queue.push({ count, left: Math.floor(pair / SIZE), right: pair % SIZE, step, words: where });
    }
    fresh.clear();
  }

  for (const [i, word] of words.entries()) for (let k = 0; k + 1 < word.length; k++) more(word[k], word[k + 1], i);
  enqueue(0);
  const merges: [number, number][] = [];
  for (let step = 1; tokens.spelling.length < options.vocabSize; ) {
    const top = queue.pop();
    if (top === undefined) break;
    const { left, right } = top;
    const count = pairCounts.get(left * SIZE + right) as number;
    if (count !== top.count) {
      queue.push({ ...top, count });
      continue;
    }
    if (count < 1 || count < options.minFrequency) break;
    const made = tokens.add(options.join(tokens.spelling[left], tokens.spelling[right]));
    merges.push([left, right]);
    for (const i of top.words) {
      const word = words[i];
      const next: number[] = [];
      for (let k = 0; k < word.length; k++) {
        if (word[k] !== left || word[k + 1] !== right) {
          next.push(word[k]);
          continue;
        }
        const before = next.at(-1);
        const after = word[k + 2];
        if (before !== undefined) {
          fewer(before, left, i);
          more(before, made, i);
        }
        if (after !== undefined) {
          fewer(right, after, i);
          more(made, after, i);
        }
        next.push(made);
        k++;
      }
      words[i] = next;
    }
    enqueue(step++);
  }
  return merges;
}

/**
 * Training a byte-level BPE in plain TypeScript: the twin of crates/text/src/train.rs.
 *
 * Sennrich, Haddow and Birch 2016 (arXiv:1508.07909), algorithm 1, with counts kept up to date instead of taken anew. The
 * merges equal those of the `BpeTrainer` of Hugging Face tokenizers: of pairs of equal count the smaller (left, right) ids
 * go first, and a waiting pair's count is looked at again only when the pair comes up.
 */

import { DataError } from "../../errors.ts";
import { createHeap } from "../heap.ts";
import { textToString } from "./bpe.ts";
import type { BpeTrainer, BpeTrainOptions, Text, TrainedBpe } from "./bpe-engine.ts";
import { BYTE_TO_CHARACTER, bytesInFileOrder } from "./byte-alphabet.ts";
import { type PatternName, splitPattern, splitWords } from "./split-patterns.ts";

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

export function createReferenceTrainer(patternName: PatternName): BpeTrainer {
  const pattern = splitPattern(patternName);
  const wordCounts = new Map<string, number>();
  return {
    feed(texts: readonly Text[]) {
      for (const text of texts) {
        for (const word of splitWords(pattern, textToString(text).text)) {
          wordCounts.set(word, (wordCounts.get(word) ?? 0) + 1);
        }
      }
    },
    finish: (options) => train(wordCounts, options),
    dispose() {},
  };
}

function train(wordCounts: ReadonlyMap<string, number>, options: BpeTrainOptions): TrainedBpe {
  const least = options.specials.length + 256;
  if (options.vocabSize < least) {
    throw new DataError(
      `trainBpe: vocabSize ${options.vocabSize} is too small, expected at least ${least} (special tokens and the 256 bytes), ` +
        `got ${options.vocabSize}. Give a larger vocabSize.`,
    );
  }
  // Tokens are spelled by one character a byte (byte-alphabet.ts).
  const spelling: string[] = [];
  const idOf = new Map<string, number>();
  const add = (spelled: string): number => {
    const known = idOf.get(spelled);
    if (known !== undefined) return known;
    idOf.set(spelled, spelling.length);
    spelling.push(spelled);
    return spelling.length - 1;
  };
  const spell = (bytes: Uint8Array): string => Array.from(bytes, (byte) => BYTE_TO_CHARACTER[byte]).join("");
  for (const [id, bytes] of options.specials.entries()) {
    spelling.push(bytes === null ? "" : spell(bytes));
    if (bytes !== null && !idOf.has(spelling[id])) idOf.set(spelling[id], id);
  }
  const byteIds = new Int32Array(256);
  for (const byte of bytesInFileOrder()) byteIds[byte] = add(BYTE_TO_CHARACTER[byte]);

  const encoder = new TextEncoder();
  const words = Array.from(wordCounts.keys(), (word) => Array.from(encoder.encode(word), (byte) => byteIds[byte]));
  const counts = [...wordCounts.values()];

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
  for (let step = 1; spelling.length < options.vocabSize; ) {
    const top = queue.pop();
    if (top === undefined) break;
    const { left, right } = top;
    const count = pairCounts.get(left * SIZE + right) as number;
    if (count !== top.count) {
      queue.push({ ...top, count });
      continue;
    }
    if (count < 1 || count < options.minFrequency) break;
    const made = add(spelling[left] + spelling[right]);
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

  // When one string is made in two ways a pair can come up twice; then the later rank counts.
  const last = new Map(merges.map(([left, right], rank) => [left * SIZE + right, rank]));
  const kept = merges.filter(([left, right], rank) => last.get(left * SIZE + right) === rank);
  const lengths = Int32Array.from(spelling, (spelled, id) => (id < options.specials.length ? 0 : spelled.length));
  const bytes = new Uint8Array(lengths.reduce((a, b) => a + b, 0));
  const byteOf = new Map(BYTE_TO_CHARACTER.map((character, byte) => [character, byte]));
  let at = 0;
  for (const spelled of spelling.slice(options.specials.length)) {
    for (const character of spelled) bytes[at++] = byteOf.get(character) as number;
  }
  return { bytes, lengths, merges: Int32Array.from(kept.flat()) };
}

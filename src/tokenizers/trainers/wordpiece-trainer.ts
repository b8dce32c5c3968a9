/**
 * WordPiece from counted words: the vocabulary that Hugging Face's `WordPieceTrainer` finds, which merges pairs by their counts as BPE does, with a mark before
 * letters that do not begin a word. There the ids of marked letters follow the order of a hash table, another in each run, and so do ties between pairs of equal
 * count; here they follow the letters' code points.
 */
import { createSpellings, mergePairs } from "./pair-merging.ts";

export interface WordPieceTraining {
  readonly vocabSize: number;
  readonly minFrequency: number;
  /** They get the first ids. */
  readonly specialTokens: readonly string[];
  /** Letters that are tokens even where the text lacks them. */
  readonly initialAlphabet: readonly string[];
  /** Letters at most; those seen most often stay, of equal ones the smaller code point. What is left out is skipped in words. */
  readonly limitAlphabet: number;
  /** Stands before a token that does not begin a word. */
  readonly continuingSubwordPrefix: string;
}

/** Tokens by id: special ones, letters, marked letters, then what was merged. */
export function trainWordPieceTokens(wordCounts: ReadonlyMap<string, number>, options: WordPieceTraining): string[] {
  const { vocabSize, minFrequency, specialTokens, continuingSubwordPrefix: prefix } = options;
  const tokens = createSpellings();
  for (const token of specialTokens) tokens.add(token);
  const letters = alphabetOf(wordCounts, options);
  for (const letter of letters) tokens.add(letter);
  const words = Array.from(wordCounts.keys(), (word) => [...word].map((letter, i) => ({ letter, first: i === 0 })).filter(({ letter }) => letters.has(letter)));
  for (const letter of inOrder(words.flatMap((word) => word.flatMap(({ letter, first }) => (first ? [] : [letter]))))) tokens.add(prefix + letter);
  const ids = words.map((word) => word.map(({ letter, first }) => tokens.add(first ? letter : prefix + letter)));
  mergePairs(ids, [...wordCounts.values()], tokens, {
    vocabSize,
    minFrequency,
    join: (left, right) => left + (right.startsWith(prefix) ? right.slice(prefix.length) : right),
  });
  return tokens.spelling;
}

function alphabetOf(wordCounts: ReadonlyMap<string, number>, { initialAlphabet, limitAlphabet }: WordPieceTraining): Set<string> {
  const counts = new Map<string, number>();
  for (const [word, count] of wordCounts) for (const letter of word) counts.set(letter, (counts.get(letter) ?? 0) + count);
  for (const letter of initialAlphabet) counts.set(letter, Number.POSITIVE_INFINITY);
  const point = (letter: string) => letter.codePointAt(0) as number;
  const byCount = [...counts].sort(([a, n], [b, m]) => (n === m ? point(a) - point(b) : n > m ? -1 : 1));
  return inOrder(byCount.slice(0, limitAlphabet).map(([letter]) => letter));
}

/** Each once, by code point. */
function inOrder(letters: readonly string[]): Set<string> {
  return new Set([...new Set(letters)].sort((a, b) => (a.codePointAt(0) as number) - (b.codePointAt(0) as number)));
}

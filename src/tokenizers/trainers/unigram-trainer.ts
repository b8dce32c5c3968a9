/**
 * Unigram from counted words (Kudo 2018, arXiv:1804.10959, section 3.2): many substrings to begin with, then in turns their probabilities by expectation
 * maximisation, and a quarter of them taken away, those whose loss costs the text least, until the vocabulary is small enough.
 *
 * The settings are those of SentencePiece's trainer (0.2.3, whose vocabularies come out but for rounding in single precision): two rounds of EM before each cut; an M step with a sparse prior (digamma in place of the logarithm, Liang and
 * Klein 2007); at last all letters and the best pieces.
 */
import { DataError } from "../../errors.ts";
import { scriptOf } from "../pre-tokenizers/pre-tokenizers.ts";
import { bestCuts, type Corpus, createPieceTrie, type PieceTrie } from "./piece-trie.ts";
import { BEHIND, seedPieces } from "./seed-pieces.ts";
import type { CountedWords } from "./word-counts.ts";

export interface UnigramTraining {
  /** Pieces, special ones not counted. */
  readonly vocabSize: number;
  /** Special pieces, which the size that training comes down to has room for. */
  readonly specials: number;
  /** The share of the text's characters that become letters of the vocabulary; rarer ones are unknown. */
  readonly characterCoverage: number;
  /** Characters of a piece at most. */
  readonly maxPieceLength: number;
  /** Substrings to begin with, at most. */
  readonly seedSize: number;
  /** What stands for a blank: it may only begin a piece. */
  readonly blank: string;
}

export interface TrainedPiece {
  readonly piece: string;
  /** The logarithm of its probability. */
  readonly score: number;
}

const EM_ROUNDS = 2;
const SHRINKING = 0.75;
/** Training ends with so many times the pieces that are wanted; the best of them are taken. */
const SPARE = 1.1;
/** Pieces that are expected less often than this go after an M step. */
const LEAST_EXPECTED = 0.5;
/** How much worse than the worst piece a character outside the vocabulary is. */
const UNKNOWN_PENALTY = 10;
/** Keeps letters that the model has lost apart: the more frequent one is a little better. */
const LOST_LETTER_STEP = 1e-4;

interface Model {
  readonly pieces: readonly Int32Array[];
  readonly scores: Float64Array;
  readonly trie: PieceTrie;
  readonly unknown: number;
}

function modelOf(pieces: readonly Int32Array[], scores: Float64Array): Model {
  return { pieces, scores, trie: createPieceTrie(pieces), unknown: least(scores) - UNKNOWN_PENALTY };
}

const least = (scores: Float64Array): number => scores.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);

/** Pieces from the most probable to the least. @throws DataError where the words have fewer pieces than are wanted at least: their letters */
export function trainUnigramPieces(words: CountedWords, options: UnigramTraining): TrainedPiece[] {
  const { letters, corpus, last } = corpusOf(words, options.characterCoverage);
  if (letters.length > options.vocabSize)
    throw new DataError(
      `trainUnigram: vocabSize is too small for the text's letters, expected at least ${letters.length} and the special tokens, got room for ${options.vocabSize} pieces. Give a larger vocabSize, or a smaller characterCoverage.`,
    );
  const seeds = seedPieces(corpus, last, {
    longest: options.maxPieceLength,
    most: options.seedSize,
    valid: validPieces(letters, options.blank),
    kindOf: firstBytes(letters, options.blank),
  });
  const enough = Math.floor((options.vocabSize + options.specials) * SPARE);
  let model = startOf(corpus, letters.length, seeds);
  for (;;) {
    for (let round = 0; round < EM_ROUNDS; round++) model = maximised(model, expected(model, corpus));
    model = pruned(model, corpus, Math.max(enough, Math.floor(SHRINKING * model.pieces.length)));
    if (model.pieces.length <= enough) break;
  }
  return finished(model, letters, options.vocabSize);
}

/** Words in numbers: letter i is `letters[i]`, from the most frequent to the rarest; −1 stands for all others. */
function corpusOf({ counts, last }: CountedWords, coverage: number): { letters: string[]; corpus: Corpus; last: Float64Array } {
  const seen = new Map<string, number>();
  let total = 0;
  for (const [word, count] of counts) {
    for (const letter of word) {
      seen.set(letter, (seen.get(letter) ?? 0) + count);
      total += count;
    }
  }
  const letters: string[] = [];
  let covered = 0;
  for (const [letter, count] of [...seen].sort(([a, n], [b, m]) => m - n || (a.codePointAt(0) as number) - (b.codePointAt(0) as number))) {
    // In single precision, as SentencePiece compares them.
    if (Math.fround(covered / total) >= Math.fround(coverage)) break;
    letters.push(letter);
    covered += count;
  }
  const number = new Map(letters.map((letter, i) => [letter, i]));
  const words = Array.from(counts.keys(), (word) => Int32Array.from([...word], (letter) => number.get(letter) ?? -1));
  const starts = new Int32Array(words.length + 1);
  for (const [i, word] of words.entries()) starts[i + 1] = starts[i] + word.length;
  const characters = new Int32Array(starts[words.length]);
  for (const [i, word] of words.entries()) characters.set(word, starts[i]);
  return {
    letters,
    corpus: { characters, starts, counts: Float64Array.from(counts.values()) },
    last: Float64Array.from(counts.keys(), (word) => last.get(word) ?? 0),
  };
}

/** Pieces of known letters that hold a blank only at the start and letters of one script only, as SentencePiece has it; marks have that of what they stand on. */
function validPieces(letters: readonly string[], blank: string): (piece: Int32Array) => boolean {
  const scripts = Int32Array.from(letters, (letter) => scriptOf(letter.codePointAt(0) as number));
  const inherited = scriptOf(0x300);
  const blankLetter = letters.indexOf(blank);
  return (piece) => {
    let script: number | undefined;
    for (const [i, letter] of piece.entries()) {
      if (letter < 0) return false;
      if (letter === blankLetter) {
        if (i > 0) return false;
        continue;
      }
      if (scripts[letter] === inherited) continue;
      script ??= scripts[letter];
      if (scripts[letter] !== script) return false;
    }
    return true;
  };
}

/**
 * What tells two characters apart where seeds are looked for: the first byte in UTF-8, as in SentencePiece 0.2.3, which sorts bytes. Of letters of one alphabet it is
 * often the same. A rare letter is written as one of the same first byte as the blank, and a text ends with a zero.
 */
function firstBytes(letters: readonly string[], blank: string): (character: number) => number {
  const utf8 = new TextEncoder();
  const first = (letter: string) => utf8.encode(letter)[0];
  const bytes = Int32Array.from(letters, first);
  const other = first(blank);
  return (character) => (character >= 0 ? bytes[character] : character === BEHIND.end ? 0 : other);
}

function startOf({ characters, starts, counts }: Corpus, letters: number, seeds: readonly { characters: Int32Array; cover: number }[]): Model {
  const single = new Float64Array(letters);
  for (const [word, count] of counts.entries())
    for (const letter of characters.subarray(starts[word], starts[word + 1])) if (letter >= 0) single[letter] += count;
  const pieces = [...Array.from(single.keys(), (letter) => Int32Array.of(letter)), ...seeds.map((seed) => seed.characters)];
  const weights = Float64Array.from([...single, ...seeds.map(({ cover }) => cover)]);
  const logSum = Math.log(weights.reduce((a, b) => a + b, 0));
  return modelOf(
    pieces,
    weights.map((w) => Math.log(w) - logSum),
  );
}

/** Where a character outside the vocabulary is counted: with the first piece, the most frequent letter, as in SentencePiece. So pieces that hold lost letters go first. */
const counted = (piece: number): number => Math.max(piece, 0);

/** How often the model expects each piece in the corpus: forward and backward along each word. */
function expected(model: Model, { characters, starts, counts }: Corpus): Float64Array {
  const { scores, trie, unknown } = model;
  const sums = new Float64Array(scores.length);
  let [forward, backward] = [new Float64Array(64), new Float64Array(64)];
  const edges: { from: number; to: number; piece: number }[] = [];
  for (let word = 0; word < counts.length; word++) {
    const [start, end] = [starts[word], starts[word + 1]];
    const n = end - start;
    if (forward.length <= n) [forward, backward] = [new Float64Array(2 * n), new Float64Array(2 * n)];
    forward.fill(Number.NEGATIVE_INFINITY, 0, n + 1);
    backward.fill(Number.NEGATIVE_INFINITY, 0, n + 1);
    forward[0] = 0;
    backward[n] = 0;
    let used = 0;
    for (let i = 0; i < n; i++) {
      let single = false;
      const edge = (piece: number, length: number, score: number) => {
        if (used === edges.length) edges.push({ from: 0, to: 0, piece: 0 });
        const e = edges[used++];
        [e.from, e.to, e.piece] = [i, i + length, piece];
        forward[i + length] = logAdd(forward[i + length], forward[i] + score);
      };
      trie.at(characters, start + i, end, (piece, length) => {
        if (length === 1) single = true;
        edge(piece, length, scores[piece]);
      });
      if (!single) edge(-1, 1, unknown);
    }
    // Edges are sorted by where they begin, so going back meets each end before its beginning.
    for (let e = used - 1; e >= 0; e--) {
      const { from, to, piece } = edges[e];
      backward[from] = logAdd(backward[from], backward[to] + (piece < 0 ? unknown : scores[piece]));
    }
    for (let e = 0; e < used; e++) {
      const { from, to, piece } = edges[e];
      sums[counted(piece)] += counts[word] * Math.exp(forward[from] + (piece < 0 ? unknown : scores[piece]) + backward[to] - forward[n]);
    }
  }
  return sums;
}

function logAdd(a: number, b: number): number {
  if (a < b) return b + Math.log1p(Math.exp(a - b));
  return b === Number.NEGATIVE_INFINITY ? a : a + Math.log1p(Math.exp(b - a));
}

function maximised(model: Model, expectedCounts: Float64Array): Model {
  const kept = [...expectedCounts.keys()].filter((i) => expectedCounts[i] >= LEAST_EXPECTED);
  const total = digamma(kept.reduce((sum, i) => sum + expectedCounts[i], 0));
  return modelOf(
    kept.map((i) => model.pieces[i]),
    Float64Array.from(kept, (i) => digamma(expectedCounts[i]) - total),
  );
}

/** The derivative of log Γ (Abramowitz and Stegun 6.3.5 and 6.3.18): up by its recurrence, then by the asymptotic series. */
function digamma(x: number): number {
  let [at, sum] = [x, 0];
  for (; at < 7; at++) sum -= 1 / at;
  const inverse = 1 / (at * at);
  return sum + Math.log(at) - 0.5 / at - inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240))));
}

/**
 * The `size` pieces that the text would miss most. Without a piece each of its places would be cut in the second best way; what that costs is worked out as if all else
 * stayed the same.
 */
function pruned(model: Model, { characters, starts, counts }: Corpus, size: number): Model {
  const { pieces, scores, trie, unknown } = model;
  const used = new Float64Array(pieces.length);
  let words = 0;
  for (let word = 0; word < counts.length; word++) {
    words += counts[word];
    for (const { piece } of bestCuts(trie, scores, unknown, characters, starts[word], starts[word + 1]).cuts) {
      used[counted(piece)] += counts[word];
    }
  }
  const sum = used.reduce((a, b) => a + b, 0);
  const kept: number[] = [];
  const losses: { piece: number; loss: number }[] = [];
  for (const [piece, own] of pieces.entries()) {
    if (own.length === 1) {
      if (used[piece] > 0) kept.push(piece);
      continue;
    }
    if (used[piece] === 0) continue;
    const { cuts, score } = bestCuts(trie, scores, unknown, own, 0, own.length, piece);
    if (score >= scores[piece]) continue;
    const instead = Math.log(sum + used[piece] * (cuts.length - 1));
    const alternative = cuts.reduce((a, cut) => a + Math.log(used[counted(cut.piece)] + used[piece]) - instead, 0);
    losses.push({ piece, loss: (used[piece] / words) * (Math.log(used[piece]) - Math.log(sum) - alternative) });
  }
  losses.sort((a, b) => b.loss - a.loss || a.piece - b.piece);
  for (const { piece } of losses.slice(0, Math.max(0, size - kept.length))) kept.push(piece);
  return modelOf(
    kept.map((i) => pieces[i]),
    Float64Array.from(kept, (i) => scores[i]),
  );
}

/** All letters, then the best pieces, in the order of their scores. */
function finished({ pieces, scores }: Model, letters: readonly string[], size: number): TrainedPiece[] {
  const text = (piece: Int32Array) => Array.from(piece, (letter) => letters[letter]).join("");
  const found = new Map(pieces.map((piece, i) => [text(piece), scores[i]]));
  const worst = least(scores);
  let lost = 0;
  const chosen = new Map(letters.map((letter) => [letter, found.get(letter) ?? worst - LOST_LETTER_STEP * lost++]));
  const ranked = [...found].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  for (const [piece, score] of ranked) {
    if (chosen.size >= size) break;
    chosen.set(piece, chosen.get(piece) ?? score);
  }
  return [...chosen].map(([piece, score]) => ({ piece, score })).sort((a, b) => b.score - a.score || (a.piece < b.piece ? -1 : 1));
}

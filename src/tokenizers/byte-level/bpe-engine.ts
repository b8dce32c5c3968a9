/** What byte-level BPE needs to run, and what runs it: the native part or its plain TypeScript twin. */
import type { PatternName } from "./split-patterns.ts";

/** Text as a string, or as UTF-8 bytes (what is not UTF-8 becomes U+FFFD and is counted). */
export type Text = string | Uint8Array;

/** The tables of a byte-level BPE. Ids count from 0; an id without a token has length 0. */
export interface BpeTables {
  /** The bytes of all tokens, one after the other in the order of their ids. */
  readonly bytes: Uint8Array;
  /** Number of bytes of each id. */
  readonly lengths: Int32Array;
  /** `left, right, left, right …` in order of rank, or null: any neighbours that spell a token merge, smallest id first (tiktoken). */
  readonly merges: Int32Array | null;
  /** Ids that are decoded but that no text becomes (special and added tokens). */
  readonly hidden: Int32Array;
  /** A word that is a token is that token even where no merges lead to it. */
  readonly wholeWords: boolean;
  readonly pattern: PatternName;
}

export interface EncodedBatch {
  /** Ids of all texts, one after the other. */
  readonly ids: Int32Array;
  /** Number of ids of each text. */
  readonly counts: Int32Array;
  /** Malformed parts of byte input that became U+FFFD. */
  readonly replaced: number;
}

/** A tokenizer as the native part takes it: a list of words that describe it, with arrays beside (crates/text/src/recipe.rs). */
export interface Recipe {
  /** Parts one after the other: each its name, then its settings. */
  readonly words: readonly string[];
  /** UTF-8 of all tokens in the order of their ids, and each one's length. Of length 0: no text becomes it. */
  readonly bytes: Uint8Array;
  readonly lengths: Int32Array;
  /** `left, right, result` of each merge by rank; or the types of SentencePiece's pieces. */
  readonly numbers: Int32Array;
  readonly scores: Float64Array;
  readonly charsmap: Uint8Array;
  /** For a byte-level BPE its tables, in place of tokens and numbers. */
  readonly bpe: BpeTables | null;
}

/** Runs all of a tokenizer up to what is put around a text, for ids alone. */
export interface IdsEngine {
  /**
   * @param allowed for each added token whether it is looked for
   * @throws DataError for text that the vocabulary can't spell, where it has no unknown token
   */
  encodeBatch(texts: readonly Text[], allowed: Uint8Array, threads: number): EncodedBatch;
  count(texts: readonly Text[], allowed: Uint8Array, threads: number): Int32Array;
  dispose(): void;
}

/** Encodes and decodes ordinary text; knows nothing of special tokens. */
export interface BpeEngine {
  readonly name: "native" | "reference";
  /** @param threads 0 for as many as the machine offers */
  encode(text: Text, threads: number): Int32Array;
  encodeBatch(texts: readonly Text[], threads: number): EncodedBatch;
  /** The number of ids of each text, without making them. */
  count(texts: readonly Text[], threads: number): Int32Array;
  /** The bytes that ids spell; every id is within the tables. */
  decode(ids: Int32Array): Uint8Array;
  /** The same vocabulary with parts before it (the words of a recipe but for its model's); undefined where there is no fast way. */
  readonly withParts?: (words: readonly string[]) => IdsEngine;
  /** Frees what lies outside JavaScript's memory. Safe to call twice. */
  dispose(): void;
}

/** A trained vocabulary: special tokens first (of length 0), then bytes, then what was merged. */
export interface TrainedBpe {
  readonly bytes: Uint8Array;
  readonly lengths: Int32Array;
  readonly merges: Int32Array;
}

export interface BpeTrainOptions {
  readonly vocabSize: number;
  readonly minFrequency: number;
  /** For each special token the bytes that its text has as an ordinary token; null where it can't be one. */
  readonly specials: readonly (Uint8Array | null)[];
}

/** Counts words as texts come, then trains. */
export interface BpeTrainer {
  feed(texts: readonly Text[]): void;
  finish(options: BpeTrainOptions): TrainedBpe;
  dispose(): void;
}

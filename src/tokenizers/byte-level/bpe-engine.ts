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

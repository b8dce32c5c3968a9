/** A tokenizer as data: what is read from files, made by training, and written back. */
import type { AddedToken } from "./added-tokens.ts";
import type { Normalizer, PostProcessor } from "./components.ts";
import type { PatternName } from "./split-patterns.ts";

/** A byte-level BPE vocabulary. */
export interface BpeModel {
  readonly kind: "bpe";
  /** Each token in the byte alphabet (byte-alphabet.ts) by id; undefined where the id has none. Special tokens are not in here. */
  readonly tokens: readonly (string | undefined)[];
  /** `left, right, left, right …` by rank, or null: merge by rank of the result (tiktoken). */
  readonly merges: Int32Array | null;
  readonly wholeWords: boolean;
  readonly pattern: PatternName;
  readonly addPrefixSpace: boolean;
}

/** A vocabulary of single characters. */
export interface CharacterModel {
  readonly kind: "characters";
  /** The character of each id. */
  readonly tokens: readonly (string | undefined)[];
  /** The id for characters outside the vocabulary; without it they are an error. */
  readonly unknownId?: number;
}

/** The models there are. Others (WordPiece, Unigram) join here and in model.ts. */
export type ModelSpec = BpeModel | CharacterModel;

/** All that a tokenizer is, as plain values: what files say, and `createTokenizer` runs. */
export interface TokenizerSpec {
  readonly model: ModelSpec;
  readonly normalizer: Normalizer;
  readonly postProcessor: PostProcessor;
  readonly addedTokens: readonly AddedToken[];
  /** Components as the file had them, so that saving gives back what was read. */
  readonly kept?: {
    readonly truncation: unknown;
    readonly padding: unknown;
    readonly postProcessor: unknown;
  };
}

/** A special token with ordinary settings. */
export function specialToken(content: string, id: number): AddedToken {
  return { id, content, special: true, singleWord: false, lstrip: false, rstrip: false, normalized: false };
}

/** One more than the largest id: the rows that an embedding table needs. */
export function specSize(spec: TokenizerSpec): number {
  return spec.addedTokens.reduce((size, token) => Math.max(size, token.id + 1), spec.model.tokens.length);
}

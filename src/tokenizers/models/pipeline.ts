/**
 * The parts of a tokenizer in the order in which text passes them, each as the plain data that tokenizer.json holds. What runs a part, reads it strictly and
 * writes it back stands in the part's own file.
 *
 *   text → normalizer → pre-tokenizer → model → post-processor → ids          ids → tokens → decoder → text
 */
import type { Offset } from "../encoding.ts";

/** A token that a model found in a piece of text. */
export interface PieceToken {
  id: number;
  /** As the vocabulary spells it. */
  token: string;
  /** UTF-16 units of the piece. */
  place: Offset;
}

/** What cuts one piece of text (a word, or all of it) into tokens of a vocabulary. */
export interface PieceModel {
  /** @throws DataError for text that the vocabulary can't spell, where it has no unknown token */
  tokenize(piece: string): PieceToken[];
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  /** One more than the largest id. */
  readonly size: number;
}

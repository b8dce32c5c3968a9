/** The look-ups of a SentencePiece vocabulary. */
import { PrefixTrie } from "./prefix-trie.ts";
import { isSpelled, NUL, PIECE_TYPES, type SentencePieceSpec } from "./spec.ts";

export interface Vocabulary {
  readonly spec: SentencePieceSpec;
  /** Ids of the pieces that text may be cut into by their spelling, unused ones included. */
  readonly spelled: ReadonlyMap<string, number>;
  /** -1 where byte fallback leaves nothing unknown and there is no such piece. */
  readonly unknownId: number;
  /** The symbols that stay whole wherever they stand; null where there are none. */
  readonly userDefined: PrefixTrie | null;
  /** An id for any piece; a name (control, unknown, byte) goes before a spelling. */
  find(piece: string): number | undefined;
  is(id: number, type: keyof typeof PIECE_TYPES): boolean;
}

export function createVocabulary(spec: SentencePieceSpec): Vocabulary {
  const spelled = new Map<string, number>();
  const named = new Map<string, number>();
  let userDefined: PrefixTrie | null = null;
  for (const [id, piece] of spec.pieces.entries()) {
    if (piece === NUL && spec.types[id] === PIECE_TYPES.unused) continue;
    (isSpelled(spec.types[id]) ? spelled : named).set(piece, id);
    if (spec.types[id] === PIECE_TYPES.userDefined) {
      userDefined ??= new PrefixTrie();
      userDefined.add(piece, id);
    }
  }
  return {
    spec,
    spelled,
    unknownId: spec.types.indexOf(PIECE_TYPES.unknown),
    userDefined,
    find: (piece) => named.get(piece) ?? spelled.get(piece),
    is: (id, type) => spec.types[id] === PIECE_TYPES[type],
  };
}

/** Normalised text in pieces, one behind the other: where each ends and its id. */
export interface Pieces {
  readonly ends: number[];
  readonly ids: number[];
}

/** How many units the character at `at` has. */
export function characterLength(text: string, at: number): number {
  return (text.codePointAt(at) as number) > 0xffff ? 2 : 1;
}

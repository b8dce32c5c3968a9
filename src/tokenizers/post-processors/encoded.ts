/** A text's tokens in columns, on their way from the model to the caller: what post-processors, truncation and padding change. */
import type { Offset } from "../encoding.ts";

/** Columns of equal length, a row for each token. */
export interface Encoded {
  ids: number[];
  tokens: string[];
  /** In the text that `sequences` names, in UTF-16 units; [0, 0] for a token that is in none. */
  places: Offset[];
  typeIds: number[];
  /** The word (piece that the pre-tokeniser cut) of each token. */
  words: (number | null)[];
  /** 1 for a token that a post-processor or padding added. */
  specialMask: number[];
  /** 0 for padding. */
  attentionMask: number[];
  /** 0 for the first text, 1 for the second of a pair, null for a token that is of neither. */
  sequences: (number | null)[];
  /** What truncation cut off, in texts of their own. */
  overflowing: Encoded[];
}

type Column = Exclude<keyof Encoded, "overflowing">;
const COLUMNS: readonly Column[] = ["ids", "tokens", "places", "typeIds", "words", "specialMask", "attentionMask", "sequences"];

export function emptyEncoded(): Encoded {
  return { ids: [], tokens: [], places: [], typeIds: [], words: [], specialMask: [], attentionMask: [], sequences: [], overflowing: [] };
}

/** The rows from `start` up to `end`, without what overflowed. */
export function sliceEncoded(encoded: Encoded, start: number, end: number): Encoded {
  const columns = COLUMNS.map((column) => [column, encoded[column].slice(start, end)]);
  return { ...Object.fromEntries(columns), overflowing: [] } as Encoded;
}

/** Rows for tokens that are in no text. */
export function addedTokens(ids: readonly number[], tokens: readonly string[], typeId: number, attention = 1): Encoded {
  const each = <T>(value: T): T[] => ids.map(() => value);
  return {
    ids: [...ids],
    tokens: [...tokens],
    places: each([0, 0] as const),
    typeIds: each(typeId),
    words: each(null),
    specialMask: each(1),
    attentionMask: each(attention),
    sequences: each(null),
    overflowing: [],
  };
}

/** One after the other. What overflowed from one is put together with each form of the others, so that every part has all that belongs around it. */
export function joinEncoded(list: readonly Encoded[]): Encoded {
  return list.reduce(joinTwo, emptyEncoded());
}

function joinTwo(left: Encoded, right: Encoded): Encoded {
  const columns = COLUMNS.map((column) => [column, [...left[column], ...right[column]]]);
  const overflowing: Encoded[] = [];
  for (const rest of left.overflowing) {
    overflowing.push(joinTwo(rest, right));
    for (const other of right.overflowing) overflowing.push(joinTwo(rest, other));
  }
  for (const other of right.overflowing) overflowing.push(joinTwo(left, other));
  return { ...Object.fromEntries(columns), overflowing } as Encoded;
}

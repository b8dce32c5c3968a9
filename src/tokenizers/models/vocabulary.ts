/** A vocabulary as `{"token": id}`, both ways round. */
import type { Place } from "../files/strict-json.ts";
import { tokensById } from "../files/vocab-merges.ts";

export interface Vocab {
  /** By id; ids may have gaps. */
  readonly tokens: readonly (string | undefined)[];
  readonly idOf: ReadonlyMap<string, number>;
}

export const readVocab: (value: unknown, place: Place) => Vocab = tokensById;

/** As the file has it, in the order of ids. */
export function vocabObject(vocab: Vocab): Record<string, number> {
  return Object.fromEntries(vocab.tokens.flatMap((token, id) => (token === undefined ? [] : [[token, id]])));
}

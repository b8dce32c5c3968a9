/** Token ids from outside: files, callers, other tokenizers. */
import { DataError } from "./errors.ts";

/** How a refused list of ids is spoken of. */
export interface TokenIdContext {
  /** Whose vocabulary it is; default "the vocabulary". */
  vocabulary?: string;
  /** The place that the list's first id has in what it was taken from; default 0. */
  from?: number;
  /** What to do about it. */
  advice: string;
}

/** @throws DataError that names the first id that a vocabulary of `size` tokens does not have */
export function checkTokenIds(where: string, ids: ArrayLike<number>, size: number, context: TokenIdContext): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (Number.isInteger(id) && id >= 0 && id < size) continue;
    const { vocabulary = "the vocabulary", from = 0, advice } = context;
    throw new DataError(
      `${where}: id ${id} at place ${from + i} is outside ${vocabulary}, expected a whole number from 0 to ${size - 1}, got ${id}. ${advice}`,
    );
  }
}

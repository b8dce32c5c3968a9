/** The models that look pieces up as they are: one for each word, or one for each character. */
import { SPACE_SYMBOL } from "./normalizer.ts";
import { characterLength, type Pieces, type Vocabulary } from "./vocabulary.ts";

function look(vocabulary: Vocabulary, piece: string): number {
  const id = vocabulary.spelled.get(piece);
  return id === undefined || vocabulary.is(id, "unused") ? vocabulary.unknownId : id;
}

/** A word begins at every space symbol. */
export function cutIntoWords(vocabulary: Vocabulary): (text: string) => Pieces {
  return (text) => {
    const pieces: Pieces = { ends: [], ids: [] };
    for (let start = 0; start < text.length; ) {
      const next = text.indexOf(SPACE_SYMBOL, start + 1);
      const end = next < 0 ? text.length : next;
      pieces.ends.push(end);
      pieces.ids.push(look(vocabulary, text.slice(start, end)));
      start = end;
    }
    return pieces;
  };
}

/** Characters and user-defined symbols. */
export function cutIntoCharacters(vocabulary: Vocabulary): (text: string) => Pieces {
  return (text) => {
    const pieces: Pieces = { ends: [], ids: [] };
    for (let start = 0; start < text.length; ) {
      const end = start + (vocabulary.userDefined?.longest(text, start) || characterLength(text, start));
      pieces.ends.push(end);
      pieces.ids.push(look(vocabulary, text.slice(start, end)));
      start = end;
    }
    return pieces;
  };
}

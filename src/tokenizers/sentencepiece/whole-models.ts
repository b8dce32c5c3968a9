/** The models that look pieces up as they are: one for each word, or one for each character. */
import { SPACE_SYMBOL } from "./normalizer.ts";
import { characterLength, type Pieces, type Vocabulary } from "./vocabulary.ts";

/** A word begins at every space symbol. */
export function cutIntoWords(vocabulary: Vocabulary): (text: string) => Pieces {
  return (text) => {
    const pieces: Pieces = { ends: [], ids: [] };
    for (let start = 0; start < text.length; ) {
      const next = text.indexOf(SPACE_SYMBOL, start + 1);
      const end = next < 0 ? text.length : next;
      pieces.ends.push(end);
      pieces.ids.push(vocabulary.find(text.slice(start, end)) ?? vocabulary.unknownId);
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
      pieces.ids.push(vocabulary.find(text.slice(start, end)) ?? vocabulary.unknownId);
      start = end;
    }
    return pieces;
  };
}

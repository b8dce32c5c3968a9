/** Text as the pieces spell it, with the place in the given text for each of its units. */
import { Place } from "../files/strict-json.ts";
import { openCharsmap } from "../normalizers/charsmap.ts";
import type { PrefixTrie } from "./prefix-trie.ts";
import type { SentencePieceNormalizer } from "./spec.ts";

/** How a space is written in pieces. */
export const SPACE_SYMBOL = "\u2581";
const LONE_SURROGATE = /\p{Surrogate}/gu;

export interface NormalizedText {
  readonly text: string;
  /**
   * For each unit of `text` the start, in the given text, of what it was made from; then one more number, where the last of it ends. A piece from
   * unit a up to b has the place `places[a]` to `places[b]`.
   */
  readonly places: readonly number[];
}

export interface NormalizerOptions {
  /** The dummy space goes behind the text. */
  readonly spaceBehind: boolean;
  /** Strings that no replacement touches. */
  readonly untouched: PrefixTrie | null;
}

/** Makes the function that normalises. Lone surrogates become U+FFFD, as in UTF-8. */
export function createNormalizer(spec: SentencePieceNormalizer, options: NormalizerOptions): (text: string) => NormalizedText {
  const charsmap = spec.charsmap === null ? null : openCharsmap(spec.charsmap, new Place("normalizer"));
  const { addDummyPrefix, removeExtraWhitespaces } = spec;
  const space = spec.escapeWhitespaces ? SPACE_SYMBOL : " ";

  /** What the text at `at` is replaced by, and how much of it. */
  function replace(text: string, at: number): { length: number; text: string } {
    const untouched = options.untouched?.longest(text, at) ?? 0;
    if (untouched > 0) return { length: untouched, text: text.slice(at, at + untouched) };
    const found = charsmap?.findLongest(text, at) ?? null;
    if (found !== null) return found;
    const length = (text.codePointAt(at) as number) > 0xffff ? 2 : 1;
    return { length, text: text.slice(at, at + length) };
  }

  return (given) => {
    const text = given.replace(LONE_SURROGATE, "\ufffd");
    let at = 0;
    if (removeExtraWhitespaces) {
      while (at < text.length) {
        const first = replace(text, at);
        if (first.text !== " ") break;
        at += first.length;
      }
    }
    if (at === text.length) return { text: "", places: [at] };

    let normalized = "";
    const places: number[] = [];
    const append = (added: string): void => {
      normalized += added;
      for (let i = 0; i < added.length; i++) places.push(at);
    };
    if (addDummyPrefix && !options.spaceBehind) append(space);
    let behindSpace = removeExtraWhitespaces;
    while (at < text.length) {
      const next = replace(text, at);
      const added = behindSpace ? next.text.replace(/^ +/, "") : next.text;
      if (added !== "") {
        append(space === " " ? added : added.replaceAll(" ", space));
        behindSpace = removeExtraWhitespaces && added.endsWith(" ");
      }
      at += next.length;
    }
    if (removeExtraWhitespaces) {
      // A space symbol that stood in the text goes too, as in the library.
      let end = normalized.length;
      while (end > 0 && normalized[end - 1] === space) at = places[--end];
      normalized = normalized.slice(0, end);
      places.length = end;
    }
    if (addDummyPrefix && options.spaceBehind) append(space);
    places.push(at);
    return { text: normalized, places };
  };
}

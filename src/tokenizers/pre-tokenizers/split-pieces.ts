/** Cutting a text at what was found in it: where found things and the rest between them become pieces. */
import type { AlignedText } from "../normalizers/aligned-text.ts";
import type { CharacterSet } from "../regex/character-set.ts";

/** What becomes of a found delimiter, in the words of tokenizer.json. */
export const SPLIT_BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
export type SplitBehavior = (typeof SPLIT_BEHAVIORS)[number];

export type Span = readonly [start: number, end: number];

/** Each character of the set by itself. */
export function* findCharacters(text: string, set: CharacterSet): Iterable<Span> {
  let at = 0;
  for (const character of text) {
    const end = at + character.length;
    if (set.has(character.codePointAt(0) as number)) yield [at, end];
    at = end;
  }
}

/** Every place of `wanted` (not empty), none overlapping. */
export function* findString(text: string, wanted: string): Iterable<Span> {
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) yield [at, at + wanted.length];
}

/**
 * The pieces of `text` (none empty), cut at the spans of `found` (in order, none overlapping; empty ones cut too).
 * @param invert what was found is the text and the rest between is the delimiter
 */
export function splitAt(text: AlignedText, found: Iterable<Span>, behavior: SplitBehavior, invert = false): AlignedText[] {
  const pieces: AlignedText[] = [];
  // The piece that may still grow.
  let start = -1;
  let end = -1;
  const close = () => {
    if (end > start) pieces.push(text.slice(start, end));
    start = -1;
    end = -1;
  };
  let wasDelimiter = false;
  const add = (from: number, to: number, delimiter: boolean) => {
    const joins =
      start >= 0 &&
      ((behavior === "Contiguous" && delimiter === wasDelimiter) ||
        (behavior === "MergedWithPrevious" && delimiter && !wasDelimiter) ||
        (behavior === "MergedWithNext" && !delimiter && wasDelimiter));
    wasDelimiter = delimiter;
    if (joins) {
      end = to;
      return;
    }
    close();
    if (behavior === "Removed" && delimiter) return;
    start = from;
    end = to;
  };
  let at = 0;
  for (const [from, to] of found) {
    if (from > at) add(at, from, invert);
    add(from, to, !invert);
    at = to;
  }
  if (at < text.text.length) add(at, text.text.length, invert);
  close();
  return pieces;
}

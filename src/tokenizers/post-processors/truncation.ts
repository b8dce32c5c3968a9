/** Truncation: what is cut off where a text, or a pair, has more tokens than the model takes. The rules are those of Hugging Face tokenizers. */
import { ConfigError, DataError } from "../../errors.ts";
import { asCount, type FromShape, missingAs, oneOf, readShape } from "../files/json-shape.ts";
import { asObject, type Place } from "../files/strict-json.ts";
import { type Encoded, sliceEncoded } from "./encoded.ts";

const SHAPE = {
  /** The side that is cut. */
  direction: missingAs(oneOf("Left", "Right"), "Right"),
  /** Tokens, special ones included. */
  max_length: asCount,
  strategy: oneOf("LongestFirst", "OnlyFirst", "OnlySecond"),
  /** How many tokens each part that overflows has in common with the part before it. */
  stride: asCount,
};

export type TruncationSpec = FromShape<typeof SHAPE>;

/** Rows of a text, from and up to. */
type Places = [start: number, end: number][];

/** @throws FormatError with the place, what was expected and what is there */
export function readTruncation(value: unknown, place: Place): TruncationSpec | null {
  return value === null || value === undefined ? null : readShape(asObject(value, place), SHAPE, place);
}

/** As tokenizer.json holds it. */
export function writeTruncation(spec: TruncationSpec | null): unknown {
  return spec;
}

/**
 * One text, or two, cut so that there are at most `max_length` tokens. What is cut off stands in `overflowing`.
 *
 * @param added how many tokens a post-processor will add, see countAdded
 * @throws ConfigError where the numbers leave no room; DataError where the text that may be cut is too short
 */
export function truncate<T extends readonly [Encoded] | readonly [Encoded, Encoded]>(texts: T, spec: TruncationSpec, added = 0): T {
  const places = cutPlaces(
    texts.map((text) => text.ids.length),
    spec,
    added,
  );
  return places === null ? texts : (texts.map((text, i) => cut(text, places[i])) as unknown as T);
}

/**
 * Where texts of these lengths are cut: of each first the rows that stay, then those of each part that overflows; null where all stay.
 *
 * @throws as `truncate`
 */
export function cutPlaces(lengths: readonly number[], spec: TruncationSpec, added: number): readonly Places[] | null {
  const most = spec.max_length - added;
  if (most < 0) {
    throw new ConfigError(
      `truncation: no room for special tokens, expected a max_length of at least ${added}, got ${spec.max_length}. Give a larger max_length.`,
    );
  }
  const total = lengths.reduce((a, b) => a + b, 0);
  if (total <= most && most > 0) return null;
  const goals = most === 0 ? lengths.map(() => 0) : newLengths(lengths, most, spec);
  return lengths.map((length, i) => placesOf(length, goals[i], spec));
}

/** How long each text becomes. */
function newLengths(lengths: readonly number[], most: number, spec: TruncationSpec): readonly number[] {
  const [first, second] = lengths;
  if (spec.strategy === "LongestFirst") {
    if (second === undefined) return [most];
    // The shorter stays whole while that leaves the longer no shorter; else each has half, the longer the odd one.
    const shorter = Math.min(first, second);
    const half = Math.floor(most / 2);
    const pair = shorter * 2 <= most ? [shorter, most - shorter] : [half, most - half];
    return first <= second ? pair : pair.reverse();
  }
  const target = spec.strategy === "OnlyFirst" ? 0 : 1;
  if (lengths[target] === undefined) {
    throw new DataError("truncation: strategy OnlySecond for one text, expected a pair, got a single text. Use LongestFirst or OnlyFirst.");
  }
  const goal = lengths[target] - (first + (second ?? 0) - most);
  if (goal <= 0) {
    throw new DataError(
      `truncation: the text that may be cut is too short, expected more than ${lengths[target] - goal} tokens, got ${lengths[target]}. Use LongestFirst, or a larger max_length.`,
    );
  }
  return lengths.map((length, i) => (i === target ? goal : length));
}

function placesOf(all: number, length: number, spec: TruncationSpec): Places {
  if (length >= all) return [[0, all]];
  if (length === 0) {
    return [
      [0, 0],
      [0, all],
    ];
  }
  if (spec.stride >= length) {
    throw new ConfigError(
      `truncation: parts do not move on, expected a stride of less than ${length} (the tokens of each part without special ones), got ${spec.stride}. Give a smaller stride.`,
    );
  }
  const step = length - spec.stride;
  const places: Places = [];
  // From the side that stays to the side that is cut, until a part reaches the end.
  for (let at = 0, done = false; !done; at += step) {
    done = at + length >= all;
    const reach = Math.min(at + length, all);
    places.push(spec.direction === "Right" ? [at, reach] : [all - reach, all - at]);
  }
  return places;
}

function cut(text: Encoded, places: Places): Encoded {
  if (places.length === 1) return text;
  const [kept, ...overflowing] = places.map(([start, end]) => sliceEncoded(text, start, end));
  return { ...kept, overflowing };
}

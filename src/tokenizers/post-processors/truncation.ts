/** Truncation: what is cut off where a text, or a pair, has more tokens than the model takes. The rules are those of Hugging Face tokenizers. */
import { ConfigError, DataError } from "../../errors.ts";
import { asCount, type FromShape, missingAs, oneOf, readShape } from "../files/json-shape.ts";
import { asObject, type Place } from "../files/strict-json.ts";
import { type Encoded, emptyEncoded, sliceEncoded } from "./encoded.ts";

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
  const most = spec.max_length - added;
  if (most < 0) {
    throw new ConfigError(
      `truncation: no room for special tokens, expected a max_length of at least ${added}, got ${spec.max_length}. Give a larger max_length.`,
    );
  }
  const lengths = texts.map((text) => text.ids.length);
  const total = lengths.reduce((a, b) => a + b, 0);
  if (total <= most && most > 0) return texts;
  const goals = most === 0 ? lengths.map(() => 0) : newLengths(lengths, most, spec);
  return texts.map((text, i) => cut(text, goals[i], spec)) as unknown as T;
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

function cut(text: Encoded, length: number, spec: TruncationSpec): Encoded {
  const all = text.ids.length;
  if (length >= all) return text;
  if (length === 0) return { ...emptyEncoded(), overflowing: [text] };
  if (spec.stride >= length) {
    throw new ConfigError(
      `truncation: parts do not move on, expected a stride of less than ${length} (the tokens of each part without special ones), got ${spec.stride}. Give a smaller stride.`,
    );
  }
  const step = length - spec.stride;
  const parts: Encoded[] = [];
  // From the side that stays to the side that is cut, until a part reaches the end.
  for (let at = 0, done = false; !done; at += step) {
    done = at + length >= all;
    const reach = Math.min(at + length, all);
    parts.push(spec.direction === "Right" ? sliceEncoded(text, at, reach) : sliceEncoded(text, all - reach, all - at));
  }
  const [kept, ...overflowing] = parts;
  return { ...kept, overflowing };
}

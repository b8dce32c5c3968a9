/** Places of tokens that are known by the UTF-8 bytes that each takes of its text. */
import type { Offset } from "../encoding.ts";

export function utf8Length(point: number): number {
  if (point < 0x80) return 1;
  if (point < 0x800) return 2;
  return point < 0x10000 ? 3 : 4;
}

/**
 * The places, in UTF-16 units, of tokens that follow each other. A token that has a part of a character has the whole character's place; one that lies
 * behind the end has the last character's.
 *
 * @param lengths bytes of each token, from 1 on
 */
export function placesByBytes(text: string, lengths: Iterable<number>): Offset[] {
  const places: Offset[] = [];
  // The character that is looked at: its units, and where its bytes end.
  let [start, width, end] = [0, 0, 0];
  let byte = 0;
  const next = (): void => {
    start += width;
    const point = text.codePointAt(start) as number;
    width = point > 0xffff ? 2 : 1;
    end += utf8Length(point);
  };
  for (const length of lengths) {
    while (end <= byte && start + width < text.length) next();
    const first = start;
    byte += length;
    while (end < byte && start + width < text.length) next();
    places.push([first, start + width]);
  }
  return places;
}

const encoder = new TextEncoder();

/** The tokens of byte fallback (`<0x0A>`), one for each UTF-8 byte of `text`. */
export function byteTokens(text: string): string[] {
  return Array.from(encoder.encode(text), (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
}

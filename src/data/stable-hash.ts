/**
 * A 64-bit hash that never changes, for splitting data and for telling data sets apart. Not for security.
 *
 * Source: the mixing of the 32-bit MurmurHash3 (Austin Appleby, public domain), one round for each value, in two lanes with
 * different seeds.
 */

function lane(values: ArrayLike<number>, seed: number): number {
  let hash = seed | 0;
  for (let i = 0; i < values.length; i++) {
    let word = Math.imul(values[i], 0xcc9e2d51);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b873593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe6546b64) | 0;
  }
  hash ^= values.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Two unsigned 32-bit words for a list of 32-bit numbers. */
export function hashNumbers(values: ArrayLike<number>): [number, number] {
  return [lane(values, 0x243f6a88), lane(values, 0x85a308d3)];
}

/** Two unsigned 32-bit words for a text, by its UTF-16 units. */
export function hashText(text: string): [number, number] {
  // In place of an array of units: the same numbers without the memory.
  const units = new Uint16Array(text.length);
  for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
  return hashNumbers(units);
}

/** The two words as 16 hexadecimal digits. */
export const hashHex = ([high, low]: [number, number]): string => high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");

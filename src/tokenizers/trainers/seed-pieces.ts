/**
 * What training Unigram begins with: all substrings that are seen often, found by sorting every place of the words. Of substrings that are always followed by the same
 * character only the longest counts, as in a suffix tree (Abouelhoda, Kurtz and Ohlebusch 2004, "Replacing suffix trees with enhanced suffix arrays").
 */
import type { Corpus } from "./piece-trie.ts";

export interface SeedPiece {
  readonly characters: Int32Array;
  /** Occurrences times length: how much of the text it covers. */
  readonly cover: number;
}

/**
 * Substrings of 2 to `longest` characters that occur at least twice and that `valid` accepts, the `most` with the largest cover, largest first; of equal cover the one
 * that comes first in the order of characters.
 */
export function seedPieces({ characters, starts, counts }: Corpus, longest: number, most: number, valid: (piece: Int32Array) => boolean): SeedPiece[] {
  const wordOf = new Int32Array(characters.length);
  for (let word = 0; word < counts.length; word++) wordOf.fill(word, starts[word], starts[word + 1]);
  const endOf = (place: number) => Math.min(starts[wordOf[place] + 1], place + longest + 1);
  const places = Int32Array.from(characters.keys());
  places.sort((a, b) => {
    const [endA, endB] = [endOf(a), endOf(b)];
    for (let i = a, j = b; ; i++, j++) {
      if (i === endA || j === endB) return i === endA ? (j === endB ? a - b : -1) : 1;
      if (characters[i] !== characters[j]) return characters[i] - characters[j];
    }
  });

  const seeds: SeedPiece[] = [];
  const consider = (place: number, length: number, count: number) => {
    if (length < 2 || length > longest || count < 2) return;
    const piece = characters.slice(place, place + length);
    if (valid(piece)) seeds.push({ characters: piece, cover: count * length });
  };
  // Intervals of places that begin alike, each with how many characters; an inner one closes before the one around it.
  const open: { length: number; count: number }[] = [];
  for (let i = 0; i < places.length; i++) {
    const place = places[i];
    const own = counts[wordOf[place]];
    const shared = i + 1 < places.length ? commonLength(characters, place, endOf(place), places[i + 1], endOf(places[i + 1])) : 0;
    const whole = endOf(place) - place;
    // A place that shares all of its characters with the next is no leaf.
    let count = own;
    if (whole > shared && whole > (open.at(-1)?.length ?? 0)) consider(place, whole, own);
    while (open.length > 0 && (open.at(-1) as { length: number }).length > shared) {
      const closed = open.pop() as { length: number; count: number };
      count += closed.count;
      consider(place, closed.length, count);
    }
    const around = open.at(-1);
    if (around !== undefined && around.length === shared) around.count += count;
    else if (shared > 0) open.push({ length: shared, count });
  }
  return seeds.sort((a, b) => b.cover - a.cover || compare(a.characters, b.characters)).slice(0, most);
}

function commonLength(characters: Int32Array, a: number, endA: number, b: number, endB: number): number {
  let n = 0;
  while (a + n < endA && b + n < endB && characters[a + n] === characters[b + n]) n++;
  return n;
}

function compare(a: Int32Array, b: Int32Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/**
 * What training Unigram begins with: all substrings that are seen often, found by sorting every place of the words. Of substrings that are always followed by the same
 * character only the longest counts, as in a suffix tree (Abouelhoda, Kurtz and Ohlebusch 2004, "Replacing suffix trees with enhanced suffix arrays"). So a word that
 * a blank always follows is none: the longest has that blank, which no piece may hold. It can still become a piece if its text has it elsewhere, in a longer word say.
 */
import type { Corpus } from "./piece-trie.ts";

export interface SeedPiece {
  readonly characters: Int32Array;
  /** Occurrences times length: how much of the text it covers. */
  readonly cover: number;
}

/** What stands behind a word: the blank of the next one, or the end of the text. No piece holds one. */
export const BEHIND = { blank: -2, end: -3 } as const;

export interface SeedOptions {
  /** Characters of a piece at most. */
  readonly longest: number;
  readonly most: number;
  readonly valid: (piece: Int32Array) => boolean;
  /** A number for a character; two with the same number are not told apart where they follow a substring. */
  readonly kindOf: (character: number) => number;
}

/**
 * Substrings of 2 to `longest` characters that two different kinds of characters follow (what stands behind a word among them) and that `valid` accepts, the `most` with
 * the largest cover, largest first; of equal cover the one that comes first in the order of characters.
 *
 * @param last how often each word was the last of its text
 */
export function seedPieces(corpus: Corpus, last: Float64Array, { longest, most, valid, kindOf }: SeedOptions): SeedPiece[] {
  const { characters, starts, counts } = withWhatFollows(corpus, last);
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
    if (length < 2 || length > longest) return;
    const piece = characters.slice(place, place + length);
    if (valid(piece)) seeds.push({ characters: piece, cover: count * length });
  };
  // Intervals of places that begin alike, each with how many characters, and what follows (NaN where that differs); an inner one closes before the one around it.
  const open: { length: number; count: number; next: number }[] = [];
  const nextAt = (place: number, length: number) => kindOf(characters[place + length]);
  for (let i = 0; i < places.length; i++) {
    const place = places[i];
    const shared = i + 1 < places.length ? commonLength(characters, place, endOf(place), places[i + 1], endOf(places[i + 1])) : 0;
    let count = counts[wordOf[place]];
    while (open.length > 0 && (open.at(-1) as { length: number }).length > shared) {
      const closed = open.pop() as { length: number; count: number; next: number };
      count += closed.count;
      if (closed.next !== nextAt(place, closed.length)) consider(place, closed.length, count);
    }
    const around = open.at(-1);
    if (shared === 0) continue;
    const next = nextAt(place, shared);
    if (around !== undefined && around.length === shared) {
      around.count += count;
      if (around.next !== next) around.next = Number.NaN;
    } else open.push({ length: shared, count, next });
  }
  return seeds.sort((a, b) => b.cover - a.cover || compare(a.characters, b.characters)).slice(0, most);
}

/** Each word with what follows it, once for each of the two. */
function withWhatFollows({ characters, starts, counts }: Corpus, last: Float64Array): Corpus {
  const all: { word: number; behind: number; count: number }[] = [];
  for (let word = 0; word < counts.length; word++) {
    if (counts[word] > last[word]) all.push({ word, behind: BEHIND.blank, count: counts[word] - last[word] });
    if (last[word] > 0) all.push({ word, behind: BEHIND.end, count: last[word] });
  }
  const found = { characters: new Int32Array(2 * (characters.length + counts.length)), starts: new Int32Array(all.length + 1) };
  let at = 0;
  for (const [i, { word, behind }] of all.entries()) {
    const own = characters.subarray(starts[word], starts[word + 1]);
    found.characters.set(own, at);
    at += own.length;
    found.characters[at++] = behind;
    found.starts[i + 1] = at;
  }
  return { characters: found.characters.subarray(0, at), starts: found.starts, counts: Float64Array.from(all, ({ count }) => count) };
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

/**
 * SentencePiece's compiled replacements (charsmap.ts) as Hugging Face applies them (crate spm_precompiled): a grapheme cluster of fewer than 6 bytes is looked up
 * as a whole, where it is not found its characters; and what is found is the shortest key that it begins with.
 */
import type { Place } from "../files/strict-json.ts";
import { utf8Length } from "../models/byte-places.ts";
import type { Change } from "./aligned-text.ts";
import { type Charsmap, openCharsmap } from "./charsmap.ts";

/** A cluster of so many bytes is looked up by its characters only. */
const TOO_LONG = 6;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** @throws FormatError at `place` when the table is damaged, so that a look-up can't leave it */
export function readCharsmap(base64: string, place: Place): Charsmap {
  if (!BASE64.test(base64) || base64.length % 4 !== 0) place.fail("not base64", "a charsmap in base64", base64);
  return openCharsmap(charsmapBytes(base64), place);
}

export function charsmapBytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** What a part of the text becomes, undefined where it stays. */
function replacementOf(map: Charsmap, part: string): string | undefined {
  if (part.length >= TOO_LONG) return undefined;
  let bytes = 0;
  for (const character of part) bytes += utf8Length(character.codePointAt(0) as number);
  return bytes >= TOO_LONG ? undefined : map.findShortest(part, 0)?.text;
}

/** The parts of a text that are looked up, and what they become. */
function* partsOf(map: Charsmap, text: string): Generator<readonly [old: string, now: string | undefined]> {
  for (const cluster of graphemes(text)) {
    const whole = replacementOf(map, cluster);
    if (whole !== undefined) {
      yield [cluster, whole];
      continue;
    }
    for (const character of cluster) yield [character, character === cluster ? undefined : replacementOf(map, character)];
  }
}

export function replaceByCharsmap(map: Charsmap, text: string): string {
  const pieces: string[] = [];
  for (const [old, now] of partsOf(map, text)) pieces.push(now ?? old);
  return pieces.join("");
}

/** The new characters and what became of the old ones. */
export function* charsmapChanges(map: Charsmap, text: string): Generator<Change> {
  // Held back, because characters that are gone count with the last one before them, whatever it stands for. At the start of a text there is none, so that the
  // places behind lag, as Hugging Face's do.
  let last: [character: string, change: number] | undefined;
  for (const [old, now] of partsOf(map, text)) {
    let oldCount = 0;
    for (const _ of old) oldCount++;
    let count = 0;
    for (const character of now ?? old) {
      if (last !== undefined) yield last;
      last = [character, ++count > oldCount ? 1 : 0];
    }
    if (last !== undefined && count < oldCount) last[1] += count - oldCount;
  }
  if (last !== undefined) yield last;
}

/** Between two of these no grapheme cluster goes on: ASCII and letters of Latin-1, Cyrillic, kana, CJK ideographs. */
const PLAIN = /[ -~¡-¬®-ʯЀ-҂Ҋ-ԯ、-〩ぁ-ゖァ-ヺ一-鿿]/;

/** Grapheme clusters. Intl.Segmenter takes microseconds for each, so that it gets only what needs it. */
function* graphemes(text: string): Generator<string> {
  let start = 0;
  let before = PLAIN.test(text.charAt(0));
  for (let i = 1; i <= text.length; i++) {
    const plain = i < text.length && PLAIN.test(text[i]);
    if (i === text.length || (plain && before)) {
      if (i - start === 1) yield text[start];
      else yield* segments(text.slice(start, i));
      start = i;
    }
    before = plain;
  }
}

/**
 * The clusters that Intl.Segmenter finds. It looks back along flags and so takes quadratic time over many of them; what stands before a cluster never decides
 * where it ends, though, so that a stretch at a time is enough. A stretch's last cluster may go on behind it, and begins the next.
 */
function* segments(text: string): Generator<string> {
  const STRETCH = 256;
  const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
  let size = STRETCH;
  for (let start = 0; start < text.length; ) {
    const half = /[\ud800-\udbff]/.test(text.charAt(start + size - 1)) ? 1 : 0;
    const stretch = text.slice(start, start + size + half);
    const isLast = start + stretch.length === text.length;
    let open = "";
    for (const { segment } of segmenter.segment(stretch)) {
      if (open !== "") yield open;
      start += open.length;
      open = segment;
    }
    size = open.length === stretch.length ? 2 * size : STRETCH;
    if (isLast) {
      yield open;
      return;
    }
  }
}

/**
 * A normaliser's replacements as SentencePiece compiles them (`precompiled_charsmap`): a trie of the UTF-8 of what is replaced, and the replacements, each ended by NUL.
 *
 *   u32 size of the trie in bytes | the trie, u32 units of a double array | replacements
 *
 * A unit's low 8 bits are the byte that leads to it, its highest bits say where its children are: the child for byte b is at `base ^ b`. Where the unit
 * ends a key (bit 8), `base` itself holds the place of the replacement. All numbers are little-endian.
 *
 * Format: Darts-clone (github.com/s-yata/darts-clone), a static double array after Aoe 1989, "An efficient digital search algorithm by using a double-array
 * structure".
 */
import type { Place } from "../files/strict-json.ts";

export interface Replacement {
  /** UTF-16 units that are replaced. */
  readonly length: number;
  readonly text: string;
}

export interface Charsmap {
  /** The longest key that begins at `at`. */
  findLongest(text: string, at: number): Replacement | null;
  /** The shortest. */
  findShortest(text: string, at: number): Replacement | null;
}

/** Units come in blocks of 256, so that the children of a unit, which differ in the low 8 bits, are all there or none is. */
const BLOCK = 4 * 256;
/** Far above every rule that means something (NFKC's longest is 33 bytes). */
const LONGEST_REPLACEMENT = 1000;
const ENDS_KEY = 1 << 8;
/** A unit that holds a place of a replacement has the highest bit, so that it equals no byte. */
const LABEL = 0x8000_00ff | 0;
const VALUE = 0x7fff_ffff;

/** Where the children of the unit at `at` are. */
function baseOf(unit: number, at: number): number {
  const offset = (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
  return (at ^ offset) >>> 0;
}

/** @throws FormatError when a size or a place leads outside, or a trie's branch comes back to itself */
export function openCharsmap(bytes: Uint8Array, place: Place): Charsmap {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.length < 4 ? 0 : view.getUint32(0, true);
  if (size === 0 || size % BLOCK !== 0 || size >= bytes.length - 4) {
    place.fail("bad size of the trie", `a multiple of ${BLOCK} above 0 and below ${bytes.length - 4}`, size);
  }
  const units = Int32Array.from({ length: size / 4 }, (_, i) => view.getInt32(4 + 4 * i, true));
  const replacements = bytes.subarray(4 + size);
  checkReplacements(replacements, place);
  checkTrie(units, replacements, place);

  const known = new Map<number, string>();
  function replacementAt(start: number): string {
    let text = known.get(start);
    if (text === undefined) {
      const end = replacements.indexOf(0, start);
      text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(replacements.subarray(start, end));
      known.set(start, text);
    }
    return text;
  }

  function child(at: number, byte: number): number {
    const next = baseOf(units[at], at) ^ byte;
    return (units[next] & LABEL) === byte ? next : -1;
  }

  /** Follows the UTF-8 of a character; -1 where the trie ends. */
  function follow(from: number, character: number): number {
    if (character < 0x80) return child(from, character);
    const extra = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    const lead = [0, 0xc0, 0xe0, 0xf0][extra];
    let at = child(from, lead | (character >> (6 * extra)));
    for (let i = extra - 1; i >= 0 && at >= 0; i--) at = child(at, 0x80 | ((character >> (6 * i)) & 0x3f));
    return at;
  }

  function find(text: string, from: number, longest: boolean): Replacement | null {
    let found = -1;
    let end = from;
    let unit = 0;
    for (let at = from; at < text.length && (longest || found < 0); ) {
      const character = text.codePointAt(at) as number;
      unit = follow(unit, character);
      if (unit < 0) break;
      at += character > 0xffff ? 2 : 1;
      if ((units[unit] & ENDS_KEY) !== 0) {
        found = units[baseOf(units[unit], unit)] & VALUE;
        end = at;
      }
    }
    return found < 0 ? null : { length: end - from, text: replacementAt(found) };
  }

  return { findLongest: (text, at) => find(text, at, true), findShortest: (text, at) => find(text, at, false) };
}

function checkReplacements(replacements: Uint8Array, place: Place): void {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(replacements);
  } catch {
    place.fail("bad replacements", "UTF-8", "other bytes");
  }
  let start = 0;
  while (start < replacements.length) {
    const end = replacements.indexOf(0, start);
    if (end < 0) place.fail("a replacement without its end", "NUL", `the end after ${replacements.length - start} bytes`);
    if (end - start > LONGEST_REPLACEMENT) place.fail("an absurd replacement", `at most ${LONGEST_REPLACEMENT} bytes`, end - start);
    start = end + 1;
  }
}

/**
 * Walks every branch once, depth first. Branches may share their ends (the trie is a word graph folded into a double array), but one that meets itself would
 * match without end.
 */
function checkTrie(units: Int32Array, replacements: Uint8Array, place: Place): void {
  const [OPEN, DONE] = [1, 2];
  const state = new Uint8Array(units.length);
  const branch: { at: number; nextByte: number }[] = [];
  const enter = (at: number): void => {
    const base = baseOf(units[at], at);
    if (base >= units.length) place.at(`unit ${at}`).fail("children outside the trie", `a place below ${units.length}`, base);
    if ((units[at] & ENDS_KEY) !== 0) {
      if (units[base] >= 0) place.at(`unit ${base}`).fail("no place of a replacement", "a unit with the highest bit", units[base]);
      const value = units[base] & VALUE;
      const whole = value < replacements.length && (replacements[value] & 0xc0) !== 0x80;
      if (!whole) place.at(`unit ${at}`).fail("bad place of a replacement", `the start of a character below ${replacements.length}`, value);
    }
    state[at] = OPEN;
    branch.push({ at, nextByte: 0 });
  };
  enter(0);
  while (branch.length > 0) {
    const top = branch[branch.length - 1];
    if (top.nextByte === 256) {
      state[top.at] = DONE;
      branch.pop();
      continue;
    }
    const byte = top.nextByte++;
    const next = baseOf(units[top.at], top.at) ^ byte;
    if ((units[next] & LABEL) !== byte || state[next] === DONE) continue;
    if (state[next] === OPEN) place.at(`unit ${next}`).fail("a cycle in the trie", "branches that end", `unit ${next} below itself`);
    enter(next);
  }
}

/**
 * SentencePiece's compiled table of replacements (`precompiled_charsmap`): how many bytes its trie has (uint32, little-endian), the trie, then the replacements
 * in UTF-8, each ended by a NUL. The trie is a double array of Darts: a unit of 32 bits for each node.
 *
 *   bit 31 and bits 0-7   the byte that leads here (with bit 31 set: a leaf, bits 0-30 say where its replacement begins)
 *   bit 8                 a key ends here; its leaf is the child by byte 0
 *   bits 10-31, bit 9     how far the children are (bit 9: in steps of 256); child by byte b: own index xor distance xor b
 *
 * Formats: google/sentencepiece `src/normalizer.cc`, s-yata/darts-clone. Which part of a text is looked up is Hugging Face's way (crate spm_precompiled): a
 * grapheme cluster of fewer than 6 bytes as a whole, where it is not found its characters; and what is found is the shortest key that it begins with.
 */

import type { Place } from "../files/strict-json.ts";
import type { Change } from "./aligned-text.ts";

export interface Charsmap {
  readonly trie: Uint32Array;
  readonly replacements: Uint8Array;
  /** Replacements by where they begin, as text. */
  readonly texts: Map<number, string>;
}

/** A cluster of so many bytes is looked up by its characters only. */
const TOO_LONG = 6;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** @throws FormatError at `place` when the table is damaged, so that a look-up can't leave it */
export function readCharsmap(base64: string, place: Place): Charsmap {
  if (!BASE64.test(base64) || base64.length % 4 !== 0) place.fail("not base64", "a charsmap in base64", base64);
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  if (bytes.length < 4) place.fail("charsmap cut off", "at least 4 bytes", bytes.length);
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  if (size === 0 || size % 4 !== 0 || size > bytes.length - 4) {
    place.fail("bad size of the charsmap's trie", `a multiple of 4 from 4 to ${bytes.length - 4} bytes`, size);
  }
  const trie = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const replacements = bytes.subarray(4 + size);
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(replacements);
  } catch {
    place.fail("bad replacements of the charsmap", "UTF-8", `${replacements.length} bytes that are not`);
  }
  checkTrie(trie, replacements, place);
  return { trie, replacements, texts: new Map() };
}

const childrenOf = (trie: Uint32Array, node: number): number => (node ^ ((trie[node] >>> 10) << ((trie[node] & 0x200) >>> 6))) >>> 0;
const hasLeaf = (unit: number): boolean => (unit & 0x100) !== 0;
const labelOf = (unit: number): number => (unit & 0x800000ff) >>> 0;
const replacementAt = (unit: number): number => unit & 0x7fffffff;

/** Every node that can be reached has its children and its replacement inside the table, and none is below itself. Nodes may be shared. */
function checkTrie(trie: Uint32Array, replacements: Uint8Array, place: Place): void {
  const OPEN = 1;
  const DONE = 2;
  const state = new Uint8Array(trie.length);
  // Nodes from the root to where the walk is, and which of their bytes comes next.
  const path = [0];
  const bytes = [1];
  state[0] = OPEN;
  while (path.length > 0) {
    const node = path[path.length - 1];
    const children = childrenOf(trie, node);
    const byte = bytes[bytes.length - 1]++;
    if (byte === 1) {
      if ((children | 0xff) >>> 0 >= trie.length) place.fail(`bad unit ${node} of the charsmap's trie`, `children below ${trie.length}`, children);
      if (hasLeaf(trie[node])) {
        const value = replacementAt(trie[children]);
        const isStart = value <= replacements.length && (replacements[value] & 0xc0) !== 0x80;
        if (!isStart) place.fail(`bad replacement of unit ${node} of the charsmap's trie`, `the start of a character below ${replacements.length}`, value);
      }
    }
    if (byte > 0xff) {
      state[node] = DONE;
      path.pop();
      bytes.pop();
      continue;
    }
    const child = children ^ byte;
    if (labelOf(trie[child]) !== byte || state[child] === DONE) continue;
    if (state[child] === OPEN) place.fail(`unit ${child} of the charsmap's trie is below itself`, "a trie", `a way from unit ${node} back to it`);
    state[child] = OPEN;
    path.push(child);
    bytes.push(1);
  }
}

/** The replacement of the shortest key that the bytes begin with. */
function find({ trie, replacements, texts }: Charsmap, key: Uint8Array, length: number): string | undefined {
  let children = childrenOf(trie, 0);
  for (let i = 0; i < length && key[i] !== 0; i++) {
    const node = children ^ key[i];
    if (labelOf(trie[node]) !== key[i]) return undefined;
    children = childrenOf(trie, node);
    if (!hasLeaf(trie[node])) continue;
    const start = replacementAt(trie[children]);
    let text = texts.get(start);
    if (text === undefined) {
      const end = replacements.indexOf(0, start);
      text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(replacements.subarray(start, end < 0 ? replacements.length : end));
      texts.set(start, text);
    }
    return text;
  }
  return undefined;
}

const encoder = new TextEncoder();
const keyBytes = new Uint8Array(8);

/** What a part of the text becomes, undefined where it stays. */
function replacementOf(map: Charsmap, part: string): string | undefined {
  if (part.length >= TOO_LONG) return undefined;
  const { read, written } = encoder.encodeInto(part, keyBytes);
  return read < part.length || written >= TOO_LONG ? undefined : find(map, keyBytes, written);
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

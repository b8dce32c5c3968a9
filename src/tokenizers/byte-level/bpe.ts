/**
 * Byte-level BPE in plain TypeScript: the twin of crates/text, to read, to test against, and for machines without the native
 * part. Encoding is the algorithm of Sennrich, Haddow and Birch 2016 (arXiv:1508.07909, section 3.2): of all neighbours that
 * may merge, the pair of smallest rank merges first, the leftmost first.
 */
import type { BpeEngine, BpeTables, EncodedBatch, Text } from "./bpe-engine.ts";
import { BYTE_TO_CHARACTER } from "./byte-alphabet.ts";
import { splitPattern, splitWords } from "./split-patterns.ts";

const MOST_CACHED = 50_000;
const LONE_SURROGATE = /\p{Surrogate}/gu;

interface Merge {
  rank: number;
  id: number;
}

/** Bytes of each id as views of the tables. */
export function tokenBytes(tables: Pick<BpeTables, "bytes" | "lengths">): Uint8Array[] {
  let at = 0;
  return Array.from(tables.lengths, (length) => {
    at += length;
    return tables.bytes.subarray(at - length, at);
  });
}

/** Text as a string; malformed UTF-8 becomes U+FFFD, as do lone surrogates. */
export function textToString(text: Text): { text: string; replaced: number } {
  if (typeof text === "string") return { text: text.replace(LONE_SURROGATE, "\ufffd"), replaced: 0 };
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text), replaced: 0 };
  } catch {
    const lenient = new TextDecoder("utf-8", { ignoreBOM: true }).decode(text);
    const genuine = new TextDecoder("latin1").decode(text).split("ï¿½").length;
    return { text: lenient, replaced: lenient.split("\ufffd").length - genuine };
  }
}

export function createReferenceBpe(tables: BpeTables): BpeEngine {
  const pattern = splitPattern(tables.pattern);
  const bytesOf = tokenBytes(tables);
  const hidden = new Set(tables.hidden);
  // A token is spelled by one character a byte, so that it can be a key.
  const spelling = bytesOf.map((bytes) => Array.from(bytes, (byte) => BYTE_TO_CHARACTER[byte]).join(""));
  const idOf = new Map<string, number>();
  for (const [id, spelled] of spelling.entries()) if (spelled !== "" && !hidden.has(id)) idOf.set(spelled, id);
  const listed = tables.merges === null ? null : indexMerges(tables.merges);
  const cache = new Map<string, readonly number[]>();

  function indexMerges(pairs: Int32Array): Map<number, Merge> {
    const index = new Map<number, Merge>();
    for (let rank = 0; rank * 2 < pairs.length; rank++) {
      const [left, right] = [pairs[rank * 2], pairs[rank * 2 + 1]];
      const id = idOf.get(spelling[left] + spelling[right]);
      if (id !== undefined) index.set(left * spelling.length + right, { rank, id });
    }
    return index;
  }

  function findMerge(left: number, right: number): Merge | undefined {
    if (listed !== null) return listed.get(left * spelling.length + right);
    const id = idOf.get(spelling[left] + spelling[right]);
    return id === undefined ? undefined : { rank: id, id };
  }

  /** One sweep for each rank: finds the smallest, merges it wherever it stands, from left to right. */
  function mergeWord(spelled: string): number[] {
    let ids: number[] = [];
    for (const character of spelled) {
      const id = idOf.get(character);
      if (id !== undefined) ids.push(id);
    }
    for (;;) {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i + 1 < ids.length; i++) best = Math.min(best, findMerge(ids[i], ids[i + 1])?.rank ?? best);
      if (best === Number.POSITIVE_INFINITY) return ids;
      const next: number[] = [];
      let i = 0;
      while (i < ids.length) {
        const merge = i + 1 < ids.length ? findMerge(ids[i], ids[i + 1]) : undefined;
        if (merge?.rank !== best) {
          next.push(ids[i++]);
          continue;
        }
        next.push(merge.id);
        i += 2;
        // The new token may have made a merge of no larger rank possible, which goes before the rest of this sweep.
        const before = next.length > 1 ? findMerge(next[next.length - 2], merge.id) : undefined;
        const after = i < ids.length ? findMerge(merge.id, ids[i]) : undefined;
        if ((before !== undefined && before.rank <= best) || (after !== undefined && after.rank <= best)) break;
      }
      while (i < ids.length) next.push(ids[i++]);
      ids = next;
    }
  }

  function encodeWord(word: string): readonly number[] {
    const known = cache.get(word);
    if (known !== undefined) return known;
    const spelled = Array.from(new TextEncoder().encode(word), (byte) => BYTE_TO_CHARACTER[byte]).join("");
    const whole = tables.wholeWords ? idOf.get(spelled) : undefined;
    const ids = whole === undefined ? mergeWord(spelled) : [whole];
    if (cache.size >= MOST_CACHED) cache.clear();
    if (word.length <= 64) cache.set(word, ids);
    return ids;
  }

  function encodeBatch(texts: readonly Text[]): EncodedBatch {
    const counts = new Int32Array(texts.length);
    const all: number[] = [];
    let replaced = 0;
    for (const [i, item] of texts.entries()) {
      const before = all.length;
      const clean = textToString(item);
      replaced += clean.replaced;
      for (const word of splitWords(pattern, clean.text)) for (const id of encodeWord(word)) all.push(id);
      counts[i] = all.length - before;
    }
    return { ids: Int32Array.from(all), counts, replaced };
  }

  return {
    name: "reference",
    encode: (text) => encodeBatch([text]).ids,
    encodeBatch,
    count: (texts) => encodeBatch(texts).counts,
    decode(ids) {
      const out = new Uint8Array(ids.reduce((sum, id) => sum + tables.lengths[id], 0));
      let at = 0;
      for (const id of ids) {
        out.set(bytesOf[id], at);
        at += tables.lengths[id];
      }
      return out;
    },
    dispose() {},
  };
}

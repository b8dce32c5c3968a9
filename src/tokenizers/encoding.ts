/** The result of encoding one text. Only the ids are made at once; the rest is worked out when it is first read. */
import { DataError } from "../errors.ts";
import { type AddedToken, cutAtTokens } from "./added-tokens.ts";
import { textToString } from "./byte-level/bpe.ts";
import type { Text } from "./byte-level/bpe-engine.ts";
import { utf8Length } from "./models/byte-places.ts";
import type { AlignedText } from "./normalizers/aligned-text.ts";
import type { TokenizerSpec } from "./tokenizer-spec.ts";

/** Where a token stands in the text: UTF-16 units from `start` up to `end`. */
export type Offset = readonly [start: number, end: number];

/** A text's ids with their spellings and places. */
export interface Encoding {
  readonly ids: Int32Array;
  /** Tokens as files spell them (`Ġthe`). */
  readonly tokens: readonly string[];
  /**
   * Places in the text as it was given. A token that is a part of a character has the whole character's place; one that a
   * template added has [0, 0]. A blank before a word belongs to its token, unless the tokenizer's post-processor trims blanks off.
   *
   * @throws DataError when a normaliser changed the text in a way that has no places
   */
  readonly offsets: readonly Offset[];
  /** 0 for the first (or only) text, 1 for the second of a pair, or what the template says. */
  readonly typeIds: Int32Array;
  /** 1 for each token of the text and of what stands around it, 0 for padding. */
  readonly attentionMask: Int32Array;
  /** 1 where the id is a special token. */
  readonly specialTokensMask: Int32Array;
  /** What truncation cut off, in parts of the same length, each with what stands around; empty where nothing was. */
  readonly overflowing: readonly Encoding[];
}

export interface EncodingParts {
  readonly text: Text;
  readonly ids: Int32Array;
  /** How many ids the template put around. */
  readonly around: { readonly before: number; readonly after: number };
  readonly spec: TokenizerSpec;
  /** The normalised text with the places of its characters. */
  readonly normalize: (text: string) => AlignedText;
  readonly addPrefixSpace: boolean;
  readonly added: ReadonlyMap<number, AddedToken>;
  readonly byteLength: (id: number) => number;
  readonly postTypeId: number;
  /** What a post-processor makes of the places of the text's own tokens. */
  readonly trim: (tokens: readonly string[], places: readonly Offset[]) => readonly Offset[];
}

export function createEncoding(parts: EncodingParts): Encoding {
  const { ids, spec, added, around } = parts;
  const { before, after } = spec.postProcessor;
  let tokens: string[] | undefined;
  let offsets: Offset[] | undefined;
  return {
    ids,
    get tokens() {
      tokens ??= Array.from(ids, (id) => added.get(id)?.content ?? spec.model.tokens[id] ?? "");
      return tokens;
    },
    get offsets() {
      offsets ??= findOffsets(parts);
      return offsets;
    },
    get typeIds() {
      const types = new Int32Array(ids.length).fill(parts.postTypeId);
      for (let i = 0; i < around.before; i++) types[i] = before[i].typeId;
      for (let i = 0; i < around.after; i++) types[ids.length - around.after + i] = after[i].typeId;
      return types;
    },
    get attentionMask() {
      return new Int32Array(ids.length).fill(1);
    },
    get specialTokensMask() {
      return Int32Array.from(ids, (id) => (added.get(id)?.special === true ? 1 : 0));
    },
    overflowing: [],
  };
}

/**
 * Places of tokens: the ids are walked beside the text, an added token taking the place where it was found, any other one the
 * bytes that it spells.
 */
function findOffsets(parts: EncodingParts): Offset[] {
  const { ids, around, added } = parts;
  const { text } = textToString(parts.text);
  const inner = ids.subarray(around.before, ids.length - around.after);
  const spelled = Array.from(inner, (id) => added.get(id)?.content ?? parts.spec.model.tokens[id] ?? "");
  const found = [...new Set(Array.from(inner, (id) => added.get(id)).filter((token) => token !== undefined))];
  const places: Offset[] = [];
  let at = 0;
  const segments = found.length === 0 ? [{ start: 0, end: text.length }] : cutAtTokens(text, found);
  for (const segment of segments) {
    // A spelling of a token that was not allowed here is ordinary text: its ids are not the token's.
    if (segment.token !== undefined && inner[at] === segment.token.id) {
      places.push([segment.start, segment.end]);
      at++;
      continue;
    }
    const map = byteMap(text.slice(segment.start, segment.end), parts);
    let byte = 0;
    while (at < inner.length && byte < map.length && !added.has(inner[at])) {
      const end = Math.min(byte + parts.byteLength(inner[at]), map.length);
      const last = map[Math.max(byte, end - 1)];
      places.push([segment.start + map[byte].start, segment.start + last.end]);
      byte = end;
      at++;
    }
  }
  if (at !== inner.length) {
    throw new DataError(
      `encoding.offsets: the tokens do not line up with the text, expected ${inner.length} places, got ${at}. ` +
        "The normaliser of this tokenizer changes the text in a way that keeps no places.",
    );
  }
  return [...Array(around.before).fill([0, 0]), ...parts.trim(spelled, places), ...Array(around.after).fill([0, 0])];
}

/** For each byte that the model saw the place of its character in the text before normalising. */
function byteMap(text: string, parts: EncodingParts): { start: number; end: number }[] {
  const map: { start: number; end: number }[] = [];
  const clean = parts.normalize(text);
  if (parts.addPrefixSpace && clean.text !== "" && !clean.text.startsWith(" ")) map.push({ start: 0, end: 0 });
  let at = 0;
  for (const character of clean.text) {
    const [start, end] = clean.place(at, at + character.length);
    at += character.length;
    for (let i = utf8Length(character.codePointAt(0) as number); i > 0; i--) map.push({ start, end });
  }
  return map;
}

/** Ids to text, as the library decodes: spaces in place of their symbols, bytes put together again, nothing for control pieces. */
import { createNormalizer, SPACE_SYMBOL } from "./normalizer.ts";
import { pieceByte } from "./spec.ts";
import type { Vocabulary } from "./vocabulary.ts";

export function createDecoder(vocabulary: Vocabulary): (ids: ArrayLike<number>) => string {
  const { spec } = vocabulary;
  const { addDummyPrefix, removeExtraWhitespaces } = spec.normalizer;
  const denormalize = spec.denormalizer?.charsmap ? createNormalizer(spec.denormalizer, { spaceBehind: false, untouched: null }) : null;

  /** A piece's own text, and whether it gave the space that stands for the dummy prefix. */
  function spell(id: number, first: boolean): { text: string; gavePrefix: boolean } {
    const piece = spec.pieces[id];
    if (vocabulary.is(id, "control")) return { text: "", gavePrefix: false };
    if (vocabulary.is(id, "unknown")) return { text: spec.unkSurface, gavePrefix: false };
    const stripped = first && (addDummyPrefix || removeExtraWhitespaces) && piece.startsWith(SPACE_SYMBOL);
    const text = (stripped ? piece.slice(1) : piece).replaceAll(SPACE_SYMBOL, " ");
    // Without extra spaces in the text all spaces before its first letter are the tokenizer's, else one is.
    return { text, gavePrefix: stripped && !removeExtraWhitespaces };
  }

  return (ids) => {
    let text = "";
    let bytes: number[] = [];
    let prefixGone = false;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (vocabulary.is(id, "byte")) {
        bytes.push(pieceByte(spec.pieces[id]));
        continue;
      }
      text += decodeBytes(bytes);
      bytes = [];
      const spelled = spell(id, text === "" && !prefixGone);
      text += spelled.text;
      prefixGone ||= spelled.gavePrefix;
    }
    text += decodeBytes(bytes);
    return denormalize === null ? text : denormalize(text).text;
  };
}

/** UTF-8 to text with U+FFFD for every single byte that is no part of a character (a TextDecoder gives one for several). */
export function decodeBytes(bytes: readonly number[]): string {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at];
    const length = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : 0;
    let character = length < 2 ? lead : lead & (0xff >> (length + 1));
    let whole = length > 0;
    for (let i = 1; i < length; i++) {
      const byte = bytes[at + i] ?? 0;
      whole &&= (byte & 0xc0) === 0x80;
      character = (character << 6) | (byte & 0x3f);
    }
    // Not in its shortest form, a surrogate's, or past the last.
    const allowed = character >= [0, 0, 0x80, 0x800, 0x10000][length] && character <= 0x10ffff && (character & ~0x7ff) !== 0xd800;
    text += whole && allowed ? String.fromCodePoint(character) : "\ufffd";
    at += whole && allowed ? length : 1;
  }
  return text;
}

/**
 * Decoders: how the tokens of a text become the text again. Each takes a list of tokens and gives a list; what is left at the end is joined.
 * The rules are those of Hugging Face tokenizers, also where they look odd (a clean-up works inside one token, never across two).
 */
import { alphabetToBytes } from "../byte-level/byte-alphabet.ts";
import { asCharacter, asCount, missingAs, nullAs, oneOf, type Part, type Reader, readPart } from "../files/json-shape.ts";
import { asBoolean, asObject, asString, field, onlyKeys, Place } from "../files/strict-json.ts";
import { compileRegex } from "../regex/regex.ts";

export type TextPattern = { readonly String: string } | { readonly Regex: string };

const asPattern: Reader<TextPattern> = (value, place) => {
  const object = asObject(value, place);
  onlyKeys(object, ["String", "Regex"], place);
  if (Object.keys(object).length !== 1) place.fail("bad pattern", "either String or Regex", value);
  if (Object.hasOwn(object, "String")) return { String: asString(field(object, "String"), place.at("String")) };
  const source = asString(field(object, "Regex"), place.at("Regex"));
  compileRegex(source, place.at("Regex"));
  return { Regex: source };
};

const SHAPES = {
  ByteLevel: { add_prefix_space: asBoolean, trim_offsets: asBoolean, use_regex: missingAs(asBoolean, true) },
  WordPiece: { prefix: asString, cleanup: asBoolean },
  Metaspace: {
    replacement: asCharacter,
    prepend_scheme: missingAs(oneOf("always", "first", "never"), "always"),
    split: nullAs(asBoolean, true),
    // What files had before prepend_scheme.
    add_prefix_space: nullAs(asBoolean, undefined),
    str_rep: nullAs(asString, undefined),
  },
  BPEDecoder: { suffix: asString },
  ByteFallback: {},
  Fuse: {},
  Strip: { content: asCharacter, start: asCount, stop: asCount },
  Replace: { pattern: asPattern, content: asString },
  CTC: { pad_token: asString, word_delimiter_token: asString, cleanup: asBoolean },
};

export type DecoderSpec = Part<typeof SHAPES, "decoders">;

/** @throws FormatError with the place, what was expected and what is there */
export function readDecoder(value: unknown, place: Place): DecoderSpec | null {
  if (value === null || value === undefined) return null;
  return checked(readPart("decoder", SHAPES, "decoders", value, place), place);
}

function checked(spec: DecoderSpec, place: Place): DecoderSpec {
  if (spec.type === "Sequence") for (const [i, inner] of spec.decoders.entries()) checked(inner, place.at("decoders").at(i));
  if (spec.type === "Metaspace" && spec.add_prefix_space === false && spec.prepend_scheme !== "never") {
    place.at("add_prefix_space").fail("contradiction", `true beside prepend_scheme "${spec.prepend_scheme}"`, false);
  }
  return spec;
}

/** The decoder as tokenizer.json holds it. */
export function writeDecoder(spec: DecoderSpec | null): unknown {
  return spec;
}

/** The text of a list of tokens. Without a decoder they stand with blanks between them. */
export function decodeTokens(spec: DecoderSpec | null, tokens: readonly string[]): string {
  return spec === null ? tokens.join(" ") : decodeList(spec, tokens).join("");
}

function decodeList(spec: DecoderSpec, tokens: readonly string[]): readonly string[] {
  switch (spec.type) {
    case "Sequence":
      return spec.decoders.reduce((list, decoder) => decodeList(decoder, list), tokens);
    case "Fuse":
      return [tokens.join("")];
    case "ByteLevel":
      return [decodeUtf8(concat(tokens.map(tokenBytes)))];
    case "ByteFallback":
      return decodeByteFallback(tokens);
    case "CTC":
      return tokens
        .filter((token, i) => i === 0 || token !== tokens[i - 1])
        .map((token) => decodeCtc(spec, token))
        .filter((token) => token !== "");
    default: {
      const decode = tokenDecoder(spec);
      return tokens.map((token, i) => decode(token, i === 0, i === tokens.length - 1));
    }
  }
}

/** The decoders that look at one token alone and at whether it is the first or the last. */
export type TokenwiseSpec = Extract<DecoderSpec, { readonly type: "WordPiece" | "Metaspace" | "BPEDecoder" | "Strip" | "Replace" }>;

export function tokenDecoder(spec: TokenwiseSpec): (token: string, first: boolean, last: boolean) => string {
  switch (spec.type) {
    case "WordPiece":
      return (token, first) => {
        let text = token;
        if (!first) text = token.startsWith(spec.prefix) ? token.slice(spec.prefix.length) : ` ${token}`;
        return spec.cleanup ? cleanUp(text) : text;
      };
    case "Metaspace":
      // Any mark in the first token goes, not only the one at its start.
      return (token, first) => token.replaceAll(spec.replacement, first && spec.prepend_scheme !== "never" ? "" : " ");
    case "BPEDecoder":
      return (token, _, last) => replaceText(token, spec.suffix, last ? "" : " ");
    case "Strip":
      return (token) => strip(spec, token);
    case "Replace": {
      const { pattern, content } = spec;
      if ("String" in pattern) return (token) => (token === "" ? "" : replaceText(token, pattern.String, content));
      const regex = compileRegex(pattern.Regex, new Place("tokenizer", "decoder"));
      return (token) => {
        let text = "";
        let at = 0;
        for (const [start, end] of token === "" ? [] : regex.matches(token)) {
          text += token.slice(at, start) + content;
          at = end;
        }
        return text + token.slice(at);
      };
    }
  }
}

/** Each `pattern` becomes `content`; an empty one is found before each character and at the end. */
function replaceText(text: string, pattern: string, content: string): string {
  if (pattern !== "") return text.replaceAll(pattern, () => content);
  let result = content;
  for (const character of text) result += character + content;
  return result;
}

/** Blanks that a tokenizer of English put before signs and parts of words. Order matters. */
const CLEAN_UPS: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function cleanUp(text: string): string {
  return CLEAN_UPS.reduce((clean, [from, to]) => clean.replaceAll(from, to), text);
}

function strip(spec: DecoderSpec & { type: "Strip" }, token: string): string {
  const { content } = spec;
  let start = 0;
  for (let i = 0; i < spec.start && token.startsWith(content, start); i++) start += content.length;
  let end = token.length;
  for (let i = 0; i < spec.stop && end - content.length >= start && token.startsWith(content, end - content.length); i++) end -= content.length;
  return token.slice(start, end);
}

export function decodeCtc(spec: DecoderSpec & { type: "CTC" }, token: string): string {
  const text = replaceText(token, spec.pad_token, "");
  return spec.cleanup ? replaceText(cleanUp(text), spec.word_delimiter_token, " ") : text;
}

const encoder = new TextEncoder();

/** The bytes of a token in the byte alphabet; any other token stands for its own UTF-8. */
export function tokenBytes(token: string): Uint8Array {
  return alphabetToBytes(token) ?? encoder.encode(token);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Text of UTF-8; a U+FFFD for each longest part that could have begun a character. */
function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** The byte that `<0x0A>` stands for; Hugging Face reads `<0x+A>` as well. */
export function fallbackByte(token: string): number | undefined {
  const found = /^<0x(?:([0-9a-f]{2})|\+([0-9a-f]))>$/i.exec(token);
  return found === null ? undefined : Number.parseInt(found[1] ?? found[2], 16);
}

/** A run of byte tokens as one text, or a U+FFFD for each byte where it is no UTF-8 as a whole. */
export function decodeByteRun(bytes: readonly number[]): string[] {
  if (bytes.length === 0) return [];
  try {
    return [new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes))];
  } catch {
    return bytes.map(() => "\ufffd");
  }
}

function decodeByteFallback(tokens: readonly string[]): string[] {
  const list: string[] = [];
  let run: number[] = [];
  const endRun = (): void => {
    for (const text of decodeByteRun(run)) list.push(text);
    run = [];
  };
  for (const token of tokens) {
    const byte = fallbackByte(token);
    if (byte !== undefined) {
      run.push(byte);
      continue;
    }
    endRun();
    list.push(token);
  }
  endRun();
  return list;
}

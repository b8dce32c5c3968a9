/**
 * Pre-tokenizers of tokenizer.json: what cuts a normalised text into the pieces that a model sees, as Hugging Face tokenizers has them.
 * A specification is the file's own data, with the defaults filled in that may be missing there.
 */

import { BYTE_TO_CHARACTER } from "../byte-level/byte-alphabet.ts";
import { SPLIT_PATTERNS, splitPattern } from "../byte-level/split-patterns.ts";
import { asArray, asBoolean, asObject, asString, field, type JsonObject, onlyKeys, optionalBoolean, Place } from "../files/strict-json.ts";
import type { AlignedText } from "../normalizers/aligned-text.ts";
import { CharacterSet, tableSet, unicodeClass, WHITE_SPACE } from "../regex/character-set.ts";
import { compileRegex, type Regex } from "../regex/regex.ts";
import { HF_SCRIPTS } from "./hf-scripts.ts";
import { findCharacters, findString, SPLIT_BEHAVIORS, type Span, type SplitBehavior, splitAt } from "./split-pieces.ts";

export type PreTokenizerSpec =
  | { type: "ByteLevel"; add_prefix_space: boolean; trim_offsets: boolean; use_regex: boolean }
  | { type: "BertPreTokenizer" }
  | { type: "Whitespace" }
  | { type: "WhitespaceSplit" }
  | { type: "Metaspace"; replacement: string; prepend_scheme: "always" | "first" | "never"; split: boolean }
  | { type: "Digits"; individual_digits: boolean }
  | { type: "Punctuation"; behavior: SplitBehavior }
  | SplitSpec
  | { type: "CharDelimiterSplit"; delimiter: string }
  | { type: "UnicodeScripts" }
  | { type: "FixedLength"; length: number }
  | { type: "Sequence"; pretokenizers: PreTokenizerSpec[] };

interface SplitSpec {
  type: "Split";
  pattern: { String: string } | { Regex: string };
  behavior: SplitBehavior;
  invert: boolean;
}

type Type = PreTokenizerSpec["type"];

/** Keys of each type beside `type`, those of older files included. */
const KEYS: Readonly<Record<Type, readonly string[]>> = {
  ByteLevel: ["add_prefix_space", "trim_offsets", "use_regex"],
  BertPreTokenizer: [],
  Whitespace: [],
  WhitespaceSplit: [],
  Metaspace: ["replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"],
  Digits: ["individual_digits"],
  Punctuation: ["behavior"],
  Split: ["pattern", "behavior", "invert"],
  CharDelimiterSplit: ["delimiter"],
  UnicodeScripts: [],
  FixedLength: ["length"],
  Sequence: ["pretokenizers"],
};

const DEEPEST_SEQUENCE = 8;

/** Reads tokenizer.json's `pre_tokenizer`; null and missing are none. */
export function readPreTokenizer(value: unknown, place: Place): PreTokenizerSpec | null {
  return value === null || value === undefined ? null : read(value, place, 0);
}

function read(value: unknown, place: Place, depth: number): PreTokenizerSpec {
  const object = asObject(value, place);
  const type = oneOf(object, "type", Object.keys(KEYS) as Type[], place);
  onlyKeys(object, ["type", ...KEYS[type]], place);
  const boolean = (key: string) => asBoolean(field(object, key), place.at(key));
  switch (type) {
    case "ByteLevel": {
      const use_regex = field(object, "use_regex") === undefined || boolean("use_regex");
      return { type, add_prefix_space: boolean("add_prefix_space"), trim_offsets: boolean("trim_offsets"), use_regex };
    }
    case "Metaspace":
      return readMetaspace(object, place);
    case "Digits":
      return { type, individual_digits: boolean("individual_digits") };
    case "Punctuation": {
      const given = field(object, "behavior") !== undefined;
      return { type, behavior: given ? oneOf(object, "behavior", SPLIT_BEHAVIORS, place) : "Isolated" };
    }
    case "Split":
      return readSplit(object, place);
    case "CharDelimiterSplit":
      return { type, delimiter: oneCharacter(object, "delimiter", place) };
    case "FixedLength": {
      const length = field(object, "length") ?? 5;
      if (typeof length !== "number" || !Number.isSafeInteger(length) || length < 1) place.at("length").fail("bad length", "a whole number from 1", length);
      return { type, length: length as number };
    }
    case "Sequence": {
      const at = place.at("pretokenizers");
      if (depth === DEEPEST_SEQUENCE) place.fail("sequences too deep", `at most ${DEEPEST_SEQUENCE} within one another`, value);
      return { type, pretokenizers: asArray(field(object, "pretokenizers"), at).map((one, i) => read(one, at.at(i), depth + 1)) };
    }
    default:
      return { type };
  }
}

function readMetaspace(object: JsonObject, place: Place): PreTokenizerSpec {
  const replacement = oneCharacter(object, "replacement", place);
  const given = field(object, "prepend_scheme") !== undefined;
  const prepend_scheme = given ? oneOf(object, "prepend_scheme", ["always", "first", "never"] as const, place) : "always";
  const split = optionalBoolean(object, "split", true, place);
  // Older files had `add_prefix_space`, and `str_rep`, which is the replacement again and has no effect.
  if (!optionalBoolean(object, "add_prefix_space", true, place) && prepend_scheme !== "never") {
    place.at("prepend_scheme").fail("differs from add_prefix_space false", '"never"', field(object, "prepend_scheme"));
  }
  const representation = field(object, "str_rep");
  if (representation !== undefined && representation !== null) asString(representation, place.at("str_rep"));
  return { type: "Metaspace", replacement, prepend_scheme, split };
}

function readSplit(object: JsonObject, place: Place): SplitSpec {
  const at = place.at("pattern");
  const pattern = asObject(field(object, "pattern"), at);
  onlyKeys(pattern, ["String", "Regex"], at);
  const keys = Object.keys(pattern);
  if (keys.length !== 1) at.fail("bad pattern", "one of String and Regex", pattern);
  const source = asString(pattern[keys[0]], at.at(keys[0]));
  const spec: SplitSpec = {
    type: "Split",
    pattern: keys[0] === "Regex" ? { Regex: source } : { String: source },
    behavior: oneOf(object, "behavior", SPLIT_BEHAVIORS, place),
    invert: asBoolean(field(object, "invert"), place.at("invert")),
  };
  // The published patterns are known to be right, and take their time to compile: the native part and byte-level BPE never ask for it.
  const isKnown = SPLIT_PATTERNS.some(({ spellings }) => spellings.includes(source));
  if (keys[0] === "Regex" && !isKnown) compiled.set(spec, compileRegex(source, at.at("Regex")));
  return spec;
}

function oneOf<T extends string>(object: JsonObject, key: string, known: readonly T[], place: Place): T {
  const value = field(object, key);
  if (!known.includes(value as T)) place.at(key).fail(`unknown ${key}`, `one of ${known.join(", ")}`, value);
  return value as T;
}

function oneCharacter(object: JsonObject, key: string, place: Place): string {
  const value = asString(field(object, key), place.at(key));
  if ([...value].length !== 1) place.at(key).fail("wrong length", "one character", value);
  return value;
}

/** The pieces of `text`, none of them empty. */
export function preTokenize(spec: PreTokenizerSpec | null, text: AlignedText): AlignedText[] {
  if (text.text === "") return [];
  if (spec === null) return [text];
  switch (spec.type) {
    case "ByteLevel":
      return byteLevel(spec, text);
    case "BertPreTokenizer":
      return splitCharacters(text, WHITE_SPACE, "Removed").flatMap((piece) => splitCharacters(piece, punctuation(), "Isolated"));
    case "Whitespace":
      return splitAt(text, findWords(text.text), "Removed", true);
    case "WhitespaceSplit":
      return splitCharacters(text, WHITE_SPACE, "Removed");
    case "Metaspace":
      return metaspace(spec, text);
    case "Digits":
      return splitCharacters(text, numeric(), spec.individual_digits ? "Isolated" : "Contiguous");
    case "Punctuation":
      return splitCharacters(text, punctuation(), spec.behavior);
    case "Split":
      return splitAt(text, find(spec, text.text), spec.behavior, spec.invert);
    case "CharDelimiterSplit":
      return splitAt(text, findString(text.text, spec.delimiter), "Removed");
    case "UnicodeScripts":
      return splitAt(text, findScripts(text.text), "Removed", true);
    case "FixedLength":
      return splitAt(text, findLengths(text.text, spec.length), "Isolated");
    case "Sequence":
      return spec.pretokenizers.reduce((pieces, part) => pieces.flatMap((piece) => preTokenize(part, piece)), [text]);
  }
}

function splitCharacters(text: AlignedText, set: CharacterSet, behavior: SplitBehavior): AlignedText[] {
  return splitAt(text, findCharacters(text.text, set), behavior);
}

const sets = new Map<string, CharacterSet>();
function lazySet(name: string, build: () => CharacterSet): () => CharacterSet {
  return () => {
    const set = sets.get(name) ?? build();
    sets.set(name, set);
    return set;
  };
}

const punctuation = () => tableSet("HfPunctuation");
const numeric = lazySet("numeric", () => tableSet("N").union(tableSet("HfNumericMore")));
// The word characters of Rust's regex crate: with the joiners, which are none to Oniguruma.
const word = lazySet("word", () => unicodeClass("word").union(CharacterSet.of([[0x200c, 0x200e]])));

const compiled = new WeakMap<SplitSpec, Regex>();

function find(spec: SplitSpec, text: string): Iterable<Span> {
  if ("String" in spec.pattern && spec.pattern.String !== "") return findString(text, spec.pattern.String);
  const regex = compiled.get(spec) ?? compileRegex("Regex" in spec.pattern ? spec.pattern.Regex : "", new Place("pre-tokenizer", "pattern.Regex"));
  compiled.set(spec, regex);
  return regex.matches(text);
}

let gpt2: Regex | undefined;

function byteLevel(spec: PreTokenizerSpec & { type: "ByteLevel" }, text: AlignedText): AlignedText[] {
  const prefixed = spec.add_prefix_space && !text.text.startsWith(" ") ? text.respell((character) => character, " ") : text;
  gpt2 ??= compileRegex(splitPattern("gpt2").spellings[0], new Place("pre-tokenizer", "ByteLevel"));
  const pieces = spec.use_regex ? splitAt(prefixed, gpt2.matches(prefixed.text), "Isolated") : [prefixed];
  return pieces.map((piece) => piece.respell(spellBytes));
}

const encoder = new TextEncoder();

function spellBytes(character: string): string {
  if (character < "\x80") return BYTE_TO_CHARACTER[character.charCodeAt(0)];
  let spelled = "";
  for (const byte of encoder.encode(character)) spelled += BYTE_TO_CHARACTER[byte];
  return spelled;
}

function metaspace(spec: PreTokenizerSpec & { type: "Metaspace" }, text: AlignedText): AlignedText[] {
  const { replacement, prepend_scheme } = spec;
  const start = text.text.startsWith(" ") || text.text.startsWith(replacement);
  // The very first piece is the one that begins where the input begins.
  const prepends = prepend_scheme === "always" || (prepend_scheme === "first" && text.place(0, 1)[0] === 0);
  const marked = text.respell((character) => (character === " " ? replacement : character), prepends && !start ? replacement : "");
  return spec.split ? splitAt(marked, findString(marked.text, replacement), "MergedWithNext") : [marked];
}

/** Runs of word characters and runs of what is neither word nor white space. */
function* findWords(text: string): Iterable<Span> {
  const words = word();
  let start = 0;
  let at = 0;
  let last = "space";
  for (const character of text) {
    const point = character.codePointAt(0) as number;
    const kind = words.has(point) ? "word" : WHITE_SPACE.has(point) ? "space" : "other";
    if (kind !== last) {
      if (last !== "space") yield [start, at];
      start = at;
      last = kind;
    }
    at += character.length;
  }
  if (last !== "space") yield [start, at];
}

function* findLengths(text: string, length: number): Iterable<Span> {
  let start = 0;
  let at = 0;
  let count = 0;
  for (const character of text) {
    at += character.length;
    if (++count === length) {
      yield [start, at];
      start = at;
      count = 0;
    }
  }
}

let scripts: { starts: number[]; numbers: number[] } | undefined;
/** The script of what belongs to every one. */
const ANY = -1;

/** A number for the script of a code point, as Hugging Face tokenizers tell them apart; what every script uses has one of its own. */
export function scriptOf(point: number): number {
  if (scripts === undefined) {
    scripts = { starts: [0], numbers: [ANY] };
    const values = HF_SCRIPTS.split(" ").map((value) => Number.parseInt(value, 36));
    let at = 0;
    for (let i = 0; i < values.length; i += 3) {
      scripts.starts.push(at + values[i], at + values[i] + values[i + 1]);
      scripts.numbers.push(values[i + 2], ANY);
      at += values[i] + values[i + 1];
    }
  }
  let low = 0;
  let high = scripts.starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (scripts.starts[middle] <= point) low = middle;
    else high = middle;
  }
  return scripts.numbers[low];
}

/** Runs of one script. What belongs to every script stays with the run before it, and is lost where there is none, as in Hugging Face's. */
function* findScripts(text: string): Iterable<Span> {
  let start = -1;
  let at = 0;
  let last = ANY;
  for (const character of text) {
    const script = scriptOf(character.codePointAt(0) as number);
    if (script !== ANY && script !== last) {
      if (start >= 0) yield [start, at];
      start = at;
      last = script;
    }
    at += character.length;
  }
  if (start >= 0) yield [start, at];
}

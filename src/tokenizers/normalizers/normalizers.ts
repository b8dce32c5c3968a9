/**
 * Normalizers: what changes a text before it is cut and looked up. Their data is that of tokenizer.json, and so are their results, to the character and its
 * place (Hugging Face tokenizers, `tokenizers/src/normalizers`).
 *
 * Two differences are left. Where a Replace or a Prepend put characters before everything that stand for nothing (a match of no width at the start, an empty
 * `prepend`), a normalizer after it stops Hugging Face's or doubles the text there; here it goes on. And half a surrogate pair, which they can't be given, stays.
 */

import { asArray, asBoolean, asObject, asString, field, type JsonObject, onlyKeys, Place } from "../files/strict-json.ts";
import { compileRegex } from "../regex/regex.ts";
import type { AlignedText } from "./aligned-text.ts";
import type { NormalForm } from "./normal-forms.ts";
import {
  bert,
  byteLevel,
  literal,
  lowercase,
  nmt,
  normalForms,
  precompiled,
  prepend,
  type Runner,
  replace,
  sequence,
  strip,
  stripAccents,
} from "./normalizer-steps.ts";
import { readCharsmap } from "./precompiled.ts";

export type NormalizerSpec =
  | { readonly type: NormalForm | "Nmt" | "Lowercase" | "StripAccents" | "ByteLevel" }
  | { readonly type: "Strip"; readonly strip_left: boolean; readonly strip_right: boolean }
  | { readonly type: "Replace"; readonly pattern: PatternSpec; readonly content: string }
  | { readonly type: "Prepend"; readonly prepend: string }
  | { readonly type: "Precompiled"; readonly precompiled_charsmap: string }
  | BertSpec
  | { readonly type: "Sequence"; readonly normalizers: readonly NormalizerSpec[] };

type PatternSpec = { readonly String: string } | { readonly Regex: string };

interface BertSpec {
  readonly type: "BertNormalizer";
  readonly clean_text: boolean;
  readonly handle_chinese_chars: boolean;
  /** null: as `lowercase`. */
  readonly strip_accents: boolean | null;
  readonly lowercase: boolean;
}

/** Keys beside `type`, for every type there is. */
const KEYS: { readonly [type in NormalizerSpec["type"]]: readonly string[] } = {
  NFC: [],
  NFD: [],
  NFKC: [],
  NFKD: [],
  Nmt: [],
  Lowercase: [],
  Strip: ["strip_left", "strip_right"],
  StripAccents: [],
  Replace: ["pattern", "content"],
  Prepend: ["prepend"],
  Precompiled: ["precompiled_charsmap"],
  BertNormalizer: ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"],
  ByteLevel: [],
  Sequence: ["normalizers"],
};

/** How deep sequences may be nested. */
const DEEPEST = 8;

/**
 * The normalizer of a tokenizer.json; null for none.
 *
 * @throws FormatError for what is not known or damaged, down to regular expressions and charsmaps
 */
export function readNormalizer(value: unknown, place: Place): NormalizerSpec | null {
  return value === null || value === undefined ? null : readOne(value, place, 0);
}

function readOne(value: unknown, place: Place, depth: number): NormalizerSpec {
  if (depth > DEEPEST) place.fail("sequences nested too deep", `at most ${DEEPEST} levels`, value);
  const object = asObject(value, place);
  const name = asString(field(object, "type"), place.at("type"));
  if (!Object.hasOwn(KEYS, name)) place.at("type").fail("unknown normalizer", Object.keys(KEYS).join(", "), name, "This one is not supported (yet).");
  const type = name as NormalizerSpec["type"];
  onlyKeys(object, ["type", ...KEYS[type]], place);
  const spec = readFields(type, object, place, depth);
  runnerOf(spec, place);
  return spec;
}

function readFields(type: NormalizerSpec["type"], object: JsonObject, place: Place, depth: number): NormalizerSpec {
  const boolean = (key: string): boolean => asBoolean(field(object, key), place.at(key));
  const string = (key: string): string => asString(field(object, key), place.at(key));
  switch (type) {
    case "Strip":
      return { type, strip_left: boolean("strip_left"), strip_right: boolean("strip_right") };
    case "Replace":
      return { type, pattern: readPattern(field(object, "pattern"), place.at("pattern")), content: string("content") };
    case "Prepend":
      return { type, prepend: string("prepend") };
    case "Precompiled":
      return { type, precompiled_charsmap: string("precompiled_charsmap") };
    case "BertNormalizer": {
      const accents = field(object, "strip_accents") ?? null;
      return {
        type,
        clean_text: boolean("clean_text"),
        handle_chinese_chars: boolean("handle_chinese_chars"),
        strip_accents: accents === null ? null : boolean("strip_accents"),
        lowercase: boolean("lowercase"),
      };
    }
    case "Sequence": {
      const inside = place.at("normalizers");
      return { type, normalizers: asArray(field(object, "normalizers"), inside).map((item, i) => readOne(item, inside.at(i), depth + 1)) };
    }
    default:
      return { type };
  }
}

function readPattern(value: unknown, place: Place): PatternSpec {
  const object = asObject(value, place);
  onlyKeys(object, ["String", "Regex"], place);
  if (Object.keys(object).length !== 1) place.fail("unclear pattern", "either String or Regex", value);
  const key = Object.hasOwn(object, "String") ? "String" : "Regex";
  const source = asString(object[key], place.at(key));
  return key === "String" ? { String: source } : { Regex: source };
}

/** Normalises `text` in place. */
export function normalize(spec: NormalizerSpec | null, text: AlignedText): void {
  if (spec !== null) runnerOf(spec).change(text);
}

/** The same text as `normalize` makes, without places. */
export function normalizeString(spec: NormalizerSpec | null, text: string): string {
  return spec === null ? text : runnerOf(spec).text(text);
}

const runners = new WeakMap<NormalizerSpec, Runner>();

function runnerOf(spec: NormalizerSpec, place = new Place("tokenizer", "normalizer")): Runner {
  let runner = runners.get(spec);
  if (runner === undefined) {
    runner = build(spec, place);
    runners.set(spec, runner);
  }
  return runner;
}

function build(spec: NormalizerSpec, place: Place): Runner {
  switch (spec.type) {
    case "Nmt":
      return nmt();
    case "Lowercase":
      return lowercase();
    case "StripAccents":
      return stripAccents();
    case "ByteLevel":
      return byteLevel();
    case "Strip":
      return strip(spec.strip_left, spec.strip_right);
    case "Replace":
      return replace("String" in spec.pattern ? literal(spec.pattern.String) : compileRegex(spec.pattern.Regex, place.at("pattern").at("Regex")), spec.content);
    case "Prepend":
      return prepend(spec.prepend);
    case "Precompiled":
      return precompiled(readCharsmap(spec.precompiled_charsmap, place.at("precompiled_charsmap")));
    case "BertNormalizer":
      return bert(spec);
    case "Sequence":
      return sequence(spec.normalizers.map((inner, i) => runnerOf(inner, place.at("normalizers").at(i))));
    default:
      return normalForms(spec.type);
  }
}

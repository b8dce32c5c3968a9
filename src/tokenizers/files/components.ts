/**
 * The parts of a tokenizer.json around its model: normaliser, pre-tokeniser, post-processor, decoder. Each is read strictly into
 * the little that running it takes; what is not known is refused by name.
 *
 * Format: Hugging Face tokenizers, `Tokenizer.to_str()` (https://huggingface.co/docs/tokenizers/api/tokenizer).
 */
import { type PatternName, SPLIT_PATTERNS } from "../byte-level/split-patterns.ts";
import { asArray, asBoolean, asId, asObject, asString, field, type JsonObject, onlyKeys, optionalBoolean, type Place } from "./strict-json.ts";

type UnicodeForm = "NFC" | "NFD" | "NFKC" | "NFKD";
const FORMS: readonly string[] = ["NFC", "NFD", "NFKC", "NFKD"] satisfies UnicodeForm[];

/** Unicode forms to apply one after the other; empty for none. */
export type Normalizer = readonly UnicodeForm[];

/** How text is cut: a pattern over bytes, or single characters. */
export type PreTokenizer = { readonly kind: "bytes"; readonly pattern: PatternName; readonly addPrefixSpace: boolean } | { readonly kind: "characters" };

/** Ids put around a single text when special tokens are asked for, with their type ids. */
export interface PostProcessor {
  readonly before: readonly { id: number; typeId: number }[];
  readonly after: readonly { id: number; typeId: number }[];
  readonly typeId: number;
}

export const NO_POST_PROCESSOR: PostProcessor = { before: [], after: [], typeId: 0 };

const DEEPEST = 8;

function typeOf(value: unknown, place: Place): { object: JsonObject; type: string } {
  const object = asObject(value, place);
  return { object, type: asString(field(object, "type"), place.at("type")) };
}

function unknown(type: string, what: string, known: string, place: Place): never {
  return place.at("type").fail(`unknown ${what}`, known, type, "This kind of tokenizer is not supported (yet).");
}

export function readNormalizer(value: unknown, place: Place, depth = 0): Normalizer {
  if (value === null || value === undefined) return [];
  if (depth > DEEPEST) place.fail("sequences nested too deep", `at most ${DEEPEST} levels`, value);
  const { object, type } = typeOf(value, place);
  if (FORMS.includes(type)) {
    onlyKeys(object, ["type"], place);
    return [type as UnicodeForm];
  }
  if (type !== "Sequence") unknown(type, "normalizer", "NFC, NFD, NFKC, NFKD or Sequence", place);
  onlyKeys(object, ["type", "normalizers"], place);
  const list = asArray(field(object, "normalizers"), place.at("normalizers"));
  return list.flatMap((item, i) => [...readNormalizer(item, place.at("normalizers").at(i), depth + 1)]);
}

/** The expression that Hugging Face needs to cut text into single characters. */
export const EACH_CHARACTER = "[\\s\\S]";

export function readPreTokenizer(value: unknown, place: Place): PreTokenizer {
  const { object, type } = typeOf(value, place);
  if (type === "ByteLevel") {
    const { useRegex, addPrefixSpace } = readByteLevel(object, place);
    return { kind: "bytes", pattern: useRegex ? "gpt2" : "whole", addPrefixSpace };
  }
  if (type === "Split") {
    const expression = readSplit(object, place);
    if (expression === EACH_CHARACTER) return { kind: "characters" };
    place.fail("a lone Split", "a Sequence of Split and ByteLevel", expression, "This kind of tokenizer is not supported (yet).");
  }
  if (type !== "Sequence") unknown(type, "pre_tokenizer", "ByteLevel, Split, or a Sequence of Split and ByteLevel", place);
  onlyKeys(object, ["type", "pretokenizers"], place);
  const inside = place.at("pretokenizers");
  const list = asArray(field(object, "pretokenizers"), inside);
  if (list.length === 1) return readPreTokenizer(list[0], inside.at(0));
  if (list.length !== 2) inside.fail("unknown sequence", "Split and then ByteLevel", list, "This kind of tokenizer is not supported (yet).");
  const [first, second] = [typeOf(list[0], inside.at(0)), typeOf(list[1], inside.at(1))];
  if (first.type !== "Split") unknown(first.type, "pre_tokenizer in a sequence", "Split, then ByteLevel", inside.at(0));
  if (second.type !== "ByteLevel") unknown(second.type, "pre_tokenizer in a sequence", "Split, then ByteLevel", inside.at(1));
  const expression = readSplit(first.object, inside.at(0));
  const pattern = SPLIT_PATTERNS.find((p) => p.spellings.includes(expression));
  const { useRegex, addPrefixSpace } = readByteLevel(second.object, inside.at(1));
  if (pattern === undefined) {
    return inside
      .at(0)
      .at("pattern")
      .fail(
        "unknown split pattern",
        `one of the published ones (${SPLIT_PATTERNS.map((p) => p.name).join(", ")})`,
        expression,
        "Patterns are hand-written scanners here; ask for this one to be added.",
      );
  }
  if (useRegex) inside.at(1).at("use_regex").fail("two patterns", "false after a Split", true);
  if (addPrefixSpace) inside.at(1).at("add_prefix_space").fail("blank after a Split", "false", true);
  return { kind: "bytes", pattern: pattern.name, addPrefixSpace };
}

function readByteLevel(object: JsonObject, place: Place): { useRegex: boolean; addPrefixSpace: boolean } {
  onlyKeys(object, ["type", "add_prefix_space", "trim_offsets", "use_regex"], place);
  optionalBoolean(object, "trim_offsets", true, place);
  return {
    useRegex: optionalBoolean(object, "use_regex", true, place),
    addPrefixSpace: optionalBoolean(object, "add_prefix_space", true, place),
  };
}

/** The regular expression of a Split that keeps every piece. */
function readSplit(object: JsonObject, place: Place): string {
  onlyKeys(object, ["type", "pattern", "behavior", "invert"], place);
  const behavior = asString(field(object, "behavior"), place.at("behavior"));
  const invert = asBoolean(field(object, "invert"), place.at("invert"));
  // Every character of any text belongs to a match, so that what is kept is the same either way round.
  const keepsAll = (behavior === "Isolated" && !invert) || (behavior === "Removed" && invert);
  if (!keepsAll) place.fail("unknown way to split", '"Isolated", or "Removed" with invert', `${behavior}, invert ${invert}`);
  const pattern = asObject(field(object, "pattern"), place.at("pattern"));
  onlyKeys(pattern, ["Regex"], place.at("pattern"));
  return asString(field(pattern, "Regex"), place.at("pattern").at("Regex"));
}

export function readPostProcessor(value: unknown, place: Place, depth = 0): PostProcessor {
  if (value === null || value === undefined) return NO_POST_PROCESSOR;
  if (depth > DEEPEST) place.fail("sequences nested too deep", `at most ${DEEPEST} levels`, value);
  const { object, type } = typeOf(value, place);
  if (type === "ByteLevel") {
    readByteLevel(object, place);
    return NO_POST_PROCESSOR;
  }
  if (type === "Sequence") {
    onlyKeys(object, ["type", "processors"], place);
    const inside = place.at("processors");
    const list = asArray(field(object, "processors"), inside).map((item, i) => readPostProcessor(item, inside.at(i), depth + 1));
    const active = list.filter((p) => p.before.length + p.after.length > 0);
    if (active.length > 1) inside.fail("several templates", "at most one", list);
    return active[0] ?? NO_POST_PROCESSOR;
  }
  if (type !== "TemplateProcessing") unknown(type, "post_processor", "ByteLevel, TemplateProcessing or Sequence", place);
  return readTemplate(object, place);
}

function readTemplate(object: JsonObject, place: Place): PostProcessor {
  onlyKeys(object, ["type", "single", "pair", "special_tokens"], place);
  const named = asObject(field(object, "special_tokens"), place.at("special_tokens"));
  const before: { id: number; typeId: number }[] = [];
  const after: { id: number; typeId: number }[] = [];
  let typeId: number | undefined;
  const single = place.at("single");
  for (const [i, item] of asArray(field(object, "single"), single).entries()) {
    const piece = asObject(item, single.at(i));
    onlyKeys(piece, ["SpecialToken", "Sequence"], single.at(i));
    const kind = Object.hasOwn(piece, "Sequence") ? "Sequence" : "SpecialToken";
    const inside = single.at(i).at(kind);
    const body = asObject(field(piece, kind), inside);
    const id = asString(field(body, "id"), inside.at("id"));
    const ownType = asId(field(body, "type_id"), inside.at("type_id"));
    if (kind === "Sequence") {
      if (typeId !== undefined || id !== "A") inside.fail("bad template", "one sequence, A", id);
      typeId = ownType;
      continue;
    }
    const token = asObject(field(named, id), place.at("special_tokens").at(id));
    const ids = asArray(field(token, "ids"), place.at("special_tokens").at(id).at("ids"));
    for (const one of ids) {
      const entry = { id: asId(one, place.at("special_tokens").at(id).at("ids")), typeId: ownType };
      (typeId === undefined ? before : after).push(entry);
    }
  }
  if (typeId === undefined) return single.fail("bad template", "a sequence A", field(object, "single"));
  return { before, after, typeId };
}

/** Checks the decoder: `bytes` wants ByteLevel, `characters` wants Fuse. */
export function checkDecoder(value: unknown, kind: PreTokenizer["kind"], place: Place): void {
  const { object, type } = typeOf(value, place);
  const expected = kind === "bytes" ? "ByteLevel" : "Fuse";
  if (type !== expected) unknown(type, "decoder", expected, place);
  if (type === "ByteLevel") readByteLevel(object, place);
  else onlyKeys(object, ["type"], place);
}

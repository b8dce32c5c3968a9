/**
 * Post-processors: what is put around one text or two (`[CLS] … [SEP] … [SEP]`), and how places are trimmed. The rules are those of Hugging Face tokenizers.
 * Each takes a list of texts and gives a list, which is joined at the end.
 */
import { DataError } from "../../errors.ts";
import type { Offset } from "../encoding.ts";
import { asCount, listOf, missingAs, oneOf, type Part, type Reader, readPart, readShape } from "../files/json-shape.ts";
import { asArray, asBoolean, asId, asObject, asString, onlyKeys, type Place } from "../files/strict-json.ts";
import { addedTokens, type Encoded, joinEncoded } from "./encoded.ts";

/** A special token and its id. */
export type TokenAndId = readonly [token: string, id: number];

/** A place of a template: a text, or a special token by its name. */
export type TemplatePiece =
  | { readonly Sequence: { readonly id: "A" | "B"; readonly type_id: number } }
  | { readonly SpecialToken: { readonly id: string; readonly type_id: number } };

export interface SpecialTokens {
  readonly id: string;
  readonly ids: readonly number[];
  readonly tokens: readonly string[];
}

const asTokenAndId: Reader<TokenAndId> = (value, place) => {
  const pair = asArray(value, place);
  if (pair.length !== 2) place.fail("bad token", "a token and its id", value);
  return [asString(pair[0], place.at(0)), asId(pair[1], place.at(1))];
};

const asPiece: Reader<TemplatePiece> = (value, place) => {
  const object = asObject(value, place);
  onlyKeys(object, ["Sequence", "SpecialToken"], place);
  if (Object.keys(object).length !== 1) place.fail("bad piece of a template", "either Sequence or SpecialToken", value);
  if (Object.hasOwn(object, "Sequence")) {
    const here = place.at("Sequence");
    return { Sequence: readShape(asObject(object.Sequence, here), { id: oneOf("A", "B"), type_id: asCount }, here) };
  }
  const here = place.at("SpecialToken");
  return { SpecialToken: readShape(asObject(object.SpecialToken, here), { id: asString, type_id: asCount }, here) };
};

const asSpecialTokens: Reader<Readonly<Record<string, SpecialTokens>>> = (value, place) => {
  const entries = Object.entries(asObject(value, place)).map(([name, item]) => {
    const here = place.at(name);
    const token = readShape(asObject(item, here), { id: asString, ids: listOf(asId), tokens: listOf(asString) }, here);
    if (token.ids.length !== token.tokens.length) here.fail("ids without tokens", `${token.ids.length} tokens, one for each id`, token.tokens.length);
    return [name, token];
  });
  return Object.fromEntries(entries);
};

const SHAPES = {
  ByteLevel: { add_prefix_space: asBoolean, trim_offsets: asBoolean, use_regex: missingAs(asBoolean, true) },
  BertProcessing: { sep: asTokenAndId, cls: asTokenAndId },
  RobertaProcessing: { sep: asTokenAndId, cls: asTokenAndId, trim_offsets: asBoolean, add_prefix_space: asBoolean },
  TemplateProcessing: { single: listOf(asPiece), pair: listOf(asPiece), special_tokens: asSpecialTokens },
};

export type PostProcessorSpec = Part<typeof SHAPES, "processors">;
type Template = PostProcessorSpec & { type: "TemplateProcessing" };

/** @throws FormatError with the place, what was expected and what is there */
export function readPostProcessor(value: unknown, place: Place): PostProcessorSpec | null {
  if (value === null || value === undefined) return null;
  const spec = readPart("post_processor", SHAPES, "processors", value, place);
  checkTemplates(spec, place);
  return spec;
}

function checkTemplates(spec: PostProcessorSpec, place: Place): void {
  if (spec.type === "Sequence") for (const [i, inner] of spec.processors.entries()) checkTemplates(inner, place.at("processors").at(i));
  if (spec.type !== "TemplateProcessing") return;
  for (const key of ["single", "pair"] as const) {
    for (const [i, piece] of spec[key].entries()) {
      const here = place.at(key).at(i);
      if ("SpecialToken" in piece && !Object.hasOwn(spec.special_tokens, piece.SpecialToken.id)) {
        here.fail("unknown special token", `one of special_tokens: ${Object.keys(spec.special_tokens).join(", ")}`, piece.SpecialToken.id);
      }
      if (key === "single" && "Sequence" in piece && piece.Sequence.id === "B") here.fail("second text in a template for one", "A", "B");
    }
  }
}

/** The post-processor as tokenizer.json holds it. */
export function writePostProcessor(spec: PostProcessorSpec | null): unknown {
  return spec;
}

/** How many tokens are put around one text, or two. */
export function countAdded(spec: PostProcessorSpec | null, pair: boolean): number {
  switch (spec?.type) {
    case undefined:
    case "ByteLevel":
      return 0;
    case "BertProcessing":
      return pair ? 3 : 2;
    case "RobertaProcessing":
      return pair ? 4 : 2;
    case "TemplateProcessing": {
      const pieces = pair ? spec.pair : spec.single;
      return pieces.reduce((sum, piece) => sum + ("SpecialToken" in piece ? spec.special_tokens[piece.SpecialToken.id].ids.length : 0), 0);
    }
    case "Sequence":
      return spec.processors.reduce((sum, inner) => sum + countAdded(inner, pair), 0);
  }
}

/**
 * One text, or two, as the model wants them. The texts are left as they are.
 *
 * @param special whether special tokens are put around
 */
export function postProcess(spec: PostProcessorSpec | null, texts: readonly [Encoded] | readonly [Encoded, Encoded], special: boolean): Encoded {
  const named = texts.map((text, i): Encoded => {
    const parts = text.overflowing.map((part) => ({ ...part, sequences: part.ids.map(() => i) }));
    return { ...text, sequences: text.ids.map(() => i), typeIds: spec === null ? text.typeIds : text.ids.map(() => i), overflowing: parts };
  });
  return joinEncoded(spec === null ? named : process(spec, named, special));
}

function process(spec: PostProcessorSpec, texts: readonly Encoded[], special: boolean): readonly Encoded[] {
  switch (spec.type) {
    case "Sequence":
      return spec.processors.reduce((list, processor) => process(processor, list, special), texts);
    case "ByteLevel":
      return spec.trim_offsets ? texts.map((text) => trim(text, spec.add_prefix_space)) : texts;
    case "BertProcessing":
      return special ? texts.map((text, i) => surround(text, i === 0 ? [spec.cls] : [], [spec.sep], Math.min(i, 1), Math.min(i, 1))) : texts;
    case "RobertaProcessing": {
      const trimmed = spec.trim_offsets ? texts.map((text) => trim(text, spec.add_prefix_space)) : texts;
      const first = trimmed.map((text) => ({ ...text, typeIds: text.ids.map(() => 0) }));
      if (!special) return first;
      return first.map((text, i) => {
        const overflowing = text.overflowing.map((part) => ({ ...part, typeIds: part.ids.map(() => 0) }));
        return surround({ ...text, overflowing }, [i === 0 ? spec.cls : spec.sep], [spec.sep], Math.min(i, 1), 0);
      });
    }
    case "TemplateProcessing":
      return fill(spec, texts, special);
  }
}

/** Puts special tokens before and behind a text, and behind and before each part that overflowed. */
function surround(text: Encoded, before: readonly TokenAndId[], after: readonly TokenAndId[], sequence: number, typeId: number): Encoded {
  const added = (pairs: readonly TokenAndId[]): Encoded =>
    addedTokens(
      pairs.map(([, id]) => id),
      pairs.map(([token]) => token),
      typeId,
    );
  // Tokens that another processor had added are text for this one.
  const plain = (part: Encoded): Encoded => ({
    ...part,
    specialMask: part.ids.map(() => 0),
    attentionMask: part.ids.map(() => 1),
    sequences: part.ids.map(() => sequence),
  });
  const whole = { ...plain(text), overflowing: text.overflowing.map(plain) };
  return joinEncoded([added(before), whole, added(after)]);
}

function fill(spec: Template, texts: readonly Encoded[], special: boolean): Encoded[] {
  if (texts.length > 2) {
    throw new DataError(
      `TemplateProcessing: more than two texts, expected one or two, got ${texts.length}. A template can't stand behind another in a Sequence; correct the tokenizer's post_processor.`,
    );
  }
  const pieces = texts.length === 1 ? spec.single : spec.pair;
  return pieces.flatMap((piece) => {
    if ("Sequence" in piece) {
      const { id, type_id } = piece.Sequence;
      const index = id === "A" ? 0 : 1;
      const text = texts[index];
      // Parts that overflowed keep the type they had, as in Hugging Face's.
      return [{ ...text, typeIds: text.ids.map(() => type_id), sequences: text.ids.map(() => index) }];
    }
    if (!special) return [];
    const { ids, tokens } = spec.special_tokens[piece.SpecialToken.id];
    return [addedTokens(ids, tokens, piece.SpecialToken.type_id)];
  });
}

/** A blank of the byte alphabet (Ġ), or Unicode's White_Space. */
const BLANK = /[\u0120\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Takes the blanks that tokens begin and end with out of their places. */
function trim(text: Encoded, addPrefixSpace: boolean): Encoded {
  const places = text.tokens.map((token, i) => trimPlace(token, text.places[i], i === 0, addPrefixSpace));
  return { ...text, places, overflowing: text.overflowing.map((part) => trim(part, addPrefixSpace)) };
}

function trimPlace(token: string, place: Offset, first: boolean, addPrefixSpace: boolean): Offset {
  let [start, end] = place;
  let before = 0;
  while (before < token.length && BLANK.test(token[before])) before++;
  let after = 0;
  while (after < token.length && BLANK.test(token[token.length - 1 - after])) after++;
  // A lone blank before the first token may be the one that the tokenizer put there, which has no place in the text.
  const ownBlank = (first || start === 0) && addPrefixSpace && before === 1;
  // Nothing of the text is left to such a token.
  if (ownBlank && after === token.length) return [start, start];
  if (!ownBlank) start = Math.min(start + before, end);
  if (end >= after) end = Math.max(end - after, start);
  return [start, end];
}

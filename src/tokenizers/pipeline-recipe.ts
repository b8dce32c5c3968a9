/**
 * What the native part needs to run a tokenizer (crates/text/src/pipeline.rs), which gives the ids of the TypeScript twin (pipeline-tokenizer.ts). A tokenizer
 * with a part that it does not have (dropout, a regular expression of its own) has no recipe, and runs in TypeScript.
 */
import type { AddedToken } from "./added-tokens.ts";
import type { BpeTables, Recipe } from "./byte-level/bpe-engine.ts";
import { isAlphabet, writeAlphabetBytes } from "./byte-level/byte-alphabet.ts";
import { SPLIT_PATTERNS, splitPattern } from "./byte-level/split-patterns.ts";
import { fallbackByte } from "./decoders/decoders.ts";
import { type PieceModelSpec, withoutTokens } from "./models/piece-models.ts";
import { scoresOf } from "./models/unigram.ts";
import type { NormalizerSpec } from "./normalizers/normalizers.ts";
import { charsmapBytes } from "./normalizers/precompiled.ts";
import type { PreTokenizerSpec } from "./pre-tokenizers/pre-tokenizers.ts";
import type { SentencePieceSpec } from "./sentencepiece/spec.ts";
import { type PipelineModel, type SentencePieceModel, type TokenizerSpec, unknownId } from "./tokenizer-spec.ts";

const yes = (value: boolean): string => (value ? "yes" : "no");
const idWord = (id: number | null | undefined): string => (id === null || id === undefined ? "" : String(id));
const LONE_SURROGATE = /\p{Surrogate}/u;
const NO_ARRAYS = {
  bytes: new Uint8Array(0),
  lengths: new Int32Array(0),
  numbers: new Int32Array(0),
  scores: new Float64Array(0),
  charsmap: new Uint8Array(0),
  bpe: null,
};

/** The words for added tokens. */
export function tokenWords(tokens: readonly AddedToken[]): string[] {
  return tokens.flatMap(({ id, content, singleWord, lstrip, rstrip, normalized }) => [
    "Token",
    String(id),
    content,
    ...[singleWord, lstrip, rstrip, normalized].map(yes),
  ]);
}

/** Special tokens are found before the model sees the text, where that is allowed; the unknown token and the bytes of others are no one's to forge. */
export function hiddenIds(model: PipelineModel, added: readonly AddedToken[]): Set<number> {
  const unknown = unknownId(model);
  return new Set(added.filter(({ id, content, special }) => special && id !== unknown && fallbackByte(content) === undefined).map(({ id }) => id));
}

/** @returns null for a tokenizer with a part that only the twin has */
export function recipeOf(spec: TokenizerSpec, model: PipelineModel | SentencePieceModel): Recipe | null {
  const recipe = model.kind === "pipeline" ? pipelineRecipe(spec, model) : sentencePieceRecipe(spec, model.sentencePiece);
  // Half a surrogate pair has no UTF-8.
  return recipe?.words.some((word) => LONE_SURROGATE.test(word)) ? null : recipe;
}

function pipelineRecipe(spec: TokenizerSpec, model: PipelineModel): Recipe | null {
  const steps = normalizers(model.normalizer);
  const cuts = flatCuts(model.preTokenizer);
  if (steps === null || !marksFirst(model, spec.addedTokens)) return null;
  // Bytes are spelled as text last of all, where a byte-level vocabulary has them.
  const byteLevel = cuts.findIndex(({ type }) => type === "ByteLevel");
  if (byteLevel >= 0 && byteLevel !== cuts.length - 1) return null;
  const parts = cuts.map(cutWords);
  const hidden = hiddenIds(model, spec.addedTokens);
  const pieces = withoutTokens(model.pieces, hidden);
  const found = byteLevel >= 0 ? byteLevelModel(pieces) : pieceModel(pieces);
  const charsmap = steps.charsmap === null ? NO_ARRAYS.charsmap : charsmapBytes(steps.charsmap);
  if (found === null || !parts.every((part) => part !== null)) return null;
  return { ...NO_ARRAYS, ...found.arrays, charsmap, words: [...tokenWords(spec.addedTokens), ...steps.words, ...parts.flat(), "Model", ...found.words] };
}

/** The words for a normalizer, and the one charsmap that it may have. */
function normalizers(spec: NormalizerSpec | null): { words: string[]; charsmap: string | null } | null {
  const words: string[] = [];
  let charsmap: string | null = null;
  const add = (part: NormalizerSpec): boolean => {
    switch (part.type) {
      case "Sequence":
        return part.normalizers.every(add);
      case "Strip":
        words.push("Strip", yes(part.strip_left), yes(part.strip_right));
        return true;
      case "Prepend":
        words.push("Prepend", part.prepend);
        return true;
      case "Replace": {
        const found = replaceWords("String" in part.pattern ? { text: part.pattern.String } : expressionOf(part.pattern.Regex), part.content);
        words.push(...(found ?? []));
        return found !== null;
      }
      case "Precompiled":
        if (charsmap !== null) return false;
        charsmap = part.precompiled_charsmap;
        words.push("Precompiled");
        return true;
      case "BertNormalizer":
        if (part.clean_text) words.push("BertClean");
        if (part.handle_chinese_chars) words.push("BertChinese");
        if (part.strip_accents ?? part.lowercase) words.push("BertAccents");
        if (part.lowercase) words.push("Lowercase");
        return true;
      case "ByteLevel":
        return false;
      default:
        words.push(part.type);
        return true;
    }
  };
  return spec === null || add(spec) ? { words, charsmap } : null;
}

type Expression = { text: string } | { of: string; least: number };

/** The few regular expressions that are simple: a text, and runs of blanks or white space. */
function expressionOf(source: string): Expression | null {
  if (source !== "" && !/[\\^$.*+?()[\]{}|]/.test(source)) return { text: source };
  const run = /^( |\\s)(?:\+|\{(\d),\})$/.exec(source);
  return run === null ? null : { of: run[1] === " " ? " " : "", least: Math.max(1, Number(run[2] ?? 1)) };
}

function replaceWords(pattern: Expression | null, content: string): string[] | null {
  if (pattern === null) return null;
  if ("text" in pattern) return pattern.text === "" ? null : ["Replace", pattern.text, content];
  return ["ReplaceRun", pattern.of, String(pattern.least), content];
}

function flatCuts(spec: PreTokenizerSpec | null): PreTokenizerSpec[] {
  if (spec === null) return [];
  return spec.type === "Sequence" ? spec.pretokenizers.flatMap(flatCuts) : [spec];
}

function cutWords(spec: PreTokenizerSpec): string[] | null {
  switch (spec.type) {
    case "ByteLevel":
      return ["Pattern", String(splitPattern(spec.use_regex ? "gpt2" : "whole").code), yes(spec.add_prefix_space)];
    case "BertPreTokenizer":
    case "Whitespace":
    case "WhitespaceSplit":
      return [spec.type];
    case "Punctuation":
      return [spec.type, spec.behavior];
    case "Digits":
      return [spec.type, yes(spec.individual_digits)];
    case "CharDelimiterSplit":
      return ["Literal", spec.delimiter, "Removed", "no"];
    case "Metaspace":
      return [spec.type, spec.replacement, spec.prepend_scheme, yes(spec.split)];
    case "Split": {
      if ("String" in spec.pattern) return spec.pattern.String === "" ? null : ["Literal", spec.pattern.String, spec.behavior, yes(spec.invert)];
      const { Regex: source } = spec.pattern;
      const known = SPLIT_PATTERNS.find(({ spellings }) => spellings.includes(source));
      const whole = spec.invert ? spec.behavior === "Removed" : spec.behavior === "Isolated";
      return known !== undefined && whole ? ["Pattern", String(known.code), "no"] : null;
    }
    default:
      return null;
  }
}

/** Whether what stands first can be known without places: a mark for the first piece only needs what normalizers may blur. */
function marksFirst(model: PipelineModel, added: readonly AddedToken[]): boolean {
  const cuts = flatCuts(model.preTokenizer);
  if (!cuts.some((cut) => cut.type === "Metaspace" && cut.prepend_scheme === "first")) return true;
  const others = cuts.slice(1).some((cut) => cut.type === "Metaspace" && cut.prepend_scheme === "first");
  if (others) return false;
  const parts = (spec: NormalizerSpec | null): NormalizerSpec[] => (spec === null ? [] : spec.type === "Sequence" ? spec.normalizers.flatMap(parts) : [spec]);
  const keepsFirst = parts(model.normalizer).every(({ type }) => /^NFK?[CD]$/.test(type) || type === "Lowercase" || type === "Precompiled");
  return model.normalizer === null || (keepsFirst && !added.some(({ normalized }) => normalized));
}

type ModelRecipe = { words: string[]; arrays: Partial<Recipe> } | null;

/** Tokens in UTF-8, those that no text becomes with length 0; null where one has none. */
function tokenArrays(tokens: readonly (string | undefined)[], isUsed: (token: string, id: number) => boolean): Pick<Recipe, "bytes" | "lengths"> | null {
  const encoder = new TextEncoder();
  const lengths = new Int32Array(tokens.length);
  const kept = tokens.map((token, id) => (token !== undefined && isUsed(token, id) ? token : ""));
  if (LONE_SURROGATE.test(kept.join("\n"))) return null;
  let bytes = new Uint8Array(kept.reduce((sum, token) => sum + token.length * 3, 0));
  let at = 0;
  for (const [id, token] of kept.entries()) {
    lengths[id] = encoder.encodeInto(token, bytes.subarray(at)).written;
    at += lengths[id];
  }
  bytes = bytes.slice(0, at);
  return { bytes, lengths };
}

function pieceModel(spec: PieceModelSpec): ModelRecipe {
  if (spec.type === "Unigram") {
    const arrays = tokenArrays(
      spec.vocab.map(([token]) => token),
      () => true,
    );
    return arrays === null ? null : { words: ["Unigram", idWord(spec.unk_id), yes(spec.byte_fallback)], arrays: { ...arrays, scores: scoresOf(spec.vocab) } };
  }
  const { tokens, idOf } = spec.vocab;
  const arrays = tokenArrays(tokens, (token, id) => idOf.get(token) === id);
  if (arrays === null) return null;
  const unknown = spec.unk_token === null ? "" : idWord(idOf.get(spec.unk_token));
  if (spec.type === "WordLevel") return { words: ["WordLevel", unknown], arrays };
  if (spec.type === "WordPiece") return { words: ["WordPiece", unknown, spec.continuing_subword_prefix, String(spec.max_input_chars_per_word)], arrays };
  if ((spec.dropout ?? 0) > 0) return null;
  const prefix = spec.continuing_subword_prefix ?? "";
  const numbers = new Int32Array((spec.merges.length / 2) * 3);
  for (let i = 0; i < spec.merges.length; i += 2) {
    const [left, right] = [spec.merges[i], spec.merges[i + 1]];
    numbers.set([left, right, idOf.get(`${tokens[left]}${(tokens[right] as string).slice(prefix.length)}`) as number], (i / 2) * 3);
  }
  const options = [prefix, spec.end_of_word_suffix ?? "", yes(spec.unk_token !== null), unknown, yes(spec.fuse_unk), yes(spec.byte_fallback)];
  return { words: ["BPE", ...options, yes(spec.ignore_merges)], arrays: { ...arrays, numbers } };
}

/** A BPE whose tokens are bytes in their alphabet. */
function byteLevelModel(spec: PieceModelSpec): ModelRecipe {
  if (spec.type !== "BPE" || (spec.dropout ?? 0) > 0 || spec.byte_fallback) return null;
  if (spec.continuing_subword_prefix || spec.end_of_word_suffix) return null;
  const { tokens, idOf } = spec.vocab;
  // No text is spelled with other characters.
  const used = tokens.map((token, id) => token !== undefined && idOf.get(token) === id && isAlphabet(token));
  if (spec.merges.some((id) => !used[id])) return null;
  const lengths = Int32Array.from(tokens, (token, id) => (used[id] ? (token as string).length : 0));
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  let single = 0;
  for (const [id, token] of tokens.entries()) {
    if (!used[id]) continue;
    writeAlphabetBytes(token as string, bytes, at);
    at += lengths[id];
    if (lengths[id] === 1) single++;
  }
  if (spec.unk_token !== null && single < 256) return null;
  const bpe: BpeTables = { bytes, lengths, merges: spec.merges, hidden: new Int32Array(0), wholeWords: spec.ignore_merges, pattern: "whole" };
  return { words: ["Bytes"], arrays: { bpe } };
}

function sentencePieceRecipe(spec: TokenizerSpec, model: SentencePieceSpec): Recipe | null {
  if (model.kind !== "unigram" && model.kind !== "bpe") return null;
  const arrays = tokenArrays(model.pieces, () => true);
  if (arrays === null) return null;
  const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces, charsmap } = model.normalizer;
  const options = [model.byteFallback, model.kind === "bpe", addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces, model.treatWhitespaceAsSuffix];
  return {
    ...NO_ARRAYS,
    ...arrays,
    words: [...tokenWords(spec.addedTokens), "Model", "SentencePiece", ...options.map(yes)],
    numbers: Int32Array.from(model.types),
    scores: Float64Array.from(model.scores),
    charsmap: charsmap ?? NO_ARRAYS.charsmap,
  };
}

/**
 * A tokenizer as the metadata of a GGUF file (`tokenizer.ggml.*`), the counterpart of gguf-tokenizer.ts: llama.cpp and groundup find the same ids in it.
 *
 * llama.cpp knows four kinds, and of byte-level BPE the ways of cutting text that have a name there. What it has no name for is refused, because the model would be
 * fed other ids.
 */
import { ConfigError } from "../../errors.ts";
import type { GgufValue } from "../../formats/gguf/read.ts";
import { f32s, i32s, text, texts, u32 } from "../../formats/gguf/values.ts";
import type { NormalizerSpec } from "../normalizers/normalizers.ts";
import type { PostProcessorSpec } from "../post-processors/post-processors.ts";
import { inText, NUL, PIECE_TYPES } from "../sentencepiece/spec.ts";
import { type BpeModel, type PipelineModel, type SentencePieceModel, specSize, type TokenizerSpec, unknownId } from "../tokenizer-spec.ts";
import { CUTS, WHOLE_WORDS } from "./gguf-tokenizer.ts";
import { mergesOf } from "./vocab-merges.ts";

/** What the model says of the tokenizer's ids, and the chat template of its folder. */
export interface GgufTokenizerOptions {
  /** Rows of the embedding: ids that the tokenizer lacks become placeholders, since llama.cpp wants a token for each row. */
  vocabulary: number;
  bos?: number | null;
  /** Several where several end a text; GGUF has room for two. */
  eos?: number | readonly number[] | null;
  padding?: number | null;
  chatTemplate?: string | null;
}

/** What a placeholder is called, as llama.cpp's converter has it. */
export const placeholder = (id: number): string => `[PAD${id}]`;

type Fields = Record<string, GgufValue>;

function refuse(what: string, expected: string, got: string): never {
  throw new ConfigError(`tokenizer as GGUF: ${what}, expected ${expected}, got ${got}. llama.cpp has nothing that would give the same ids; save a folder.`);
}

/** By key, `tokenizer.` in front. @throws ConfigError for a tokenizer that llama.cpp has no kind for */
export function ggufTokenizerMetadata(spec: TokenizerSpec, options: GgufTokenizerOptions): Record<string, GgufValue> {
  const { model } = spec;
  const fields = {
    bpe: () => byteLevel(spec, model as BpeModel),
    sentencepiece: () => sentencePiece(model as SentencePieceModel),
    pipeline: () => pipeline(spec, model as PipelineModel),
    characters: null,
  }[model.kind];
  if (fields === null) return refuse("a vocabulary of characters", "BPE, WordPiece or Unigram", "single characters");
  const { tokens, types, scores, around = true, ...rest } = fields();
  if (tokens.length > options.vocabulary) refuse("more tokens than rows", `at most ${options.vocabulary}`, String(tokens.length));
  for (let id = 0; id < options.vocabulary; id++) {
    if (tokens[id] !== undefined) continue;
    tokens[id] = placeholder(id);
    types[id] = PIECE_TYPES.unused;
  }
  const { before, after } = aroundText(spec);
  if (before.length > 1 || after.length > 1)
    refuse("several tokens on one side of a text", "at most one", `${before.length} before and ${after.length} behind`);
  const [eos, eot] = typeof options.eos === "object" && options.eos !== null ? options.eos : [options.eos ?? undefined];
  const ids: Record<string, number | null | undefined> = {
    bos: before[0] ?? options.bos,
    eos: (around ? after[0] : undefined) ?? eos,
    eot,
    padding: options.padding,
    unknown: unknownId(model),
  };
  if (!around) Object.assign(ids, { seperator: after[0], cls: before[0] });
  const made: Fields = {
    ...rest.fields,
    ...(scores === undefined ? {} : { scores: f32s(Float32Array.from(tokens, (_, id) => scores[id] ?? 0)) }),
    tokens: texts(tokens as string[]),
    token_type: i32s(types),
    ...Object.fromEntries(Object.entries(ids).flatMap(([name, id]) => (id === undefined || id === null ? [] : [[`${name}_token_id`, u32(id)]]))),
    add_bos_token: { kind: "bool", value: before.length > 0 },
    [around ? "add_eos_token" : "add_sep_token"]: { kind: "bool", value: after.length > 0 },
  };
  const named = Object.fromEntries(Object.entries(made).map(([key, value]) => [`tokenizer.ggml.${key}`, value]));
  return options.chatTemplate == null ? named : { ...named, "tokenizer.chat_template": text(options.chatTemplate) };
}

interface Kind {
  readonly fields: Fields;
  /** By id; holes where there is none. */
  readonly tokens: (string | undefined)[];
  readonly types: number[];
  readonly scores?: Float32Array;
  /** False for BERT's names of what stands around a text. */
  readonly around?: boolean;
}

/** Special tokens are control tokens, others that were added are the user's own. */
function listed(spec: TokenizerSpec, ordinary: readonly (string | undefined)[]): { tokens: (string | undefined)[]; types: number[] } {
  const tokens = Array.from({ length: specSize(spec) }, (_, id) => ordinary[id]);
  const types = tokens.map((): number => PIECE_TYPES.normal);
  for (const { id, content, special } of spec.addedTokens) {
    tokens[id] = content;
    types[id] = special ? PIECE_TYPES.control : PIECE_TYPES.userDefined;
  }
  return { tokens, types };
}

/** The name of a way of cutting text, among those that do or do not take whole words first. */
function nameOfCut(cut: unknown, wholeWords: boolean): string {
  const wanted = JSON.stringify(cut);
  const found = Object.entries(CUTS).find(([name, known]) => JSON.stringify(known) === wanted && WHOLE_WORDS.includes(name) === wholeWords);
  if (found === undefined)
    return refuse(
      "a way of cutting text without a name",
      [...new Set(Object.values(CUTS).map((known) => JSON.stringify(known)))].join(", "),
      `${wanted}${wholeWords ? ", whole words first" : ""}`,
    );
  return found[0];
}

function byteLevel(spec: TokenizerSpec, model: BpeModel): Kind {
  if (model.addPrefixSpace) refuse("a space before every text", "none", "add_prefix_space");
  // Composed characters are what nearly all text has; llama.cpp's Qwen does without composing as well.
  if (spec.normalizer.some((form) => form !== "NFC")) refuse("a normalizer", "none, or NFC", spec.normalizer.join(", "));
  const merges = mergesOf(model);
  return {
    fields: { model: text("gpt2"), pre: text(nameOfCut(model.pattern, model.wholeWords)), merges: texts(merges.map((pair) => pair.join(" "))) },
    ...listed(spec, model.tokens),
  };
}

/** llama.cpp's BPE over pieces always turns what is unknown into bytes, its Unigram never. */
function checkBytes(kind: "bpe" | "unigram", byteFallback: boolean): void {
  if (byteFallback !== (kind === "bpe"))
    refuse(
      `${kind} ${byteFallback ? "with" : "without"} byte fallback`,
      kind === "bpe" ? "tokens for all bytes" : "an unknown token in place of bytes",
      byteFallback ? "byte_fallback" : "none",
    );
}

function sentencePiece({ sentencePiece: { kind, pieces, scores, types, normalizer, treatWhitespaceAsSuffix, byteFallback } }: SentencePieceModel): Kind {
  if ((kind !== "bpe" && kind !== "unigram") || treatWhitespaceAsSuffix)
    return refuse("a kind of SentencePiece", "bpe or unigram, spaces in front", treatWhitespaceAsSuffix ? "spaces behind" : kind);
  checkBytes(kind, byteFallback);
  // A piece of one NUL is in nobody's text; llama.cpp has it as the byte's own.
  return {
    fields: {
      model: text(kind === "bpe" ? "llama" : "t5"),
      add_space_prefix: { kind: "bool", value: normalizer.addDummyPrefix },
      remove_extra_whitespaces: { kind: "bool", value: normalizer.removeExtraWhitespaces },
      ...(normalizer.charsmap === null ? {} : { precompiled_charsmap: { kind: "array", of: "u8", value: normalizer.charsmap } }),
    },
    tokens: pieces.map((piece, id) => (piece === NUL ? placeholder(id) : inText(piece, types[id]))),
    types: [...types],
    scores,
  };
}

function pipeline(spec: TokenizerSpec, model: PipelineModel): Kind {
  const { pieces } = model;
  switch (pieces.type) {
    case "BPE":
      return pieces.byte_fallback ? spelledBpe(spec, model) : byteLevelPieces(spec, model);
    case "Unigram":
      return unigram(spec, model);
    case "WordPiece":
      return wordPiece(spec, model);
    default:
      return refuse("a kind of tokenizer", "BPE, WordPiece or Unigram", pieces.type);
  }
}

const isSpaces = (step: NormalizerSpec): boolean =>
  step.type === "Replace" && "String" in step.pattern && step.pattern.String === " " && step.content === SPACE;

function unigram(spec: TokenizerSpec, { pieces, preTokenizer, normalizer }: PipelineModel): Kind {
  if (pieces.type !== "Unigram") return refuse("a kind of tokenizer", "Unigram", pieces.type);
  checkBytes("unigram", pieces.byte_fallback);
  const steps = flat(normalizer);
  const cuts = preTokenizer?.type === "Sequence" ? preTokenizer.pretokenizers : preTokenizer === null ? [] : [preTokenizer];
  const metaspace = cuts.find((cut) => cut.type === "Metaspace");
  const known =
    steps.every(({ type }) => ["Precompiled", "Replace", "Strip", "Prepend"].includes(type)) &&
    cuts.every(({ type }) => type === "Metaspace" || type === "WhitespaceSplit");
  if (!known || !(metaspace !== undefined || steps.some(isSpaces)))
    return refuse("a Unigram model", "Precompiled and ▁ for spaces", steps.map(({ type }) => type).join(", "));
  const charsmap = steps.find((step) => step.type === "Precompiled")?.precompiled_charsmap;
  const { tokens, types } = listed(
    spec,
    pieces.vocab.map(([token]) => token),
  );
  if (pieces.unk_id !== null) types[pieces.unk_id] = PIECE_TYPES.unknown;
  const prefix = metaspace === undefined ? steps.some(({ type }) => type === "Prepend") : metaspace.prepend_scheme !== "never";
  const collapses = steps.some((step) => step.type === "Replace" && !isSpaces(step)) || cuts.some(({ type }) => type === "WhitespaceSplit");
  return {
    fields: {
      model: text("t5"),
      add_space_prefix: { kind: "bool", value: prefix },
      remove_extra_whitespaces: { kind: "bool", value: collapses },
      ...(charsmap === undefined ? {} : { precompiled_charsmap: { kind: "array", of: "u8", value: Uint8Array.from(atob(charsmap), (c) => c.charCodeAt(0)) } }),
    },
    tokens,
    types,
    scores: Float32Array.from(tokens, (_, id) => pieces.vocab[id]?.[1] ?? 0),
  };
}

const SPACE = "\u2581";
const BYTE = /^<0x[0-9A-F]{2}>$/;
const withBytes = (tokens: readonly (string | undefined)[], types: readonly number[]): number[] =>
  types.map((type, id) => (BYTE.test(tokens[id] ?? "") ? PIECE_TYPES.byte : type));

function flat(normalizer: NormalizerSpec | null): Exclude<NormalizerSpec, { type: "Sequence" }>[] {
  if (normalizer === null) return [];
  return normalizer.type === "Sequence" ? normalizer.normalizers.flatMap(flat) : [normalizer];
}

/** Byte-level BPE cut in steps. */
function byteLevelPieces(spec: TokenizerSpec, { pieces, preTokenizer, normalizer }: PipelineModel): Kind {
  if (pieces.type !== "BPE" || normalizer !== null) return refuse("a normalizer", "none in a byte-level BPE", JSON.stringify(normalizer));
  const { vocab, merges } = pieces;
  const lines = Array.from({ length: merges.length / 2 }, (_, i) => `${vocab.tokens[merges[2 * i]]} ${vocab.tokens[merges[2 * i + 1]]}`);
  return { fields: { model: text("gpt2"), pre: text(nameOfCut(preTokenizer, pieces.ignore_merges)), merges: texts(lines) }, ...listed(spec, vocab.tokens) };
}

/**
 * SentencePiece's BPE as Hugging Face spells it: ▁ for a space, bytes for what the vocabulary lacks. llama.cpp merges by the score of the result, so a token's score is
 * the rank of its first merge, negative. Its other merges have ranks beside that one in every vocabulary that was made from SentencePiece's.
 */
function spelledBpe(spec: TokenizerSpec, { pieces, preTokenizer, normalizer }: PipelineModel): Kind {
  if (pieces.type !== "BPE") return refuse("a kind of tokenizer", "BPE", pieces.type);
  const steps = flat(normalizer);
  const spaces = steps.some(isSpaces);
  const metaspace = preTokenizer?.type === "Metaspace" ? preTokenizer : null;
  const onlyThese = steps.every(({ type }) => type === "Prepend" || type === "Replace");
  const cutAtSpaces =
    preTokenizer === null || metaspace !== null || (preTokenizer.type === "Split" && "String" in preTokenizer.pattern && preTokenizer.pattern.String === " ");
  if (!onlyThese || !cutAtSpaces || !(spaces || metaspace !== null))
    return refuse("a BPE over characters", "SentencePiece's: ▁ for spaces", steps.map(({ type }) => type).join(", ") || "another");
  const { vocab, merges } = pieces;
  const { tokens, types } = listed(spec, vocab.tokens);
  const scores = new Float32Array(tokens.length).fill(-merges.length / 2 - 1);
  for (let rank = merges.length / 2 - 1; rank >= 0; rank--) {
    const made = vocab.idOf.get(`${vocab.tokens[merges[2 * rank]]}${vocab.tokens[merges[2 * rank + 1]]}`);
    if (made !== undefined) scores[made] = -rank;
  }
  const unknown = pieces.unk_token === null ? undefined : vocab.idOf.get(pieces.unk_token);
  if (unknown !== undefined) types[unknown] = PIECE_TYPES.unknown;
  const prefix = metaspace === null ? steps.some(({ type }) => type === "Prepend") : metaspace.prepend_scheme !== "never";
  return {
    fields: { model: text("llama"), add_space_prefix: { kind: "bool", value: prefix }, remove_extra_whitespaces: { kind: "bool", value: false } },
    tokens,
    types: withBytes(tokens, types),
    scores,
  };
}

function wordPiece(spec: TokenizerSpec, { pieces, normalizer, preTokenizer }: PipelineModel): Kind {
  const bert = normalizer?.type === "BertNormalizer" ? normalizer : null;
  if (
    pieces.type !== "WordPiece" ||
    bert?.lowercase !== true ||
    (bert.strip_accents ?? true) !== true ||
    preTokenizer?.type !== "BertPreTokenizer" ||
    pieces.continuing_subword_prefix !== "##"
  )
    return refuse("a WordPiece model", "BERT's, of lower case without accents", JSON.stringify(normalizer));
  const { tokens, types } = listed(spec, pieces.vocab.tokens);
  const unknown = unknownId(spec.model);
  return {
    fields: { model: text("bert"), token_type_count: u32(2) },
    tokens: tokens.map((token, id) =>
      token === undefined || types[id] !== PIECE_TYPES.normal || id === unknown ? token : token.startsWith("##") ? token.slice(2) : `${SPACE}${token}`,
    ),
    types,
    around: false,
  };
}

/** Ids that the template puts before and behind a text. */
function aroundText({ model, postProcessor }: TokenizerSpec): { before: number[]; after: number[] } {
  if (model.kind === "sentencepiece") {
    const id = (wanted: boolean, piece: string) => (wanted ? [model.tokens.indexOf(piece)] : []);
    return { before: id(model.bos, model.sentencePiece.bosPiece), after: id(model.eos, model.sentencePiece.eosPiece) };
  }
  if (model.kind === "pipeline") return aroundBy(model.postProcessor);
  const ids = (list: readonly { id: number }[]) => list.map(({ id }) => id);
  return { before: ids(postProcessor.before), after: ids(postProcessor.after) };
}

function aroundBy(part: PostProcessorSpec | null): { before: number[]; after: number[] } {
  switch (part?.type) {
    case "Sequence":
      return part.processors.map(aroundBy).find(({ before, after }) => before.length + after.length > 0) ?? { before: [], after: [] };
    case "TemplateProcessing": {
      const at = part.single.findIndex((piece) => "Sequence" in piece);
      const ids = (pieces: typeof part.single) =>
        pieces.flatMap((piece) => ("SpecialToken" in piece ? [...part.special_tokens[piece.SpecialToken.id].ids] : []));
      return { before: ids(part.single.slice(0, at)), after: ids(part.single.slice(at + 1)) };
    }
    case "BertProcessing":
    case "RobertaProcessing":
      return { before: [part.cls[1]], after: [part.sep[1]] };
    default:
      return { before: [], after: [] };
  }
}

/**
 * The tokenizer inside a GGUF file, from its metadata (`tokenizer.ggml.*`): byte-level BPE with a cut that has a name, SentencePiece's models, and BERT's
 * WordPiece in llama.cpp's spelling. Ids are those of llama.cpp.
 */
import { ConfigError, FormatError } from "../../errors.ts";
import type { GgufValue } from "../../formats/gguf/read.ts";
import type { AddedToken } from "../added-tokens.ts";
import type { PatternName } from "../byte-level/split-patterns.ts";
import type { DecoderSpec } from "../decoders/decoders.ts";
import type { PieceModelSpec } from "../models/piece-models.ts";
import type { PostProcessorSpec } from "../post-processors/post-processors.ts";
import type { PreTokenizerSpec } from "../pre-tokenizers/pre-tokenizers.ts";
import { sentencePieceSpec } from "../sentencepiece/sentencepiece-tokenizer.ts";
import { asPiece, PIECE_TYPES, type SentencePieceSpec } from "../sentencepiece/spec.ts";
import { type PipelineModel, specialToken, type TokenizerSpec } from "../tokenizer-spec.ts";
import { NO_POST_PROCESSOR } from "./components.ts";
import { Place } from "./strict-json.ts";
import { mergesFromPairs } from "./vocab-merges.ts";

const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true } as const;
/** Each digit by itself, then GPT-2's words. */
const DIGITS_THEN_GPT2: PreTokenizerSpec = { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, BYTE_LEVEL] };

/** How text is cut, by `tokenizer.ggml.pre`: a pattern with a fast scanner, or steps. */
export const CUTS: Readonly<Record<string, PatternName | PreTokenizerSpec>> = {
  ...named("gpt2", "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v2-code roberta-bpe mpt olmo jais gigachat"),
  ...named("cl100k", "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe glm4 chatglm-bpe"),
  ...named("qwen2", "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan"),
  ...named("o200k", "gpt-4o llama4 kanana2"),
  ...named(DIGITS_THEN_GPT2, "smollm starcoder refact command-r codeshell exaone minerva-7b"),
};

function named(cut: PatternName | PreTokenizerSpec, names: string): Record<string, PatternName | PreTokenizerSpec> {
  return Object.fromEntries(names.split(" ").map((name) => [name, cut]));
}

/** Of these a word that is a token is that token, whatever the merges make of it. */
export const WHOLE_WORDS: readonly string[] = ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"];

type Metadata = ReadonlyMap<string, GgufValue>;

/** The metadata of one file, read with the file's name in every error. */
class Reader {
  readonly file: string;
  private readonly metadata: Metadata;

  constructor(metadata: Metadata, file: string) {
    this.metadata = metadata;
    this.file = file;
  }
  private get(key: string): GgufValue | undefined {
    return this.metadata.get(`tokenizer.ggml.${key}`);
  }
  fail(key: string, what: string, expected: string, got: unknown): never {
    throw new FormatError(`${this.file}, metadata "tokenizer.ggml.${key}": ${what}, expected ${expected}, got ${got}. Get a complete file of the model.`);
  }
  strings(key: string): readonly string[] {
    const value = this.get(key);
    if (value?.kind !== "array" || value.of !== "string") return this.fail(key, "not there", "a list of texts", value?.kind ?? "nothing");
    return value.value as readonly string[];
  }
  numbers(key: string, length: number): ArrayLike<number> | null {
    const value = this.get(key);
    if (value === undefined) return null;
    if (value.kind !== "array" || !(value.of === "i32" || value.of === "u32" || value.of === "f32"))
      return this.fail(key, "wrong kind", "a list of 32-bit numbers", value.kind === "array" ? value.of : value.kind);
    const list = value.value as Int32Array | Uint32Array | Float32Array;
    if (list.length !== length) this.fail(key, "wrong length", `${length}, one for each token`, list.length);
    return list;
  }
  text(key: string): string | null {
    const value = this.get(key);
    return value?.kind === "string" ? value.value : null;
  }
  flag(key: string, missing: boolean): boolean {
    const value = this.get(key);
    return value?.kind === "bool" ? value.value : missing;
  }
  bytes(key: string): Uint8Array | null {
    const value = this.get(key);
    if (value?.kind !== "array") return null;
    return Uint8Array.from(value.value as ArrayLike<number>);
  }
  /** The id of a special token, if the file names one that is there. */
  id(key: string, size: number): number | null {
    const value = this.get(`${key}_token_id`);
    if (value === undefined) return null;
    const id = Number(value.value);
    // llama.cpp writes -1 for none.
    if (id === 2 ** 32 - 1 || id === -1) return null;
    if (!Number.isInteger(id) || id < 0 || id >= size) this.fail(`${key}_token_id`, "id outside the vocabulary", `less than ${size}`, id);
    return id;
  }
}

/** @throws FormatError for a file without a tokenizer, or with one that is damaged or of an unknown kind */
export function ggufTokenizer(metadata: Metadata, file: string): TokenizerSpec {
  const reader = new Reader(metadata, file);
  const kind = reader.text("model");
  if (kind === null)
    throw new FormatError(`${file}: no tokenizer in this file, expected metadata "tokenizer.ggml.model", got none. Name a tokenizer's own file.`);
  switch (kind) {
    case "gpt2":
      return byteLevel(reader);
    case "llama":
    case "t5":
      return sentencePiece(reader, kind === "t5" ? "unigram" : "bpe");
    case "bert":
      return wordPiece(reader);
    default:
      return reader.fail("model", "a kind of tokenizer that is not supported (yet)", "gpt2, llama, t5 or bert", JSON.stringify(kind));
  }
}

/** Control tokens are special; a user's own are found in any text. */
function addedTokens(tokens: readonly (string | undefined)[], types: ArrayLike<number> | null): AddedToken[] {
  return tokens.flatMap((content, id) => {
    const type = types?.[id];
    if (content === undefined) return [];
    if (type === PIECE_TYPES.control) return [specialToken(content, id)];
    return type === PIECE_TYPES.userDefined ? [{ ...specialToken(content, id), special: false }] : [];
  });
}

/** The template of a text with what the file wants around it. */
function template(
  reader: Reader,
  tokens: readonly (string | undefined)[],
  bosMissing: boolean,
  eosMissing: boolean,
  [bosKey, eosKey] = ["bos", "eos"],
): PostProcessorSpec | null {
  const bos = reader.flag("add_bos_token", bosMissing) ? reader.id(bosKey, tokens.length) : null;
  const eos = reader.flag(eosKey === "eos" ? "add_eos_token" : "add_sep_token", eosMissing) ? reader.id(eosKey, tokens.length) : null;
  const wanted = [bos, eos].filter((id) => id !== null && tokens[id] !== undefined) as number[];
  if (wanted.length === 0) return null;
  const name = (id: number): string => tokens[id] as string;
  const special = (id: number | null, type_id: number) => (id === null ? [] : [{ SpecialToken: { id: name(id), type_id } }]);
  const text = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  return {
    type: "TemplateProcessing",
    single: [...special(bos, 0), text("A", 0), ...special(eos, 0)],
    pair: [...special(bos, 0), text("A", 0), ...special(eos, 0), text("B", 1), ...special(eos, 1)],
    special_tokens: Object.fromEntries(wanted.map((id) => [name(id), { id: name(id), ids: [id], tokens: [name(id)] }])),
  };
}

const isPlaceholder = (token: string | undefined, id: number, types: ArrayLike<number> | null): boolean =>
  types?.[id] === PIECE_TYPES.unused && token === `[PAD${id}]`;

/** How many tokens there are before the placeholders at the end: ids that a model has rows for and its tokenizer no token. */
function sizeWithoutTail(tokens: readonly string[], types: ArrayLike<number> | null): number {
  let size = tokens.length;
  while (size > 0 && isPlaceholder(tokens[size - 1], size - 1, types)) size--;
  return size;
}

function byteLevel(reader: Reader): TokenizerSpec {
  const spelled = reader.strings("tokens");
  const types = reader.numbers("token_type", spelled.length);
  const tokens = spelled.slice(0, sizeWithoutTail(spelled, types)).map((token, id) => (isPlaceholder(token, id, types) ? undefined : token));
  const pre = reader.text("pre") ?? "gpt-2";
  const cut = Object.hasOwn(CUTS, pre)
    ? CUTS[pre]
    : reader.fail("pre", "a way of cutting text that is not supported (yet)", `one of ${Object.keys(CUTS).join(", ")}`, JSON.stringify(pre));
  const added = addedTokens(tokens, types);
  const idOf = new Map(tokens.flatMap((token, id) => (token === undefined ? [] : [[token, id] as const])));
  const merges = mergesFromPairs(reader.strings("merges"), tokens, idOf, new Place(reader.file, "tokenizer.ggml.merges"));
  const around = template(reader, tokens, WHOLE_WORDS.includes(pre), false);
  const ignore_merges = WHOLE_WORDS.includes(pre);
  if (typeof cut !== "string") {
    const pieces: PieceModelSpec = {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges,
      vocab: { tokens, idOf },
      merges,
    };
    return pipeline(tokens, added, { preTokenizer: cut, pieces, postProcessor: around, decoder: BYTE_LEVEL });
  }
  const ids = (pieces: readonly object[], behind: boolean) => {
    const at = pieces.findIndex((piece) => "Sequence" in piece);
    return pieces.flatMap((piece, i) =>
      "SpecialToken" in piece && i > at === behind ? [{ id: idOf.get((piece as { SpecialToken: { id: string } }).SpecialToken.id) as number, typeId: 0 }] : [],
    );
  };
  const single = around?.type === "TemplateProcessing" ? around.single : [];
  const outside = new Set(added.map(({ id }) => id));
  return {
    model: {
      kind: "bpe",
      tokens: tokens.map((token, id) => (outside.has(id) ? undefined : token)),
      merges,
      wholeWords: ignore_merges,
      pattern: cut,
      addPrefixSpace: false,
    },
    normalizer: [],
    postProcessor: { before: ids(single, false), after: ids(single, true), typeId: 0 },
    addedTokens: added,
    kept: { truncation: null, padding: null, postProcessor: around },
  };
}

function pipeline(
  tokens: readonly (string | undefined)[],
  added: AddedToken[],
  parts: Pick<PipelineModel, "preTokenizer" | "pieces" | "postProcessor"> & { decoder: DecoderSpec; normalizer?: PipelineModel["normalizer"] },
): TokenizerSpec {
  return {
    model: { kind: "pipeline", tokens, normalizer: null, ...parts },
    normalizer: [],
    postProcessor: NO_POST_PROCESSOR,
    addedTokens: added,
    kept: { truncation: null, padding: null, postProcessor: parts.postProcessor },
  };
}

function sentencePiece(reader: Reader, kind: "bpe" | "unigram"): TokenizerSpec {
  const spelled = reader.strings("tokens");
  const scores = reader.numbers("scores", spelled.length);
  if (scores === null) return reader.fail("scores", "not there", `${spelled.length} numbers`, "nothing");
  const given = reader.numbers("token_type", spelled.length);
  const size = sizeWithoutTail(spelled, given);
  const pieces = spelled.slice(0, size).map((piece, id) => asPiece(piece, given?.[id]));
  const types = Uint8Array.from({ length: size }, (_, id) => given?.[id] ?? PIECE_TYPES.normal);
  const pieceOf = (key: string, missing: string) => pieces[reader.id(key, spelled.length) ?? -1] ?? missing;
  const spec: SentencePieceSpec = {
    kind,
    pieces,
    scores: Float32Array.from({ length: size }, (_, id) => scores[id] as number),
    types,
    normalizer: {
      name: "gguf",
      charsmap: reader.bytes("precompiled_charsmap"),
      addDummyPrefix: reader.flag("add_space_prefix", true),
      removeExtraWhitespaces: reader.flag("remove_extra_whitespaces", false),
      escapeWhitespaces: true,
    },
    denormalizer: null,
    treatWhitespaceAsSuffix: false,
    byteFallback: types.includes(PIECE_TYPES.byte),
    unkSurface: " \u2047 ",
    bosPiece: pieceOf("bos", "<s>"),
    eosPiece: pieceOf("eos", "</s>"),
    padPiece: pieceOf("padding", "<pad>"),
  };
  return sentencePieceSpec(spec, { bos: reader.flag("add_bos_token", kind === "bpe"), eos: reader.flag("add_eos_token", kind === "unigram"), file: null });
}

/** In the file a word's first token begins with ▁, and the others have lost their ##. */
function wordPiece(reader: Reader): TokenizerSpec {
  const spelled = reader.strings("tokens");
  const types = reader.numbers("token_type", spelled.length);
  const tokens = spelled.map((token, id) => {
    if (types?.[id] === PIECE_TYPES.control || types?.[id] === PIECE_TYPES.unknown) return token;
    return token.startsWith("\u2581") ? token.slice(1) : `##${token}`;
  });
  const unknown = tokens[reader.id("unknown", tokens.length) ?? -1];
  if (unknown === undefined)
    throw new ConfigError(`${reader.file}: no unknown token, expected metadata "tokenizer.ggml.unknown_token_id", got none. Get a complete file of the model.`);
  const vocab = { tokens, idOf: new Map(tokens.map((token, id) => [token, id])) };
  return pipeline(tokens, addedTokens(tokens, types), {
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true },
    preTokenizer: { type: "BertPreTokenizer" },
    pieces: { type: "WordPiece", unk_token: unknown, continuing_subword_prefix: "##", max_input_chars_per_word: 100, vocab },
    postProcessor: template(reader, tokens, true, true, ["cls", "seperator"]) ?? template(reader, tokens, true, true),
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  });
}

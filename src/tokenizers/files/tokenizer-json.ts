/**
 * Reads and writes tokenizer.json, the one-file format of Hugging Face tokenizers. The reader is strict: a component, option or
 * value that is not known is refused by name and place, never guessed.
 */
import { ConfigError, FormatError } from "../../errors.ts";
import type { AddedToken } from "../added-tokens.ts";
import { BYTE_TO_CHARACTER, isAlphabet } from "../byte-level/byte-alphabet.ts";
import { SPLIT_PATTERNS, splitPattern } from "../byte-level/split-patterns.ts";
import { bytesOfModel, withTokenBytes } from "../byte-level/token-bytes.ts";
import { type DecoderSpec, readDecoder } from "../decoders/decoders.ts";
import { type PieceModelSpec, readPieceModel, writePieceModel } from "../models/piece-models.ts";
import { type NormalizerSpec, readNormalizer } from "../normalizers/normalizers.ts";
import { readPadding } from "../post-processors/padding.ts";
import { type PostProcessorSpec, readPostProcessor } from "../post-processors/post-processors.ts";
import { readTruncation } from "../post-processors/truncation.ts";
import { type PreTokenizerSpec, readPreTokenizer } from "../pre-tokenizers/pre-tokenizers.ts";
import type { BpeModel, CharacterModel, ModelSpec, PipelineModel, TokenizerSpec } from "../tokenizer-spec.ts";
import {
  checkDecoder,
  EACH_CHARACTER,
  NO_POST_PROCESSOR,
  type PreTokenizer,
  readPreTokenizer as readCut,
  readNormalizer as readForms,
  readPostProcessor as readTemplateAround,
} from "./components.ts";
import { openVocabFile, ordinaryTokens, type VocabFile } from "./native-vocab.ts";
import { asArray, asBoolean, asId, asObject, asString, field, type JsonObject, onlyKeys, optionalBoolean, Place, parseJsonText } from "./strict-json.ts";
import { checkGaps, mergesFromPairs, mergesOf, tokensById, vocabText } from "./vocab-merges.ts";

const TOP_KEYS = ["version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"];

/**
 * Reads the text of a tokenizer.json.
 *
 * @param file what errors call it
 * @throws FormatError with the place, what was expected and what is there
 */
export function readTokenizerJson(text: string, file: string): TokenizerSpec {
  return readWhole(text, file, null) as TokenizerSpec;
}

/**
 * Reads the bytes of a tokenizer.json the quick way (native-vocab.ts).
 *
 * @returns null where `readTokenizerJson` must read it, or say what is wrong
 */
export function readTokenizerBytes(bytes: Uint8Array, file: string): TokenizerSpec | null {
  const found = openVocabFile(bytes);
  if (found === null) return null;
  try {
    return readWhole(found.rest, file, found);
  } catch (error) {
    // Said again with the whole file at hand.
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/** @param found the file's vocabulary and merges, where `text` is without them; then null where this is no file for the quick way */
function readWhole(text: string, file: string, found: VocabFile | null): TokenizerSpec | null {
  const top = new Place(file);
  const object = asObject(parseJsonText(text, file), top);
  // Another tool's file (a config, a manifest) has neither; what is merely newer has both.
  if (!Object.hasOwn(object, "model") && !Object.hasOwn(object, "added_tokens"))
    top.fail("not a tokenizer file", 'an object with "model" and "added_tokens", as Hugging Face writes it', object, "Name the tokenizer's folder or file.");
  onlyKeys(object, TOP_KEYS, top);
  const version = field(object, "version");
  if (version !== "1.0") top.at("version").fail("unknown version", '"1.0"', version);
  const addedTokens = readAddedTokens(field(object, "added_tokens") ?? [], top.at("added_tokens"));
  const parts = {
    normalizer: readNormalizer(field(object, "normalizer"), top.at("normalizer")),
    preTokenizer: readPreTokenizer(field(object, "pre_tokenizer"), top.at("pre_tokenizer")),
    postProcessor: readPostProcessor(field(object, "post_processor"), top.at("post_processor")),
    decoder: readDecoder(field(object, "decoder"), top.at("decoder")),
  };
  const model = asObject(field(object, "model"), top.at("model"));
  const kept = {
    truncation: readTruncation(field(object, "truncation"), top.at("truncation")),
    padding: readPadding(field(object, "padding"), top.at("padding")),
    postProcessor: field(object, "post_processor") ?? null,
  };
  if (!hasFastWay(parts, model)) {
    if (found !== null) return null;
    const pieces = readPieceModel(model, top.at("model"));
    const spec: TokenizerSpec = {
      model: { kind: "pipeline", ...parts, pieces, tokens: tokensOf(pieces) },
      normalizer: [],
      postProcessor: NO_POST_PROCESSOR,
      addedTokens,
      kept,
    };
    checkAddedIds(parts.postProcessor, spec, top.at("post_processor"));
    return spec;
  }
  const cut = readCut(field(object, "pre_tokenizer"), top.at("pre_tokenizer"));
  checkDecoder(field(object, "decoder"), cut.kind, top.at("decoder"));
  const postProcessor = readTemplateAround(field(object, "post_processor"), top.at("post_processor"));
  const read = found === null ? readModel(model, cut, addedTokens, top.at("model")) : modelFromFile(found, model, cut, addedTokens, top.at("model"));
  if (read === null) return null;
  const spec: TokenizerSpec = {
    model: read,
    normalizer: readForms(field(object, "normalizer"), top.at("normalizer")),
    postProcessor,
    addedTokens,
    kept,
  };
  const bytes = bytesOfModel(read);
  const inVocabulary = (id: number): boolean => (bytes === undefined ? read.tokens[id] !== undefined : bytes.lengths[id] > 0);
  const known = (id: number): boolean => inVocabulary(id) || addedTokens.some((token) => token.id === id);
  for (const { id } of [...postProcessor.before, ...postProcessor.after]) {
    if (!known(id)) top.at("post_processor").fail("id without a token", "an id of the vocabulary", id);
  }
  return spec;
}

interface Parts {
  normalizer: NormalizerSpec | null;
  preTokenizer: PreTokenizerSpec | null;
  postProcessor: PostProcessorSpec | null;
  decoder: DecoderSpec | null;
}

/** Whether a tokenizer is one of the two kinds with engines of their own: byte-level BPE with a published pattern, and single characters. */
function hasFastWay({ normalizer, preTokenizer, postProcessor, decoder }: Parts, model: JsonObject): boolean {
  const type = field(model, "type") ?? (Object.hasOwn(model, "merges") ? "BPE" : undefined);
  const around = flat(postProcessor, "processors").filter(({ type }) => type !== "ByteLevel");
  if (!flat(normalizer, "normalizers").every(({ type }) => /^NFK?[CD]$/.test(type)) || around.length > 1) return false;
  if (!around.every((part) => part.type === "TemplateProcessing" && part.single.some((piece) => "Sequence" in piece))) return false;
  const cuts = flat(preTokenizer, "pretokenizers");
  const expression = (part: PreTokenizerSpec): string | null =>
    part.type === "Split" && "Regex" in part.pattern && (part.invert ? part.behavior === "Removed" : part.behavior === "Isolated") ? part.pattern.Regex : null;
  if (type === "WordLevel") return cuts.length === 1 && expression(cuts[0]) === EACH_CHARACTER && decoder?.type === "Fuse";
  const plain = ["continuing_subword_prefix", "end_of_word_suffix"].every((key) => (field(model, key) ?? "") === "");
  if (type !== "BPE" || decoder?.type !== "ByteLevel" || !plain || (field(model, "dropout") ?? 0) !== 0 || field(model, "byte_fallback") === true) return false;
  const [first, second] = cuts;
  if (cuts.length === 1) return first.type === "ByteLevel";
  if (cuts.length !== 2 || second.type !== "ByteLevel" || second.use_regex || second.add_prefix_space) return false;
  const source = expression(first);
  return source !== null && SPLIT_PATTERNS.some(({ spellings }) => spellings.includes(source));
}

/** A part without its sequences. */
function flat<P extends { readonly type: string }, K extends string>(part: P | null, key: K): Exclude<P, { readonly type: "Sequence" }>[] {
  if (part === null) return [];
  if (part.type !== "Sequence") return [part as Exclude<P, { readonly type: "Sequence" }>];
  return (part as unknown as Record<K, readonly P[]>)[key].flatMap((inner) => flat(inner, key));
}

function tokensOf(pieces: PieceModelSpec): (string | undefined)[] {
  return pieces.type === "Unigram" ? pieces.vocab.map(([token]) => token) : [...pieces.vocab.tokens];
}

/** Ids that a template puts around a text must have a token. */
function checkAddedIds(postProcessor: PostProcessorSpec | null, spec: TokenizerSpec, place: Place): void {
  const known = (id: number): boolean => spec.model.tokens[id] !== undefined || spec.addedTokens.some((token) => token.id === id);
  for (const part of flat(postProcessor, "processors")) {
    const ids =
      part.type === "TemplateProcessing"
        ? Object.values(part.special_tokens).flatMap((token) => token.ids)
        : part.type === "ByteLevel"
          ? []
          : [part.sep[1], part.cls[1]];
    for (const id of ids) if (!known(id)) place.fail("id without a token", "an id of the vocabulary", id);
  }
}

function readAddedTokens(value: unknown, place: Place): AddedToken[] {
  const ids = new Set<number>();
  const contents = new Set<string>();
  const tokens = asArray(value, place).map((item, i) => {
    const here = place.at(i);
    const object = asObject(item, here);
    onlyKeys(object, ["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"], here);
    const token: AddedToken = {
      id: asId(field(object, "id"), here.at("id")),
      content: asString(field(object, "content"), here.at("content")),
      special: asBoolean(field(object, "special"), here.at("special")),
      singleWord: optionalBoolean(object, "single_word", false, here),
      lstrip: optionalBoolean(object, "lstrip", false, here),
      rstrip: optionalBoolean(object, "rstrip", false, here),
      normalized: optionalBoolean(object, "normalized", false, here),
    };
    if (token.content === "") here.at("content").fail("empty token", "some text", "");
    if (ids.has(token.id) || contents.has(token.content)) here.fail("token given twice", "each id and text once", token.content);
    ids.add(token.id);
    contents.add(token.content);
    return token;
  });
  return tokens;
}

function readModel(object: JsonObject, cut: PreTokenizer, added: readonly AddedToken[], place: Place): ModelSpec {
  // Files from before the field existed hold BPE, recognisable by its merges.
  const type = field(object, "type") ?? (Object.hasOwn(object, "merges") ? "BPE" : undefined);
  if (type === "BPE" && cut.kind === "bytes") return readBpe(object, cut, added, place);
  if (type === "WordLevel" && cut.kind === "characters") return readCharacters(object, added, place);
  if (type === "BPE" || type === "WordLevel") {
    return place.at("type").fail("model does not fit its pre_tokenizer", cut.kind === "bytes" ? '"BPE"' : '"WordLevel"', type);
  }
  return place.at("type").fail("unknown model", '"BPE" or "WordLevel"', type, "This kind of tokenizer is not supported (yet).");
}

/** A BPE whose vocabulary and merges were read already; null where they do not fit what stands beside them. */
function modelFromFile(found: VocabFile, object: JsonObject, cut: PreTokenizer, added: readonly AddedToken[], place: Place): BpeModel | null {
  if (cut.kind !== "bytes" || (field(object, "unk_token") ?? null) !== null) return null;
  const options = readBpeOptions(object, place);
  const tokens = ordinaryTokens(found, added);
  if (tokens === null) return null;
  return withTokenBytes({ kind: "bpe" as const, merges: found.merges, ...options, pattern: cut.pattern, addPrefixSpace: cut.addPrefixSpace }, tokens);
}

function readBpeOptions(object: JsonObject, place: Place): { wholeWords: boolean } {
  onlyKeys(
    object,
    ["type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"],
    place,
  );
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    const value = field(object, key) ?? "";
    if (value !== "") place.at(key).fail("unsupported option", "none in a byte-level BPE", value);
  }
  const dropout = field(object, "dropout") ?? 0;
  if (dropout !== 0) place.at("dropout").fail("unsupported option", "null: encoding is deterministic", dropout);
  optionalBoolean(object, "fuse_unk", false, place);
  if (optionalBoolean(object, "byte_fallback", false, place)) place.at("byte_fallback").fail("unsupported option", "false in a byte-level BPE", true);
  return { wholeWords: optionalBoolean(object, "ignore_merges", false, place) };
}

function readBpe(object: JsonObject, cut: PreTokenizer & { kind: "bytes" }, added: readonly AddedToken[], place: Place): BpeModel {
  const options = readBpeOptions(object, place);
  const { tokens, idOf } = tokensById(field(object, "vocab"), place.at("vocab"));
  const merges = mergesFromPairs(field(object, "merges"), tokens, idOf, place.at("merges"));
  checkAdded(added, { tokens, idOf }, place.at("vocab"));
  removeAdded(tokens, added);
  for (const [id, token] of tokens.entries()) {
    if (token !== undefined && !isAlphabet(token)) {
      place.at("vocab").fail("token outside the byte alphabet", "characters that stand for bytes", token, `Id ${id}: this is not a byte-level vocabulary.`);
    }
  }
  const unknown = field(object, "unk_token") ?? null;
  if (unknown !== null) {
    const missing = BYTE_TO_CHARACTER.find((character) => !idOf.has(character));
    if (missing !== undefined) place.at("unk_token").fail("unknown token beside missing bytes", "null, or all 256 bytes in the vocabulary", unknown);
  }
  return {
    kind: "bpe",
    tokens,
    merges,
    ...options,
    pattern: cut.pattern,
    addPrefixSpace: cut.addPrefixSpace,
  };
}

function readCharacters(object: JsonObject, added: readonly AddedToken[], place: Place): CharacterModel {
  onlyKeys(object, ["type", "vocab", "unk_token"], place);
  const { tokens, idOf } = tokensById(field(object, "vocab"), place.at("vocab"));
  checkAdded(added, { tokens, idOf }, place.at("vocab"));
  const unknownId = idOf.get(asString(field(object, "unk_token"), place.at("unk_token")));
  const addedIds = new Set(added.map((token) => token.id));
  for (const [id, token] of tokens.entries()) {
    if (token !== undefined && id !== unknownId && !addedIds.has(id) && [...token].length !== 1) {
      place.at("vocab").fail("token of several characters", "single characters", token, "Only character vocabularies are read as WordLevel.");
    }
  }
  removeAdded(tokens, added);
  return { kind: "characters", tokens, unknownId };
}

/** Special and added tokens stand in `addedTokens` only. */
function removeAdded(tokens: (string | undefined)[], added: readonly AddedToken[]): void {
  for (const token of added) if (token.id < tokens.length) tokens[token.id] = undefined;
  while (tokens.length > 0 && tokens[tokens.length - 1] === undefined) tokens.pop();
}

function checkAdded(
  added: readonly AddedToken[],
  { tokens, idOf }: { tokens: readonly (string | undefined)[]; idOf: ReadonlyMap<string, number> },
  place: Place,
): void {
  checkGaps(
    added.map((token) => token.id),
    idOf.size + added.length,
    place,
  );
  for (const token of added) {
    const inside = idOf.get(token.content);
    const other = tokens[token.id];
    if (inside !== undefined && inside !== token.id)
      place.fail(`token ${JSON.stringify(token.content)} has two ids`, `id ${token.id} as in added_tokens`, inside);
    if (other !== undefined && other !== token.content) place.fail(`id ${token.id} has two tokens`, JSON.stringify(token.content), other);
  }
}

/** The text of a tokenizer.json that Hugging Face tokenizers (0.20 or newer) opens with the same ids. */
export function writeTokenizerJson(spec: TokenizerSpec): string {
  const { model } = spec;
  if (model.kind === "pipeline") return pipelineText(spec, model);
  if (model.kind === "sentencepiece")
    throw new ConfigError(
      "tokenizer.json: a SentencePiece model, expected another kind of tokenizer, got a .model file's. Save it: that writes tokenizer.model.",
    );
  const parts: [string, string][] = [
    ["version", '"1.0"'],
    ["truncation", JSON.stringify(spec.kept?.truncation ?? null)],
    ["padding", JSON.stringify(spec.kept?.padding ?? null)],
    ["added_tokens", `[${spec.addedTokens.map((token) => `\n    ${addedText(token)}`).join(",")}${spec.addedTokens.length > 0 ? "\n  " : ""}]`],
    ["normalizer", normalizerText(spec)],
    ["pre_tokenizer", JSON.stringify(preTokenizer(model))],
    ["post_processor", JSON.stringify(spec.kept?.postProcessor ?? null)],
    ["decoder", JSON.stringify(decoder(model))],
    ["model", modelText(spec, model)],
  ];
  return `{\n${parts.map(([key, value]) => `  ${JSON.stringify(key)}: ${value}`).join(",\n")}\n}\n`;
}

function pipelineText(spec: TokenizerSpec, model: PipelineModel): string {
  const file = {
    version: "1.0",
    truncation: spec.kept?.truncation ?? null,
    padding: spec.kept?.padding ?? null,
    added_tokens: spec.addedTokens.map((token) => JSON.parse(addedText(token))),
    normalizer: model.normalizer,
    pre_tokenizer: model.preTokenizer,
    post_processor: model.postProcessor,
    decoder: model.decoder,
    model: writePieceModel(model.pieces),
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

function addedText(token: AddedToken): string {
  const { id, content, singleWord, lstrip, rstrip, normalized, special } = token;
  return JSON.stringify({ id, content, single_word: singleWord, lstrip, rstrip, normalized, special });
}

function normalizerText(spec: TokenizerSpec): string {
  const list = spec.normalizer.map((type) => ({ type }));
  if (list.length === 0) return "null";
  return JSON.stringify(list.length === 1 ? list[0] : { type: "Sequence", normalizers: list });
}

function preTokenizer(model: BpeModel | CharacterModel): object {
  if (model.kind === "characters") {
    return { type: "Split", pattern: { Regex: EACH_CHARACTER }, behavior: "Isolated", invert: false };
  }
  const byteLevel = (use_regex: boolean) => ({ type: "ByteLevel", add_prefix_space: model.addPrefixSpace, trim_offsets: true, use_regex });
  if (model.pattern === "gpt2" || model.pattern === "whole") return byteLevel(model.pattern === "gpt2");
  const [Regex] = splitPattern(model.pattern).spellings;
  return { type: "Sequence", pretokenizers: [{ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false }, byteLevel(false)] };
}

function decoder(model: BpeModel | CharacterModel): object {
  if (model.kind === "characters") return { type: "Fuse" };
  return { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true };
}

function modelText(spec: TokenizerSpec, model: BpeModel | CharacterModel): string {
  if (model.kind === "characters") {
    const unknown = spec.addedTokens.find((token) => token.id === model.unknownId)?.content ?? model.tokens[model.unknownId ?? -1] ?? "<unk>";
    return `{"type": "WordLevel", "vocab": ${vocabText(spec)}, "unk_token": ${JSON.stringify(unknown)}}`;
  }
  const merges = mergesOf(model).map((pair) => JSON.stringify(pair));
  return (
    '{"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, ' +
    `"fuse_unk": false, "byte_fallback": false, "ignore_merges": ${model.wholeWords}, "vocab": ${vocabText(spec)}, "merges": [${merges.join(",")}]}`
  );
}

/** The tokenizer that callers hold: special tokens, normaliser and template around a model. */
import { DataError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type AddedToken, cutAtTokens } from "./added-tokens.ts";
import { textToString } from "./byte-level/bpe.ts";
import type { EncodedBatch, IdsEngine, Text } from "./byte-level/bpe-engine.ts";
import { createModel } from "./byte-level/model.ts";
import type { Engine } from "./byte-level/native-text.ts";
import { splitPattern } from "./byte-level/split-patterns.ts";
import { applyChatTemplate, type ChatMessage, type ChatTemplateOptions, type RenderedChat } from "./chat-template/chat-template.ts";
import { createDecodeStream, type DecodeStream } from "./decoders/decode-stream.ts";
import { type BatchEncodeOptions, DECODE, type DecodeOptions, ENCODE, type EncodedTexts, type EncodeOptions } from "./encode-options.ts";
import { createEncoding, type Encoding, type Offset } from "./encoding.ts";
import { saveTokenizer } from "./files/save.ts";
import { Place } from "./files/strict-json.ts";
import { encodeFitted, type Fit, type FitParts, fitOf, joinEncodings } from "./fit.ts";
import { type Around, NOTHING_AROUND, surround } from "./ids-encoding.ts";
import { AlignedText } from "./normalizers/aligned-text.ts";
import { normalize as normalizeAligned, normalizeString } from "./normalizers/normalizers.ts";
import { tokenWords } from "./pipeline-recipe.ts";
import { createPipelineTokenizer } from "./pipeline-tokenizer.ts";
import { addedTokens, type Encoded, joinEncoded } from "./post-processors/encoded.ts";
import { countAdded, postProcess, readPostProcessor } from "./post-processors/post-processors.ts";
import { specSize, type TokenizerSpec } from "./tokenizer-spec.ts";

/** Turns text into ids and back. */
export interface Tokenizer {
  /** One more than the largest id: the rows that a model's embedding needs. */
  readonly vocabSize: number;
  /** Special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** What the tokenizer is, as data (to save it, or to build another). */
  readonly spec: TokenizerSpec;
  /** What runs it. */
  readonly engine: "native" | "reference";
  /**
   * All of a text, unless options or the tokenizer's own tokenizer.json (its `truncation` and `padding`, as in Hugging Face tokenizers) say how long it may be.
   *
   * @throws DataError for a character that a character tokenizer lacks; ConfigError for options that do not fit
   */
  encode(text: Text, options?: EncodeOptions): Encoding;
  encodeBatch(texts: readonly Text[], options?: BatchEncodeOptions): Encoding[];
  /** As `encodeBatch`, with all ids in one array: the fast way for much text. */
  encodeAll(texts: readonly Text[], options?: BatchEncodeOptions): EncodedTexts;
  /** The number of ids that `encode` gives, without making them where that is possible. */
  count(text: Text, options?: EncodeOptions): number;
  /** @throws DataError for an id outside the vocabulary */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /**
   * A conversation as the model's template writes it. Special tokens are where the template wrote them; text of a message never becomes one.
   *
   * @throws ConfigError without a template, DataError for messages that are none, TemplateError when the template refuses them or can't be rendered
   */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): RenderedChat;
  /** Decodes id by id and never gives half a character. */
  decodeStream(options?: DecodeOptions): DecodeStream;
  /** The id of a token as files spell it (`Ġthe`), special tokens included. */
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  /** Bytes of text (UTF-8) that an id stands for, which may be a part of a character; 0 for special tokens. */
  byteLength(id: number): number;
  /**
   * Writes tokenizer.json, and for a BPE vocab.json and merges.txt, into a folder (made if needed). Hugging Face tokenizers opens them.
   */
  save(folder: string): Promise<void>;
  /** Frees native memory at once; without it that happens some time after the last use. */
  dispose(): void;
}

const OF_OTHERS = { advice: "The ids were made with another tokenizer, or the model's vocabulary is larger than the tokenizer's." };

/** Lists of ids as one. */
function joinIds(lists: readonly Int32Array[]): EncodedTexts {
  const starts = new Int32Array(lists.length + 1);
  for (const [i, list] of lists.entries()) starts[i + 1] = starts[i] + list.length;
  const ids = new Int32Array(starts[lists.length]);
  for (const [i, list] of lists.entries()) ids.set(list, starts[i]);
  return { ids, starts, replaced: 0 };
}

/**
 * A tokenizer from its description, as `loadTokenizer` and `trainBpe` make one.
 *
 * @param engine "native" (Rust), "reference" (plain TypeScript, the same ids), or "auto": native where its library loads
 * @throws GroundupError where "native" was asked for and its library does not load
 */
export function createTokenizer(spec: TokenizerSpec, engine: Engine = "auto"): Tokenizer {
  if (spec.model.kind === "pipeline" || spec.model.kind === "sentencepiece") return createPipelineTokenizer(spec, spec.model, engine);
  const model = createModel(spec, spec.model, engine);
  const size = specSize(spec);
  const added = new Map(spec.addedTokens.map((token) => [token.id, token]));
  const specialTokens = new Map(spec.addedTokens.filter((t) => t.special).map((t) => [t.content, t.id]));
  const ordinaryAdded = spec.addedTokens.filter((token) => !token.special);
  const { before, after, typeId } = spec.postProcessor;
  const addPrefixSpace = spec.model.kind === "bpe" && spec.model.addPrefixSpace;
  let ids: Map<string, number> | undefined;

  function tokenIds(): Map<string, number> {
    if (ids === undefined) {
      ids = new Map();
      for (const [id, token] of spec.model.tokens.entries()) if (token !== undefined) ids.set(token, id);
      for (const token of spec.addedTokens) ids.set(token.content, token.id);
    }
    return ids;
  }

  function allowed(options: BatchEncodeOptions): readonly AddedToken[] {
    const { allowSpecial = false } = options;
    if (allowSpecial === false) return ordinaryAdded;
    if (allowSpecial === true) return spec.addedTokens;
    for (const name of allowSpecial) {
      if (!specialTokens.has(name)) {
        throw new DataError(
          `tokenizer.encode: allowSpecial names ${JSON.stringify(name)}, expected special tokens of this tokenizer ` +
            `(${[...specialTokens.keys()].slice(0, 8).join(", ") || "it has none"}), got another text. Correct the name.`,
        );
      }
    }
    return spec.addedTokens.filter((token) => !token.special || allowSpecial.includes(token.content));
  }

  const normalize = (text: string): string => spec.normalizer.reduce((t, type) => normalizeString({ type }, t), text);
  const aligned = (text: string): AlignedText => {
    const found = new AlignedText(text);
    for (const type of spec.normalizer) normalizeAligned({ type }, found);
    return found;
  };
  const prefixed = (text: string): string => (addPrefixSpace && text !== "" && !text.startsWith(" ") ? ` ${text}` : text);

  /** The pieces of a text in order: ordinary text that the model encodes, or the id of an added token. */
  function piecesOf(text: string, tokens: readonly AddedToken[], mark: string | null = null): (string | number)[] {
    // Tokens with `normalized` are looked for in normalised text, the others before that.
    const raw = tokens.filter((t) => !t.normalized || spec.normalizer.length === 0);
    const late = tokens.filter((t) => t.normalized && spec.normalizer.length > 0).map((t) => ({ ...t, content: normalize(t.content) }));
    const pieces: (string | number)[] = [];
    const bare = (part: string): string => (mark === null ? part : part.replaceAll(mark, ""));
    // What a mark kept apart is normalised once more without it.
    const again = (part: string): string => (mark === null ? part : normalize(bare(part)));
    for (const segment of cutAtTokens(text, raw, mark)) {
      if (segment.token !== undefined) {
        pieces.push(segment.token.id);
        continue;
      }
      const part = text.slice(segment.start, segment.end);
      const clean = normalize(late.length === 0 ? bare(part) : part);
      for (const inner of cutAtTokens(clean, late, mark)) {
        pieces.push(inner.token?.id ?? prefixed(again(clean.slice(inner.start, inner.end))));
      }
    }
    return pieces;
  }

  /** Whether the model may have the text as it is. */
  const isPlain = (tokens: readonly AddedToken[]): boolean => tokens.length === 0 && spec.normalizer.length === 0 && !addPrefixSpace;

  const rows = (list: typeof before): Around["before"] => ({
    ids: list.map(({ id }) => id),
    typeIds: list.map((row) => row.typeId),
    special: list.map(() => 1),
  });
  const template: Around = { before: rows(before), after: rows(after), typeId };
  const aroundOf = (options: BatchEncodeOptions): Around => (options.addSpecialTokens === false ? NOTHING_AROUND : template);

  let parts: IdsEngine | undefined;
  /** Added tokens, normaliser and model as one; undefined where only the twin has them. */
  function withParts(): IdsEngine | undefined {
    if (parts === undefined && model.withParts !== undefined && spec.model.kind === "bpe") {
      const cut = ["Pattern", String(splitPattern(spec.model.pattern).code), addPrefixSpace ? "yes" : "no"];
      parts = model.withParts([...tokenWords(spec.addedTokens), ...spec.normalizer, ...cut]);
    }
    return parts;
  }

  /** For each added token whether it is looked for. */
  function marksOf(tokens: readonly AddedToken[]): Uint8Array {
    const chosen = new Set(tokens);
    return Uint8Array.from(spec.addedTokens, (token) => (chosen.has(token) ? 1 : 0));
  }

  /** The ids of texts without what the template puts around them. */
  function encodeBare(texts: readonly Text[], options: BatchEncodeOptions): EncodedBatch {
    const threads = options.threads ?? 0;
    const tokens = allowed(options);
    if (isPlain(tokens)) return model.encodeBatch(texts, threads);
    const native = withParts();
    if (native !== undefined) return native.encodeBatch(texts, marksOf(tokens), threads);
    const clean = texts.map(textToString);
    const { ids: list, starts } = joinIds(clean.map(({ text }) => encodeOrdinary(text, options)));
    return { ids: list, counts: Int32Array.from(clean, (_, i) => starts[i + 1] - starts[i]), replaced: clean.reduce((sum, { replaced }) => sum + replaced, 0) };
  }

  function encodeOrdinary(text: Text, options: BatchEncodeOptions): Int32Array {
    const threads = options.threads ?? 0;
    const tokens = allowed(options);
    if (isPlain(tokens)) return model.encode(text, threads);
    const native = withParts();
    if (native !== undefined) return native.encodeBatch([text], marksOf(tokens), threads).ids;
    return idsOf(piecesOf(textToString(text).text, tokens), threads);
  }

  function idsOf(pieces: readonly (string | number)[], threads: number): Int32Array {
    if (pieces.length === 1 && typeof pieces[0] === "string") return model.encode(pieces[0], threads);
    const { ids: made, counts } = model.encodeBatch(
      pieces.filter((piece) => typeof piece === "string"),
      threads,
    );
    const special = pieces.filter((piece) => typeof piece === "number").length;
    const out = new Int32Array(made.length + special);
    let [at, from, ordinary] = [0, 0, 0];
    for (const piece of pieces) {
      if (typeof piece === "number") {
        out[at++] = piece;
        continue;
      }
      const n = counts[ordinary++];
      out.set(made.subarray(from, from + n), at);
      from += n;
      at += n;
    }
    return out;
  }

  /** The encoding of a text whose ids are there. */
  function whole(text: Text, list: Int32Array, special: boolean, trim = trimPlaces): Encoding {
    const around = special ? { before: before.length, after: after.length } : { before: 0, after: 0 };
    return createEncoding({ text, ids: list, around, spec, normalize: aligned, addPrefixSpace, added, byteLength: model.byteLength, postTypeId: typeId, trim });
  }

  const untrimmed = (_: readonly string[], places: readonly Offset[]): readonly Offset[] => places;
  function trimPlaces(tokens: readonly string[], places: readonly Offset[]): readonly Offset[] {
    if (processor === null) return places;
    return postProcess(
      processor,
      [
        {
          ...addedTokens(
            tokens.map(() => 0),
            tokens,
            0,
          ),
          places: [...places],
        },
      ],
      false,
    ).places;
  }

  /** The tokens of a text with nothing around it, in columns. */
  function rowsOf(text: Text, options: EncodeOptions, sequence: 0 | 1): Encoded {
    const list = encodeOrdinary(text, options);
    const { tokens, offsets } = whole(text, list, false, untrimmed);
    const column = <T>(value: T): T[] => Array.from(list, () => value);
    return {
      ids: [...list],
      tokens: [...tokens],
      places: [...offsets],
      typeIds: column(sequence),
      words: column(null),
      specialMask: column(0),
      attentionMask: column(1),
      sequences: column(sequence),
      overflowing: [],
    };
  }

  /** Where no file has a template, there may be one for single texts. */
  const processor = readPostProcessor(spec.kept?.postProcessor ?? null, new Place("tokenizer", "post_processor"));
  const lacksPairs = processor === null && before.length + after.length > 0;

  const fitParts: FitParts = {
    around: (special) => (special ? template : NOTHING_AROUND),
    bare: (texts, options) => surround(encodeBare(texts, options), NOTHING_AROUND),
    rows: rowsOf,
    added: (pair) => (lacksPairs ? before.length + after.length : countAdded(processor, pair)),
    postProcess(texts, special) {
      if (!special || !lacksPairs) return postProcess(processor, texts, special);
      if (texts.length === 2)
        throw new DataError(
          "tokenizer.encode: this tokenizer has no template for two texts, expected one from a tokenizer.json, got one for a single text. Encode each by itself.",
        );
      const [first, last] = [before, after].map((list) => joinEncoded(list.map((row) => addedTokens([row.id], [tokenOf(row.id) ?? ""], row.typeId))));
      return joinEncoded([first, { ...texts[0], typeIds: texts[0].ids.map(() => typeId) }, last]);
    },
    addedTokens: added,
  };

  const tokenOf = (id: number): string | undefined => added.get(id)?.content ?? spec.model.tokens[id];
  const tokenToId = (token: string): number | undefined => tokenIds().get(token);

  /** What a caller, the tokenizer's file, or a second text ask for beyond single whole texts; null for nothing. */
  function fitFor(options: BatchEncodeOptions): Fit | null {
    checkOptions("tokenizer.encode", options, ENCODE);
    const fit = fitOf(options, spec, { tokenToId, idToToken: tokenOf });
    return fit === null && options.pair !== undefined ? { truncation: null, padding: null } : fit;
  }

  function encodeAll(texts: readonly Text[], options: BatchEncodeOptions = {}): EncodedTexts {
    const fit = fitFor(options);
    if (fit !== null) return joinEncodings(encodeFitted(fitParts, texts, options, fit), texts);
    return surround(encodeBare(texts, options), aroundOf(options));
  }

  function encodeBatch(texts: readonly Text[], options: BatchEncodeOptions = {}): Encoding[] {
    const fit = fitFor(options);
    if (fit !== null) return encodeFitted(fitParts, texts, options, fit);
    const { ids: list, starts } = surround(encodeBare(texts, options), aroundOf(options));
    return texts.map((text, i) => whole(text, list.slice(starts[i], starts[i + 1]), options.addSpecialTokens !== false));
  }

  function encode(text: Text, options: EncodeOptions = {}): Encoding {
    const fit = fitFor(options);
    if (fit !== null) return encodeFitted(fitParts, [text], options, fit)[0];
    const made = encodeOrdinary(text, options);
    const { ids: list } = surround({ ids: made, counts: Int32Array.of(made.length), replaced: 0 }, aroundOf(options));
    return whole(text, list, options.addSpecialTokens !== false);
  }

  /** Ids as an Int32Array of the vocabulary, special ones left out where asked. */
  function checked(list: ArrayLike<number>, options: DecodeOptions): Int32Array {
    checkOptions("tokenizer.decode", options, DECODE);
    checkTokenIds("tokenizer.decode", list, size, OF_OTHERS);
    const skip = options.skipSpecialTokens === true;
    const kept = new Int32Array(list.length);
    let n = 0;
    for (let i = 0; i < list.length; i++) {
      const id = list[i];
      if (!skip || added.get(id)?.special !== true) kept[n++] = id;
    }
    return kept.subarray(0, n);
  }

  return {
    vocabSize: size,
    specialTokens,
    spec,
    engine: model.engine,
    encode,
    encodeBatch,
    encodeAll,
    count(text, options = {}) {
      if (fitFor(options) !== null) return encode(text, options).ids.length;
      const around = options.addSpecialTokens === false ? 0 : before.length + after.length;
      const [tokens, threads] = [allowed(options), options.threads ?? 0];
      if (isPlain(tokens)) return model.count([text], threads)[0] + around;
      return (withParts()?.count([text], marksOf(tokens), threads)[0] ?? encodeOrdinary(text, options).length) + around;
    },
    decode: (list, options = {}) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(model.decode(checked(list, options))),
    applyChatTemplate: (messages, options) =>
      applyChatTemplate(
        { chat: spec.chat, addedTokens: spec.addedTokens, engine, encode: (text, mark) => idsOf(piecesOf(text, spec.addedTokens, mark), 0) },
        messages,
        options,
      ),
    decodeStream(options = {}) {
      checkOptions("tokenizer.decodeStream", options, DECODE);
      return createDecodeStream((id) => model.decode(checked([id], options)));
    },
    tokenToId,
    idToToken: tokenOf,
    byteLength: (id) => {
      const token = added.get(id);
      return token === undefined ? model.byteLength(id) : token.special ? 0 : new TextEncoder().encode(token.content).length;
    },
    save: (folder) => saveTokenizer(spec, folder),
    dispose() {
      parts?.dispose();
      model.dispose();
    },
  };
}

/** The tokenizer that callers hold: special tokens, normaliser and template around a model. */
import { DataError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type AddedToken, cutAtTokens } from "./added-tokens.ts";
import { textToString } from "./byte-level/bpe.ts";
import type { EncodedBatch, IdsEngine, Text } from "./byte-level/bpe-engine.ts";
import { createModel } from "./byte-level/model.ts";
import type { Engine } from "./byte-level/native-text.ts";
import { splitPattern } from "./byte-level/split-patterns.ts";
import { applyChatTemplate, type ChatMessage, type ChatTemplateOptions, type RenderedChat } from "./chat-template/chat-template.ts";
import { createDecodeStream, type DecodeStream } from "./decoders/decode-stream.ts";
import { createEncoding, type Encoding } from "./encoding.ts";
import { saveTokenizer } from "./files/save.ts";
import { Place } from "./files/strict-json.ts";
import { type Around, NOTHING_AROUND, surround } from "./ids-encoding.ts";
import { AlignedText } from "./normalizers/aligned-text.ts";
import { normalize as normalizeAligned, normalizeString } from "./normalizers/normalizers.ts";
import { tokenWords } from "./pipeline-recipe.ts";
import { createPipelineTokenizer, encodingFrom } from "./pipeline-tokenizer.ts";
import type { Encoded } from "./post-processors/encoded.ts";
import { postProcess, readPostProcessor } from "./post-processors/post-processors.ts";
import { specSize, type TokenizerSpec } from "./tokenizer-spec.ts";

/** How text becomes ids. */
export interface EncodeOptions {
  /** Put the template's special tokens (such as a beginning-of-text token) around the text. Default true. */
  addSpecialTokens?: boolean;
  /**
   * Which special tokens the text itself may contain: none (the default, right for text from users), all, or those named.
   * Elsewhere their spelling is ordinary text.
   */
  allowSpecial?: boolean | readonly string[];
  /** Threads for long texts and batches; 0, the default, takes as many as the machine offers. The ids are the same for any. */
  threads?: number;
  /** A second text that belongs to this one: the template puts the tokenizer's special tokens around both. */
  pair?: Text;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

const ENCODE: KnownOptions<EncodeOptions> = { addSpecialTokens: true, allowSpecial: true, threads: true, pair: true };
const DECODE: KnownOptions<DecodeOptions> = { skipSpecialTokens: true };

/** The ids of many texts in one array. */
export interface EncodedTexts {
  /** Ids of all texts, one after the other. */
  readonly ids: Int32Array;
  /** Text `i` has `ids.subarray(starts[i], starts[i + 1])`; one item more than there are texts. */
  readonly starts: Int32Array;
  /** Malformed parts of byte input that became U+FFFD. */
  readonly replaced: number;
}

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
  /** @throws DataError for a character that a character tokenizer lacks */
  encode(text: Text, options?: EncodeOptions): Encoding;
  encodeBatch(texts: readonly Text[], options?: EncodeOptions): Encoding[];
  /** As `encodeBatch`, with all ids in one array: the fast way for much text. */
  encodeAll(texts: readonly Text[], options?: EncodeOptions): EncodedTexts;
  /** The number of ids of a text, without making them where that is possible. */
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

  function allowed(options: EncodeOptions): readonly AddedToken[] {
    checkOptions("tokenizer.encode", options, ENCODE);
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
  const aroundOf = (options: EncodeOptions): Around => (options.addSpecialTokens === false ? NOTHING_AROUND : template);

  let parts: IdsEngine | undefined;
  /** Added tokens, normaliser and model as one; undefined where only the twin has them. */
  function whole(): IdsEngine | undefined {
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
  function encodeBare(texts: readonly Text[], options: EncodeOptions): EncodedBatch {
    const threads = options.threads ?? 0;
    const tokens = allowed(options);
    if (isPlain(tokens)) return model.encodeBatch(texts, threads);
    const native = whole();
    if (native !== undefined) return native.encodeBatch(texts, marksOf(tokens), threads);
    const clean = texts.map(textToString);
    const { ids: list, starts } = joinIds(clean.map(({ text }) => encodeOrdinary(text, options)));
    return { ids: list, counts: Int32Array.from(clean, (_, i) => starts[i + 1] - starts[i]), replaced: clean.reduce((sum, { replaced }) => sum + replaced, 0) };
  }

  function encodeOrdinary(text: Text, options: EncodeOptions): Int32Array {
    const threads = options.threads ?? 0;
    const tokens = allowed(options);
    if (isPlain(tokens)) return model.encode(text, threads);
    const native = whole();
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

  /** Two texts with the template that the tokenizer's file has for them. */
  function encodePair(text: Text, pair: Text, options: EncodeOptions): Encoding {
    const special = options.addSpecialTokens !== false;
    const template = spec.kept?.postProcessor ?? null;
    if (special && template === null && before.length + after.length > 0)
      throw new DataError(
        "tokenizer.encode: this tokenizer has no template for two texts, expected one from a tokenizer.json, got one for a single text. Encode each by itself.",
      );
    const [one, two] = [text, pair].map((each, typeId): Encoded => {
      const { ids: list, tokens, offsets } = encode(each, { ...options, pair: undefined, addSpecialTokens: false });
      const column = <T>(value: T): T[] => Array.from(list, () => value);
      return {
        ids: [...list],
        tokens: [...tokens],
        places: [...offsets],
        typeIds: column(typeId),
        words: column(null),
        specialMask: column(0),
        attentionMask: column(1),
        sequences: column(typeId),
        overflowing: [],
      };
    });
    return encodingFrom(postProcess(readPostProcessor(template, new Place("tokenizer", "post_processor")), [one, two], special), added);
  }

  function encode(text: Text, options: EncodeOptions = {}): Encoding {
    if (options.pair !== undefined) return encodePair(text, options.pair, options);
    const made = encodeOrdinary(text, options);
    const { ids: list } = surround({ ids: made, counts: Int32Array.of(made.length), replaced: 0 }, aroundOf(options));
    const around = options.addSpecialTokens === false ? { before: 0, after: 0 } : { before: before.length, after: after.length };
    return createEncoding({ text, ids: list, around, spec, normalize: aligned, addPrefixSpace, added, byteLength: model.byteLength, postTypeId: typeId });
  }

  function encodeAll(texts: readonly Text[], options: EncodeOptions = {}): EncodedTexts {
    if (options.pair !== undefined) return joinIds(texts.map((text) => encode(text, options).ids));
    return surround(encodeBare(texts, options), aroundOf(options));
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
    encodeBatch: (texts, options) => {
      if (options?.pair !== undefined) return texts.map((text) => encode(text, options));
      const { ids: list, starts } = encodeAll(texts, options);
      const templated = options?.addSpecialTokens !== false;
      const around = templated ? { before: before.length, after: after.length } : { before: 0, after: 0 };
      return texts.map((text, i) =>
        createEncoding({
          text,
          ids: list.slice(starts[i], starts[i + 1]),
          around,
          spec,
          normalize: aligned,
          addPrefixSpace,
          added,
          byteLength: model.byteLength,
          postTypeId: typeId,
        }),
      );
    },
    encodeAll,
    count(text, options = {}) {
      if (options.pair !== undefined) return encode(text, options).ids.length;
      const around = options.addSpecialTokens === false ? 0 : before.length + after.length;
      const [tokens, threads] = [allowed(options), options.threads ?? 0];
      if (isPlain(tokens)) return model.count([text], threads)[0] + around;
      return (whole()?.count([text], marksOf(tokens), threads)[0] ?? encodeOrdinary(text, options).length) + around;
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
    tokenToId: (token) => tokenIds().get(token),
    idToToken: (id) => added.get(id)?.content ?? spec.model.tokens[id],
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

/**
 * Tokenizers whose parts are run one after the other: every tokenizer.json, and SentencePiece's models. Here they run in plain TypeScript, which makes tokens
 * and places; where the native part is there and has all parts (pipeline-recipe.ts), it makes the ids. Byte-level BPE of one published pattern has a way of its
 * own (tokenizer.ts).
 */
import { DataError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type AddedToken, cutAtTokens } from "./added-tokens.ts";
import { textToString } from "./byte-level/bpe.ts";
import type { EncodedBatch, IdsEngine, Text } from "./byte-level/bpe-engine.ts";
import { alphabetToBytes } from "./byte-level/byte-alphabet.ts";
import { createIdsEngine, type Engine } from "./byte-level/native-text.ts";
import { applyChatTemplate } from "./chat-template/chat-template.ts";
import { createTokenStream } from "./decoders/decoder-stream.ts";
import { decodeTokens, fallbackByte } from "./decoders/decoders.ts";
import { type BatchEncodeOptions, DECODE, type DecodeOptions, ENCODE, type EncodedTexts } from "./encode-options.ts";
import type { Encoding, Offset } from "./encoding.ts";
import { saveTokenizer } from "./files/save.ts";
import { encodeFitted, type Fit, type FitParts, fitOf, joinEncodings, pairsOf } from "./fit.ts";
import { type Around, aroundText, createIdsEncoding, encodingFrom, NOTHING_AROUND, surround } from "./ids-encoding.ts";
import { createPieceModel, withoutTokens } from "./models/piece-models.ts";
import { AlignedText } from "./normalizers/aligned-text.ts";
import { normalize, normalizeString } from "./normalizers/normalizers.ts";
import { hiddenIds, recipeOf } from "./pipeline-recipe.ts";
import { addedTokens, type Encoded, emptyEncoded, joinEncoded } from "./post-processors/encoded.ts";
import { countAdded, postProcess } from "./post-processors/post-processors.ts";
import { preTokenize } from "./pre-tokenizers/pre-tokenizers.ts";
import { createSentencePiece } from "./sentencepiece/sentencepiece.ts";
import { PIECE_TYPES } from "./sentencepiece/spec.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { type PipelineModel, type SentencePieceModel, specSize, type TokenizerSpec } from "./tokenizer-spec.ts";

/** What differs between the two kinds. Ids that reach it are within the vocabulary. */
interface Core {
  /** Adds the tokens of a stretch of the text that holds no added token. */
  encode(text: AlignedText, late: (text: AlignedText) => Segment[], out: Encoded): void;
  postProcess(texts: readonly [Encoded] | readonly [Encoded, Encoded], special: boolean): Encoded;
  /** How many tokens that puts around one text, or two. */
  added(pair: boolean): number;
  decode(tokens: readonly string[]): string;
  decodeStream(): { push(token: string): string; end(): string };
  byteLength(id: number): number;
}

/** A part of a text: an added token, or what stands between two. */
interface Segment {
  readonly text: AlignedText;
  readonly token?: AddedToken;
}

const OF_OTHERS = { advice: "The ids were made with another tokenizer, or the model's vocabulary is larger than the tokenizer's." };

function pipelineCore(model: PipelineModel, added: readonly AddedToken[]): Core {
  const pieces = createPieceModel(withoutTokens(model.pieces, hiddenIds(model, added)));
  const encoder = new TextEncoder();
  const byteLevel = model.decoder?.type === "ByteLevel";
  return {
    encode(text, late, out) {
      normalize(model.normalizer, text);
      for (const segment of late(text)) {
        if (segment.token !== undefined) addToken(out, segment.token, segment.text);
        else for (const piece of preTokenize(model.preTokenizer, segment.text)) addPiece(out, piece, pieces.tokenize(piece.text));
      }
    },
    postProcess: (texts, special) => postProcess(model.postProcessor, texts, special),
    added: (pair) => countAdded(model.postProcessor, pair),
    decode: (tokens) => decodeTokens(model.decoder, tokens),
    decodeStream: () => createTokenStream(model.decoder),
    byteLength(id) {
      const token = model.tokens[id] ?? "";
      if (byteLevel) return alphabetToBytes(token)?.length ?? encoder.encode(token).length;
      if (fallbackByte(token) !== undefined) return 1;
      // In the middle of a text, where no blank is taken off.
      const before = decodeTokens(model.decoder, ["a"]);
      return encoder.encode(decodeTokens(model.decoder, ["a", token]).slice(before.length)).length;
    },
  };
}

function sentencePieceCore(model: SentencePieceModel): Core {
  const { sentencePiece, bos, eos } = model;
  const run = createSentencePiece(sentencePiece);
  const idOf = (token: string): number => run.tokenToId(token) as number;
  const around = (wanted: boolean, id: number | null, typeId: number): Encoded =>
    wanted && id !== null ? addedTokens([id], [run.idToToken(id) as string], typeId) : emptyEncoded();
  return {
    encode(text, late, out) {
      for (const segment of late(text)) {
        if (segment.token !== undefined) {
          addToken(out, segment.token, segment.text);
          continue;
        }
        const { ids, pieces, places } = run.encode(segment.text.text);
        const tokens = Array.from(ids, (id, i) => ({ id, token: pieces[i], place: places[i] }));
        const word = nextWord(out);
        for (const { id, token, place } of tokens) {
          // The first bytes of a character, and a blank put before the text, have no place of their own in the library: here that of the character that comes.
          const end = Math.max(place[1], place[0] + characterLength(segment.text.text, place[0]));
          add(out, id, token, segment.text.place(place[0], end), word);
        }
      }
    },
    postProcess(texts, special) {
      const whole = texts.map((text, i) =>
        joinEncoded([around(special && bos, run.bosId, i), { ...text, sequences: text.ids.map(() => i) }, around(special && eos, run.eosId, i)]),
      );
      return joinEncoded(whole);
    },
    added: (pair) => (pair ? 2 : 1) * [bos ? run.bosId : null, eos ? run.eosId : null].filter((id) => id !== null).length,
    decode: (tokens) => run.decode(tokens.map(idOf)),
    decodeStream() {
      // Only the very first piece loses its blank, and only bytes stand together. So a text is that of the last piece that is no byte and of what follows.
      let before: number[] = [];
      let pending: number[] = [];
      let given = 0;
      const text = () => run.decode([...before, ...pending]).slice(run.decode(before).length);
      return {
        push(token) {
          const id = idOf(token);
          pending.push(id);
          const whole = sentencePiece.types[id] !== PIECE_TYPES.byte;
          const found = whole ? text() : text().replace(/\ufffd+$/, "");
          const fresh = found.slice(given);
          given = whole ? 0 : Math.max(given, found.length);
          if (whole) [before, pending] = [[id], []];
          return fresh;
        },
        end: () => text().slice(given),
      };
    },
    byteLength(id) {
      if (sentencePiece.types[id] === PIECE_TYPES.byte) return 1;
      if (sentencePiece.types[id] === PIECE_TYPES.control) return 0;
      return new TextEncoder().encode((sentencePiece.pieces[id] ?? "").replaceAll("▁", " ")).length;
    },
  };
}

/** UTF-16 units of the character at a place; 0 at the end of the text. */
function characterLength(text: string, at: number): number {
  const point = text.codePointAt(at);
  return point === undefined ? 0 : point > 0xffff ? 2 : 1;
}

function nextWord(out: Encoded): number {
  return Number(out.words.at(-1) ?? -1) + 1;
}

function add(out: Encoded, id: number, token: string, place: Offset, word: number): void {
  out.ids.push(id);
  out.tokens.push(token);
  out.places.push(place);
  out.typeIds.push(0);
  out.words.push(word);
  out.specialMask.push(0);
  out.attentionMask.push(1);
  out.sequences.push(0);
}

function addToken(out: Encoded, token: AddedToken, text: AlignedText): void {
  // With the blanks that it took along: post-processors trim them off its place.
  add(out, token.id, text.text, text.place(0, text.text.length), nextWord(out));
}

function addPiece(out: Encoded, piece: AlignedText, tokens: readonly { id: number; token: string; place: Offset }[]): void {
  const word = nextWord(out);
  for (const { id, token, place } of tokens) add(out, id, token, piece.place(place[0], place[1]), word);
}

/** What makes ids in the native part. */
interface NativeIds {
  readonly ids: IdsEngine;
  around(special: boolean): Around;
  /** undefined where the vocabulary can't spell a text: the twin says so in its own words. */
  run<T>(call: () => T): T | undefined;
}

/** @returns null where the native part is not there, or lacks a part of this tokenizer */
function createNative(spec: TokenizerSpec, model: PipelineModel | SentencePieceModel, core: () => Core, engine: Engine): NativeIds | null {
  if (engine === "reference") return null;
  const process = (special: boolean) => (text: Encoded) =>
    model.kind === "pipeline" ? postProcess(model.postProcessor, [text], special) : core().postProcess([text], special);
  const nothing = model.kind === "sentencepiece" && !model.bos && !model.eos ? NOTHING_AROUND : undefined;
  const [bare, templated] = [false, true].map((special) => nothing ?? aroundText(process(special)));
  const recipe = recipeOf(spec, model);
  if (bare === null || templated === null || recipe === null) return null;
  const ids = createIdsEngine(recipe, engine);
  if (ids === null) return null;
  return {
    ids,
    around: (special) => (special ? templated : bare),
    run(call) {
      try {
        return call();
      } catch (error) {
        if (error instanceof DataError && error.message.includes("text outside the vocabulary")) return undefined;
        throw error;
      }
    },
  };
}

/**
 * @param spec of a pipeline or a SentencePiece model
 * @param engine what makes ids
 */
export function createPipelineTokenizer(spec: TokenizerSpec, model: PipelineModel | SentencePieceModel, engine: Engine = "auto"): Tokenizer {
  let built: Core | undefined;
  // Where the native part makes the ids, the twin's tables are often never asked for.
  const core = (): Core => {
    built ??= model.kind === "pipeline" ? pipelineCore(model, spec.addedTokens) : sentencePieceCore(model);
    return built;
  };
  const native = createNative(spec, model, core, engine);
  if (native === null) core();
  const normalizes = model.kind === "pipeline" && model.normalizer !== null;
  const normalized = (content: string): string => (model.kind === "pipeline" ? normalizeString(model.normalizer, content) : content);
  const size = specSize(spec);
  const added = new Map(spec.addedTokens.map((token) => [token.id, token]));
  const specialTokens = new Map(spec.addedTokens.filter((t) => t.special).map((t) => [t.content, t.id]));
  let ids: Map<string, number> | undefined;

  function tokenIds(): Map<string, number> {
    if (ids === undefined) {
      ids = new Map();
      for (const [id, token] of model.tokens.entries()) if (token !== undefined) ids.set(token, id);
      for (const token of spec.addedTokens) ids.set(token.content, token.id);
    }
    return ids;
  }
  const tokenOf = (id: number): string | undefined => added.get(id)?.content ?? model.tokens[id];

  function allowed(options: BatchEncodeOptions): readonly AddedToken[] {
    const { allowSpecial = false } = options;
    if (allowSpecial === true) return spec.addedTokens;
    for (const name of allowSpecial === false ? [] : allowSpecial) {
      if (!specialTokens.has(name))
        throw new DataError(
          `tokenizer.encode: allowSpecial names ${JSON.stringify(name)}, expected special tokens of this tokenizer ` +
            `(${[...specialTokens.keys()].slice(0, 8).join(", ") || "it has none"}), got another text. Correct the name.`,
        );
    }
    return spec.addedTokens.filter((token) => !token.special || (allowSpecial !== false && allowSpecial.includes(token.content)));
  }

  /** The text's tokens, before anything is put around. */
  function rows(text: string, tokens: readonly AddedToken[], typeId: number, mark: string | null = null): Encoded {
    const out = emptyEncoded();
    const whole = new AlignedText(text);
    const cut = (part: AlignedText, at: readonly AddedToken[]): Segment[] =>
      cutAtTokens(part.text, at, mark).map(({ start, end, token }) => ({ text: part.slice(start, end), ...(token === undefined ? {} : { token }) }));
    const bare = (part: AlignedText): AlignedText => {
      if (mark !== null && part.text.includes(mark)) part.replaceCharacters(new RegExp(mark, "gu"), () => "");
      return part;
    };
    // Tokens with `normalized` are looked for in normalised text, as they are spelled there, the others before that.
    const early = tokens.filter((token) => !token.normalized || !normalizes);
    const late = tokens.filter((token) => token.normalized && normalizes).map((token) => ({ ...token, content: normalized(token.content) }));
    for (const segment of cut(whole, early)) {
      if (segment.token !== undefined) addToken(out, segment.token, segment.text);
      else if (late.length === 0) core().encode(bare(segment.text), (part) => cut(part, late), out);
      else core().encode(segment.text, (part) => cut(part, late).map((inner) => (inner.token === undefined ? { text: bare(inner.text) } : inner)), out);
    }
    return { ...out, typeIds: out.ids.map(() => typeId) };
  }

  function encoded(text: Text, pair: Text | undefined, options: BatchEncodeOptions): { found: Encoded; replaced: number } {
    const tokens = allowed(options);
    const clean = textToString(text);
    const special = options.addSpecialTokens !== false;
    const one = rows(clean.text, tokens, 0);
    if (pair === undefined) return { found: core().postProcess([one], special), replaced: clean.replaced };
    const other = textToString(pair);
    return { found: core().postProcess([one, rows(other.text, tokens, 1)], special), replaced: clean.replaced + other.replaced };
  }

  /** In plain TypeScript, with all that an encoding has. */
  function encodeHere(text: Text, pair: Text | undefined, options: BatchEncodeOptions): Encoding {
    return encodingFrom(encoded(text, pair, options).found, added);
  }

  /** For each added token whether it is looked for. */
  function marksOf(options: BatchEncodeOptions): Uint8Array {
    const tokens = new Set(allowed(options));
    return Uint8Array.from(spec.addedTokens, (token) => (tokens.has(token) ? 1 : 0));
  }

  function join(lists: readonly { found: Encoded; replaced: number }[]): EncodedTexts {
    const starts = new Int32Array(lists.length + 1);
    for (const [i, { found }] of lists.entries()) starts[i + 1] = starts[i] + found.ids.length;
    return { ids: Int32Array.from(lists.flatMap(({ found }) => found.ids)), starts, replaced: lists.reduce((sum, { replaced }) => sum + replaced, 0) };
  }

  /** The ids of texts that stand alone. */
  function idsOf(texts: readonly Text[], options: BatchEncodeOptions): EncodedTexts {
    const made = nativeIds(texts, options);
    if (native !== null && made !== null) return surround(made, native.around(options.addSpecialTokens !== false));
    return join(texts.map((text) => encoded(text, undefined, options)));
  }

  /** With nothing around; null where the native part does not make them. */
  function nativeIds(texts: readonly Text[], options: BatchEncodeOptions): EncodedBatch | null {
    if (native === null) return null;
    const marks = marksOf(options);
    return native.run(() => native.ids.encodeBatch(texts, marks, options.threads ?? 0)) ?? null;
  }

  const tokenToId = (token: string): number | undefined => tokenIds().get(token);
  /** What a caller or the tokenizer's file says about length; null for nothing. */
  const fitFor = (options: BatchEncodeOptions): Fit | null => fitOf(options, spec, { tokenToId, idToToken: tokenOf });

  const parts: FitParts = {
    around: (special) => native?.around(special) ?? null,
    bare(texts, options) {
      const made = nativeIds(texts, options);
      return made === null ? null : surround(made, NOTHING_AROUND);
    },
    rows: (text, options, sequence) => rows(textToString(text).text, allowed(options), sequence),
    added: (pair) => core().added(pair),
    postProcess: (texts, special) => core().postProcess(texts, special),
    addedTokens: added,
  };

  function encodeBatch(texts: readonly Text[], options: BatchEncodeOptions = {}): Encoding[] {
    checkOptions("tokenizer.encode", options, ENCODE);
    const fit = fitFor(options);
    if (fit !== null) return encodeFitted(parts, texts, options, fit);
    if (native === null || options.pair !== undefined) {
      const pairs = pairsOf(options.pair, texts.length);
      return texts.map((text, i) => encodeHere(text, pairs(i), options));
    }
    const { ids: list, starts } = idsOf(texts, options);
    const around = native.around(options.addSpecialTokens !== false);
    return texts.map((text, i) => createIdsEncoding(list.slice(starts[i], starts[i + 1]), around, added, () => encodeHere(text, undefined, options)));
  }

  /** The spellings of ids of the vocabulary, special ones left out where asked. */
  function spellings(list: ArrayLike<number>, options: DecodeOptions): string[] {
    checkOptions("tokenizer.decode", options, DECODE);
    checkTokenIds("tokenizer.decode", list, size, OF_OTHERS);
    const found: string[] = [];
    for (const id of Array.from(list)) {
      const token = options.skipSpecialTokens === true && added.get(id)?.special === true ? undefined : tokenOf(id);
      if (token !== undefined) found.push(token);
    }
    return found;
  }

  return {
    vocabSize: size,
    specialTokens,
    spec,
    engine: native === null ? "reference" : "native",
    encode: (text, options) => encodeBatch([text], options)[0],
    encodeBatch,
    encodeAll(texts, options = {}) {
      checkOptions("tokenizer.encode", options, ENCODE);
      const fit = fitFor(options);
      if (fit !== null) return joinEncodings(encodeFitted(parts, texts, options, fit), texts);
      if (options.pair === undefined) return idsOf(texts, options);
      const pairs = pairsOf(options.pair, texts.length);
      return join(texts.map((text, i) => encoded(text, pairs(i), options)));
    },
    count(text, options = {}) {
      checkOptions("tokenizer.encode", options, ENCODE);
      const fit = fitFor(options);
      if (fit !== null) return encodeFitted(parts, [text], options, fit)[0].ids.length;
      if (native !== null && options.pair === undefined) {
        const { before, after } = native.around(options.addSpecialTokens !== false);
        const counted = native.run(() => native.ids.count([text], marksOf(options), options.threads ?? 0));
        if (counted !== undefined) return before.ids.length + counted[0] + after.ids.length;
      }
      return encoded(text, options.pair, options).found.ids.length;
    },
    decode: (list, options = {}) => core().decode(spellings(list, options)),
    applyChatTemplate: (messages, options) =>
      applyChatTemplate(
        { chat: spec.chat, addedTokens: spec.addedTokens, engine, encode: (text, mark) => Int32Array.from(rows(text, spec.addedTokens, 0, mark).ids) },
        messages,
        options,
      ),
    decodeStream(options = {}) {
      const stream = core().decodeStream();
      return {
        push: (id) =>
          spellings([id], options)
            .map((token) => stream.push(token))
            .join(""),
        end: () => stream.end(),
      };
    },
    tokenToId,
    idToToken: tokenOf,
    byteLength(id) {
      const token = added.get(id);
      return token === undefined ? core().byteLength(id) : token.special ? 0 : new TextEncoder().encode(token.content).length;
    },
    save: (folder) => saveTokenizer(spec, folder),
    dispose: () => native?.ids.dispose(),
  };
}

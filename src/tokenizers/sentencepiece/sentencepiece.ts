/**
 * SentencePiece in plain TypeScript: raw text to pieces and back with no pre-tokeniser, spaces being ordinary characters. Ids, pieces, places and decoded
 * text are those of the library google/sentencepiece 0.2.3.
 *
 *   text → normalizer.ts → one of the models (unigram-model.ts, bpe-model.ts, whole-models.ts) → pieces → decode.ts → text
 *
 * Paper: Kudo and Richardson 2018, arXiv:1808.06226.
 */
import { DataError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import { checkTokenIds } from "../../token-ids.ts";
import type { Offset } from "../encoding.ts";
import { cutByMerges } from "./bpe-model.ts";
import { createDecoder } from "./decode.ts";
import { createNormalizer } from "./normalizer.ts";
import { bytePiece, type SentencePieceSpec } from "./spec.ts";
import { cutByUnigrams } from "./unigram-model.ts";
import { createVocabulary, type Pieces, type Vocabulary } from "./vocabulary.ts";
import { cutIntoCharacters, cutIntoWords } from "./whole-models.ts";

export interface SentencePieceEncoding {
  readonly ids: Int32Array;
  /** As the vocabulary spells them; for an unknown piece the text that it stands for, as normalised. */
  readonly pieces: readonly string[];
  /**
   * UTF-16 units of the text as it was given. Of the bytes of one character the last has its place, the others are empty before it; bos and eos are empty at
   * the ends.
   */
  readonly places: readonly Offset[];
}

export interface SentencePieceOptions {
  /** Puts the piece of the text's beginning in front; default false. */
  bos?: boolean;
  /** Puts the piece of the text's end behind; default false. */
  eos?: boolean;
}

export interface SentencePiece {
  readonly spec: SentencePieceSpec;
  /** How many ids there are. */
  readonly size: number;
  /** null where the vocabulary has no such piece; the next three are control pieces. */
  readonly unkId: number | null;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly padId: number | null;
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  /** Never gives control pieces for their spelling in the text. @throws DataError when bos or eos is asked for and not there */
  encode(text: string, options?: SentencePieceOptions): SentencePieceEncoding;
  /** @throws DataError for an id outside the vocabulary */
  decode(ids: ArrayLike<number>): string;
  /** The text as the model sees it. */
  normalize(text: string): string;
}

const MODELS: Readonly<Record<SentencePieceSpec["kind"], (vocabulary: Vocabulary) => (text: string) => Pieces>> = {
  unigram: cutByUnigrams,
  bpe: cutByMerges,
  word: cutIntoWords,
  char: cutIntoCharacters,
};

/** @param spec as a reader gives it, checked */
export function createSentencePiece(spec: SentencePieceSpec): SentencePiece {
  const vocabulary = createVocabulary(spec);
  const { unknownId } = vocabulary;
  const normalize = createNormalizer(spec.normalizer, { spaceBehind: spec.treatWhitespaceAsSuffix, untouched: vocabulary.userDefined });
  const cut = MODELS[spec.kind](vocabulary);
  const decode = createDecoder(vocabulary);
  const byteIds = spec.byteFallback ? Array.from({ length: 256 }, (_, byte) => vocabulary.find(bytePiece(byte)) as number) : null;
  const utf8 = new TextEncoder();

  function controlId(piece: string): number | null {
    const id = vocabulary.find(piece);
    return id !== undefined && vocabulary.is(id, "control") ? id : null;
  }
  const [bosId, eosId, padId] = [spec.bosPiece, spec.eosPiece, spec.padPiece].map(controlId);

  function wanted(name: string, id: number | null, piece: string): number {
    if (id !== null) return id;
    throw new DataError(`encode: no piece for ${name}, expected a control piece ${JSON.stringify(piece)}, got a vocabulary without one. Leave ${name} out.`);
  }

  return {
    spec,
    size: spec.pieces.length,
    unkId: unknownId < 0 ? null : unknownId,
    bosId,
    eosId,
    padId,
    tokenToId: (token) => vocabulary.find(token),
    idToToken: (id) => spec.pieces[id],
    normalize: (text) => normalize(text).text,
    decode(ids) {
      checkTokenIds("decode", ids, spec.pieces.length, { advice: "Decode with the tokenizer that made the ids." });
      return decode(ids);
    },
    encode(text, options = {}) {
      checkOptions("encode", options, { bos: true, eos: true });
      const ids: number[] = [];
      const pieces: string[] = [];
      const places: Offset[] = [];
      const add = (id: number, piece: string, start: number, end: number): void => {
        ids.push(id);
        pieces.push(piece);
        places.push([start, end]);
      };
      if (options.bos) add(wanted("bos", bosId, spec.bosPiece), spec.bosPiece, 0, 0);

      const normalized = normalize(text);
      const found = cut(normalized.text);
      let from = 0;
      let behindUnknown = false;
      for (const [i, to] of found.ends.entries()) {
        const piece = normalized.text.slice(from, to);
        const [start, end] = [normalized.places[from], normalized.places[to]];
        const id = found.ids[i];
        const unknown = id === unknownId;
        if (unknown && byteIds !== null) {
          const bytes = utf8.encode(piece);
          for (const [k, byte] of bytes.entries()) add(byteIds[byte], bytePiece(byte), start, k === bytes.length - 1 ? end : start);
        } else if (unknown && behindUnknown) {
          // A run of unknown pieces is one.
          pieces[pieces.length - 1] += piece;
          places[places.length - 1] = [places[places.length - 1][0], end];
        } else add(id, piece, start, end);
        behindUnknown = unknown;
        from = to;
      }

      if (options.eos) add(wanted("eos", eosId, spec.eosPiece), spec.eosPiece, text.length, text.length);
      return { ids: Int32Array.from(ids), pieces, places };
    },
  };
}

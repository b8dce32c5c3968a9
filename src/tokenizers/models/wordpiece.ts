/**
 * WordPiece: from the left always the longest token that fits; a word that can't be spelled to its end is unknown as a whole.
 *
 * Schuster and Nakajima 2012, "Japanese and Korean voice search"; the longest match is BERT's (Devlin et al. 2018, arXiv:1810.04805).
 */
import { DataError } from "../../errors.ts";
import { asCount, type FromShape, readShape } from "../files/json-shape.ts";
import { asString, field, type JsonObject, type Place } from "../files/strict-json.ts";
import type { PieceModel, PieceToken } from "./pipeline.ts";
import { readVocab, type Vocab, vocabObject } from "./vocabulary.ts";

const SHAPE = { unk_token: asString, continuing_subword_prefix: asString, max_input_chars_per_word: asCount };

export interface WordPieceSpec extends FromShape<typeof SHAPE> {
  readonly type: "WordPiece";
  readonly vocab: Vocab;
}

export function readWordPiece(object: JsonObject, place: Place): WordPieceSpec {
  const options = readShape(object, SHAPE, place, ["type", "vocab"]);
  return { type: "WordPiece", ...options, vocab: readVocab(field(object, "vocab"), place.at("vocab")) };
}

export function writeWordPiece(spec: WordPieceSpec): unknown {
  return { ...spec, vocab: vocabObject(spec.vocab) };
}

export function createWordPiece(spec: WordPieceSpec): PieceModel {
  const { tokens, idOf } = spec.vocab;
  const prefix = spec.continuing_subword_prefix;
  let longest = 0;
  for (const token of idOf.keys()) longest = Math.max(longest, token.length);

  function unknown(piece: string): PieceToken[] {
    const id = idOf.get(spec.unk_token);
    if (id !== undefined) return [{ id, token: spec.unk_token, place: [0, piece.length] }];
    throw new DataError(
      `WordPiece.tokenize: word outside the vocabulary, expected the unknown token ${JSON.stringify(spec.unk_token)} in it, got no such token. ` +
        "Correct the tokenizer's unk_token.",
    );
  }

  /** The longest token at `start`. */
  function longestAt(piece: string, start: number): PieceToken | undefined {
    const mark = start > 0 ? prefix : "";
    let end = Math.min(piece.length, start + longest - mark.length);
    while (end > start) {
      const token = mark + piece.slice(start, end);
      const id = idOf.get(token);
      if (id !== undefined) return { id, token, place: [start, end] };
      end -= isSecondHalf(piece, end - 1) ? 2 : 1;
    }
    return undefined;
  }

  function tokenize(piece: string): PieceToken[] {
    if (longerThan(piece, spec.max_input_chars_per_word)) return unknown(piece);
    const found: PieceToken[] = [];
    for (let start = 0; start < piece.length; start = found[found.length - 1].place[1]) {
      const token = longestAt(piece, start);
      if (token === undefined) return unknown(piece);
      found.push(token);
    }
    return found;
  }

  return { tokenize, tokenToId: (token) => idOf.get(token), idToToken: (id) => tokens[id], size: tokens.length };
}

/** Whether a unit is the second of a character of two. */
function isSecondHalf(text: string, unit: number): boolean {
  return unit > 0 && (text.codePointAt(unit - 1) as number) > 0xffff;
}

/** Whether a text has more than `count` characters. */
function longerThan(text: string, count: number): boolean {
  if (text.length <= count) return false;
  let characters = 0;
  for (const _ of text) if (++characters > count) return true;
  return false;
}

/** The models of tokenizer.json by their type: read strictly, written back, and made to run. */

import { asObject, field, type JsonObject, type Place } from "../files/strict-json.ts";
import { type BpeSpec, createBpe, readBpe, writeBpe } from "./general-bpe.ts";
import type { PieceModel } from "./pipeline.ts";
import { createUnigram, readUnigram, type ScoredToken, type UnigramSpec, writeUnigram } from "./unigram.ts";
import { createWordLevel, readWordLevel, type WordLevelSpec, writeWordLevel } from "./word-level.ts";
import { createWordPiece, readWordPiece, type WordPieceSpec, writeWordPiece } from "./wordpiece.ts";

export type PieceModelSpec = BpeSpec | WordPieceSpec | WordLevelSpec | UnigramSpec;

/** @throws FormatError with the place, what was expected and what is there */
export function readPieceModel(value: unknown, place: Place): PieceModelSpec {
  const object = asObject(value, place);
  const type = field(object, "type") ?? guessType(object);
  switch (type) {
    case "BPE":
      return readBpe(object, place);
    case "WordPiece":
      return readWordPiece(object, place);
    case "WordLevel":
      return readWordLevel(object, place);
    case "Unigram":
      return readUnigram(object, place);
    default:
      return place.at("type").fail("unknown model", "BPE, WordPiece, WordLevel or Unigram", type, "This kind of tokenizer is not supported (yet).");
  }
}

/** Files of 2020 do not name the type; each has keys that no other has. */
function guessType(object: JsonObject): string | undefined {
  if (Object.hasOwn(object, "merges")) return "BPE";
  if (Object.hasOwn(object, "max_input_chars_per_word")) return "WordPiece";
  if (Array.isArray(field(object, "vocab"))) return "Unigram";
  return Object.hasOwn(object, "vocab") ? "WordLevel" : undefined;
}

/** The model as tokenizer.json holds it. */
export function writePieceModel(spec: PieceModelSpec): unknown {
  switch (spec.type) {
    case "BPE":
      return writeBpe(spec);
    case "WordPiece":
      return writeWordPiece(spec);
    case "WordLevel":
      return writeWordLevel(spec);
    case "Unigram":
      return writeUnigram(spec);
  }
}

/** The model without some of its tokens: no text becomes one of them. Ids stay what they are. */
export function withoutTokens(spec: PieceModelSpec, hidden: ReadonlySet<number>): PieceModelSpec {
  if (hidden.size === 0) return spec;
  if (spec.type === "Unigram") return { ...spec, vocab: spec.vocab.map((scored, id): ScoredToken => (hidden.has(id) ? ["", scored[1]] : scored)) };
  const { tokens, idOf } = spec.vocab;
  const vocab = { tokens, idOf: new Map([...idOf].filter(([, id]) => !hidden.has(id))) };
  if (spec.type !== "BPE") return { ...spec, vocab };
  const prefix = spec.continuing_subword_prefix?.length ?? 0;
  const merges: number[] = [];
  for (let i = 0; i < spec.merges.length; i += 2) {
    const [left, right] = spec.merges.subarray(i, i + 2);
    if (!hidden.has(left) && !hidden.has(right) && vocab.idOf.has(`${tokens[left]}${tokens[right]?.slice(prefix)}`)) merges.push(left, right);
  }
  return { ...spec, vocab, merges: Int32Array.from(merges) };
}

/** @param random for a BPE with dropout, see createBpe */
export function createPieceModel(spec: PieceModelSpec, random?: () => number): PieceModel {
  switch (spec.type) {
    case "BPE":
      return createBpe(spec, random);
    case "WordPiece":
      return createWordPiece(spec);
    case "WordLevel":
      return createWordLevel(spec);
    case "Unigram":
      return createUnigram(spec);
  }
}

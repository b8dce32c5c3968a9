/** The models of tokenizer.json by their type: read strictly, written back, and made to run. */
import { type BpeSpec, createBpe, readBpe, writeBpe } from "./general-bpe.ts";
import type { PieceModel } from "./pipeline.ts";
import { asObject, field, type JsonObject, type Place } from "./strict-json.ts";
import { createUnigram, readUnigram, type UnigramSpec, writeUnigram } from "./unigram.ts";
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

/** WordLevel: a piece is a token of the vocabulary, or unknown. */
import { DataError } from "../../errors.ts";
import { readShape } from "../files/json-shape.ts";
import { asString, field, type JsonObject, type Place } from "../files/strict-json.ts";
import type { PieceModel } from "./pipeline.ts";
import { readVocab, type Vocab, vocabObject } from "./vocabulary.ts";

export interface WordLevelSpec {
  readonly type: "WordLevel";
  readonly vocab: Vocab;
  readonly unk_token: string;
}

export function readWordLevel(object: JsonObject, place: Place): WordLevelSpec {
  const options = readShape(object, { unk_token: asString }, place, ["type", "vocab"]);
  return { type: "WordLevel", ...options, vocab: readVocab(field(object, "vocab"), place.at("vocab")) };
}

export function writeWordLevel(spec: WordLevelSpec): unknown {
  return { ...spec, vocab: vocabObject(spec.vocab) };
}

export function createWordLevel(spec: WordLevelSpec): PieceModel {
  const { tokens, idOf } = spec.vocab;
  return {
    tokenize(piece) {
      if (piece === "") return [];
      const known = idOf.has(piece);
      const token = known ? piece : spec.unk_token;
      const id = idOf.get(token);
      if (id !== undefined) return [{ id, token, place: [0, piece.length] }];
      throw new DataError(
        `WordLevel.tokenize: word outside the vocabulary, expected the unknown token ${JSON.stringify(spec.unk_token)} in it, got no such token. ` +
          "Correct the tokenizer's unk_token.",
      );
    },
    tokenToId: (token) => idOf.get(token),
    idToToken: (id) => tokens[id],
    size: tokens.length,
  };
}

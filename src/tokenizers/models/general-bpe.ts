/**
 * Byte pair encoding over characters, with all that tokenizer.json's BPE model can say: unknown tokens, byte fallback, marks for what continues or ends
 * a word. It is the readable twin of every BPE; the byte-level one has a faster engine (bpe.ts, crates/text).
 *
 * Sennrich, Haddow and Birch 2016 (arXiv:1508.07909); the rules of Hugging Face tokenizers where files leave something open. Of all neighbours that may
 * merge the pair of smallest rank goes first, the leftmost of equals. A heap holds them, so that a text of n characters, which is one word after
 * SentencePiece's habit, takes O(n log n).
 */
import { ConfigError, DataError } from "../../errors.ts";
import { asFinite, type FromShape, listOf, nullAs, type Reader, readShape } from "../files/json-shape.ts";
import { asArray, asBoolean, asString, field, type JsonObject, LARGEST_ID, type Place } from "../files/strict-json.ts";
import { mergesFromPairs } from "../files/vocab-merges.ts";
import { createHeap } from "../heap.ts";
import { byteTokens, placesByBytes, utf8Length } from "./byte-places.ts";
import type { PieceModel, PieceToken } from "./pipeline.ts";
import { readVocab, type Vocab, vocabObject } from "./vocabulary.ts";

const asDropout: Reader<number> = (value, place) => {
  const rate = asFinite(value, place);
  if (rate < 0 || rate > 1) place.fail("bad dropout", "a number from 0 to 1", value);
  return rate;
};

const SHAPE = {
  dropout: nullAs(asDropout, null),
  unk_token: nullAs(asString, null),
  continuing_subword_prefix: nullAs(asString, null),
  end_of_word_suffix: nullAs(asString, null),
  fuse_unk: nullAs(asBoolean, false),
  byte_fallback: nullAs(asBoolean, false),
  ignore_merges: nullAs(asBoolean, false),
};

export interface BpeSpec extends FromShape<typeof SHAPE> {
  readonly type: "BPE";
  readonly vocab: Vocab;
  /** Pairs of ids by rank. */
  readonly merges: Int32Array;
}

export function readBpe(object: JsonObject, place: Place): BpeSpec {
  const options = readShape(object, SHAPE, place, ["type", "vocab", "merges"]);
  const vocab = readVocab(field(object, "vocab"), place.at("vocab"));
  let list = asArray(field(object, "merges"), place.at("merges"));
  // Lists of lines were taken from merges.txt with its first line.
  if (typeof list[0] === "string") list = listOf(asString)(list, place.at("merges")).filter((line) => !line.startsWith("#version"));
  const merges = mergesFromPairs(list, vocab.tokens, vocab.idOf, place.at("merges"), options.continuing_subword_prefix ?? "");
  return { type: "BPE", ...options, vocab, merges };
}

export function writeBpe(spec: BpeSpec): unknown {
  const { vocab, merges, ...options } = spec;
  const pairs: string[][] = [];
  for (let i = 0; i < merges.length; i += 2) pairs.push([vocab.tokens[merges[i]] as string, vocab.tokens[merges[i + 1]] as string]);
  return { ...options, vocab: vocabObject(vocab), merges: pairs };
}

const IDS = LARGEST_ID + 1;
/** No JavaScript string is longer. Rank times this plus a position is an exact number. */
const POSITIONS = 2 ** 29;
const MOST_CACHED = 50_000;
const LONGEST_CACHED = 64;

/** A piece on its way: ids side by side, and how many bytes of the piece each takes. */
interface Symbols {
  ids: number[];
  lengths: number[];
}

/**
 * @param random numbers from 0 up to 1. With it `dropout` works (Provilkov et al. 2020, arXiv:1910.13267): a merge is passed over with that probability, so that
 * a text is cut in another way each time. Training wants this; without it a model with dropout above 0 refuses to encode
 */
export function createBpe(spec: BpeSpec, random?: () => number): PieceModel {
  const { tokens, idOf } = spec.vocab;
  const dropout = spec.dropout ?? 0;
  const prefix = spec.continuing_subword_prefix ?? "";
  const suffix = spec.end_of_word_suffix ?? "";
  const cache = new Map<string, PieceToken[]>();

  const ranks = new Map<number, number>();
  const results = new Int32Array(spec.merges.length / 2);
  for (let rank = 0; rank < results.length; rank++) {
    const [left, right] = [spec.merges[2 * rank], spec.merges[2 * rank + 1]];
    results[rank] = idOf.get(`${tokens[left]}${(tokens[right] as string).slice(prefix.length)}`) as number;
    ranks.set(left * IDS + right, rank);
  }

  function unknownId(): number {
    const id = idOf.get(spec.unk_token as string);
    if (id !== undefined) return id;
    throw new DataError(
      `BPE.tokenize: text outside the vocabulary, expected the unknown token ${JSON.stringify(spec.unk_token)} in it, got no such token. ` +
        "Correct the tokenizer's unk_token.",
    );
  }

  /** Each character's token, before any merge. A character without one is unknown, bytes, or, where the model has no word for the unknown, gone. */
  function spell(piece: string): Symbols {
    const symbols: Symbols = { ids: [], lengths: [] };
    const add = (id: number, length: number): void => {
      symbols.ids.push(id);
      symbols.lengths.push(length);
    };
    // Unknown characters wait here, so that neighbours can become one.
    let waiting = 0;
    const addWaiting = (): void => {
      if (waiting > 0) add(unknownId(), waiting);
      waiting = 0;
    };
    let at = 0;
    for (const character of piece) {
      const length = utf8Length(character.codePointAt(0) as number);
      const spelled = (at > 0 ? prefix : "") + character + (at + character.length === piece.length ? suffix : "");
      at += character.length;
      const id = idOf.get(spelled);
      if (id !== undefined) {
        addWaiting();
        add(id, length);
        continue;
      }
      const bytes = spec.byte_fallback ? byteTokens(spelled).map((token) => idOf.get(token)) : [undefined];
      if (!bytes.includes(undefined)) {
        // As in Hugging Face's, what waits goes on waiting: an unknown character before these bytes comes after them.
        for (const byte of bytes) add(byte as number, 1);
        continue;
      }
      if (spec.unk_token === null) continue;
      if (!spec.fuse_unk) addWaiting();
      waiting += length;
    }
    addWaiting();
    return symbols;
  }

  function mergeAll({ ids, lengths }: Symbols): void {
    const count = ids.length;
    const before = Int32Array.from(ids, (_, i) => i - 1);
    const after = Int32Array.from(ids, (_, i) => i + 1);
    const heap = createHeap<number>((a, b) => a < b);
    const offer = (left: number, right: number): void => {
      const rank = ranks.get(ids[left] * IDS + ids[right]);
      if (rank !== undefined) heap.push(rank * POSITIONS + left);
    };
    for (let i = 0; i + 1 < count; i++) offer(i, i + 1);
    const dropped: number[] = [];
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      if (dropout > 0 && (random as () => number)() < dropout) {
        dropped.push(top);
        continue;
      }
      // Dropped merges get another chance after one that was not.
      for (const entry of dropped.splice(0)) heap.push(entry);
      const left = top % POSITIONS;
      const right = after[left];
      if (lengths[left] === 0 || right === count) continue;
      // The pair may have changed since it was offered; what counts is that it still makes the same token.
      const made = results[Math.floor(top / POSITIONS)];
      const rank = ranks.get(ids[left] * IDS + ids[right]);
      if (rank === undefined || results[rank] !== made) continue;
      ids[left] = made;
      lengths[left] += lengths[right];
      lengths[right] = 0;
      after[left] = after[right];
      if (after[left] < count) before[after[left]] = left;
      if (before[left] >= 0) offer(before[left], left);
      if (after[left] < count) offer(left, after[left]);
    }
  }

  function cut(piece: string): PieceToken[] {
    const symbols = spell(piece);
    mergeAll(symbols);
    const ids = symbols.ids.filter((_, i) => symbols.lengths[i] > 0);
    const places = placesByBytes(
      piece,
      symbols.lengths.filter((length) => length > 0),
    );
    return ids.map((id, i) => ({ id, token: tokens[id] as string, place: places[i] }));
  }

  function tokenize(piece: string): PieceToken[] {
    if (piece === "") return [];
    if (dropout > 0) {
      if (random !== undefined) return cut(piece);
      throw new ConfigError(
        `BPE.tokenize: this model has dropout, expected a source of random numbers or dropout 0, got dropout ${dropout}. ` +
          "Pass `random` where dropout is wanted (in training), or set the model's dropout to null.",
      );
    }
    const whole = spec.ignore_merges ? idOf.get(piece) : undefined;
    if (whole !== undefined) return [{ id: whole, token: piece, place: [0, piece.length] }];
    const known = cache.get(piece);
    if (known !== undefined) return known;
    const found = cut(piece);
    if (cache.size >= MOST_CACHED) cache.clear();
    if (piece.length <= LONGEST_CACHED) cache.set(piece, found);
    return found;
  }

  return { tokenize, tokenToId: (token) => idOf.get(token), idToToken: (id) => tokens[id], size: tokens.length };
}

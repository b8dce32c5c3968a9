/**
 * Unigram: of all ways to cut a piece into tokens the one with the largest sum of scores (log probabilities).
 *
 * Kudo 2018 (arXiv:1804.10959); found by Viterbi's algorithm along the text, with the rules of Hugging Face tokenizers, which are SentencePiece's
 * `EncodeOptimized`: of equal sums the one that was found first stays, so that sums must be added in the same order.
 */
import { DataError } from "../../errors.ts";
import { asCount, asFinite, listOf, missingAs, nullAs, type Reader, readShape } from "../files/json-shape.ts";
import { asArray, asBoolean, asString, type JsonObject, type Place } from "../files/strict-json.ts";
import { byteTokens } from "./byte-places.ts";
import type { PieceModel, PieceToken } from "./pipeline.ts";

export type ScoredToken = readonly [token: string, score: number];

export interface UnigramSpec {
  readonly type: "Unigram";
  readonly unk_id: number | null;
  /** By id. */
  readonly vocab: readonly ScoredToken[];
  readonly byte_fallback: boolean;
}

const asScored: Reader<ScoredToken> = (value, place) => {
  const pair = asArray(value, place);
  if (pair.length !== 2) place.fail("bad token", "a token and its score", value);
  return [asString(pair[0], place.at(0)), asFinite(pair[1], place.at(1))];
};

export function readUnigram(object: JsonObject, place: Place): UnigramSpec {
  const shape = { unk_id: nullAs(asCount, null), vocab: listOf(asScored), byte_fallback: missingAs(asBoolean, false) };
  const read = readShape(object, shape, place, ["type"]);
  if (read.unk_id !== null && read.unk_id >= read.vocab.length) {
    place.at("unk_id").fail("id without a token", `less than the ${read.vocab.length} tokens of the vocabulary`, read.unk_id);
  }
  return { type: "Unigram", ...read };
}

export function writeUnigram(spec: UnigramSpec): unknown {
  return spec;
}

/**
 * A score as Hugging Face's reader has it: digits as one whole number, then divided by a power of ten, each step rounded. That is sometimes the neighbour of
 * the number that the file means, and of two ways with equal sums it decides which one is found.
 */
function asRead(score: number): number {
  const [digits, exponent] = Math.abs(score).toExponential().split("e");
  const fraction = digits.length > 1 ? digits.length - 2 : 0;
  const power = Number(exponent) - fraction;
  const whole = Number(digits.replace(".", ""));
  // Beyond 1e308 the reader divides in two steps; no score is that small.
  const size = power < 0 && power >= -308 ? whole / Number(`1e${-power}`) : Math.abs(score);
  return score < 0 ? -size : size;
}

/** By id, as Hugging Face's reader has them. */
export function scoresOf(vocab: readonly ScoredToken[]): Float64Array {
  return Float64Array.from(vocab, ([, score]) => asRead(score));
}

/** How much worse than the worst token an unknown character is. */
const UNKNOWN_PENALTY = 10;

export function createUnigram(spec: UnigramSpec): PieceModel {
  const { vocab, unk_id } = spec;
  // Of a token that is there twice the later id counts.
  const idOf = new Map(vocab.map(([token], id) => [token, id]));
  const trie = buildTrie(idOf);
  let least = Number.POSITIVE_INFINITY;
  const scoreOf = scoresOf(vocab);
  for (const score of scoreOf) least = Math.min(least, score);
  const unknownScore = least - UNKNOWN_PENALTY;

  function unknown(): number {
    if (unk_id !== null) return unk_id;
    throw new DataError("Unigram.tokenize: text outside the vocabulary, expected a token for the unknown, got unk_id null. Give the model an unk_id.");
  }

  /** Where the tokens of the best way begin, first to last; unknown neighbours are one. The last number is the piece's end. */
  function bestCuts(piece: string): number[] {
    const scores = new Float64Array(piece.length + 1);
    const starts = new Int32Array(piece.length + 1).fill(-1);
    const ids = new Int32Array(piece.length + 1);
    const offer = (start: number, end: number, id: () => number, score: number): void => {
      if (starts[end] !== -1 && score <= scores[end]) return;
      scores[end] = score;
      starts[end] = start;
      ids[end] = id();
    };
    for (let start = 0; start < piece.length; ) {
      const next = start + ((piece.codePointAt(start) as number) > 0xffff ? 2 : 1);
      let single = false;
      for (const [end, id] of trie.prefixes(piece, start)) {
        offer(start, end, () => id, scoreOf[id] + scores[start]);
        single ||= end === next;
      }
      if (!single) offer(start, next, unknown, unknownScore + scores[start]);
      start = next;
    }
    const cuts = [piece.length];
    let fusing = false;
    for (let end = piece.length; end > 0; end = starts[end]) {
      const isUnknown = ids[end] === unk_id;
      if (isUnknown && fusing) cuts.pop();
      cuts.push(starts[end]);
      fusing = isUnknown;
    }
    return cuts.reverse();
  }

  function tokenize(piece: string): PieceToken[] {
    if (piece === "") return [];
    const cuts = bestCuts(piece);
    return cuts.slice(1).flatMap((end, i): PieceToken[] => {
      const place = [cuts[i], end] as const;
      const token = piece.slice(...place);
      const id = idOf.get(token);
      if (id !== undefined) return [{ id, token, place }];
      if (spec.byte_fallback) {
        const bytes = byteTokens(token).map((byte) => ({ id: idOf.get(byte), token: byte, place }));
        if (bytes.every((byte): byte is typeof byte & { id: number } => byte.id !== undefined)) return bytes;
      }
      return [{ id: unknown(), token, place }];
    });
  }

  return { tokenize, tokenToId: (token) => idOf.get(token), idToToken: (id) => vocab[id]?.[0], size: vocab.length };
}

/** Finds all tokens with which a text goes on. Nodes are numbers; an edge is a node and a UTF-16 unit. */
function buildTrie(idOf: ReadonlyMap<string, number>): { prefixes(text: string, start: number): Iterable<readonly [end: number, id: number]> } {
  const UNITS = 0x10000;
  const edges = new Map<number, number>();
  const idAt = [-1];
  for (const [token, id] of idOf) {
    let node = 0;
    for (let i = 0; i < token.length; i++) {
      const edge = node * UNITS + token.charCodeAt(i);
      let next = edges.get(edge);
      if (next === undefined) {
        next = idAt.length;
        idAt.push(-1);
        edges.set(edge, next);
      }
      node = next;
    }
    idAt[node] = id;
  }
  return {
    *prefixes(text, start) {
      let node: number | undefined = 0;
      for (let end = start; end < text.length; ) {
        node = edges.get(node * UNITS + text.charCodeAt(end++));
        if (node === undefined) return;
        if (idAt[node] >= 0) yield [end, idAt[node]];
      }
    },
  };
}

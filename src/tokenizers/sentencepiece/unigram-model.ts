/**
 * The unigram language model: of all ways to cut a text into pieces the one whose scores (logarithms of probabilities) have the largest sum, found by
 * Viterbi's algorithm from left to right.
 *
 * Paper: Kudo 2018, "Subword Regularization", arXiv:1804.10959, section 3.2. Among ways of equal worth rounding decides, so it is the library's: float32,
 * and sums start again from 0 before they grow so large that scores would drown in them.
 */
import { PrefixTrie } from "./prefix-trie.ts";
import { PIECE_TYPES } from "./spec.ts";
import { characterLength, type Pieces, type Vocabulary } from "./vocabulary.ts";

/** How much less an unknown character is worth than the worst piece. */
const UNKNOWN_PENALTY = 10;
const LARGEST_FLOAT = 3.4028234663852886e38;
/** From this sum on, upwards or downwards, sums start again. */
const LARGEST_SUM = 100_000;

export function cutByUnigrams(vocabulary: Vocabulary): (text: string) => Pieces {
  const { spelled, unknownId } = vocabulary;
  const { scores, types } = vocabulary.spec;
  let worst = LARGEST_FLOAT;
  for (const [id, type] of types.entries()) if (type === PIECE_TYPES.normal) worst = Math.min(worst, scores[id]);
  const unknownScore = Math.fround(worst - UNKNOWN_PENALTY);
  const trie = new PrefixTrie();
  const worth = Float32Array.from(scores);
  for (const [piece, id] of spelled) {
    if (types[id] !== PIECE_TYPES.unused) trie.add(piece, id);
    // Worth more than any way to cut it, so that it stays whole. The library counts UTF-8 bytes.
    if (types[id] === PIECE_TYPES.userDefined) worth[id] = 0.1 * (new TextEncoder().encode(piece).length - 1);
  }

  return (text) => {
    // For each end of a piece the best way to it: its sum, and its last piece.
    const sums = new Float32Array(text.length + 1);
    const starts = new Int32Array(text.length + 1).fill(-1);
    const ids = new Int32Array(text.length + 1);
    let furthest = 0;
    const offer = (start: number, end: number, id: number, sum: number): void => {
      furthest = Math.max(furthest, end);
      if (starts[end] >= 0 && sum <= sums[end]) return;
      sums[end] = sum;
      starts[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < text.length; ) {
      if (Math.abs(sums[start]) > LARGEST_SUM) {
        const sum = sums[start];
        for (let end = start; end <= furthest; end++) if (starts[end] >= 0) sums[end] -= sum;
      }
      const next = start + characterLength(text, start);
      let node = 0;
      let known = false;
      for (let at = start; at < text.length; at++) {
        node = trie.step(node, text.charCodeAt(at));
        if (node < 0) break;
        const id = trie.value(node);
        if (id < 0) continue;
        offer(start, at + 1, id, Math.fround(worth[id] + sums[start]));
        known ||= at + 1 === next;
      }
      if (!known) offer(start, next, unknownId, Math.fround(unknownScore + sums[start]));
      start = next;
    }
    const pieces: Pieces = { ends: [], ids: [] };
    for (let end = text.length; end > 0; end = starts[end]) {
      pieces.ends.push(end);
      pieces.ids.push(ids[end]);
    }
    pieces.ends.reverse();
    pieces.ids.reverse();
    return pieces;
  };
}

/** Pieces of numbered characters in a trie: which of them begin at a place, and the best way to cut a word into them. */

/** Words of numbered characters, one behind the other. */
export interface Corpus {
  readonly characters: Int32Array;
  /** Where each word begins, and the end of the last. */
  readonly starts: Int32Array;
  /** How often each word was seen. */
  readonly counts: Float64Array;
}

export interface PieceTrie {
  /** Calls `found` for each piece that stands at `at`, shortest first; pieces end at `end` at the latest. */
  at(characters: Int32Array, at: number, end: number, found: (piece: number, length: number) => void): void;
}

/** The children of all nodes lie in one table with open addressing: a node and a character lead to a node. */
export function createPieceTrie(pieces: readonly Int32Array[]): PieceTrie {
  const size = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const slots = 2 ** Math.max(4, Math.ceil(Math.log2(2 * size + 1)));
  const [nodes, letters, children] = [new Int32Array(slots), new Int32Array(slots), new Int32Array(slots)];
  const pieceOf = new Int32Array(size + 1).fill(-1);
  const slotOf = (node: number, letter: number): number => {
    let slot = (Math.imul(Math.imul(node, 0x9e3779b1) ^ letter, 0x85ebca6b) >>> 7) & (slots - 1);
    while (children[slot] !== 0 && (nodes[slot] !== node || letters[slot] !== letter)) slot = (slot + 1) & (slots - 1);
    return slot;
  };
  let last = 0;
  for (const [id, piece] of pieces.entries()) {
    let node = 0;
    for (const letter of piece) {
      const slot = slotOf(node, letter);
      if (children[slot] === 0) {
        [nodes[slot], letters[slot]] = [node, letter];
        children[slot] = ++last;
      }
      node = children[slot];
    }
    pieceOf[node] = id;
  }
  return {
    at(characters, at, end, found) {
      let node = 0;
      for (let to = at; to < end; to++) {
        node = children[slotOf(node, characters[to])];
        if (node === 0) return;
        if (pieceOf[node] >= 0) found(pieceOf[node], to + 1 - at);
      }
    },
  };
}

/** A piece, or -1 for one character that is none, where it begins, and its length. */
export interface Cut {
  readonly piece: number;
  readonly length: number;
}

/** The way with the largest sum of scores (Viterbi 1967) from `start` to `end`; `without` may not be used. */
export function bestCuts(
  trie: PieceTrie,
  scores: Float64Array,
  unknown: number,
  characters: Int32Array,
  start: number,
  end: number,
  without = -2,
): { cuts: Cut[]; score: number } {
  const n = end - start;
  const best = new Float64Array(n + 1).fill(Number.NEGATIVE_INFINITY);
  const [piece, length] = [new Int32Array(n + 1), new Int32Array(n + 1)];
  best[0] = 0;
  for (let i = 0; i < n; i++) {
    let single = false;
    const offer = (id: number, l: number, score: number) => {
      if (best[i] + score > best[i + l]) [best[i + l], piece[i + l], length[i + l]] = [best[i] + score, id, l];
    };
    trie.at(characters, start + i, end, (id, l) => {
      if (l === 1) single = true;
      if (id !== without) offer(id, l, scores[id]);
    });
    if (!single) offer(-1, 1, unknown);
  }
  const cuts: Cut[] = [];
  for (let at = n; at > 0; at -= length[at]) cuts.push({ piece: piece[at], length: length[at] });
  return { cuts: cuts.reverse(), score: best[n] };
}

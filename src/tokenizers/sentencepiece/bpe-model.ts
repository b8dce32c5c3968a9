/**
 * Byte-pair encoding over characters: two neighbours merge where both together are a piece, the pair of the best score first, among equals the leftmost.
 * User-defined symbols merge with nothing. A piece that is marked unused may be merged on the way, and is taken apart again where it is left at the end.
 *
 * Paper: Sennrich, Haddow and Birch 2016, arXiv:1508.07909, with a heap in place of its sweeps: n merges take O(n log n).
 */
import { characterLength, type Pieces, type Vocabulary } from "./vocabulary.ts";

export function cutByMerges(vocabulary: Vocabulary): (text: string) => Pieces {
  const { spelled, unknownId, userDefined } = vocabulary;
  const { scores } = vocabulary.spec;
  let longest = 0;
  for (const piece of spelled.keys()) longest = Math.max(longest, piece.length);

  return (text) => {
    // A symbol is named by its first unit. It ends where the next one starts.
    const end = new Int32Array(text.length);
    const before = new Int32Array(text.length).fill(-1);
    const fixed = new Uint8Array(text.length);
    for (let start = 0; start < text.length; start = end[start]) {
      const whole = userDefined?.longest(text, start) ?? 0;
      fixed[start] = whole > 0 ? 1 : 0;
      end[start] = start + (whole || characterLength(text, start));
      if (end[start] < text.length) before[end[start]] = start;
    }

    // For each symbol the piece that it would make with the one behind it, or -1.
    const merged = new Int32Array(text.length).fill(-1);
    const agenda = new Agenda(scores);
    /** For an unused piece that was merged the length of its left half. */
    const halves = new Map<string, number>();
    const consider = (left: number): void => {
      const right = end[left];
      merged[left] = -1;
      if (right === text.length || fixed[left] || fixed[right] || end[right] - left > longest) return;
      const piece = text.slice(left, end[right]);
      const id = spelled.get(piece);
      if (id === undefined) return;
      merged[left] = id;
      agenda.push(left, id);
      if (vocabulary.is(id, "unused")) halves.set(piece, right - left);
    };
    for (let left = 0; left < text.length; left = end[left]) consider(left);

    while (agenda.pop()) {
      const { left, id } = agenda;
      // Its pair has become another since.
      if (merged[left] !== id) continue;
      const right = end[left];
      merged[right] = -1;
      end[left] = end[right];
      if (end[left] < text.length) before[end[left]] = left;
      if (before[left] >= 0) consider(before[left]);
      consider(left);
    }

    const pieces: Pieces = { ends: [], ids: [] };
    for (let start = 0; start < text.length; start = end[start]) {
      // The parts that are still to be looked at, the leftmost last.
      const parts = [[start, end[start]]];
      for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
        const [from, to] = part;
        const piece = text.slice(from, to);
        const id = spelled.get(piece) ?? unknownId;
        const unused = vocabulary.is(id, "unused");
        const half = unused ? halves.get(piece) : undefined;
        if (half !== undefined) parts.push([from + half, to], [from, from + half]);
        else {
          pieces.ends.push(to);
          pieces.ids.push(unused ? unknownId : id);
        }
      }
    }
    return pieces;
  };
}

/** Pairs that may merge, the best first: a binary heap. */
class Agenda {
  /** The pair that `pop` took: its left symbol, and the piece that it makes. */
  left = 0;
  id = 0;
  private readonly scores: Float32Array;
  private readonly lefts: number[] = [];
  private readonly ids: number[] = [];

  constructor(scores: Float32Array) {
    this.scores = scores;
  }

  push(left: number, id: number): void {
    let at = this.lefts.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.goesBefore(left, id, parent)) break;
      this.move(parent, at);
      at = parent;
    }
    this.lefts[at] = left;
    this.ids[at] = id;
  }

  /** @returns false when nothing is left */
  pop(): boolean {
    if (this.lefts.length === 0) return false;
    this.left = this.lefts[0];
    this.id = this.ids[0];
    const left = this.lefts.pop() as number;
    const id = this.ids.pop() as number;
    const size = this.lefts.length;
    if (size === 0) return true;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && this.goesBefore(this.lefts[child + 1], this.ids[child + 1], child)) child++;
      if (this.goesBefore(left, id, child)) break;
      this.move(child, at);
      at = child;
    }
    this.lefts[at] = left;
    this.ids[at] = id;
    return true;
  }

  private goesBefore(left: number, id: number, other: number): boolean {
    const difference = this.scores[id] - this.scores[this.ids[other]];
    return difference > 0 || (difference === 0 && left < this.lefts[other]);
  }

  private move(from: number, to: number): void {
    this.lefts[to] = this.lefts[from];
    this.ids[to] = this.ids[from];
  }
}

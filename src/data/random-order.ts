/** Random draws for the order of data. Each is a pure function of (seed, position), so any worker can compute any of them. */
import { philoxInto } from "../tensor/philox.ts";

// Highest counter word of every draw here ("data" in ASCII): keeps this stream apart from others with the same seed.
const STREAM = 0x64617461;
/** What a draw is for: the third counter word, so that two uses never share numbers. */
export const DRAW = { window: 0, documents: 1, rows: 2, split: 3 } as const;

const words = new Uint32Array(4);

function draw(seed: number, position: number, use: number): void {
  philoxInto(words, position, Math.floor(position / 0x1_0000_0000), use, STREAM, seed, Math.floor(seed / 0x1_0000_0000));
}

/**
 * A whole number in [0, below), uniform to one part in 2^53 / below.
 *
 * @param seed, position safe integers, not negative
 */
export function randomBelow(below: number, seed: number, position: number, use: number): number {
  draw(seed, position, use);
  // 53 random bits, all that a double holds.
  const fraction = ((words[0] >>> 5) * 0x400_0000 + (words[1] >>> 6)) / 2 ** 53;
  return Math.floor(fraction * below);
}

/** The numbers 0 … count - 1 in a random order (Fisher-Yates) that depends on seed, round and use only. */
export function randomPermutation(count: number, seed: number, round: number, use: number): Int32Array {
  const order = new Int32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  for (let i = count - 1; i > 0; i--) {
    // Rounds lie 2^31 positions apart; a data set has fewer documents than that.
    const j = randomBelow(i + 1, seed, round * 0x8000_0000 + i, use);
    const kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
}

/** A number in [0, 1) from a 64-bit hash and a seed. */
export function fractionOfHash([high, low]: readonly [number, number], seed: number): number {
  philoxInto(words, low, high, DRAW.split, STREAM, seed, Math.floor(seed / 0x1_0000_0000));
  return ((words[0] >>> 5) * 0x400_0000 + (words[1] >>> 6)) / 2 ** 53;
}

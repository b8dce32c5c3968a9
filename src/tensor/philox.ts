/**
 * Philox4x32-10, the counter-based generator behind every random stream of groundup: four random words are a pure
 * function of a 128-bit counter and a 64-bit key. Nothing has to be stepped, so any worker can compute any element, and
 * a stream's whole state is one integer.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011), section 3.2.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
// The key schedule adds the golden ratio and sqrt(3) - 1, both as 32-bit fractions (section 3.3).
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/**
 * Upper 32 bits of the 64-bit product of two unsigned 32-bit words, as a signed 32-bit number. A double holds only 53 bits
 * exactly, so the product is put together from 16-bit halves.
 */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Every term below fits an int32 (or wraps on purpose), which keeps the engine on its integer path.
  const cross1 = Math.imul(aHigh, bLow);
  const cross2 = Math.imul(aLow, bHigh);
  const carry = ((Math.imul(aLow, bLow) >>> 16) + (cross1 & 0xffff) + (cross2 & 0xffff)) >>> 16;
  return (Math.imul(aHigh, bHigh) + (cross1 >>> 16) + (cross2 >>> 16) + carry) | 0;
}

/**
 * The block function with its six input words as plain numbers, for loops that make many draws.
 *
 * @param out at least 4 words; receives four unsigned 32-bit results
 * @param c0 lowest counter word … `c3` highest; @param k0 lower key word, `k1` upper (only the low 32 bits count)
 */
export function philoxInto(out: Uint32Array, c0: number, c1: number, c2: number, c3: number, k0: number, k1: number): void {
  let key0 = k0 | 0;
  let key1 = k1 | 0;
  for (let round = 0; round < ROUNDS; round++) {
    const low0 = Math.imul(MULTIPLIER_0, c0);
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low1 = Math.imul(MULTIPLIER_1, c2);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 = (key0 + WEYL_0) | 0;
    key1 = (key1 + WEYL_1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Philox4x32-10: four random 32-bit words for one counter and key.
 *
 * @param counter 4 unsigned 32-bit words, lowest first
 * @param key 2 unsigned 32-bit words, lowest first
 * @returns 4 unsigned 32-bit words
 */
export function philox4x32(counter: ArrayLike<number>, key: ArrayLike<number>): Uint32Array {
  const out = new Uint32Array(4);
  philoxInto(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return out;
}

/** Random numbers from Philox: each item is a pure function of key, stream and place, so nothing has to be stepped. */
import type { Kernels } from "../kernels.ts";
import { philoxInto } from "../philox.ts";
import type { Views } from "./memory.ts";

/** A word's upper 24 bits as a fraction in [0, 1): exactly the numbers that float32 holds. */
const fraction = (word: number) => (word >>> 8) * 2 ** -24;

/** Calls `use` with every item's place and random word; for `normal` with the block of four words the item belongs to. */
function forEachWord(
  n: number,
  keyLow: number,
  keyHigh: number,
  stream: number,
  block: number,
  use: (i: number, word: number, block: Uint32Array) => void,
): void {
  const words = new Uint32Array(4);
  for (let i = 0; i < n; i++) {
    if (i % 4 === 0) {
      const counter = block + i / 4;
      philoxInto(words, counter >>> 0, Math.floor(counter / 2 ** 32), stream, 0, keyLow, keyHigh);
    }
    use(i, words[i % 4], words);
  }
}

export function randomKernels(at: Views): Pick<Kernels, "uniform" | "normal" | "randint" | "dropout"> {
  return {
    uniform(out, n, keyLow, keyHigh, stream, block, low, high) {
      const to = at.f32(out, n);
      forEachWord(n, keyLow, keyHigh, stream, block, (i, word) => {
        to[i] = low + (high - low) * fraction(word);
      });
    },

    normal(out, n, keyLow, keyHigh, stream, block, mean, std) {
      const to = at.f32(out, n);
      forEachWord(n, keyLow, keyHigh, stream, block, (i, _, words) => {
        // Box and Muller (1958): two uniforms give a radius and an angle, whose x and y are independent normals.
        const pair = i % 4 < 2 ? 0 : 2;
        const radius = Math.sqrt(-2 * Math.log(fraction(words[pair]) + 2 ** -24));
        const angle = 2 * Math.PI * fraction(words[pair + 1]);
        to[i] = mean + std * radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
      });
    },

    randint(out, n, keyLow, keyHigh, stream, block, low, high) {
      const to = at.i32(out, n);
      const range = high - low;
      forEachWord(n, keyLow, keyHigh, stream, block, (i, word) => {
        // ⌊word·range·2⁻³²⌋ in two steps of 16 bits, because the product may need 64 bits and a number holds 53.
        const lower = Math.floor(((word & 0xffff) * range) / 65536);
        to[i] = low + Math.floor(((word >>> 16) * range + lower) / 65536);
      });
    },

    dropout(x, out, n, p, keyLow, keyHigh, stream, block) {
      const from = at.f32(x, n);
      const to = at.f32(out, n);
      const limit = Math.fround(p); // as the native kernel sees it, so that both drop the same items
      forEachWord(n, keyLow, keyHigh, stream, block, (i, word) => {
        to[i] = fraction(word) >= limit ? from[i] / (1 - p) : 0;
      });
    },
  };
}

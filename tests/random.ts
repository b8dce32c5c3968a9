/** Random choices for tests, the same for the same seed everywhere. */
import { philox4x32 } from "../src/tensor/philox.ts";

export interface Random {
  /** A whole number from 0 to n − 1. */
  below(n: number): number;
  /** True once in `n` times. */
  once(n: number): boolean;
  pick<T>(list: readonly T[]): T;
}

export function random(seed: number): Random {
  let at = 0;
  const below = (n: number): number => Math.floor(((philox4x32([at++, 0, 0, 0], [seed, 0])[0] as number) / 2 ** 32) * n);
  return { below, once: (n) => below(n) === 0, pick: (list) => list[below(list.length)] as (typeof list)[number] };
}

/** Queries, keys and values from the result of one matrix product. Values are copied, since a view would keep all of that result for backward. */
import { contiguous, type Tensor } from "../tensor/index.ts";

/** All queries, then all keys, then all values: x (B, T, (heads + 2·kvHeads)·dim) → q (B, T, heads, dim), k and v (B, T, kvHeads, dim). q and k are views. */
export function inThreeParts(x: Tensor, heads: number, kvHeads: number, dim: number): [q: Tensor, k: Tensor, v: Tensor] {
  const [b, t] = x.shape as [number, number, number];
  const all = x.reshape([b, t, heads + 2 * kvHeads, dim]); // (B, T, H + 2K, D)
  const [q, k, v] = all.split([heads, kvHeads, kvHeads], 2) as [Tensor, Tensor, Tensor]; // (B, T, H, D), (B, T, K, D) twice
  return [q, k, contiguous(v)];
}

/**
 * Group after group, each of the queries that share a key, this key and its value: x (B, T, (heads + 2·kvHeads)·dim) → q (B, T, heads, dim), k and v (B, T, kvHeads, dim).
 * With as many groups as heads it is query, key and value of one head after the other.
 */
export function inGroups(x: Tensor, heads: number, kvHeads: number, dim: number): [q: Tensor, k: Tensor, v: Tensor] {
  const [b, t] = x.shape as [number, number, number];
  const sharing = heads / kvHeads;
  const groups = x.reshape([b, t, kvHeads, sharing + 2, dim]); // (B, T, K, H/K + 2, D)
  const [q, k, v] = groups.split([sharing, 1, 1], 3) as [Tensor, Tensor, Tensor]; // (B, T, K, H/K, D), (B, T, K, 1, D) twice
  const each = (part: Tensor, n: number) => contiguous(part).reshape([b, t, n, dim]);
  return [each(q, heads), each(k, kvHeads), each(v, kvHeads)];
}

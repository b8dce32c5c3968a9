import { afterEach, beforeEach, expect, test } from "vitest";
import { GPT2 } from "../models/index.ts";
import { scope } from "../tensor/index.ts";
import { createPagedState, PAGE, type PagedState, type Sequence } from "./paged-state.ts";
import { createPrefixCache, type PrefixCache, type PrefixNode } from "./prefix-cache.ts";

let model: GPT2;
let state: PagedState;
let cache: PrefixCache;
beforeEach(() => {
  model = new GPT2({ vocab_size: 70_000, n_positions: 512, n_embd: 4, n_layer: 1, n_head: 1 }).eval();
  state = createPagedState(model);
  cache = createPrefixCache(state);
});
afterEach(() => {
  state.dispose();
  model.dispose();
});

const text = (pages: number, first: number): Int32Array => Int32Array.from({ length: pages * PAGE }, (_, i) => (first + i) % 70_000);

/** A sequence that has computed these ids, and the nodes of its pages. */
function kept(ids: Int32Array): { sequence: Sequence; nodes: PrefixNode[] } {
  const sequence = state.allocate();
  scope(() => void state.step([{ sequence, ids, logits: 0 }]));
  const nodes: PrefixNode[] = [];
  for (let at = 0; at < ids.length; at += PAGE) nodes.push(cache.add(nodes.at(-1) ?? cache.root, ids, at, sequence.pages[at / PAGE]) as PrefixNode);
  return { sequence, nodes };
}

/** How many pages of these ids the cache has. */
function found(ids: Int32Array): number {
  let node: PrefixNode | undefined = cache.root;
  let n = 0;
  for (; n * PAGE < ids.length; n++) {
    node = cache.find(node, ids, n * PAGE);
    if (node === undefined) break;
  }
  return n;
}

test("finds the longest beginning, and every id of a page counts", () => {
  const ids = text(3, 0);
  kept(ids);
  expect(found(ids)).toBe(3);
  for (const at of [0, 1, 63]) {
    // 65,536 more has the same lower half.
    const other = ids.slice();
    other[PAGE + at] += 65_536;
    expect(found(other)).toBe(1);
  }
  expect(found(text(3, 1))).toBe(0);
  expect(cache.size()).toBe(3);
});

test("what nobody uses goes first, the longest unused of it, and ends before beginnings", () => {
  const [a, b, c] = [text(2, 0), text(2, 1000), text(2, 2000)];
  const held = [a, b, c].map(kept);
  state.free(held[0].sequence);
  state.free(held[2].sequence);
  cache.touch(held[0].nodes[1]);
  expect(state.usage().used).toBe(6);
  const order = () => [a, b, c].map(found);
  expect(cache.evict(1)).toBe(1);
  expect(order()).toEqual([2, 2, 1]);
  expect(cache.evict(2)).toBe(2);
  expect(order()).toEqual([1, 2, 0]);
  expect(state.usage().used).toBe(3);
  // The last page that nobody uses; then what a sequence has is forgotten, and stays the sequence's.
  expect(cache.evict(5)).toBe(1);
  expect(order()).toEqual([0, 0, 0]);
  expect(state.usage().used).toBe(2);
  state.free(held[1].sequence);
  expect(state.usage().used).toBe(0);
});

test("of two that compute the same the first is kept, and its page is freed even where the other goes on from it", () => {
  const ids = text(2, 0);
  const first = kept(ids.subarray(0, PAGE));
  const second = kept(ids);
  expect(second.nodes[0]).toBe(first.nodes[0]);
  expect(second.sequence.pages[0]).not.toBe(first.sequence.pages[0]);
  state.free(first.sequence);
  expect(state.usage().used).toBe(3);
  expect(cache.evict(1)).toBe(1);
  expect([state.usage().used, cache.size()]).toEqual([2, 0]);
  // Nothing is added below what has gone.
  expect(cache.add(second.nodes[1], ids, 0, second.sequence.pages[0])).toBeNull();
});

/**
 * Beginnings that were computed before: a tree of full pages, one edge for the 64 ids of a page, so that any two texts with the same beginning
 * share its pages (Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs", 2024, RadixAttention, with pages as its unit). What nobody
 * uses stays until its memory is needed; the longest unused goes first.
 */
import { PAGE, type PagedState } from "./paged-state.ts";

/** A page, by all that comes before it and its own ids. */
export interface PrefixNode {
  readonly page: number;
  readonly parent: PrefixNode | null;
  readonly key: string;
  readonly children: Map<string, PrefixNode>;
  /** It has been evicted, and nothing may be added below. */
  gone: boolean;
}

export interface PrefixCache {
  /** The empty text. */
  readonly root: PrefixNode;
  /** The page below `node` with the 64 ids at `at`. */
  find(node: PrefixNode, ids: Int32Array, at: number): PrefixNode | undefined;
  /** Keeps a full page below `node`; the one that is there already wins. Null where `node` is gone. */
  add(node: PrefixNode, ids: Int32Array, at: number, page: number): PrefixNode | null;
  /** `node` and all before it were used just now. */
  touch(node: PrefixNode): void;
  /** Frees up to `count` pages that no sequence has, longest unused first. Returns how many. */
  evict(count: number): number;
  /** Pages that are kept. */
  size(): number;
}

export function createPrefixCache(state: PagedState): PrefixCache {
  const root: PrefixNode = { page: -1, parent: null, key: "", children: new Map(), gone: false };
  /** Longest unused first. A path is touched from its end, so nothing comes before what lies below it. */
  const order = new Set<PrefixNode>();

  function drop(node: PrefixNode): void {
    node.gone = true;
    node.parent?.children.delete(node.key);
    order.delete(node);
    state.release(node.page);
  }

  return {
    root,
    find: (node, ids, at) => node.children.get(pageKey(ids, at)),
    add(node, ids, at, page) {
      if (node.gone) return null;
      const key = pageKey(ids, at);
      const known = node.children.get(key);
      if (known !== undefined) return known;
      const child: PrefixNode = { page, parent: node, key, children: new Map(), gone: false };
      state.hold(page);
      node.children.set(key, child);
      this.touch(child);
      return child;
    },
    touch(node) {
      for (let n: PrefixNode | null = node; n !== null && n !== root; n = n.parent) {
        order.delete(n);
        order.add(n);
      }
    },
    evict(count) {
      let freed = 0;
      for (const node of order) {
        if (freed >= count) return freed;
        if (node.children.size > 0 || state.holders(node.page) > 1) continue;
        drop(node);
        freed++;
      }
      // A page in use may keep unused ones before it, where two sequences computed the same beginning at the same time.
      for (const node of order) {
        if (freed >= count) return freed;
        if (node.children.size > 0) continue;
        if (state.holders(node.page) === 1) freed++;
        drop(node);
      }
      return freed;
    },
    size: () => order.size,
  };
}

/** The 64 ids of a page as a string: what a Map finds fast. */
export function pageKey(ids: Int32Array, at: number): string {
  const units = new Uint16Array(ids.buffer, ids.byteOffset + 4 * at, 2 * PAGE);
  return String.fromCharCode.apply(null, units as unknown as number[]);
}

/**
 * When tensors are freed. Handles made inside a scope are freed at its end, except the ones it returns; `keep()` takes one out of
 * every scope. Outside all scopes a handle lives until it is disposed or, as a safety net, until JavaScript collects it, which
 * never happens inside a synchronous loop. The live handles are one stack; a scope is a mark on it.
 */
import { GroundupError } from "../errors.ts";
import type { Tensor } from "./tensor.ts";

/** The part of a tensor that scopes see: whether it was freed, and who holds it. */
export abstract class Handle {
  /** @internal Where the handle was freed, once it was. */
  freedBy: string | null = null;
  /** @internal True for a handle outside every scope, or taken out of them by `keep`. */
  watched = false;
  /** @internal True where the safety net holds an entry for it. */
  registered = false;
}

const live: Tensor[] = [];
/** Where each scope around begins on the stack, the innermost last. */
const marks: number[] = [];

/** A node of the graph, as far as scopes care. */
interface GraphNode {
  readonly done: boolean;
  /** True when `keep()` holds one of its results. */
  pinned: boolean;
  readonly ctx: { readonly inputs: readonly (Tensor | null)[] };
  release(): void;
  /** Puts what it saved under the safety net. */
  guard(): void;
}

/** Nodes made since the outermost scope began. */
const nodes: GraphNode[] = [];

/** @internal Enters a new node: what it saved is freed with the outermost scope unless a result that leaves it leads there; then, and outside all scopes, the safety net holds it. */
export function trackNode(node: GraphNode): void {
  if (marks.length > 0) nodes.push(node);
  else node.guard();
}

const net = new FinalizationRegistry<{ release(): void }>((storage) => storage.release());

/** Handles that the safety net should hold, if they live until the turn ends: most are freed before. */
let waiting: Tensor[] = [];
const MOST_WAITING = 1024;
let turnEnds = false;

/** @internal Enters a new handle: on the stack of the scope around, or under the safety net where there is none. */
export function track<T extends Tensor>(t: T): T {
  if (marks.length === 0) watch(t);
  else {
    if (t.watched) untrack(t);
    live.push(t);
  }
  return t;
}

/** Puts a handle under the safety net. Finalisers run between turns only, so nothing is lost when it is entered at the end of this one. */
function watch(t: Tensor): void {
  if (t.watched) return;
  t.watched = true;
  if (waiting.push(t) >= MOST_WAITING) enterWaiting();
  if (turnEnds) return;
  turnEnds = true;
  queueMicrotask(() => {
    turnEnds = false;
    enterWaiting();
  });
}

function enterWaiting(): void {
  const handles = waiting;
  waiting = [];
  for (const t of handles) {
    if (t.freedBy !== null || !t.watched || t.registered) continue;
    t.registered = true;
    net.register(t, t.storage, t);
  }
}

/** @internal A freed handle needs no safety net. (Entries of collected handles would pile up until the next turn of the event loop.) */
export function untrack(t: Tensor): void {
  t.watched = false;
  if (!t.registered) return;
  t.registered = false;
  net.unregister(t);
}

/** @internal The mark of an inner scope, for operations and modules. */
export function enter(): number {
  marks.push(live.length);
  return live.length;
}

/** @internal Ends an inner scope: frees what was made since the mark, but not the results nor what `keep` has taken out. */
export function leave(mark: number, by: string, results: Tensor | readonly (Tensor | null)[] | undefined): void {
  marks.pop();
  if (live.length === mark && (marks.length > 0 || nodes.length === 0)) return;
  let to = mark;
  // Most functions make one tensor and give it: that needs no search.
  if (live.length === mark + 1 && live[mark] === results) to++;
  else {
    const list = Array.isArray(results) ? results : null;
    const many = list !== null && list.length > FEW ? new Set<Tensor | null>(list) : null;
    for (let i = mark; i < live.length; i++) {
      const t = live[i] as Tensor;
      if (t.freedBy !== null || t.watched) continue;
      if (t === results || (many === null ? list?.includes(t) : many.has(t))) live[to++] = t;
      else t.dispose(by);
    }
    while (live.length > to) live.pop();
  }
  if (marks.length > 0) return;
  if (nodes.length > 0) releaseNodes(results === undefined ? NONE : Array.isArray(results) ? results : [results]);
  // What leaves the outermost scope is only watched by the safety net.
  while (live.length > mark) watch(live.pop() as Tensor);
}

/** Up to here a list is searched faster than a set is made. */
const FEW = 8;
const NONE: readonly Tensor[] = [];

const isTensor = (value: unknown): value is Tensor => value instanceof Handle;

/** Frees what the outermost scope's nodes have saved, but not those that lead to a tensor which leaves it: a forward pass whose graph nobody can reach any more. */
function releaseNodes(leaving: readonly (Tensor | null)[]): void {
  // After a backward pass hardly any is left.
  const made = new Set<GraphNode>();
  for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) if (!node.done) made.add(node);
  if (made.size === 0) return;
  const reached: GraphNode[] = [];
  const visit = (node: GraphNode | null): void => {
    if (node === null || !made.delete(node)) return;
    node.guard();
    reached.push(node);
  };
  for (const t of leaving) visit(t?.node ?? null);
  for (const node of [...made]) if (node.pinned) visit(node);
  for (let i = 0; i < reached.length; i++) for (const input of (reached[i] as GraphNode).ctx.inputs) visit(input?.node ?? null);
  for (const node of made) node.release();
}

/** The tensors in a result: alone, or inside arrays, plain objects, Maps and what says that it holds some. */
function tensorsIn(value: unknown): Tensor | readonly Tensor[] | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (isTensor(value)) return value;
  const found: Tensor[] = [];
  collect(value, found);
  return found;
}

function collect(value: unknown, into: Tensor[], level = 0): void {
  if (typeof value !== "object" || value === null || level > 4) return;
  if (isTensor(value)) {
    into.push(value);
    return;
  }
  if (ArrayBuffer.isView(value)) return;
  if (value instanceof Map) for (const v of value.values()) collect(v, into, level + 1);
  else if (Array.isArray(value)) for (const v of value) collect(v, into, level + 1);
  else if ("heldTensors" in value && typeof value.heldTensors === "function") collect(value.heldTensors(), into, level + 1);
  else {
    const proto = Object.getPrototypeOf(value);
    if (proto === Object.prototype || proto === null) for (const v of Object.values(value)) collect(v, into, level + 1);
  }
}

/**
 * Runs a synchronous function and frees every tensor made in it, except those it returns (alone, or inside arrays, plain objects and Maps).
 * Wrap each step of a training loop in one. A function that returns a Promise is an error: its later half would run outside.
 */
export function scope<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T {
  const mark = enter();
  let results: Tensor | readonly Tensor[] | undefined;
  try {
    const result: unknown = fn();
    // A tensor is no promise: most results need no look for `then`.
    if (!isTensor(result) && typeof (result as PromiseLike<unknown> | undefined)?.then === "function")
      throw new GroundupError("scope: expected a synchronous function, got one that returned a Promise. Read numbers with await outside the scope");
    results = tensorsIn(result);
    return result as T;
  } finally {
    leave(mark, "the end of its scope", results);
  }
}

/**
 * Takes a tensor out of every scope: it lives until `dispose()` (parameters, optimiser state, caches), or until JavaScript collects a handle that
 * nobody holds any more.
 */
export function keep<T extends Tensor>(t: T): T {
  if (t.node !== null) t.node.pinned = true;
  watch(t);
  // The scope around need not remember it. Further down the stack it stays until its scope ends, which then passes it over.
  if (live.length > (marks.at(-1) ?? 0) && live[live.length - 1] === t) live.pop();
  return t;
}

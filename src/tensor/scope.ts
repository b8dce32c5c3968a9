/**
 * When tensors are freed. Handles made inside a scope are freed at its end, except the ones it returns; `keep()` takes one out of
 * every scope. Outside all scopes a handle lives until it is disposed or, as a safety net, until JavaScript collects it, which
 * never happens inside a synchronous loop. The live handles are one stack; a scope is a mark on it.
 */
import { GroundupError } from "../errors.ts";
import type { Tensor } from "./tensor.ts";

const live: Tensor[] = [];
let depth = 0;

interface Held {
  storage: { release(): void } | null;
}

const net = new FinalizationRegistry<Held>((held) => held.storage?.release());
const heldBy = new WeakMap<Tensor, Held>();

/** @internal Enters a new handle. */
export function track<T extends Tensor>(t: T): T {
  live.push(t);
  return t;
}

/** @internal A disposed handle needs no safety net. */
export function untrack(t: Tensor): void {
  if (depth > 0) return;
  const held = heldBy.get(t);
  if (held !== undefined) held.storage = null;
}

/** @internal The mark of an inner scope, for operations and modules. */
export function enter(): number {
  depth++;
  return live.length;
}

/** @internal Ends an inner scope: frees what was made since the mark, but not the tensors of `result` nor kept ones. */
export function leave(mark: number, by: string, result: unknown): void {
  depth--;
  if (live.length === mark) return;
  if (live.length === mark + 1 && live[mark] === result) {
    if (depth === 0) escape(mark);
    return;
  }
  const kept = new Set<Tensor>();
  collect(result, kept);
  let to = mark;
  for (let i = mark; i < live.length; i++) {
    const t = live[i] as Tensor;
    if (t.freedBy !== null) continue;
    if (kept.has(t)) live[to++] = t;
    else t.dispose(by);
  }
  live.length = to;
  if (depth === 0) escape(mark);
}

/** What leaves the outermost scope is only watched by the safety net. */
function escape(mark: number): void {
  for (let i = mark; i < live.length; i++) {
    const t = live[i] as Tensor;
    if (t.freedBy !== null) continue;
    const held = { storage: t.storage };
    heldBy.set(t, held);
    net.register(t, held);
  }
  live.length = mark;
}

/** @internal Moves handles made outside any scope under the safety net. */
export function settle(): void {
  if (depth === 0 && live.length > 0) escape(0);
}

function collect(value: unknown, into: Set<Tensor>, level = 0): void {
  if (typeof value !== "object" || value === null || level > 4) return;
  if ("storage" in value && "shape" in value) {
    into.add(value as Tensor);
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
  settle();
  const mark = enter();
  let result: unknown;
  try {
    result = fn();
    if (typeof (result as PromiseLike<unknown> | undefined)?.then === "function") {
      result = undefined;
      throw new GroundupError("scope: expected a synchronous function, got one that returned a Promise. Read numbers with await outside the scope");
    }
  } finally {
    leave(mark, "the end of its scope", result);
  }
  return result as T;
}

/** Takes a tensor out of every scope: it lives until `dispose()` (parameters, optimiser state, caches). */
export function keep<T extends Tensor>(t: T): T {
  const at = live.lastIndexOf(t);
  if (at >= 0) live.splice(at, 1);
  return t;
}

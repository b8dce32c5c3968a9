/**
 * What forward leaves for backward: every differentiable operation leaves a node that remembers its inputs and what its backward rule needs. `backward.ts`
 * walks the nodes. First order only.
 */
import { GroundupError } from "../errors.ts";
import { autocastPrecision } from "./autocast.ts";
import type { DType } from "./kernels.ts";
import { track, trackNode } from "./scope.ts";
import { type Shape, show } from "./shape.ts";
import { type Owner, ownerNamed } from "./storage.ts";
import { allocate, type Tensor } from "./tensor.ts";

let recording = true;
let newest = 0;

/** @internal The order of the node that was made last. */
export const newestNode = (): number => newest;

/** True where operations leave nodes. */
export const gradEnabled = (): boolean => recording;

/** Runs a synchronous function without a graph: evaluation, optimisers, layer state. */
export function noGrad<T>(fn: () => T extends PromiseLike<unknown> ? never : T): T {
  const before = recording;
  recording = false;
  try {
    const result = fn();
    if (typeof (result as unknown as PromiseLike<unknown> | undefined)?.then === "function") {
      throw new GroundupError("noGrad: expected a synchronous function, got one that returned a Promise. Await outside of it");
    }
    return result as T;
  } finally {
    recording = before;
  }
}

/** Runs a function with a graph again, inside noGrad (activation checkpointing). */
export function enableGrad<T>(fn: () => T): T {
  const before = recording;
  recording = true;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** An operation's name, its account, and in words what frees its tensors: made once, for all of its calls. */
export interface Label {
  readonly name: string;
  readonly owner: Owner;
  readonly end: string;
  readonly backward: string;
}

export const labelled = (name: string): Label => ({ name, owner: ownerNamed(name), end: `the end of ${name}`, backward: `backward of ${name}` });

/** What an operation's rules see: a place to put what backward needs, and allocation under the operation's name. */
export class Context {
  readonly label: Label;
  /** True when a graph is being recorded for this call. */
  readonly records: boolean;
  /** Of matrix products when this call was made; its backward rule runs in the same. */
  readonly precision = autocastPrecision();
  /** Numbers that backward needs besides tensors (a random stream's place, say). */
  note: unknown = null;
  /** @internal True while the graph is kept for another pass. */
  retained = false;
  /** @internal */
  saved: (Tensor | null)[] = NOTHING;
  /** @internal */
  versions: readonly number[] = NO_VERSIONS;
  /** @internal The tensor inputs, in order. */
  inputs: readonly (Tensor | null)[];

  constructor(label: Label, records: boolean, inputs: readonly (Tensor | null)[]) {
    this.label = label;
    this.records = records;
    this.inputs = inputs;
  }

  /** A new tensor with undefined items. */
  out(shape: Shape, dtype: DType = "f32"): Tensor {
    return allocate(shape, dtype, this.label.owner);
  }

  /** Remembers tensors for backward, in order. Nothing happens where no graph is recorded. */
  save(...tensors: (Tensor | null)[]): void {
    if (!this.records) return;
    const versions = new Array<number>(tensors.length);
    for (let i = 0; i < tensors.length; i++) {
      const t = tensors[i] as Tensor | null;
      versions[i] = t === null ? 0 : t.storage.version;
      // The list is this call's own.
      tensors[i] = t === null ? null : t.alias();
    }
    this.saved = this.saved.length === 0 ? tensors : [...this.saved, ...tensors];
    this.versions = this.versions.length === 0 ? versions : [...this.versions, ...versions];
  }

  /** A remembered tensor; throws when it was written in place since. */
  get(i: number): Tensor {
    const t = this.saved[i];
    if (!t) throw new GroundupError(`${this.label.name}: internal: saved tensor ${i} is absent`);
    if (t.storage.version !== this.versions[i]) {
      throw new GroundupError(
        `${this.label.name}: backward needs a tensor ${show(t.shape)} that was changed in place after the forward pass. Run backward() before the optimiser's step or the write`,
      );
    }
    return t;
  }

  /** Hands over a remembered tensor for good, null where null was saved: a rule that can run once only need not copy it. */
  take(i: number): Tensor | null {
    const t = this.maybe(i);
    if (t === null) return null;
    this.saved[i] = null;
    return track(t);
  }

  /** Frees a remembered tensor that a rule has no more use for, so that what it allocates next can lie there; a graph that is kept keeps it. */
  drop(i: number): void {
    const t = this.saved[i];
    if (this.retained || !t) return;
    t.dispose(this.label.backward);
    this.saved[i] = null;
  }

  /** As get, null where null was saved. */
  maybe(i: number): Tensor | null {
    return this.saved[i] === null ? null : this.get(i);
  }

  /** True when input i (counted among the tensor arguments) wants a gradient. */
  needs(i: number): boolean {
    return this.inputs[i]?.requiresGrad === true;
  }

  /**
   * Where the gradient of input i gathers already, when the rule may add to it directly: a leaf's that has one and no hooks, or what has arrived
   * for another node's result and nobody else holds. Saves a copy and an addition. A rule that has added to it returns ACCUMULATED for this input.
   */
  gathered(i: number): Tensor | null {
    const t = this.inputs[i];
    if (!t || t.gradHooks !== null) return null;
    const { node } = t;
    const g = node === null ? t.grad : (node.arrived[t.nodeOutput] as Tensor | null);
    if (g === null || !g.isContiguous || g.dtype !== "f32") return null;
    return node === null || g.storage.unshared ? g : null;
  }
}

const NOTHING: (Tensor | null)[] = [];
const NO_VERSIONS: readonly number[] = [];

/** A rule's answer for an input whose gradient it has added to `gathered(i)`. */
export const ACCUMULATED = Symbol("accumulated");
export type Gradient = Tensor | null | typeof ACCUMULATED;

/**
 * Gradients of the tensor inputs, in order; `null` where none is needed. `args` are those of the call, `gradients[i]` is that of result i (null: nobody
 * used it).
 */
export type BackwardRule<Args extends readonly unknown[] = readonly unknown[]> = (ctx: Context, args: Args, ...gradients: Tensor[]) => Gradient[];

export class GradNode {
  readonly order = ++newest;
  readonly ctx: Context;
  readonly rule: BackwardRule<never>;
  args: readonly unknown[];
  readonly outputs: readonly { shape: Shape; dtype: DType }[];
  done = false;
  /** True when `keep()` holds one of the results: a scope's end leaves the graph alone. */
  pinned = false;
  /** @internal The walk of `backward` that met it last. */
  walk = 0;
  /** Gradients of the results that have arrived. */
  arrived: (Tensor | null)[];
  hooks: ((gradient: Tensor) => Tensor | undefined)[][] | null = null;

  constructor(ctx: Context, rule: BackwardRule<never>, args: readonly unknown[], outputs: readonly Tensor[]) {
    this.ctx = ctx;
    this.rule = rule;
    this.args = args;
    const n = outputs.length;
    const made = new Array<{ shape: Shape; dtype: DType }>(n);
    const arrived = new Array<Tensor | null>(n);
    for (let i = 0; i < n; i++) {
      const { shape, dtype } = outputs[i] as Tensor;
      made[i] = { shape, dtype };
      arrived[i] = null;
    }
    this.outputs = made;
    this.arrived = arrived;
  }

  get name(): string {
    return this.ctx.label.name;
  }

  release(): void {
    const { ctx } = this;
    const { saved, label } = ctx;
    for (let i = 0; i < saved.length; i++) saved[i]?.dispose(label.backward);
    ctx.saved = NOTHING;
    ctx.inputs = NO_INPUTS;
    this.args = NO_ARGUMENTS;
    this.done = true;
  }

  guard(): void {
    if (this.ctx.saved.length > 0) graveyard.register(this, this.ctx.saved);
  }
}

const NO_INPUTS: readonly (Tensor | null)[] = [];
const NO_ARGUMENTS: readonly unknown[] = [];

/** @internal Frees what a node has saved when the graph itself is thrown away without a backward pass. */
const graveyard = new FinalizationRegistry<(Tensor | null)[]>((saved) => {
  for (const t of saved) t?.dispose("the garbage collector");
});

/** @internal Joins results to a new node. */
export function attach(ctx: Context, rule: BackwardRule<never>, args: readonly unknown[], outputs: readonly Tensor[]): void {
  const node = new GradNode(ctx, rule, args, outputs);
  for (let i = 0; i < outputs.length; i++) {
    const t = outputs[i] as Tensor;
    if (t.dtype === "i32" || t.dtype === "bool" || t.dtype === "u8") continue;
    t.node = node;
    t.nodeOutput = i;
  }
  trackNode(node);
}

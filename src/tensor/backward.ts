/**
 * `backward()`: walks the nodes of a graph from the newest to the oldest (an order in which every node comes after all that used its result), calls each
 * rule once, adds up gradients that meet, and frees the node.
 */
import { GroundupError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { autocastPrecision, inPrecision } from "./autocast.ts";
import { ACCUMULATED, type BackwardRule, type Gradient, type GradNode, newestNode, noGrad } from "./autograd.ts";
import { backend } from "./backend.ts";
import { ITEM_BYTES } from "./kernels.ts";
import { enter, keep, leave, track } from "./scope.ts";
import { sameShape, show, sizeOf } from "./shape.ts";
import { ownerNamed } from "./storage.ts";
import { allocate, checkTensor, type Tensor } from "./tensor.ts";

let insideBackward = false;

export interface BackwardOptions {
  /** The gradient of this tensor; default 1 for a tensor with one item. */
  gradient?: Tensor;
  /** Keep the graph for another pass. */
  retainGraph?: boolean;
}

const OPTIONS: KnownOptions<BackwardOptions> = { gradient: true, retainGraph: true };

/**
 * Adds the gradient of `root` with respect to every leaf that wants one to the leaf's `.grad`, and frees the graph as it goes.
 * @throws GroundupError when root has several items and no gradient is given, or the graph was freed already.
 */
export function backward(root: Tensor, options: BackwardOptions = {}): void {
  checkTensor("backward", root);
  root.check("backward");
  checkOptions("backward", options, OPTIONS);
  if (insideBackward)
    throw new GroundupError(
      "backward: gradients of gradients are not supported (first order only). Write the second derivative out, or use finite differences",
    );
  if (!root.requiresGrad)
    throw new GroundupError("backward: expected a tensor with a graph, got one without. Were its inputs made with requiresGrad, and outside noGrad?");
  if (options.gradient === undefined && root.size !== 1) {
    throw new GroundupError(
      `backward: expected a tensor with one item, or a gradient for it, got shape ${show(root.shape)}. Sum it first, or pass { gradient }`,
    );
  }
  if (options.gradient !== undefined && !sameShape(options.gradient.shape, root.shape)) {
    throw new GroundupError(`backward: expected a gradient of shape ${show(root.shape)}, got ${show(options.gradient.shape)}`);
  }
  const mark = enter();
  insideBackward = true;
  try {
    noGrad(() => run(root, options));
  } finally {
    insideBackward = false;
    leave(mark, "backward()", undefined);
  }
}

function run(root: Tensor, options: BackwardOptions): void {
  let seed: Tensor;
  if (options.gradient === undefined) {
    seed = allocate(root.shape, "f32", ownerNamed("gradients"));
    backend().fill(seed, 0, seed.size, 1);
  } else {
    seed = track(options.gradient.alias());
  }
  hooked.clear();
  try {
    walk([root], [seed], -1, options.retainGraph === true);
    for (const [leaf, sum] of hooked) {
      const g = (leaf.gradHooks ?? []).reduce((x, hook) => hook(x) ?? x, sum);
      addToLeaf(leaf, g === sum ? g : track(g.alias()));
    }
  } finally {
    for (const [leaf, sum] of hooked) if (leaf.grad !== sum) sum.dispose("backward()");
    hooked.clear();
  }
}

/** Delivers gradients to results and carries them down to the leaves. Nodes of `floor` and before must not be met. */
function walk(roots: readonly Tensor[], gradients: readonly (Tensor | null)[], floor: number, retain: boolean): void {
  const nodes = reachable(
    roots.flatMap((t) => t.node ?? []),
    floor,
  );
  try {
    for (let i = 0; i < roots.length; i++) if (gradients[i]) deliver(roots[i] as Tensor, gradients[i] as Tensor);
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i] as GradNode;
      node.ctx.retained = retain;
      propagate(node);
      if (!retain) node.release();
    }
  } catch (error) {
    // The gradients on their way are freed with backward's scope; a retained graph must not meet them again.
    for (const node of nodes) node.arrived.fill(null);
    throw error;
  }
}

/**
 * @internal Inside a backward rule: computes something anew with a graph and takes gradients of its results through it, down to its leaves.
 * A node from before that is reached by another way than the rule's inputs is an error: its gradient would be lost.
 */
export function backwardWithin(name: string, compute: () => Tensor | Tensor[], gradients: readonly (Tensor | null)[]): void {
  const floor = newestNode();
  const out = compute();
  const results = Array.isArray(out) ? out : [out];
  const differentiable = results.map((t, i) => ({ t, g: gradients[i] ? track((gradients[i] as Tensor).alias()) : null })).filter(({ t }) => t.requiresGrad);
  try {
    walk(
      differentiable.map((d) => d.t),
      differentiable.map((d) => d.g),
      floor,
      false,
    );
  } catch (error) {
    if (error !== FOREIGN) throw error;
    throw new GroundupError(`${name}: its function uses a tensor with a graph from outside, expected it among the inputs. Pass it as an argument`);
  }
}

const FOREIGN = Symbol("a node from before");

/** Gradients of leaves with hooks, summed until the whole is known: a hook sees one gradient a backward pass. */
const hooked = new Map<Tensor, Tensor>();

/** Calls a node's rule, if a gradient has arrived, and hands the gradients on. What the rule made besides is freed at once. */
function propagate(node: GradNode): void {
  const { ctx, arrived } = node;
  let reached = false;
  for (let i = 0; i < arrived.length; i++) if (arrived[i] !== null) reached = true;
  if (!reached) return;
  const mark = enter();
  const passed: Tensor[] = [];
  try {
    const gradients = (node.hooks === null ? arrived : arrived.map((g, i) => hookedGradient(g, node.hooks?.[i]))) as Tensor[];
    const { inputs } = ctx;
    const results = ctx.precision === autocastPrecision() ? ruled(node, gradients) : inPrecision(ctx.precision, () => ruled(node, gradients));
    if (results.length !== inputs.length) {
      throw new GroundupError(`backward of ${node.name}: internal: expected ${inputs.length} gradients, got ${results.length}`);
    }
    for (let i = 0; i < inputs.length; i++) {
      const input = inputs[i];
      const g = results[i];
      if (g === ACCUMULATED) {
        if (input?.grad) input.grad.storage.version++;
        continue;
      }
      if (!input || g === null || g === undefined || !input.requiresGrad) continue;
      // A gradient that is handed on unchanged, or to two inputs, gets a handle of its own for each.
      const shared = gradients.includes(g) || results.indexOf(g) !== i;
      deliver(input, shared ? track(g.alias()) : g);
      if (input.node !== null) passed.push(input.node.arrived[input.nodeOutput] as Tensor);
    }
    for (let i = 0; i < arrived.length; i++) {
      arrived[i]?.dispose(ctx.label.backward);
      arrived[i] = null;
    }
  } finally {
    leave(mark, ctx.label.backward, passed);
  }
}

function ruled({ rule, ctx, args }: GradNode, gradients: readonly Tensor[]): Gradient[] {
  return (rule as BackwardRule)(ctx, args, ...gradients);
}

/** A result's gradient as its hooks leave it. */
function hookedGradient(g: Tensor | null, hooks: readonly ((gradient: Tensor) => Tensor | undefined)[] | undefined): Tensor {
  return (g === null || hooks === undefined ? g : hooks.reduce((x, hook) => hook(x) ?? x, g)) as Tensor;
}

let walks = 0;

/** All unfinished nodes that lead to these, newest first. */
function reachable(from: readonly GradNode[], floor: number): GradNode[] {
  const walk = ++walks;
  const found: GradNode[] = [];
  const meet = (node: GradNode): void => {
    if (node.walk === walk) return;
    node.walk = walk;
    found.push(node);
  };
  from.forEach(meet);
  for (let i = 0; i < found.length; i++) {
    const node = found[i] as GradNode;
    if (node.order <= floor) throw FOREIGN;
    if (node.done) {
      throw new GroundupError(
        `backward: the graph of ${node.name} was freed by an earlier backward(). Run the forward pass again, or pass { retainGraph: true } the first time`,
      );
    }
    const { inputs } = node.ctx;
    for (let j = 0; j < inputs.length; j++) {
      const before = inputs[j]?.node;
      if (before) meet(before);
    }
  }
  return found.sort((a, b) => b.order - a.order);
}

function deliver(to: Tensor, g: Tensor): void {
  if (!sameShape(to.shape, g.shape)) throw new GroundupError(`backward: internal: gradient of shape ${show(g.shape)} for a tensor of shape ${show(to.shape)}`);
  const node = to.node;
  if (node === null) {
    deliverToLeaf(to, g);
    return;
  }
  const i = to.nodeOutput;
  const before = node.arrived[i] as Tensor | null;
  if (before === null) {
    node.arrived[i] = g;
  } else if (before.isContiguous && before.storage.unshared) {
    backend().axpby(1, before, 1, contiguousOf(g), before, before.size);
  } else {
    const sum = allocate(to.shape, "f32", ownerNamed("gradients"));
    backend().axpby(1, contiguousOf(before), 1, contiguousOf(g), sum, sum.size);
    before.dispose("backward()");
    node.arrived[i] = sum;
  }
}

function contiguousOf(t: Tensor): Tensor {
  if (t.isContiguous) return t;
  const out = allocate(t.shape, t.dtype, ownerNamed("gradients"));
  backend().copy(t, t.strides, out, out.strides, t.shape, ITEM_BYTES[t.dtype]);
  return out;
}

function deliverToLeaf(leaf: Tensor, gradient: Tensor): void {
  if (!leaf.requiresGrad) return;
  if (leaf.gradHooks === null) {
    addToLeaf(leaf, gradient);
    return;
  }
  const before = hooked.get(leaf);
  const sum = keep(allocate(leaf.shape, "f32", ownerNamed("gradients")));
  backend().axpby(1, contiguousOf(gradient), before === undefined ? 0 : 1, before ?? null, sum, sum.size);
  before?.dispose("backward()");
  hooked.set(leaf, sum);
}

function addToLeaf(leaf: Tensor, g: Tensor): void {
  if (leaf.grad === null) {
    if (g.isContiguous && g.storage.unshared && g.node === null) {
      leaf.grad = keep(g);
    } else {
      const from = contiguousOf(g);
      leaf.grad = keep(allocate(leaf.shape, "f32", ownerNamed("gradients")));
      backend().axpby(1, from, 0, null, leaf.grad, from.size);
    }
    return;
  }
  leaf.grad.check("backward");
  backend().axpby(1, leaf.grad, 1, contiguousOf(g), leaf.grad, sizeOf(leaf.shape));
  leaf.grad.storage.version++;
}

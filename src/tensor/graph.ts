/** Looking at the graph: hooks on gradients, and the graph as text. */
import { GroundupError } from "../errors.ts";
import type { GradNode } from "./autograd.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** Sees a gradient and may give another of its shape in its place. The tensor lives only as long as the call: `keep(g.clone())` holds on to it. */
export type GradientHook = ((gradient: Tensor) => Tensor | undefined) | ((gradient: Tensor) => void);

/**
 * Calls `hook` whenever backward() has the whole gradient of this tensor: for a leaf before it is added to `.grad`, for a result before
 * it flows on. Hooks run in the order in which they were registered. Returns a function that removes the hook.
 */
export function registerHook(t: Tensor, hook: GradientHook): () => void {
  t.check("registerHook");
  if (!t.requiresGrad) throw new GroundupError("registerHook: expected a tensor that takes part in a graph, got one without requiresGrad");
  const checked = (g: Tensor): Tensor | undefined => {
    const other = (hook(g) ?? undefined) as Tensor | undefined;
    if (other !== undefined && show(other.shape) !== show(g.shape))
      throw new GroundupError(`registerHook: expected a gradient of shape ${show(g.shape)} from the hook, got ${show(other.shape)}`);
    return other;
  };
  const node = t.node;
  if (node === null) {
    t.gradHooks ??= [];
    t.gradHooks.push(checked);
  } else {
    if (node.done) throw new GroundupError("registerHook: the graph was freed by backward(), expected a hook before it");
    node.hooks ??= [];
    node.hooks[t.nodeOutput] ??= [];
    (node.hooks[t.nodeOutput] as unknown[]).push(checked);
  }
  return () => {
    const left = (list: ((g: Tensor) => Tensor | undefined)[] | null | undefined) => (list ?? []).filter((h) => h !== checked);
    if (node !== null) {
      if (node.hooks?.[t.nodeOutput]) node.hooks[t.nodeOutput] = left(node.hooks[t.nodeOutput]);
    } else {
      const rest = left(t.gradHooks);
      t.gradHooks = rest.length > 0 ? rest : null;
    }
  };
}

/**
 * The graph behind a tensor as text, one operation a line from the result down: number, name, dtype and shape of what it made, and
 * its inputs by number; leaves that gather gradients are lettered, and `·` is an input without a gradient.
 */
export function printGraph(t: Tensor): string {
  const root = t.node;
  const what = (x: { dtype: string; shape: readonly number[] }) => `${x.dtype}${show(x.shape)}`;
  if (root === null) return `${t.requiresGrad ? "leaf" : "constant"} ${what(t)}\n`;
  const nodes = new Set<GradNode>([root]);
  for (const n of nodes) for (const input of n.ctx.inputs) if (input?.node) nodes.add(input.node);
  const order = [...nodes].sort((a, b) => a.order - b.order);
  const number = new Map(order.map((n, i) => [n, i + 1]));
  const leaves = new Map<Tensor, string>();
  const letter = (leaf: Tensor): string => {
    const known = leaves.get(leaf);
    if (known !== undefined) return known;
    const i = leaves.size;
    const name = i < 26 ? String.fromCharCode(97 + i) : `p${i}`;
    leaves.set(leaf, name);
    return name;
  };
  const rows = order.map((n) => {
    const inputs = n.ctx.inputs.map((x) => (!x?.requiresGrad ? "·" : x.node === null ? letter(x) : `${number.get(x.node)}`));
    return [`${number.get(n)}`, n.name, n.outputs.map(what).join(" "), n.done ? "(freed)" : `← ${inputs.join(", ")}`];
  });
  for (const [leaf, name] of leaves) rows.unshift([name, "leaf", what(leaf), ""]);
  const width = (i: number) => Math.max(...rows.map((r) => (r[i] as string).length));
  return rows
    .reverse()
    .map((r) => `${(r[0] as string).padStart(width(0))}  ${(r[1] as string).padEnd(width(1))}  ${(r[2] as string).padEnd(width(2))}  ${r[3]}`.trimEnd())
    .join("\n")
    .concat("\n");
}

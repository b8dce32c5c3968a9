/** Functions with a gradient rule of their own, and activation checkpointing, which is one. */
import { GroundupError } from "../errors.ts";
import { attach, Context, enableGrad, type Gradient, gradEnabled, labelled, noGrad } from "./autograd.ts";
import { backwardWithin } from "./backward.ts";
import { type RandomStream, streams } from "./random.ts";
import { enter, leave, track } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { Tensor, zeros } from "./tensor.ts";

/** What forward leaves for backward. */
export interface FunctionContext {
  /** Remembers tensors for backward; call it once. A tensor that is written in place before backward is an error. */
  save(...tensors: Tensor[]): void;
  /** What `save` was given. */
  readonly saved: Tensor[];
  /** True when input i (counted from 0) wants a gradient. */
  needsGradient(i: number): boolean;
  /** Anything else: numbers, options. */
  note: unknown;
}

export interface CustomFunction<Out extends Tensor | Tensor[]> {
  readonly name: string;
  /** The result, computed without a graph. */
  readonly forward: (ctx: FunctionContext, ...inputs: Tensor[]) => Out;
  /** One gradient for each input, of its shape, or null; from one for each result (zeros where nobody used a result). */
  readonly backward: (ctx: FunctionContext, ...gradients: Tensor[]) => (Tensor | null)[];
}

const isWhole = (t: Tensor): boolean => t.dtype === "i32" || t.dtype === "u8" || t.dtype === "bool";

function contextFor(ctx: Context): FunctionContext {
  return {
    save: (...tensors) => ctx.save(...tensors),
    get saved() {
      return ctx.saved.map((_, i) => ctx.get(i));
    },
    needsGradient: (i) => ctx.needs(i),
    note: null,
  };
}

/** Results that are inputs, or come from elsewhere, get a handle of their own, which the new node can own. */
function ownResults(out: Tensor | Tensor[], inputs: readonly Tensor[]): Tensor | Tensor[] {
  const own = (t: Tensor) => (t.node !== null || t.requiresGrad || inputs.includes(t) ? t.detach() : t);
  return Array.isArray(out) ? out.map(own) : own(out);
}

/**
 * A differentiable function with forward and backward written by hand, as `torch.autograd.Function`.
 * @example
 * const cube = customFunction({
 *   name: "cube",
 *   forward: (ctx, x) => { ctx.save(x); return x.mul(x).mul(x); },
 *   backward: (ctx, g) => [g.mul(ctx.saved[0].square()).mul(3)],
 * });
 */
export function customFunction<Out extends Tensor | Tensor[] = Tensor>(declaration: CustomFunction<Out>): (...inputs: Tensor[]) => Out {
  const { name, forward, backward } = declaration;
  const label = labelled(name);
  return (...inputs) => {
    for (const t of inputs) {
      if (!(t instanceof Tensor)) throw new GroundupError(`${name}: expected tensors, got ${typeof t}. Put other arguments into the closure`);
      t.check(name);
    }
    const ctx = new Context(label, gradEnabled() && inputs.some((t) => t.requiresGrad), inputs);
    const own = contextFor(ctx);
    const mark = enter();
    let out: Tensor | Tensor[] | undefined;
    try {
      out = ownResults(
        noGrad<Tensor | Tensor[]>(() => forward(own, ...inputs)),
        inputs,
      );
      if (ctx.records) {
        const results = Array.isArray(out) ? out : [out];
        const shapes = results.map((t) => t.shape);
        attach(ctx, (_, __, ...gradients) => checked(name, inputs, backward(own, ...shapes.map((s, i) => gradients[i] ?? zeros(s)))), inputs, results);
      }
    } finally {
      leave(mark, label.end, out);
    }
    return out as Out;
  };
}

function checked(name: string, inputs: readonly Tensor[], gradients: (Tensor | null)[]): Gradient[] {
  if (gradients.length !== inputs.length)
    throw new GroundupError(`backward of ${name}: expected ${inputs.length} gradients, one an input, got ${gradients.length}. Return null where there is none`);
  for (const [i, g] of gradients.entries()) {
    const x = inputs[i] as Tensor;
    if (g !== null && !sameShape(g.shape, x.shape))
      throw new GroundupError(`backward of ${name}: expected gradient ${i} of shape ${show(x.shape)}, got ${show(g.shape)}`);
  }
  return gradients;
}

const CHECKPOINT = labelled("checkpoint");

const places = (): number[] => Object.values(streams).map((s: RandomStream) => s.position);
const moveTo = (positions: readonly number[]): void => {
  for (const [i, s] of Object.values(streams).entries()) s.position = positions[i] as number;
};

/**
 * fn(...inputs) whose inner results are not kept for backward but computed again there (Chen et al. 2016): memory for time. The default random
 * streams are set back for the second run, so that dropout is the same and every gradient has the bytes of the plain run.
 * Tensors with a graph must come in as inputs; parameters may be in the closure.
 */
export function checkpoint<Out extends Tensor | Tensor[]>(fn: (...inputs: Tensor[]) => Out, ...inputs: Tensor[]): Out {
  for (const t of inputs) t.check("checkpoint");
  if (!gradEnabled()) return fn(...inputs);
  const ctx = new Context(CHECKPOINT, true, inputs);
  const wants = inputs.map((t) => t.requiresGrad);
  const before = places();
  const mark = enter();
  let out: Tensor | Tensor[] | undefined;
  try {
    out = ownResults(
      noGrad<Tensor | Tensor[]>(() => fn(...inputs)),
      inputs,
    );
    ctx.save(...inputs);
    attach(ctx, (c, _, ...gradients) => recompute(fn, c, wants, before, gradients), inputs, Array.isArray(out) ? out : [out]);
  } finally {
    leave(mark, CHECKPOINT.end, out);
  }
  return out as Out;
}

function recompute(
  fn: (...inputs: Tensor[]) => Tensor | Tensor[],
  ctx: Context,
  wants: readonly boolean[],
  before: readonly number[],
  gradients: readonly Tensor[],
): Gradient[] {
  const inputs = wants.map((wanted, i) => {
    const t = track(ctx.get(i).alias());
    if (wanted && !isWhole(t)) t.requiresGrad = true;
    return t;
  });
  const now = places();
  moveTo(before);
  try {
    backwardWithin("checkpoint", () => enableGrad(() => fn(...inputs)), gradients);
  } finally {
    moveTo(now);
  }
  return inputs.map((t) => (t.grad === null ? null : track(t.grad)));
}

/**
 * What an operation is: one declaration of its name, its shape rule, its forward and backward rules, and samples. The samples
 * generate its tests (`ops/contract.test.ts`): native against reference, gradient against central differences, both against
 * PyTorch. A missing rule does not compile; an operation that is not declared here does not exist.
 */
import { attach, type BackwardRule, Context, type Gradient, gradEnabled, labelled } from "./autograd.ts";
import { enter, leave } from "./scope.ts";
import type { Shape } from "./shape.ts";
import { notTensor, refuseQuantized, Tensor } from "./tensor.ts";

/** One call to test. Tensors in `args` are made anew for each use, in the backend under test. */
export interface Sample<Args extends readonly unknown[]> {
  /** What is particular about this call. */
  readonly name: string;
  readonly args: () => Args;
  /** The same call in PyTorch, for the fixture: an expression over x0, x1, … (the tensor arguments in order), tensors of an options object by their names, `F`, `torch`, `math`, and `W` (the dtype: float64 or float32). */
  readonly torch?: string;
  /** False where central differences do not apply (a kink at the sample, random results). */
  readonly differences?: boolean;
}

export interface OpDeclaration<Args extends readonly unknown[], Out extends Tensor | Tensor[]> {
  readonly name: string;
  /** How many arguments from the first must be tensors, or lists of them; default 1. */
  readonly tensors?: number;
  /** Which arguments may be block-quantised matrices; default none. */
  readonly quantized?: readonly number[];
  /** The shape of the (first) result; throws ShapeError in words when the arguments do not fit. */
  readonly shape: (...args: Args) => Shape;
  readonly forward: (ctx: Context, shape: Shape, ...args: Args) => Out;
  /**
   * The gradients of the tensor arguments, in order, from those of the results (undefined: nobody used that result); or in words why there is
   * none. Tensor arguments may be gone by then: read their shapes from `args`, their items from what forward saved.
   */
  readonly backward: ((ctx: Context, args: Args, ...gradients: Tensor[]) => Gradient[]) | `none: ${string}`;
  readonly samples: () => readonly Sample<Args>[];
  /** A fused operation's plain form in other operations: its test, its documentation, and what runs when something inside is watched. */
  readonly composed?: (...args: Args) => Out;
}

/** A declaration with the function it made. */
export type Operation<Args extends readonly unknown[], Out extends Tensor | Tensor[]> = OpDeclaration<Args, Out> & { readonly call: (...args: Args) => Out };

/** A function made of operations, with samples to test it by; it needs no rules of its own. */
export interface Composition<Args extends readonly unknown[], Out extends Tensor | Tensor[]> {
  readonly name: string;
  readonly call: (...args: Args) => Out;
  readonly samples: () => readonly Sample<Args>[];
}

/**
 * Sees a tensor inside a fused operation under its name there, and gives what takes its place (the same one, or another of its shape). An operation
 * that gets one runs its composed form. `sequence` counts ragged rows' sequences, which come one by one.
 */
export type Watch = (name: string, t: Tensor, sequence: number) => Tensor;

/** Every declared operation, for the tests and the docs. */
export const operations = new Map<string, Operation<never, Tensor | Tensor[]>>();

/** Declares an operation and gives its function. */
export function defineOp<Args extends readonly unknown[], Out extends Tensor | Tensor[] = Tensor>(
  declaration: OpDeclaration<Args, Out>,
): (...args: Args) => Out {
  const { name, tensors = 1, quantized, shape, forward, backward } = declaration;
  if (operations.has(name)) throw new Error(`operation ${name} is declared twice`);
  const label = labelled(name);
  const rule: BackwardRule<never> | null = typeof backward === "function" ? (backward as BackwardRule<never>) : null;
  // What the rules see where no graph is recorded: nothing is put there, so all calls share it.
  const unrecorded = new Context(label, false, NO_INPUTS);
  const call = (...args: Args): Out => {
    let wanted = false;
    for (let i = 0; i < args.length; i++) {
      const a = args[i];
      if (a instanceof Tensor) {
        a.check(name);
        if (a.isQuantized && !quantized?.includes(i)) refuseQuantized(name, a);
        if (a.requiresGrad) wanted = true;
      } else if (Array.isArray(a) && (a.length === 0 || a[0] instanceof Tensor)) {
        for (let j = 0; j < a.length; j++) {
          const t = a[j] as Tensor;
          t.check(name);
          if (t.isQuantized && !quantized?.includes(i)) refuseQuantized(name, t);
          if (t.requiresGrad) wanted = true;
        }
      } else if (i < tensors) {
        notTensor(name, a, i);
      }
    }
    if (args.length < tensors) notTensor(name, undefined, args.length);
    const records = wanted && rule !== null && gradEnabled();
    const ctx = records ? new Context(label, true, tensorsOf(args)) : unrecorded;
    const mark = enter();
    let out: Out | undefined;
    try {
      out = forward(ctx, shape(...args), ...args);
      if (rule !== null && records) attach(ctx, rule, args, Array.isArray(out) ? out : [out as Tensor]);
    } finally {
      leave(mark, label.end, out);
    }
    return out as Out;
  };
  operations.set(name, { ...declaration, call } as unknown as Operation<never, Tensor | Tensor[]>);
  return call;
}

const NO_INPUTS: readonly Tensor[] = [];

/** The tensors among arguments, those in lists too, in order. */
function tensorsOf(args: readonly unknown[]): Tensor[] {
  const found: Tensor[] = [];
  for (let i = 0; i < args.length; i++) {
    const a = args[i];
    if (a instanceof Tensor) found.push(a);
    else if (Array.isArray(a) && a[0] instanceof Tensor) for (let j = 0; j < a.length; j++) found.push(a[j]);
  }
  return found;
}

/**
 * One call over all parameters for each step of an optimiser, and two looks at gradients. They write in place and are not part of
 * the graph; `src/optim/` keeps the states and decides the numbers.
 */
import { ShapeError } from "../../errors.ts";
import { backend } from "../backend.ts";
import { enter, leave } from "../scope.ts";
import { sameShape, show } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { packed } from "./movement.ts";

/** What every optimiser's step takes: list entry i belongs to parameter i. */
export interface StepLists {
  readonly parameters: readonly Tensor[];
  readonly gradients: readonly Tensor[];
  readonly learningRates: readonly number[];
  readonly weightDecays: readonly number[];
  /** Multiplies every gradient first (clipping); default 1. */
  readonly gradScale?: number;
}

/** The lists as kernels want them: contiguous float32, one size each. States are written in place, so they are never copied. */
function checked(op: string, { parameters, gradients }: StepLists, states: readonly (readonly Tensor[])[]): { gradients: Tensor[]; sizes: number[] } {
  for (const list of [gradients, ...states]) {
    if (list.length !== parameters.length)
      throw new ShapeError(
        `${op}: lists of different lengths, expected ${parameters.length} tensors, got ${list.length}. Give one of each for every parameter`,
      );
  }
  const contiguous: Tensor[] = [];
  const sizes: number[] = [];
  for (let i = 0; i < parameters.length; i++) {
    const p = parameters[i] as Tensor;
    const g = gradients[i] as Tensor;
    checkOne(op, p, p, i, true);
    checkOne(op, g, p, i, false);
    for (let s = 0; s < states.length; s++) checkOne(op, states[s]?.[i] as Tensor, p, i, true);
    contiguous.push(packed(g));
    sizes.push(p.size);
  }
  return { gradients: contiguous, sizes };
}

function checkOne(op: string, t: Tensor, parameter: Tensor, place: number, written: boolean): void {
  t.check(op);
  if (t.dtype !== "f32" || !sameShape(t.shape, parameter.shape))
    throw new ShapeError(`${op}: expected f32${show(parameter.shape)} like its parameter, got ${t.dtype}${show(t.shape)} at place ${place}`);
  if (written && !t.isContiguous) throw new ShapeError(`${op}: expected contiguous parameters and states, got strides ${show(t.strides)} at place ${place}`);
}

function step(op: string, lists: StepLists, states: readonly (readonly Tensor[])[], run: (gradients: Tensor[], sizes: number[]) => void): void {
  const mark = enter();
  try {
    const { gradients, sizes } = checked(op, lists, states);
    if (sizes.length === 0) return;
    run(gradients, sizes);
    for (const t of lists.parameters) t.storage.version++;
    for (const list of states) for (const t of list) t.storage.version++;
  } finally {
    leave(mark, `the end of ${op}`, undefined);
  }
}

/** Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019) or L2. `step` counts from 1. */
export function adamwStep(
  lists: StepLists,
  means: readonly Tensor[],
  squares: readonly Tensor[],
  options: { beta1: number; beta2: number; eps: number; step: number; decoupled: boolean },
): void {
  const { parameters, learningRates, weightDecays, gradScale = 1 } = lists;
  step("adamw", lists, [means, squares], (gradients, sizes) =>
    backend().adamw(
      parameters,
      gradients,
      means,
      squares,
      sizes,
      learningRates,
      weightDecays,
      options.beta1,
      options.beta2,
      options.eps,
      options.step,
      gradScale,
      options.decoupled ? 1 : 0,
    ),
  );
}

/** Stochastic gradient descent, optionally with momentum (as PyTorch: no dampening) or Nesterov's; `first` starts the velocities from the gradient. */
export function sgdStep(lists: StepLists, velocities: readonly Tensor[] | null, options: { momentum: number; nesterov: boolean; first: boolean }): void {
  const { parameters, learningRates, weightDecays, gradScale = 1 } = lists;
  step("sgd", lists, velocities === null ? [] : [velocities], (gradients, sizes) =>
    backend().sgd(
      parameters,
      gradients,
      velocities ?? parameters,
      sizes,
      learningRates,
      weightDecays,
      options.momentum,
      options.nesterov ? 1 : 0,
      options.first ? 1 : 0,
      gradScale,
    ),
  );
}

/** RMSprop (Hinton 2012, lecture 6e). */
export function rmspropStep(lists: StepLists, squares: readonly Tensor[], options: { alpha: number; eps: number }): void {
  const { parameters, learningRates, weightDecays, gradScale = 1 } = lists;
  step("rmsprop", lists, [squares], (gradients, sizes) =>
    backend().rmsprop(parameters, gradients, squares, sizes, learningRates, weightDecays, options.alpha, options.eps, gradScale),
  );
}

/** √Σ x² over all items of all tensors (f32), summed in float64: the global gradient norm. */
export function globalNorm(tensors: readonly Tensor[]): number {
  if (tensors.length === 0) return 0;
  const mark = enter();
  try {
    const parts = tensors.map((t) => {
      t.check("globalNorm");
      if (t.dtype !== "f32") throw new ShapeError(`globalNorm: expected f32 tensors, got ${t.dtype}${show(t.shape)}`);
      return packed(t);
    });
    return Math.sqrt(
      backend().sumSquares(
        parts,
        parts.map((t) => t.size),
      ),
    );
  } finally {
    leave(mark, "the end of globalNorm", undefined);
  }
}

/** The place (row-major) of the first NaN or infinity of a tensor (f32), or −1. */
export function firstNonFinite(t: Tensor): number {
  t.check("firstNonFinite");
  if (t.dtype !== "f32") throw new ShapeError(`firstNonFinite: expected an f32 tensor, got ${t.dtype}${show(t.shape)}`);
  const mark = enter();
  try {
    return t.size === 0 ? -1 : backend().firstNonFinite(packed(t), t.size);
  } finally {
    leave(mark, "the end of firstNonFinite", undefined);
  }
}

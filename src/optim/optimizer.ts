/** What all optimisers share: parameter groups, gradients, clipping, and a state that a checkpoint can hold. */
import { ConfigError, FormatError, NonFiniteError } from "../errors.ts";
import type { Module } from "../nn/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { firstNonFinite, globalNorm, keep, type StepLists, type Tensor, zeros } from "../tensor/index.ts";

/** Parameters with settings of their own. */
export interface ParameterGroup {
  /** Named, so that a saved state finds them again. */
  readonly parameters: readonly (readonly [name: string, parameter: Tensor])[];
  /** Default: the optimiser's. */
  readonly weightDecay?: number;
  /** Multiplies the optimiser's learning rate; default 1. */
  readonly learningRateScale?: number;
}

const GROUP: KnownOptions<ParameterGroup> = { parameters: true, weightDecay: true, learningRateScale: true };

/** A module (all parameters alike), groups, or a plain list of tensors. */
export type Trainable = Module | readonly ParameterGroup[] | readonly Tensor[];

/** Everything an optimiser remembers: plain numbers, and tensors by `<parameter>.<state>`. */
export interface OptimizerState {
  readonly kind: string;
  /** Steps taken so far. */
  readonly step: number;
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** What `Optimizer.step` measured on its way. */
export interface StepResult {
  /** The norm of all gradients before clipping; null where `maxGradNorm` was not given. */
  readonly gradNorm: number | null;
}

/** Moves parameters by their gradients. Made by `sgd`, `rmsprop`, `adam` and `adamw`. */
export interface Optimizer {
  readonly kind: string;
  /** The base learning rate of the next step. A schedule sets it: `optimizer.learningRate = base * factor(step)`. */
  learningRate: number;
  /** Steps taken so far. */
  readonly steps: number;
  /**
   * Moves every parameter that has a gradient, in one kernel call over all of them.
   * @throws NonFiniteError naming the first bad gradient (with `maxGradNorm`), before anything has changed
   */
  step(): StepResult;
  /** Drops the gradients. */
  zeroGrad(): void;
  state(): OptimizerState;
  /** Takes over a saved state by copying. @throws FormatError when it belongs to another optimiser or other parameters */
  loadState(state: OptimizerState): void;
  /** Frees the state. */
  dispose(): void;
}

/** What every optimiser takes. */
export interface CommonOptions {
  lr: number;
  /** Gradients are scaled down together when their norm is above this; Infinity measures only. Default: neither. */
  maxGradNorm?: number;
}

interface Member {
  readonly name: string;
  readonly parameter: Tensor;
  readonly weightDecay: number;
  readonly scale: number;
  /** One tensor for each name in `slots`, made at the first step. */
  states: Tensor[] | null;
}

export interface Update {
  readonly lists: StepLists;
  /** states[slot][i] belongs to parameter i. */
  readonly states: readonly (readonly Tensor[])[];
  /** Counts from 1. */
  readonly step: number;
}

function isGroups(list: readonly (ParameterGroup | Tensor)[]): list is readonly ParameterGroup[] {
  return list.length > 0 && "parameters" in (list[0] as object);
}

function groupsOf(trainable: Trainable): readonly ParameterGroup[] {
  if (!Array.isArray(trainable)) return [{ parameters: [...(trainable as Module).namedParameters()] }];
  const list = trainable as readonly (ParameterGroup | Tensor)[];
  return isGroups(list) ? list : [{ parameters: (list as readonly Tensor[]).map((p, i) => [String(i), p] as const) }];
}

/** The number must be at least 0 (and below `limit`). */
export function checkNumber(op: string, name: string, value: number, limit = Number.POSITIVE_INFINITY): void {
  if (!(value >= 0) || value >= limit) {
    throw new ConfigError(
      `${op}: bad ${name}, expected a number of at least 0${limit === Number.POSITIVE_INFINITY ? "" : ` and below ${limit}`}, got ${value}. Correct it.`,
    );
  }
}

/**
 * An optimiser from its update rule. `slots` name the state tensors of each parameter, all zero at first.
 * @throws ConfigError for bad numbers or a parameter that comes twice
 */
export function createOptimizer(
  kind: string,
  trainable: Trainable,
  options: CommonOptions & { weightDecay: number },
  slots: readonly string[],
  update: (u: Update) => void,
): Optimizer {
  const { maxGradNorm } = options;
  checkNumber(kind, "lr", options.lr);
  checkNumber(kind, "weightDecay", options.weightDecay);
  if (maxGradNorm !== undefined && !(maxGradNorm > 0))
    throw new ConfigError(`${kind}: bad maxGradNorm, expected more than 0, got ${maxGradNorm}. Leave it out to turn clipping off.`);
  const members = groupsOf(trainable).flatMap((group): Member[] => {
    checkOptions(`${kind}, parameter group`, group, GROUP);
    return group.parameters.map(([name, parameter]) => ({
      name,
      parameter,
      weightDecay: group.weightDecay ?? options.weightDecay,
      scale: group.learningRateScale ?? 1,
      states: null,
    }));
  });
  if (members.length === 0) throw new ConfigError(`${kind}: nothing to train, expected at least one parameter, got none. Pass a module or its parameters.`);
  const [names, tensors] = [new Set<string>(), new Set<Tensor>()];
  for (const { name, parameter } of members) {
    if (names.has(name) || tensors.has(parameter))
      throw new ConfigError(`${kind}: parameter ${name} comes twice, expected each in one group. Remove it from the others.`);
    names.add(name);
    tensors.add(parameter);
  }
  let steps = 0;
  // What stays the same from step to step as long as the same parameters have gradients.
  let fixed: { moving: readonly Member[]; parameters: Tensor[]; weightDecays: number[]; states: Tensor[][] } | null = null;

  function fixedOf(moving: readonly Member[]): NonNullable<typeof fixed> {
    const before = fixed;
    if (before !== null && same(before.moving, moving)) return before;
    const states = moving.map(statesOf);
    fixed = {
      moving,
      parameters: moving.map((m) => m.parameter),
      weightDecays: moving.map((m) => m.weightDecay),
      states: slots.map((_, slot) => states.map((list) => list[slot] as Tensor)),
    };
    return fixed;
  }

  function statesOf(m: Member): Tensor[] {
    m.states ??= slots.map(() => keep(zeros(m.parameter.shape)));
    return m.states;
  }

  return {
    kind,
    learningRate: options.lr,
    get steps() {
      return steps;
    },
    step() {
      const moving: Member[] = [];
      const gradients: Tensor[] = [];
      const learningRates: number[] = [];
      for (const m of members) {
        const { grad, requiresGrad } = m.parameter;
        if (grad === null || !requiresGrad) continue;
        moving.push(m);
        gradients.push(grad);
        learningRates.push(this.learningRate * m.scale);
      }
      let gradNorm: number | null = null;
      let gradScale = 1;
      if (maxGradNorm !== undefined) {
        gradNorm = globalNorm(gradients);
        if (!Number.isFinite(gradNorm)) throw badGradient(kind, moving, steps + 1);
        gradScale = clipFactor(gradNorm, maxGradNorm);
      }
      steps++;
      const { parameters, weightDecays, states } = fixedOf(moving);
      update({ lists: { parameters, gradients, learningRates, weightDecays, gradScale }, states, step: steps });
      return { gradNorm };
    },
    zeroGrad() {
      for (const { parameter } of members) {
        parameter.grad?.dispose("zeroGrad()");
        parameter.grad = null;
      }
    },
    state() {
      const all = members.flatMap((m) => (m.states ?? []).map((t, slot) => [`${m.name}.${slots[slot]}`, t] as const));
      return { kind, step: steps, tensors: new Map<string, Tensor>(all) };
    },
    loadState(state) {
      if (state.kind !== kind)
        throw new FormatError(`${kind}: a state of another optimiser, expected ${kind}, got ${state.kind}. Use the optimiser that the run began with.`);
      const known = new Map<string, { m: Member; i: number }>(members.flatMap((m) => slots.map((slot, i) => [`${m.name}.${slot}`, { m, i }] as const)));
      for (const [name, t] of state.tensors) {
        const at = known.get(name);
        if (at === undefined || at.m.parameter.shape.join() !== t.shape.join()) {
          throw new FormatError(
            `${kind}: the state does not fit the parameters, expected ${at === undefined ? "names of this model" : `shape (${at.m.parameter.shape.join(", ")})`}, got ${name} (${t.shape.join(", ")}). Load the model that the state belongs to.`,
          );
        }
      }
      for (const m of members) {
        for (const t of m.states ?? []) t.dispose("loadState()");
        m.states = null;
      }
      fixed = null;
      for (const [name, t] of state.tensors) {
        const { m, i } = known.get(name) as { m: Member; i: number };
        (statesOf(m)[i] as Tensor).write(t.dataSync());
      }
      steps = state.step;
    },
    dispose() {
      for (const m of members) {
        for (const t of m.states ?? []) t.dispose(`${kind}.dispose()`);
        m.states = null;
      }
      fixed = null;
    },
  };
}

function same<T>(a: readonly T[], b: readonly T[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function badGradient(kind: string, members: readonly Member[], step: number): NonFiniteError {
  for (const { name, parameter } of members) {
    const gradient = parameter.grad as Tensor;
    const place = firstNonFinite(gradient);
    if (place >= 0) {
      return new NonFiniteError(
        `${kind}: step ${step}: the gradient of ${name} is not finite, expected finite numbers, got ${(gradient.dataSync() as Float32Array)[place]} at place ${place} of (${gradient.shape.join(", ")}). Lower the learning rate, clip gradients, or look at the data of this step.`,
      );
    }
  }
  return new NonFiniteError(`${kind}: step ${step}: the norm of all gradients overflows, expected a finite number. Lower the learning rate or clip gradients.`);
}

/** What gradients of this norm are multiplied with so that it is at most `maxNorm`, as PyTorch has it (Pascanu et al. 2013, algorithm 1). */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm === Number.POSITIVE_INFINITY ? 1 : Math.min(1, maxNorm / (norm + 1e-6));
}

/** The usual two groups: weight decay for matrices and embeddings, none for norms and biases (rank below 2). */
export function decayGroups(module: Module, weightDecay: number): ParameterGroup[] {
  const named = [...module.namedParameters()];
  return [
    { parameters: named.filter(([, p]) => p.rank >= 2), weightDecay },
    { parameters: named.filter(([, p]) => p.rank < 2), weightDecay: 0 },
  ].filter((group) => group.parameters.length > 0);
}

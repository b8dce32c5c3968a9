/**
 * A module: parameters, buffers and inner modules under the names of its properties. A property's name is the name in the weight
 * file, so `namedParameters()` gives Hugging Face's names without a table. `forward` runs in a scope of its own: what it makes and
 * does not return is freed (or kept by the graph until backward has used it).
 */
import { GroundupError } from "../errors.ts";
import { keep, scope, Tensor } from "../tensor/index.ts";

const roles = new WeakMap<Tensor, "parameter" | "buffer">();

/** Marks a tensor as a trainable parameter that lives as long as its module. */
export function parameter(t: Tensor): Tensor {
  roles.set(keep(t), "parameter");
  t.requiresGrad = true;
  return t;
}

/** Marks a tensor as part of a module that is not trained (tables, running statistics). Not saved with the weights. */
export function buffer(t: Tensor): Tensor {
  roles.set(keep(t), "buffer");
  return t;
}

/** Sees a module's result, and may replace it. */
export type ForwardHook = (output: unknown, name: string) => unknown;

/** Glob (`*` within a name, `**` across dots) or regular expression over dotted names. */
export type Pattern = string | RegExp;

function matcher(pattern: Pattern): (name: string) => boolean {
  if (pattern instanceof RegExp) return (name) => pattern.test(name);
  const source = pattern.replace(/[.+^${}()|[\]\\?]/g, "\\$&").replace(/\*\*|\*/g, (stars) => (stars === "**" ? ".*" : "[^.]*"));
  const whole = new RegExp(`^${source}$`);
  return (name) => whole.test(name);
}

export abstract class Module {
  /** True while training: dropout drops. Set by `train()` and `eval()`. */
  training = true;
  private hooks: { name: string; hook: ForwardHook }[] | null = null;

  constructor() {
    // Every module's forward runs inside a scope, and shows its result to the hooks.
    const inner = this.forward;
    this.forward = (...inputs: never[]) =>
      scope(() => {
        let output: unknown = inner.apply(this, inputs);
        if (this.hooks !== null) for (const { name, hook } of this.hooks) output = hook(output, name) ?? output;
        return output as never;
      });
  }

  abstract forward(...inputs: never[]): unknown;

  /** The children under their property names; arrays count as `name.0`, `name.1`, … */
  *namedChildren(): Generator<[name: string, child: Module]> {
    for (const [key, value] of Object.entries(this)) {
      if (value instanceof Module) yield [key, value];
      else if (Array.isArray(value) && value[0] instanceof Module) for (const [i, child] of (value as Module[]).entries()) yield [`${key}.${i}`, child];
    }
  }

  /** This module and all inside it, under dotted names ("" is this one). */
  *namedModules(prefix = ""): Generator<[name: string, module: Module]> {
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(prefix === "" ? name : `${prefix}.${name}`);
  }

  private *tensors(role: "parameter" | "buffer"): Generator<[name: string, tensor: Tensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of this.namedModules()) {
      for (const [key, value] of Object.entries(module)) {
        if (!(value instanceof Tensor) || roles.get(value) !== role || seen.has(value)) continue;
        seen.add(value);
        yield [prefix === "" ? key : `${prefix}.${key}`, value];
      }
    }
  }

  /** Parameters under their dotted names; one that is shared comes once, under its first name. */
  namedParameters(): IterableIterator<[name: string, parameter: Tensor]> {
    return this.tensors("parameter");
  }

  namedBuffers(): IterableIterator<[name: string, buffer: Tensor]> {
    return this.tensors("buffer");
  }

  parameters(): Tensor[] {
    return [...this.namedParameters()].map(([, p]) => p);
  }

  /** The number of trained and frozen values, shared ones once. */
  parameterCount(): number {
    return this.parameters().reduce((n, p) => n + p.size, 0);
  }

  /** Parameters by name: what is saved. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.namedParameters());
  }

  /** The module with this dotted name. */
  get(name: string): Module {
    for (const [path, module] of this.namedModules()) if (path === name) return module;
    const names = [...this.namedModules()].map(([path]) => path).filter((path) => path !== "");
    throw new GroundupError(
      `module: no module is named "${name}", expected one of ${names.slice(0, 6).join(", ")}${names.length > 6 ? ", …" : ""}. Names come from namedModules()`,
    );
  }

  train(training = true): this {
    for (const [, module] of this.namedModules()) module.training = training;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** Excludes the parameters whose names match from training (all without a pattern); says how many. */
  freeze(pattern: Pattern = "**"): number {
    return this.setTrainable(pattern, false);
  }

  unfreeze(pattern: Pattern = "**"): number {
    return this.setTrainable(pattern, true);
  }

  private setTrainable(pattern: Pattern, trainable: boolean): number {
    const matches = matcher(pattern);
    let count = 0;
    for (const [name, p] of this.namedParameters()) {
      if (!matches(name)) continue;
      p.requiresGrad = trainable;
      count++;
    }
    if (count === 0)
      throw new GroundupError(`freeze: no parameter matches ${pattern}. Names come from namedParameters(), e.g. ${[...this.namedParameters()][0]?.[0]}`);
    return count;
  }

  /** Calls `hook` with the results of the modules whose names match; a value it returns replaces the result. Gives the function that removes it. */
  hook(pattern: Pattern, hook: ForwardHook): () => void {
    const matches = matcher(pattern);
    const touched = [...this.namedModules()].filter(([name]) => matches(name));
    if (touched.length === 0) throw new GroundupError(`hook: no module matches ${pattern}. Names come from namedModules()`);
    const entries = touched.map(([name, module]) => {
      const entry = { name, hook };
      module.hooks = [...(module.hooks ?? []), entry];
      return [module, entry] as const;
    });
    return () => {
      for (const [module, entry] of entries) {
        const rest = (module.hooks ?? []).filter((h) => h !== entry);
        module.hooks = rest.length > 0 ? rest : null;
      }
    };
  }

  /** Drops the gradients, so that the next backward begins anew. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose("zeroGrad()");
      p.grad = null;
    }
  }

  /** Frees parameters, gradients and buffers. */
  dispose(): void {
    this.zeroGrad();
    for (const [, t] of [...this.namedParameters(), ...this.namedBuffers()]) t.dispose("Module.dispose()");
  }

  /** @internal A module returned from a scope keeps what it holds. */
  heldTensors(): Tensor[] {
    return [...this.namedParameters(), ...this.namedBuffers()].map(([, t]) => t);
  }
}

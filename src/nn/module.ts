/**
 * A module: parameters, buffers and inner modules under the names of its properties. A property's name is the name in the weight
 * file, so `namedParameters()` gives Hugging Face's names without a table. `forward` runs in a scope of its own: what it makes and
 * does not return is freed (or kept by the graph until backward has used it).
 */
import { didYouMean } from "../did-you-mean.ts";
import { GroundupError, ShapeError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { keep, noGrad, scope, Tensor, type Watch } from "../tensor/index.ts";

type Role = "parameter" | "buffer" | "saved buffer";
const roles = new WeakMap<Tensor, Role>();

/** Marks a tensor as a trainable parameter that lives as long as its module. */
export function parameter(t: Tensor): Tensor {
  roles.set(keep(t), "parameter");
  t.requiresGrad = true;
  return t;
}

/**
 * Puts a tensor in a parameter's place, wherever in the module that is held; the former one is freed. For weights of another kind (block-quantised, or
 * lying the other way round), which are no values to copy: those that can't be trained are frozen.
 * @throws GroundupError where no parameter has the name, ShapeError where it has another shape
 */
export function replaceParameter(module: Module, name: string, t: Tensor): void {
  parameterReplacer(module)(name, t);
}

/** `replaceParameter` for many parameters of a module, which is walked through once: what it holds may be changed by the function alone in the meantime. */
export function parameterReplacer(module: Module): (name: string, t: Tensor) => void {
  const state = module.stateDict();
  const places = new Map<unknown, [held: Record<string, unknown>, key: string][]>();
  for (const [, inner] of module.namedModules()) {
    const held = inner as unknown as Record<string, unknown>;
    for (const [key, value] of Object.entries(held)) {
      if (!(value instanceof Tensor)) continue;
      const found = places.get(value);
      if (found === undefined) places.set(value, [[held, key]]);
      else found.push([held, key]);
    }
  }
  return (name, t) => {
    const former = state.get(name);
    if (former === undefined) throw new GroundupError(`replaceParameter: no such parameter, expected a name of stateDict(), got ${name}. Correct the name`);
    if (former.shape.join() !== t.shape.join())
      throw new ShapeError(
        `replaceParameter: expected ${name} of shape (${former.shape.join(", ")}), got (${t.shape.join(", ")}). The weight belongs elsewhere`,
      );
    roles.set(keep(t), roles.get(former) as Role);
    t.requiresGrad = !t.isQuantized && former.requiresGrad;
    const held = places.get(former) ?? [];
    for (const [module, key] of held) module[key] = t;
    state.set(name, t);
    places.delete(former);
    places.set(t, held);
    former.dispose("replaceParameter()");
  };
}

/** Marks a tensor as part of a module that is not trained: tables, which can be made again, or with `saved` what belongs to the weights (running statistics). */
export function buffer(t: Tensor, options: { saved?: boolean } = {}): Tensor {
  checkOptions("buffer", options, { saved: true });
  roles.set(keep(t), options.saved ? "saved buffer" : "buffer");
  return t;
}

/**
 * Sees what a watched name stands for, and may give what takes its place (a tensor of the same shape). Tensors are the module's: read them, or `keep` them.
 * `sequence` counts the sequences of ragged rows, where attention shows one after the other.
 */
export type ForwardHook<Output = Tensor> = (output: Output, name: string, sequence: number) => Output | undefined;

/** Glob (`*` within a name, `**` across dots) or regular expression over dotted names. */
export type Pattern = string | RegExp;

function matcher(pattern: Pattern): (name: string) => boolean {
  if (pattern instanceof RegExp) return (name) => pattern.test(name);
  const source = pattern.replace(/[.+^${}()|[\]\\?]/g, "\\$&").replace(/\*\*|\*/g, (stars) => (stars === "**" ? ".*" : "[^.]*"));
  const whole = new RegExp(`^${source}$`);
  return (name) => whole.test(name);
}

/** What a module owns beside tensors and modules, under a property: tables that grow, say. Its `dispose` is called by the module's. */
export abstract class Owned {
  /** Gives the memory back. It may be called again. */
  abstract dispose(): void;
}

interface Hook {
  /** What is watched in the module; "" is its result. */
  point: string;
  /** The name that the hook is told. */
  name: string;
  hook: ForwardHook<unknown>;
}

/** What a forward pass is given to add tensors to, beside its result: where tokens were sent, say. */
const isRecord = (input: unknown): boolean => typeof input === "object" && input !== null && !(input instanceof Tensor) && "heldTensors" in input;

/** A module and all inside it. A list: generators in generators take longer for each item the deeper it lies, and a model is walked through many times while it is opened. */
function modulesIn(module: Module, name: string, found: [name: string, module: Module][]): [name: string, module: Module][] {
  found.push([name, module]);
  for (const [key, child] of module.namedChildren()) modulesIn(child, name === "" ? key : `${name}.${key}`, found);
  return found;
}

/** A part of a model: parameters and parts are its properties, found by their names; a subclass writes `forward`. */
export abstract class Module {
  /** True while training: dropout drops. Set by `train()` and `eval()`. */
  training = true;
  private hooks: readonly Hook[] | null = null;

  constructor() {
    // Every module's forward runs inside a scope, and shows its result to the hooks.
    const inner = this.forward;
    this.forward = (...inputs: never[]) => {
      const run = () => this.see("", inner.apply(this, inputs) as unknown) as never;
      const record = inputs.find(isRecord);
      // What forward adds to a record lives as long as its result.
      return record === undefined ? scope(run) : scope(() => ({ output: run(), record })).output;
    };
  }

  abstract forward(...inputs: never[]): unknown;

  /** Names inside `forward` that can be watched besides its result; `forward` shows each with `see`, or has an operation show it (`watching`). */
  get points(): readonly string[] {
    return [];
  }

  /** For `forward`: shows a point to whoever watches it; what comes back takes its place. */
  see<T>(point: string, value: T, sequence = 0): T {
    if (this.hooks === null) return value;
    let now = value;
    for (const { point: watched, name, hook } of this.hooks) if (watched === point) now = replaced(name, now, hook(now, name, sequence) as T | undefined);
    return now;
  }

  /** For `forward`: what a fused operation takes to show these points, or undefined (and the operation stays fused) where nobody watches one. */
  watching(point: string, another = point): Watch | undefined {
    if (this.hooks === null || !this.hooks.some((hook) => hook.point === point || hook.point === another)) return undefined;
    return (name, t, sequence) => this.see(name, t, sequence);
  }

  /** The children under their property names; arrays count as `name.0`, `name.1`, … */
  *namedChildren(): Generator<[name: string, child: Module]> {
    for (const [key, value] of Object.entries(this)) {
      if (value instanceof Module) yield [key, value];
      else if (Array.isArray(value) && value[0] instanceof Module) for (const [i, child] of (value as Module[]).entries()) yield [`${key}.${i}`, child];
    }
  }

  /** This module and all inside it, under dotted names ("" is this one). */
  *namedModules(prefix = ""): Generator<[name: string, module: Module]> {
    yield* modulesIn(this, prefix, []);
  }

  private *tensors(...wanted: readonly Role[]): Generator<[name: string, tensor: Tensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of modulesIn(this, "", [])) {
      for (const key of Object.keys(module)) {
        const value = (module as unknown as Record<string, unknown>)[key];
        if (!(value instanceof Tensor) || !wanted.includes(roles.get(value) as Role) || seen.has(value)) continue;
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
    return this.tensors("buffer", "saved buffer");
  }

  parameters(): Tensor[] {
    return [...this.namedParameters()].map(([, p]) => p);
  }

  /** The number of trained and frozen values, shared ones once. */
  parameterCount(): number {
    return this.parameters().reduce((n, p) => n + p.size, 0);
  }

  /** Parameters and saved buffers by name: what belongs into a weight file. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.tensors("parameter", "saved buffer"));
  }

  /**
   * Copies values over the parameters and saved buffers of these names, all of them: what `stateDict` of a module of the same shape gives.
   * @throws GroundupError, before anything is changed, where a name is missing, unknown, or of another shape
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>): this {
    const own = this.stateDict();
    const missing = [...own.keys()].filter((name) => !state.has(name));
    const unknown = [...state.keys()].filter((name) => !own.has(name));
    if (missing.length > 0 || unknown.length > 0) {
      const some = (names: readonly string[]) => (names.length === 0 ? "none" : `${names.slice(0, 5).join(", ")}${names.length > 5 ? ", …" : ""}`);
      throw new GroundupError(`loadStateDict: expected this module's names, got ${some(missing)} missing and ${some(unknown)} unknown. Build it as it was`);
    }
    for (const [name, t] of state) {
      const { shape } = own.get(name) as Tensor;
      if (t.shape.join() !== shape.join())
        throw new ShapeError(`loadStateDict: expected ${name} of shape (${shape.join(", ")}), got (${t.shape.join(", ")}). Build the module as it was`);
      t.check("loadStateDict");
    }
    for (const [name, t] of state) if (own.get(name) !== t) own.get(name)?.write(t.dataSync());
    return this;
  }

  /** The parts as a tree, with what each holds itself; equal parts of a list are written once. So do `console.log` and template strings show a module. */
  toString(): string {
    const own = Object.entries(this).flatMap(([key, value]) =>
      value instanceof Tensor && roles.has(value)
        ? [`${key}: (${value.shape.join(", ")})${value.requiresGrad || roles.get(value) !== "parameter" ? "" : " frozen"}`]
        : [],
    );
    const lines: string[] = [];
    let [first, last, before] = ["", "", ""];
    const flush = () => {
      if (before !== "") lines.push(`${first === last ? first : `${first} … ${last}`}: ${before}`);
    };
    for (const [name, child] of this.namedChildren()) {
      const text = child.toString();
      if (text !== before || listOf(name) === null || listOf(name) !== listOf(first)) {
        flush();
        [first, before] = [name, text];
      }
      last = name;
    }
    flush();
    const parts = lines.map((line) => `\n  ${line.replaceAll("\n", "\n  ")}`).join("");
    return `${this.constructor.name}(${own.join(", ")}${parts}${parts === "" ? "" : "\n"})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  /** The module with this dotted name. */
  get(name: string): Module {
    for (const [path, module] of this.namedModules()) if (path === name) return module;
    throw new GroundupError(`module: ${this.unknownName(name)}`);
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

  /** All names that can be watched: of modules ("" is this one), and of the points inside them. */
  *namedPoints(): Generator<[name: string, module: Module, point: string]> {
    for (const [name, module] of this.namedModules()) {
      yield [name, module, ""];
      for (const point of module.points) yield [name === "" ? point : `${name}.${point}`, module, point];
    }
  }

  /**
   * Calls `hook` with the results of the modules, and the points inside them, whose names match; a tensor it returns takes the place of what it saw.
   * Points may make their operation run in its plain form, which is slower: a pattern has to name them, a last part of stars alone does not mean them.
   * @returns the function that removes the hook
   */
  hook<Output = Tensor>(pattern: Pattern, hook: ForwardHook<Output>): () => void {
    const matches = matcher(pattern);
    const modulesOnly = typeof pattern === "string" && /(^|\.)\*+$/.test(pattern);
    const touched = [...this.namedPoints()].filter(([name, , point]) => matches(name) && !(modulesOnly && point !== ""));
    if (touched.length === 0) throw new GroundupError(`hook: ${this.unknownName(pattern)}`);
    const entries = touched.map(([name, module, point]) => {
      const entry: Hook = { point, name, hook: hook as ForwardHook<unknown> };
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

  /**
   * Runs `fn` and keeps the tensors under all names that match, without their graph: `seen.get("model.layers.0.self_attn.probabilities")`. They belong to the
   * scope around.
   * @throws GroundupError when a name comes twice (several passes, ragged rows): a hook can tell them apart
   */
  record<T>(pattern: Pattern, fn: () => T extends PromiseLike<unknown> ? never : T): { result: T; seen: Map<string, Tensor> } {
    const seen = new Map<string, Tensor>();
    const unhook = this.hook<unknown>(pattern, (output, name) => {
      if (!(output instanceof Tensor)) return undefined;
      if (seen.has(name))
        throw new GroundupError(`record: ${name} came twice, expected one pass over a rectangle of sequences, got another tensor. Use hook() instead`);
      seen.set(name, keep(noGrad(() => output.detach())));
      return undefined;
    });
    try {
      const result = scope(fn);
      return { result, seen: new Map([...seen].map(([name, t]) => [name, t.detach()])) };
    } finally {
      unhook();
      for (const t of seen.values()) t.dispose("the end of record()");
    }
  }

  /** The words for a pattern that nothing matches: what the nearest module above it holds, and the likeliest name. */
  private unknownName(pattern: Pattern): string {
    const names = [...this.namedPoints()].map(([name]) => name).filter((name) => name !== "");
    const parts = String(pattern).split(".");
    let inside = names.filter((name) => !name.includes("."));
    let above = "";
    for (let n = parts.length - 1; n > 0; n--) {
      const prefix = `${parts.slice(0, n).join(".")}.`;
      const held = names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
      if (held.length === 0) continue;
      [inside, above] = [held.filter((name) => !name.includes(".")), prefix];
      break;
    }
    const last = parts.at(-1) as string;
    const hint = didYouMean(last, inside) || didYouMean(String(pattern), names);
    return `nothing is named ${pattern}, expected ${above}${inside.length === 1 ? inside[0] : `(${inside.join(", ")})`} or a pattern, got no match.${hint} Names come from namedPoints()`;
  }

  /** Drops the gradients, so that the next backward begins anew. */
  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose("zeroGrad()");
      p.grad = null;
    }
  }

  /** Frees parameters, gradients, buffers and what is `Owned`. */
  dispose(): void {
    this.zeroGrad();
    for (const [, t] of [...this.namedParameters(), ...this.namedBuffers()]) t.dispose("Module.dispose()");
    for (const [, module] of this.namedModules()) for (const value of Object.values(module)) if (value instanceof Owned) value.dispose();
  }

  /**
   * @internal A function that says, whenever it is called, whether the module is as it is now: the same parts, and in the same tensors the same values. Null while
   * somebody watches it, since hooks are JavaScript that has to run.
   */
  unchangedSince(): (() => boolean) | null {
    // Flat lists: between two steps of generation none of this is in the processor's caches any more, and each object on the way is a trip to memory.
    const [modules, modes]: [Module[], boolean[]] = [[], []];
    const [wheres, keys, values]: [Record<string, unknown>[], string[], (object | null)[]] = [[], [], []];
    const [lists, items]: [(readonly Module[])[], (readonly Module[])[]] = [[], []];
    const [tensors, versions]: [Tensor[], number[]] = [[], []];
    for (const [, module] of this.namedModules()) {
      if (module.hooks !== null) return null;
      modules.push(module);
      modes.push(module.training);
      for (const [key, value] of Object.entries(module)) {
        // What else a property may be (a number, a name) is set once, by the constructor.
        if (!(value === null || value instanceof Module || value instanceof Tensor || Array.isArray(value) || typeof value === "function")) continue;
        wheres.push(module as unknown as Record<string, unknown>);
        keys.push(key);
        values.push(value);
        if (value instanceof Tensor) {
          tensors.push(value);
          versions.push(value.storage.version);
        } else if (Array.isArray(value) && value[0] instanceof Module) {
          lists.push(value);
          items.push([...value]);
        }
      }
    }
    return () => {
      for (let i = 0; i < modules.length; i++) {
        const { hooks, training } = modules[i] as Module;
        if (hooks !== null || training !== modes[i]) return false;
      }
      for (let i = 0; i < wheres.length; i++) if ((wheres[i] as Record<string, unknown>)[keys[i] as string] !== values[i]) return false;
      for (let i = 0; i < lists.length; i++) if (items[i]?.some((item, j) => lists[i]?.[j] !== item)) return false;
      for (let i = 0; i < tensors.length; i++) {
        const { freedBy, storage } = tensors[i] as Tensor;
        if (freedBy !== null || storage.version !== versions[i]) return false;
      }
      return true;
    };
  }

  /** @internal A module returned from a scope keeps what it holds. */
  heldTensors(): Tensor[] {
    return [...this.namedParameters(), ...this.namedBuffers()].map(([, t]) => t);
  }
}

/** The list that a child is an item of: `h` of `h.0`, "" of a Sequential's `0`; null for a child of its own. */
const listOf = (name: string): string | null =>
  /^(?:(.*)\.)?\d+$/
    .exec(name)
    ?.slice(1)
    .map((list) => list ?? "")[0] ?? null;

/** What a hook gave, where it gave something. */
function replaced<T>(name: string, before: T, given: T | undefined): T {
  if (given === undefined) return before;
  if (before instanceof Tensor && !(given instanceof Tensor && given.shape.join() === before.shape.join())) {
    const got = given instanceof Tensor ? `one of shape (${given.shape.join(", ")})` : typeof given;
    throw new ShapeError(`hook: ${name}: expected nothing or a tensor of shape (${before.shape.join(", ")}), got ${got}. Return what should take its place`);
  }
  return given;
}

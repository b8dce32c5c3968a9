/** The sparse MLP of Mixtral, Qwen 3 and others: a router, and gated units side by side of which each token visits a few. */
import { init, Linear, Module, mixExperts, parameter, type RouteOptions, type RouteRecord, routeTokens } from "../nn/index.ts";
import { type GatedActivation, gated, groupedLinear, split, type Tensor, zeros } from "../tensor/index.ts";
import type { GgufName, WeightPart } from "./architecture.ts";

interface Sizes {
  experts: number;
  hidden: number;
  /** Neurons of one expert. */
  inner: number;
}

/** Gated units, the weights of all in two tensors. Names and shapes are transformers'. */
export class GatedExperts extends Module {
  /** (experts, 2 · inner, hidden): of each expert first the gate's rows, then those of what it lets through. */
  gate_up_proj: Tensor;
  /** (experts, hidden, inner). */
  down_proj: Tensor;
  private readonly inner: number;
  private readonly activation: GatedActivation;

  constructor({ experts, hidden, inner }: Sizes, activation: GatedActivation) {
    super();
    this.gate_up_proj = parameter(zeros([experts, 2 * inner, hidden]));
    this.down_proj = parameter(zeros([experts, hidden, inner]));
    this.inner = inner;
    this.activation = activation;
  }

  override get points() {
    return ["activation", "neurons"];
  }

  /** Rows sorted by expert (n, C), and how many each has → (n, C). */
  override forward(rows: Tensor, counts: Int32Array): Tensor {
    const [gate, up] = split(groupedLinear(rows, this.gate_up_proj, counts), [this.inner, this.inner], -1) as [Tensor, Tensor]; // (n, I) each
    const neurons = gated(gate, up, this.activation, this.watching("activation"));
    return groupedLinear(this.see("neurons", neurons), this.down_proj, counts);
  }
}

/** A router and its experts. */
export class SparseMLP extends Module {
  gate: Linear;
  experts: GatedExperts;
  private readonly count: number;
  private readonly route: RouteOptions;

  constructor(sizes: Sizes, activation: GatedActivation, route: RouteOptions) {
    super();
    this.gate = new Linear(sizes.hidden, sizes.experts, { bias: false });
    this.experts = new GatedExperts(sizes, activation);
    this.count = sizes.experts;
    this.route = route;
  }

  /** x (B, T, C) → residual + what the experts say (B, T, C); where tokens went is added to `record`. */
  override forward(x: Tensor, residual: Tensor, record: RouteRecord): Tensor {
    const rows = x.reshape([-1, x.shape.at(-1) as number]); // (B·T, C)
    const routes = routeTokens(this.gate.forward(rows), this.route);
    record.routes.push(routes);
    return residual.add(mixExperts(rows, routes, this.count, (sorted, counts) => this.experts.forward(sorted, counts)).reshape(x.shape));
  }
}

/** Fresh experts: every matrix from a normal of one width. */
export function initialiseExperts(model: Module, std: number): void {
  for (const [name, p] of model.namedParameters()) if (/\.experts\.(gate_up|down)_proj$/.test(name)) init.normal(p, { std });
}

/** How weight files hold these experts: a tensor for each one's gate, up and down, under these names. */
export function expertParts(place: string, names: { gate: string; up: string; down: string }): WeightPart[] {
  const [gateUp, down] = ["gate_up_proj", "down_proj"].map((name) => `model.layers.{i}.mlp.experts.${name}`) as [string, string];
  const file = (name: string) => `model.layers.{i}.${place}.experts.{e}.${name}.weight`;
  return [
    { ours: gateUp, file: file(names.gate), part: [0, 2] },
    { ours: gateUp, file: file(names.up), part: [1, 2] },
    { ours: down, file: file(names.down) },
  ];
}

/** Names of a router and its experts in GGUF files, where the gates and what they let through lie apart. */
export const EXPERT_NAMES: readonly GgufName[] = [
  ["blk.{i}.ffn_gate_inp", "model.layers.{i}.mlp.gate"],
  ["blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj 0/2"],
  ["blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj 1/2"],
  ["blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.down_proj"],
];

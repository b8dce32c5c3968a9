/**
 * Mixtures of experts: a router sends each token to a few of many MLPs and adds up what they say (Shazeer et al. 2017, arXiv:1701.06538; Fedus, Zoph and Shazeer 2022,
 * arXiv:2101.03961). The experts themselves are an architecture's own; what all of them share is here: choosing, sending, adding up, and the losses that keep the
 * load even.
 */
import { ConfigError, ShapeError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { indexSelect, logsumexp, noGrad, softmax, type Tensor, tensor, tensorFrom, topk } from "../tensor/index.ts";

/** Which experts each token goes to. */
export interface Routes {
  /** f32 (tokens, topK): what each expert's answer is multiplied by. */
  readonly weights: Tensor;
  /** i32 (tokens, topK), the likeliest expert first. */
  readonly experts: Tensor;
  /** f32 (tokens, experts): the router's scores, for the losses below. */
  readonly logits: Tensor;
}

/** Collects the routes of a forward pass; modules that get one leave what they add to it alive. */
export class RouteRecord {
  readonly routes: Routes[] = [];

  /** @internal */
  heldTensors(): Tensor[] {
    return this.routes.flatMap(({ weights, experts, logits }) => [weights, experts, logits]);
  }
}

/** How tokens are sent. */
export interface RouteOptions {
  /** Experts for each token. */
  topK: number;
  /**
   * What weighs an expert: "softmax" is its probability among all, "normalized" that probability over the sum of the chosen ones, which is the softmax of the
   * chosen ones' scores. Default "softmax".
   */
  weights?: "softmax" | "normalized";
}

const ROUTE: KnownOptions<RouteOptions> = { topK: true, weights: true };

/** The `topK` experts with the largest scores: logits f32 (tokens, experts). Of equal scores the expert with the smaller number is chosen. */
export function routeTokens(logits: Tensor, options: RouteOptions): Routes {
  checkOptions("routeTokens", options, ROUTE);
  const { topK, weights = "softmax" } = options;
  if (logits.rank !== 2) throw new ShapeError(`routeTokens: expected logits (tokens, experts), got (${logits.shape.join(", ")})`);
  const count = logits.shape[1] as number;
  if (!(Number.isInteger(topK) && topK >= 1 && topK <= count))
    throw new ConfigError(`routeTokens: expected topK from 1 to the ${count} experts, got ${topK}. Change one of them.`);
  if (weights === "normalized") {
    const chosen = topk(logits, topK);
    return { weights: softmax(chosen.values), experts: chosen.indices, logits };
  }
  const chosen = topk(softmax(logits), topK);
  return { weights: chosen.values, experts: chosen.indices, logits };
}

/** How answers are added up. */
export interface MixOptions {
  /** Tokens that an expert takes at most, as a multiple of its even share tokens · topK / experts (the capacity factor of Fedus et al.); what comes later in the batch gets no answer from it. Default: no limit. */
  capacity?: number;
}

const MIX: KnownOptions<MixOptions> = { capacity: true };

/**
 * Σ weight · expert(token) over each token's experts: x (tokens, dim) → (tokens, dim).
 *
 * @param run the experts: rows (n, dim), sorted by expert, and how many there are for each expert → (n, dim), as `groupedLinear` takes them
 */
export function mixExperts(x: Tensor, routes: Routes, count: number, run: (rows: Tensor, counts: Int32Array) => Tensor, options: MixOptions = {}): Tensor {
  checkOptions("mixExperts", options, MIX);
  const [tokens, k] = routes.experts.shape as [number, number];
  const chosen = routes.experts.dataSync() as Int32Array;
  const most = options.capacity === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor((options.capacity * tokens * k) / count));
  const { counts, order, place } = sortByExpert(chosen, count, most);
  const rows = indexSelect(x, 0, tensor(order.map((slot) => Math.floor(slot / k))));
  const answers = run(rows, counts); // (n, dim), sorted by expert
  const dropped = order.length < chosen.length;
  // Back in the order of the tokens; a slot without a place reads any row, and counts for nothing.
  const back = indexSelect(answers, 0, tensor(place.map((at) => Math.max(0, at)))).reshape([tokens, k, -1]);
  const kept = dropped
    ? routes.weights.mul(
        tensorFrom(
          Float32Array.from(place, (at) => (at < 0 ? 0 : 1)),
          [tokens, k],
        ),
      )
    : routes.weights;
  return back.mul(kept.unsqueeze(2)).sum(1);
}

/** Slots (token · k + i) sorted by expert, in the order of the tokens for each; how many each expert has; and for each slot its place there, or −1. */
function sortByExpert(experts: Int32Array, count: number, most: number): { counts: Int32Array; order: Int32Array; place: Int32Array } {
  const counts = new Int32Array(count);
  const rank = new Int32Array(experts.length).fill(-1);
  for (const [slot, expert] of experts.entries()) if ((counts[expert] as number) < most) rank[slot] = (counts[expert] as number)++;
  const starts = new Int32Array(count);
  for (let expert = 1; expert < count; expert++) starts[expert] = (starts[expert - 1] as number) + (counts[expert - 1] as number);
  const place = rank.map((r, slot) => (r < 0 ? -1 : (starts[experts[slot] as number] as number) + r));
  const order = new Int32Array(counts.reduce((sum, n) => sum + n, 0));
  for (const [slot, at] of place.entries()) if (at >= 0) order[at] = slot;
  return { counts, order, place };
}

/**
 * What an uneven load costs, over all routers of a model together (Fedus et al. 2022, equations 4 to 6, summed over a token's experts as transformers has it):
 * experts · Σ (share of the tokens that went to an expert) · (its mean probability). An even load gives topK, the least there is.
 */
export function loadBalancingLoss(routes: readonly Routes[]): Tensor {
  const [first] = routes;
  if (first === undefined) throw new ConfigError("loadBalancingLoss: expected the routes of at least one router, got none. Pass what routeTokens gave.");
  const count = first.logits.shape[1] as number;
  const load = expertLoad(routes);
  const tokens = routes.reduce((sum, { logits }) => sum + (logits.shape[0] as number), 0);
  const shares = tensor(Float32Array.from(load.counts, (n) => n / tokens));
  const [sum, ...rest] = routes.map(({ logits }) => softmax(logits).sum(0)) as [Tensor, ...Tensor[]];
  const probability = rest.reduce((a, b) => a.add(b), sum).mul(1 / tokens); // (experts)
  return probability.mul(shares).sum().mul(count);
}

/** Keeps the routers' scores small (Zoph et al. 2022, arXiv:2202.08906, equation 5): the mean of logsumexp(logits)² over all tokens and routers. */
export function routerZLoss(routes: readonly Routes[]): Tensor {
  const [first, ...rest] = routes.map(({ logits }) => logsumexp(logits, -1).square().mean());
  if (first === undefined) throw new ConfigError("routerZLoss: expected the routes of at least one router, got none. Pass what routeTokens gave.");
  return rest.reduce((a, b) => a.add(b), first).mul(1 / routes.length);
}

/** How evenly tokens are spread over the experts. */
export interface ExpertLoad {
  /** Tokens that went to each expert. */
  readonly counts: Float64Array;
  /** Standard deviation over mean of the counts: 0 where all are alike. */
  readonly variation: number;
}

/** The load of all routers together. */
export function expertLoad(routes: readonly Routes[]): ExpertLoad {
  return noGrad(() => {
    const counts = new Float64Array(routes[0]?.logits.shape[1] ?? 0);
    for (const { experts } of routes) for (const expert of experts.dataSync() as Int32Array) (counts[expert] as number)++;
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length;
    const variance = counts.reduce((sum, n) => sum + (n - mean) ** 2, 0) / counts.length;
    return { counts, variation: mean === 0 ? 0 : Math.sqrt(variance) / mean };
  });
}

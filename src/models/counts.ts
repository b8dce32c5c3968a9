/** What a model costs, by formula from its config, before anything is built: parameters, arithmetic, memory of its keys and values. */
import type { ModelDescription } from "./causal-lm.ts";

/** What a model costs, by formula. */
export interface ModelCounts {
  /** Trained values by part; shared ones once. */
  parameters: ParametersByPart & { total: number };
  /**
   * Floating-point operations for each token of a sequence of `length` tokens, on average: 2 for each weight of a matrix product (the
   * head included, tied or not) and 4 · layers · heads · headDim for each key that a query sees, (length + 1)/2 on average where no window hides some. Norms,
   * activations and softmax are left out, as is usual.
   */
  forwardFlops(length: number): number;
  /** Forward, and twice as much for the two products of each backward. */
  trainingFlops(length: number): number;
  /** Bytes that one position's keys and values take in all layers, as float32. */
  stateBytesPerToken: number;
  /** The same as float16 (`stateDtype: "f16"`). */
  stateBytesPerTokenF16: number;
}

/** Trained values of each part. */
export interface ParametersByPart {
  embedding: number;
  positions: number;
  attention: number;
  mlp: number;
  norms: number;
  head: number;
}

/** Pairs of a query and a key that it sees, over a sequence of `length`: a triangle, less what lies before the window. */
function pairs(length: number, window: number | null): number {
  const hidden = Math.max(0, length - (window ?? length));
  return (length * (length + 1)) / 2 - (hidden * (hidden + 1)) / 2;
}

/**
 * The counts of a decoder whose queries see every key before them, or a window of the last ones.
 *
 * @param parameters trained values by part
 * @param multiplied weights of the matrix products that each token takes part in, the head's included
 * @param queries items of one token's queries, in all layers: layers · heads · headDim
 * @param kept items of one token's keys and values, in all layers: 2 · layers · kvHeads · headDim
 * @param windows of each layer: how many keys a query sees at most, its own included; null is all
 */
export function countsFrom({
  parameters,
  multiplied,
  queries,
  kept,
  windows = [null],
}: {
  parameters: ParametersByPart;
  multiplied: number;
  queries: number;
  kept: number;
  windows?: readonly (number | null)[] | undefined;
}): ModelCounts {
  // A query is multiplied with each key, and each probability with a value of the same width.
  const seen = (length: number) => windows.reduce<number>((sum, window) => sum + pairs(length, window), 0) / windows.length / length;
  const forwardFlops = (length: number) => 2 * multiplied + 4 * queries * seen(length);
  return {
    parameters: { ...parameters, total: Object.values(parameters).reduce((a, b) => a + b, 0) },
    forwardFlops,
    trainingFlops: (length) => 3 * forwardFlops(length),
    stateBytesPerToken: 4 * kept,
    stateBytesPerTokenF16: 2 * kept,
  };
}

/** The counts of a model, or of the description of one that was never built (`describeModel`). */
export function modelCounts({ architecture, config }: Pick<ModelDescription, "architecture" | "config">): ModelCounts {
  return architecture.counts(config);
}

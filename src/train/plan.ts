/**
 * What a run will need, by formula, before anything is allocated: memory, arithmetic, time. The memory is that of the tensors
 * (weights, gradients, optimiser, activations that backward needs); test and `--dry-run` hold it against the measured peak.
 */
import { OutOfMemoryError } from "../errors.ts";
import { type ModelDescription, modelCounts } from "../models/index.ts";
import { byteSize } from "../quantities.ts";
import type { Recipe } from "./recipe.ts";

export interface Plan {
  parameters: number;
  /** Tokens of one optimiser step, and of the whole run. */
  tokensPerStep: number;
  tokens: number;
  flops: number;
  memory: {
    weights: number;
    gradients: number;
    optimizer: number;
    /** What forward leaves for backward, with one layer's working space. */
    activations: number;
    /** The most that is alive at once: not the sum, since gradients come as activations go. */
    peak: number;
    /** The whole process at its peak, about: the tensors, blocks that are kept for reuse, Node and the data. */
    process: number;
  };
  /** Of one checkpoint. */
  checkpointBytes: number;
  seconds: number;
}

/** State tensors of each optimiser, in units of the parameters. */
const STATES: Record<Recipe["training"]["optimizer"], number> = { adamw: 2, adam: 2, sgd: 1, rmsprop: 1 };

/**
 * What a process takes beside its tensors: Node, compiled code, V8's heap, the text, the report. With the quarter for blocks kept for reuse, packed
 * weights and scratch it is fitted to the peaks of three measured runs: quickstart 237 MB, settings-a 973 MB, settings-c 231 MB.
 */
const PROCESS = 187e6;

/** Part of a large product's rate that whole training steps reach, as measured on the settings in `recipes/`. */
const EFFICIENCY = 0.7;

/**
 * @param model a model, or the description of one that was never built
 * @param peakFlops the machine's rate on large products, FLOP/s (`measurePeakFlops`)
 */
export function planTraining(model: ModelDescription, recipe: Recipe, peakFlops: number): Plan {
  const { training } = recipe;
  const { vocabulary, hidden, layers } = model.dimensions;
  const counts = modelCounts(model);
  const parameters = counts.parameters.total;
  const rows = training.batch_size * training.context_length;
  const float = 4;
  const states = training.optimizer === "sgd" && training.momentum === 0 ? 0 : STATES[training.optimizer];
  const weights = float * parameters;
  const optimizer = states * weights;
  const { layer, widest } = model.architecture.savedPerRow(model.config);
  // The fused loss works in chunks of rows; with it come the gradients of the last hidden states and of the head.
  const chunk = Math.min(rows, Math.max(64, Math.min(4096, Math.floor(2 ** 24 / vocabulary / 64) * 64)));
  const loss = float * (chunk * vocabulary + rows * hidden + vocabulary * hidden);
  const saved = float * rows * (layers * layer + 3 * hidden);
  // While a layer's backward runs: gradients of its widest results and of the residual stream.
  const working = float * rows * (2 * widest + 3 * hidden);
  const activations = saved + Math.max(loss, working);
  const gradients = weights;
  // Early in backward all activations are alive and few gradients; late all gradients and the first layer's activations.
  const early = saved + Math.max(loss, working + float * vocabulary * hidden);
  const late = gradients + working + saved / Math.max(layers, 1);
  const accumulated = training.gradient_accumulation_steps > 1 ? gradients + activations : 0;
  const peak = weights + optimizer + Math.max(early, late, accumulated);
  const tokensPerStep = rows * training.gradient_accumulation_steps;
  const tokens = tokensPerStep * training.max_steps;
  const flops = counts.trainingFlops(training.context_length) * tokens;
  return {
    parameters,
    tokensPerStep,
    tokens,
    flops,
    memory: { weights, gradients, optimizer, activations, peak, process: 1.25 * peak + PROCESS },
    checkpointBytes: weights + optimizer,
    seconds: flops / (peakFlops * EFFICIENCY),
  };
}

/** @throws OutOfMemoryError when the tensors will not fit into what they may have, before anything is allocated; it says what would help */
export function checkMemory(model: ModelDescription, recipe: Recipe, limitBytes: number): void {
  const { peak, weights, gradients, optimizer, activations } = planTraining(model, recipe, 1).memory;
  if (peak <= limitBytes) return;
  throw new OutOfMemoryError(
    `training: not enough memory for this recipe, expected at most ${byteSize(limitBytes)}, got ${byteSize(peak)} by plan (weights ${byteSize(weights)}, gradients ${byteSize(gradients)}, optimiser ${byteSize(optimizer)}, activations ${byteSize(activations)}). ` +
      `What would help: ${waysToFit(model, recipe, limitBytes).join("; ")}.`,
  );
}

/** Changes of a recipe that make its plan fit, each for itself, the mildest first; where none does, the machine it needs. */
export function waysToFit(model: ModelDescription, recipe: Recipe, limitBytes: number): string[] {
  const { training } = recipe;
  const peak = (changes: Partial<Recipe["training"]>, of = model) => planTraining(of, { ...recipe, training: { ...training, ...changes } }, 1).memory.peak;
  /** The largest whole number from 1 to below `from` for which it fits. */
  const largest = (from: number, fits: (n: number) => boolean): number | null => {
    let [low, high] = [0, from];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (fits(middle)) low = middle;
      else high = middle;
    }
    return low === 0 ? null : low;
  };
  const ways: string[] = [];
  const accumulate = (batch: number) => Math.ceil((training.gradient_accumulation_steps * training.batch_size) / batch);
  const batch = largest(training.batch_size, (n) => peak({ batch_size: n, gradient_accumulation_steps: accumulate(n) }) <= limitBytes);
  if (batch !== null) ways.push(`training.batch_size=${batch} training.gradient_accumulation_steps=${accumulate(batch)} (the same step in smaller parts)`);
  const context = largest(training.context_length, (n) => peak({ context_length: n }) <= limitBytes);
  if (context !== null) ways.push(`training.context_length=${context}`);
  if (training.optimizer !== "sgd" && peak({ optimizer: "sgd", momentum: 0 }) <= limitBytes) ways.push("training.optimizer=sgd (no state beside the weights)");
  const key = model.architecture.keyOf.layers;
  const shallow = (layers: number): ModelDescription => ({ ...model, config: { ...model.config, [key]: layers }, dimensions: { ...model.dimensions, layers } });
  const layers = largest(model.dimensions.layers, (n) => peak({}, shallow(n)) <= limitBytes);
  if (layers !== null) ways.push(`model.${key}=${layers} (${(modelCounts(shallow(layers)).parameters.total / 1e6).toFixed(0)} million parameters)`);
  const smallest = peak({ batch_size: 1, gradient_accumulation_steps: accumulate(1) });
  if (batch === null) ways.push(`a machine that gives tensors ${byteSize(smallest)} (with training.batch_size=1)`);
  return ways;
}

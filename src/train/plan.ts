/**
 * What a run will need, by formula, before anything is allocated: memory, arithmetic, time. The memory is that of the tensors
 * (weights, gradients, optimiser, activations that backward needs); test and `--dry-run` hold it against the measured peak.
 */
import { OutOfMemoryError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { flopsPerToken } from "./cost.ts";
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

/** Part of a large product's rate that whole training steps reach, as measured on the settings in `recipes/`. */
const EFFICIENCY = 0.7;

/** Floats that one layer's forward leaves for its backward, for each row of its input; what is written beside a name is its width. */
function savedPerRow(model: CausalLM): { layer: number; widest: number } {
  const { hidden: c, heads, kvHeads, headDim } = model.dimensions;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  const config = model.config as Record<string, number | null>;
  if (model.modelType === "gpt2") {
    const inner = config.n_inner ?? 4 * c;
    // norm (c + 2), qkv (3c), attention (c + its log-sum per head), residual (c), norm (c + 2), before and after the activation (2·inner), residual (c)
    return { layer: 7 * c + c + 4 + heads + 2 * inner - c, widest: inner };
  }
  const inner = config.intermediate_size as number;
  // norm (c + 1), q and k turned, v, attention (q + its log-sum per head), residual (c), norm (c + 1), gate, up and their product (3·inner), residual (c)
  return { layer: 4 * c + 2 + 2 * q + 2 * kv + heads + 3 * inner, widest: inner };
}

/** @throws OutOfMemoryError when the tensors will not fit into what they may have, before anything is allocated for training */
export function checkMemory(plan: Plan, limitBytes: number): void {
  if (plan.memory.peak <= limitBytes) return;
  const gb = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  const { weights, gradients, optimizer, activations } = plan.memory;
  throw new OutOfMemoryError(
    `training: not enough memory for this recipe, expected at most ${gb(limitBytes)}, got ${gb(plan.memory.peak)} by plan (weights ${gb(weights)}, gradients ${gb(gradients)}, optimiser ${gb(optimizer)}, activations ${gb(activations)}). ` +
      "Lower training.batch and raise training.accumulate, shorten training.context, or choose a smaller model.",
  );
}

/** @param peakFlops the machine's rate on large products, FLOP/s (`measurePeakFlops`) */
export function planTraining(model: CausalLM, recipe: Recipe, peakFlops: number): Plan {
  const { training } = recipe;
  const { vocabulary, hidden, layers } = model.dimensions;
  const parameters = model.parameterCount();
  const rows = training.batch * training.context;
  const float = 4;
  const states = training.optimizer === "sgd" && training.momentum === 0 ? 0 : STATES[training.optimizer];
  const weights = float * parameters;
  const optimizer = states * weights;
  const { layer, widest } = savedPerRow(model);
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
  const accumulated = training.accumulate > 1 ? gradients + activations : 0;
  const peak = weights + optimizer + Math.max(early, late, accumulated);
  const tokensPerStep = rows * training.accumulate;
  const tokens = tokensPerStep * training.steps;
  const flops = flopsPerToken(model, training.context) * tokens;
  return {
    parameters,
    tokensPerStep,
    tokens,
    flops,
    memory: { weights, gradients, optimizer, activations, peak, process: 1.1 * peak + 110e6 },
    checkpointBytes: weights + optimizer,
    seconds: flops / (peakFlops * EFFICIENCY),
  };
}

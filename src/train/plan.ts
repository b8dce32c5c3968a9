/**
 * What a run will need, by formula, before anything is allocated: memory, arithmetic, time. Tests and `--dry-run` hold the tensors against
 * their measured peak, and `tests/plan-memory.test.ts` a whole process.
 */
import { ConfigError, OutOfMemoryError } from "../errors.ts";
import { type ModelDescription, modelCounts, type SavedPerRow } from "../models/index.ts";
import { byteSize } from "../quantities.ts";
import type { Machine } from "./machine.ts";
import type { Recipe } from "./recipe.ts";

/** What a run will take, computed before anything is built. */
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
    /** The most that tensors hold at once: not the sum, since gradients come as activations go. */
    peak: number;
    /** The whole process at its peak, and what it is made of. The parts add up to it. */
    process: number;
    parts: { name: string; bytes: number }[];
  };
  /** Of one checkpoint. */
  checkpointBytes: number;
  /** Of the whole run, and what it is made of. */
  seconds: number;
  times: { steps: number; evaluations: number; samples: number; checkpoints: number };
}

/** What is known of the text before it has become tokens. */
export interface PlannedText {
  trainTokens: number;
  validationTokens: number;
}

/** State tensors of each optimiser, in units of the parameters. */
const STATES: Record<Recipe["training"]["optimizer"], number> = { adamw: 2, adam: 2, sgd: 1, rmsprop: 1 };

/** Share that the pool loses: small blocks come in eight sizes a doubling, and free space between large ones is not always as large as what comes next. */
const ROUNDING = 0.04;

/**
 * What a process has come to when it trains, beside tensors: Node with groundup, V8's young generation, compiled code, the lines of the report, the threads'
 * stacks and packed operands. From the peaks of a Llama and a GPT-2 that read a text, less this plan's other parts: Node 20 91 to 120 MB, the least where
 * the machine is busy and V8 collects more often, Node 24 105 and 110 MB; at their start such processes have 73 and 89 MB.
 */
const AT_WORK = 110e6;

/** The least and the most that this is more than the process has at its start, which depends on the machine too. */
const GAINED = [20e6, 50e6] as const;

/**
 * What reading a text and making tokens of it leaves, with V8 and in the threads' tables of words, which grow with the text to a few MB each. Runs of the recipes
 * quickstart, settings-c and a small Llama then took 0.98 to 1.08 times their plans.
 */
const TOKENIZING = 34e6;

/** What generation adds to that: its code, its garbage. Measured with quickstart, which took 268 to 273 MB with samples and 249 without. */
const SAMPLING = 15e6;

/** Copies for a checkpoint are garbage once written; V8 collects them when about this much has come together, or two of the largest. */
const COPIES = 20e6;

/** A float that forward leaves for backward costs about so many operations beside the products: norms, activations, softmax, copies. Measured: 280 to 360, native and plain. */
const OPERATIONS_PER_FLOAT = 320;
/** The same of a parameter in the optimiser's step, which memory limits. */
const OPERATIONS_PER_PARAMETER = 150;

/** A sampled token reads every weight once, and each layer makes a dozen small calls. Measured: 0.4 ms (0.8 million parameters, 4 layers) to 17 ms (124 million, 12). */
const SECONDS_PER_WEIGHT_READ = 1.6e-10;
const SECONDS_PER_LAYER = 1e-4;

/** Files, hashes and fsync; 0.04 s for 10 MB, 0.3 s for 130 MB on a local disk. */
const SECONDS_PER_CHECKPOINT = 0.015;
const WRITTEN_PER_SECOND = 450e6;

/** Rows of logits that the fused loss makes at a time (`ops/loss.ts`). */
const lossRows = (rows: number, vocabulary: number): number => Math.min(rows, Math.max(64, Math.min(4096, Math.floor(2 ** 24 / vocabulary / 64) * 64)));

/**
 * @param model a model, or the description of one that was never built
 * @param machine how fast it is, and how large a process is at its start (`measureMachine`); without it only memory that does not depend on it means something
 * @param text decides how long evaluations take; absent, they count as nothing
 * @throws ConfigError where the model's architecture does not say in numbers what its layers save
 */
export function planTraining(model: ModelDescription, recipe: Recipe, machine: Machine = { flops: 1, processBytes: 0 }, text?: PlannedText): Plan {
  const { training, eval: evaluation } = recipe;
  const { vocabulary, hidden, layers } = model.dimensions;
  const counts = modelCounts(model);
  const parameters = counts.parameters.total;
  const rows = training.batch_size * training.context_length;
  const float = 4;
  const states = training.optimizer === "sgd" && training.momentum === 0 ? 0 : STATES[training.optimizer];
  const weights = float * parameters;
  const optimizer = states * weights;
  const { layer, gradients: within, widest, evaluated } = savedPerRow(model, training.context_length);
  // The fused loss works in chunks of rows; with it come the gradients of the last hidden states and of the head.
  const head = float * vocabulary * hidden;
  const logits = float * (lossRows(rows, vocabulary) * vocabulary + rows * hidden);
  const savedPerToken = layers * layer + 3 * hidden;
  const saved = float * rows * savedPerToken;
  // While a layer's backward runs: its own gradients and those of the residual stream.
  const working = float * rows * (within + 3 * hidden);
  const activations = saved + Math.max(logits + head, working);
  const gradients = weights;
  // Early in backward all activations are alive and few gradients; late all gradients and the first layer's activations.
  const early = saved + Math.max(logits + head, working + head);
  const late = gradients + working + saved / Math.max(layers, 1);
  const accumulated = training.gradient_accumulation_steps > 1 ? gradients + activations : 0;
  const peak = weights + optimizer + Math.max(early, late, accumulated);

  // Large freed blocks serve any size: an evaluation has the space of a step's gradients and activations, and only what it takes beyond them is more.
  const temporaries = Math.max(logits, working);
  const evalRows = evaluation.batch_size * training.context_length;
  const evaluating = float * (lossRows(evalRows, vocabulary) * vocabulary + evalRows * evaluated);
  const beyond = Math.max(0, evaluating - gradients - saved - temporaries);
  const rounding = ROUNDING * (weights + gradients + optimizer + saved + temporaries + beyond);
  const checkpointBytes = weights + optimizer;
  const largest = float * hidden * Math.max(vocabulary, widest);
  const parts = [
    { name: "weights", bytes: weights },
    { name: "gradients", bytes: gradients },
    { name: "optimiser", bytes: optimizer },
    { name: "activations kept for backward", bytes: saved },
    { name: "largest temporaries of a step", bytes: temporaries },
    { name: "what an evaluation takes beyond a step", bytes: beyond },
    { name: "rounding of the pool's blocks", bytes: rounding },
    { name: "packed weights and code of sampling", bytes: recipe.sample.sample_steps === null ? 0 : weights + SAMPLING },
    { name: "copies for a checkpoint", bytes: Math.min(2 * checkpointBytes, Math.max(2 * largest, COPIES)) },
    { name: "tokens counted for the report", bytes: float * Math.min(1 << 22, text?.trainTokens ?? 0) },
    { name: "Node with groundup loaded", bytes: machine.processBytes },
    { name: "JavaScript's heap and code at work", bytes: Math.min(Math.max(AT_WORK - machine.processBytes, GAINED[0]), GAINED[1]) },
    { name: "what tokenising the text leaves", bytes: recipe.data.tokens === null ? TOKENIZING : 0 },
  ];

  const tokensPerStep = rows * training.gradient_accumulation_steps;
  const tokens = tokensPerStep * training.max_steps;
  const flops = counts.trainingFlops(training.context_length) * tokens;
  const beside = OPERATIONS_PER_FLOAT * (savedPerToken + vocabulary);
  const evaluations = looks(training.max_steps, evaluation.eval_steps);
  // A forward pass is a third of forward and backward. A best model is saved, and at first every evaluation finds one.
  const checkpoints = Math.max(evaluations - 1, Math.ceil(training.max_steps / training.save_steps));
  const times = {
    steps: (flops + tokens * beside + training.max_steps * OPERATIONS_PER_PARAMETER * parameters) / machine.flops,
    evaluations: (evaluations * (text?.validationTokens ?? 0) * (counts.forwardFlops(training.context_length) + beside / 3)) / machine.flops,
    samples: sampledTokens(recipe) * (layers * SECONDS_PER_LAYER + parameters * Math.max(SECONDS_PER_WEIGHT_READ, 2 / machine.flops)),
    checkpoints: checkpoints * (SECONDS_PER_CHECKPOINT + checkpointBytes / WRITTEN_PER_SECOND),
  };
  return {
    parameters,
    tokensPerStep,
    tokens,
    flops,
    memory: { weights, gradients, optimizer, activations, peak, process: parts.reduce((sum, { bytes }) => sum + bytes, 0), parts },
    checkpointBytes,
    seconds: Object.values(times).reduce((sum, seconds) => sum + seconds, 0),
    times,
  };
}

const SAVED = ["layer", "gradients", "widest", "evaluated"] as const satisfies (keyof SavedPerRow)[];

/** What the architecture says. @throws ConfigError where one that no compiler has seen leaves a number out, and every sum would be none */
function savedPerRow({ architecture, modelType, config }: ModelDescription, length: number): SavedPerRow {
  const saved: SavedPerRow | undefined = architecture.savedPerRow(config, length);
  const wrong = SAVED.filter((part) => !Number.isFinite(saved?.[part]));
  if (wrong.length === 0) return saved;
  throw new ConfigError(
    `${modelType}: savedPerRow lacks a number, expected layer, gradients, widest and evaluated, got ${wrong.map((part) => `${part} ${saved?.[part]}`).join(", ")}. Return all of them.`,
  );
}

/** How often something is done that is done before the first step, every `every` steps, and after the last. */
const looks = (steps: number, every: number): number => 1 + Math.ceil(steps / every);

const sampledTokens = ({ sample, training }: Recipe): number =>
  sample.sample_steps === null ? 0 : looks(training.max_steps, sample.sample_steps) * sample.prompts.length * sample.max_new_tokens;

/** @throws OutOfMemoryError when the tensors will not fit into what they may have, before anything is allocated; it says what would help */
export function checkMemory(model: ModelDescription, recipe: Recipe, limitBytes: number): void {
  const { peak, weights, gradients, optimizer, activations } = planTraining(model, recipe).memory;
  if (peak <= limitBytes) return;
  throw new OutOfMemoryError(
    `training: not enough memory for this recipe, expected at most ${byteSize(limitBytes)}, got ${byteSize(peak)} by plan (weights ${byteSize(weights)}, gradients ${byteSize(gradients)}, optimiser ${byteSize(optimizer)}, activations ${byteSize(activations)}). ` +
      `What would help: ${waysToFit(model, recipe, limitBytes).join("; ")}.`,
  );
}

/** Changes of a recipe that make its plan fit, each for itself, the mildest first; where none does, the machine it needs. */
export function waysToFit(model: ModelDescription, recipe: Recipe, limitBytes: number): string[] {
  const { training } = recipe;
  const peak = (changes: Partial<Recipe["training"]>, of = model) => planTraining(of, { ...recipe, training: { ...training, ...changes } }).memory.peak;
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

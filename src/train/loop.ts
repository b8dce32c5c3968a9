/**
 * The training loop. One turn of it, top to bottom, is one optimiser step: batches, gradients, a look at their health, the update,
 * and now and then an evaluation, samples, a checkpoint. What it does is told as events; who listens may print, plot or send them.
 */
import type { Batch, DataLoader, TokenData } from "../data/index.ts";
import { NonFiniteError, RunError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { constant, cosine, linear, oneCycle, type Schedule, wsd } from "../optim/index.ts";
import { checkOptions } from "../options.ts";
import { turn } from "../turn.ts";
import { type CheckpointParts, loadCheckpoint, newestCheckpoint, pruneCheckpoints, saveCheckpoint, type TrainingState } from "./checkpoint.ts";
import { type EvaluationResult, evaluateLoss } from "./evaluate.ts";
import { checkWeights, isSpike, newWatch, nonFiniteLoss, rollbacksSpent } from "./health.ts";
import { decayStepsOf, type Recipe } from "./recipe.ts";
import type { LoggedMetrics, RunFolder, RunSample, StepMetrics } from "./run-folder.ts";
import { accumulateGradients } from "./step.ts";

/** What the loop tells while it trains. */
export type TrainingEvent =
  | { type: "note"; text: string }
  | { type: "step"; metrics: StepMetrics }
  | { type: "evaluation"; step: number; result: EvaluationResult; best: boolean }
  | { type: "sample"; sample: RunSample }
  | { type: "checkpoint"; step: number; path: string }
  /** All steps done, stopped early because nothing got better, or stopped by the signal. */
  | { type: "end"; why: "done" | "no-progress" | "stopped"; step: number; best: TrainingState["best"] };

/** Continues a prompt with the model as it is now; the same step and prompt give the same text. An aborted signal makes it throw the signal's reason. */
export type Sampler = (model: CausalLM, prompt: string, step: number, signal?: AbortSignal) => Promise<string> | string;

/** What `trainingLoop` works with; `openPretraining` makes it from a recipe. */
export interface TrainingParts extends CheckpointParts {
  recipe: Recipe;
  run: RunFolder;
  /** `next()` gives one forward pass's batch. */
  loader: DataLoader;
  /** A loader at another cursor (for going back to a checkpoint). */
  loaderAt: (cursor: unknown) => DataLoader;
  validation: TokenData;
  /** Size of the text behind it, for bits per byte; null where it is not known. */
  validationBytes: number | null;
  sampler?: Sampler;
  state: TrainingState;
  /** The state came from a checkpoint. */
  resumed: boolean;
}

export const freshState = (loader: DataLoader): TrainingState => ({
  step: 0,
  tokens: 0,
  seconds: 0,
  cursor: loader.cursor(),
  best: null,
  stale: 0,
  rollbacks: 0,
  watch: newWatch(),
});

/** The recipe's schedule as a function of the step. */
export function scheduleOf({ training: t }: Recipe): Schedule {
  const options = { steps: t.max_steps, warmup: t.warmup_steps, final: t.final_lr_ratio };
  switch (t.lr_scheduler_type) {
    case "constant":
      return constant({ warmup: t.warmup_steps });
    case "linear":
      return linear(options);
    case "cosine":
      return cosine(options);
    case "wsd":
      return wsd({ ...options, decay: decayStepsOf(t) });
    case "one_cycle":
      return oneCycle(options);
  }
}

/** The best evaluation in a run's lines and how many came after it, as the loop counts them; null where nothing was evaluated. */
function bestSoFar(metrics: readonly LoggedMetrics[]): Pick<TrainingState, "best" | "stale"> | null {
  let found: Pick<TrainingState, "best" | "stale"> | null = null;
  for (const { step, val_loss: loss } of metrics) {
    if (step === 0 || typeof loss !== "number") continue;
    if (found?.best == null || loss < found.best.loss) found = { best: { step, loss }, stale: 0 };
    else found = { best: found.best, stale: found.stale + 1 };
  }
  return found;
}

/** Trains until the recipe's steps are done, nothing gets better, or `signal` aborts; then a checkpoint is on disk. */
export async function* trainingLoop(parts: TrainingParts, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainingEvent> {
  checkOptions("trainingLoop", options, { signal: true });
  const { recipe, run, model, optimizer, sampler, state } = parts;
  const { signal } = options;
  const { training, eval: evaluation, sample } = recipe;
  const schedule = scheduleOf(recipe);
  const root = run.at("checkpoints");
  let { loader } = parts;
  let saved = state.step;
  model.train();

  /** The prompts whose texts belong to the end of a step. */
  const promptsAt = (step: number): readonly string[] =>
    sampler !== undefined && sample.sample_steps !== null && (step % sample.sample_steps === 0 || step === training.max_steps) ? sample.prompts : [];
  const isEvaluated = (step: number): boolean => step % evaluation.eval_steps === 0 || step === training.max_steps;

  /** Everything that belongs to the end of a step: the texts, the validation loss. It throws the signal's reason when that aborts. */
  async function* look(step: number, prompts = promptsAt(step)): AsyncGenerator<TrainingEvent, EvaluationResult | null> {
    for (const prompt of prompts) {
      signal?.throwIfAborted();
      const made = { step, prompt, text: await (sampler as Sampler)(model, prompt, step, signal) };
      run.logSample(made);
      yield { type: "sample", sample: made };
    }
    if (!isEvaluated(step)) return null;
    const result = await evaluateLoss(model, parts.validation, {
      context: training.context_length,
      batchSize: evaluation.batch_size,
      precision: training.precision,
      ...(parts.validationBytes === null ? {} : { bytes: parts.validationBytes }),
      ...(signal === undefined ? {} : { signal }),
    });
    // The untrained model is measured for the curve only: its weights are not worth keeping.
    const best = step > 0 && result.loss < (state.best?.loss ?? Number.POSITIVE_INFINITY);
    if (best) state.best = { step, loss: result.loss };
    if (step > 0) state.stale = best ? 0 : state.stale + 1;
    yield { type: "evaluation", step, result, best };
    return result;
  }

  /** `look`, or that the signal cut it short. What is missing then is made first when the run goes on. */
  async function* lookUnlessStopped(step: number, prompts = promptsAt(step)): AsyncGenerator<TrainingEvent, EvaluationResult | "stopped" | null> {
    try {
      return yield* look(step, prompts);
    } catch (error) {
      if (signal?.aborted !== true || error !== signal.reason) throw error;
      return "stopped";
    }
  }

  /** What belongs to the end of the step that the run was stopped at, as far as it is not on disk. */
  async function* lookAgain(): AsyncGenerator<TrainingEvent, boolean> {
    const { step } = state;
    // A checkpoint that was written before its step was measured does not know of the measurement.
    Object.assign(state, bestSoFar(run.metrics()) ?? {});
    const there = run.samples().filter((made) => made.step === step);
    const prompts = promptsAt(step).slice(there.length);
    const measured = !isEvaluated(step) || run.metrics().some((line) => line.step === step && line.val_loss !== undefined);
    if (measured && prompts.length === 0) return true;
    const result = yield* lookUnlessStopped(step, prompts);
    if (result === "stopped") return false;
    if (result !== null) run.log({ step, val_loss: result.loss, val_bits_per_byte: result.bitsPerByte });
    return true;
  }

  async function save(): Promise<TrainingEvent> {
    checkWeights(model, state.step);
    const path = await saveCheckpoint(root, { ...state, cursor: loader.cursor() }, parts);
    saved = state.step;
    await pruneCheckpoints(run.path, state, training.save_total_limit);
    return { type: "checkpoint", step: state.step, path };
  }

  /** Back to the last checkpoint, on with the data behind the batch that went wrong. */
  async function rollBack(): Promise<string> {
    const failed = state.step + 1;
    const { path } = await newestCheckpoint(root);
    const [after, rollbacks] = [loader.cursor(), state.rollbacks + 1];
    Object.assign(state, await loadCheckpoint(path as string, parts), { rollbacks });
    optimizer.zeroGrad();
    loader = parts.loaderAt(after);
    await run.rewindTo(state.step);
    return `Step ${failed} went wrong; back at step ${state.step}, and the data of that step is left out (${rollbacks} of ${training.max_rollbacks} times).`;
  }

  let why: "done" | "no-progress" | "stopped" = "done";
  if (parts.resumed) {
    if (!(yield* lookAgain())) why = "stopped";
    // A kill may have come between a checkpoint and the tidying after it.
    await pruneCheckpoints(run.path, state, training.save_total_limit);
  } else {
    const untrained = yield* lookUnlessStopped(0);
    if (untrained === "stopped") why = "stopped";
    else {
      if (untrained !== null) run.log({ step: 0, val_loss: untrained.loss, val_bits_per_byte: untrained.bitsPerByte });
      // Going back needs something to go back to.
      if (training.on_non_finite === "rollback" || training.on_spike === "rollback") yield await save();
    }
  }
  while (why !== "stopped" && state.step < training.max_steps) {
    if (signal?.aborted) {
      why = "stopped";
      break;
    }
    if (evaluation.early_stopping_patience !== null && state.stale >= evaluation.early_stopping_patience) {
      why = "no-progress";
      break;
    }
    const began = performance.now();
    const batches: Batch[] = [];
    for (let i = 0; i < training.gradient_accumulation_steps; i++) batches.push(await loader.next());

    optimizer.learningRate = training.learning_rate * schedule(state.step);
    const { loss, tokens } = accumulateGradients(model, batches, training.precision);
    let gradNorm = 0;
    let trouble: NonFiniteError | RunError | null = null;
    let rule = training.on_non_finite;
    if (!Number.isFinite(loss)) trouble = nonFiniteLoss(state.step + 1, loss, model, batches, training.on_non_finite === "rollback");
    else if (isSpike(state.watch, loss, training.spike_sigmas)) {
      if (training.on_spike === "note")
        yield { type: "note", text: `Step ${state.step + 1}: the loss leapt to ${loss.toFixed(3)} from about ${state.watch.mean.toFixed(3)}.` };
      else {
        rule = training.on_spike;
        trouble = new RunError(
          `training: step ${state.step + 1}: the loss leapt, expected about ${state.watch.mean.toFixed(4)}, got ${loss}. Look at the data of this step, or begin a new run with a lower training.learning_rate.`,
        );
      }
    }
    if (trouble === null) {
      try {
        gradNorm = optimizer.step().gradNorm ?? 0;
      } catch (error) {
        if (!(error instanceof NonFiniteError)) throw error;
        trouble = error;
      }
    }
    optimizer.zeroGrad();
    if (trouble !== null) {
      if (rule !== "rollback") throw trouble;
      if (state.rollbacks >= training.max_rollbacks) throw rollbacksSpent(trouble, state.rollbacks, training.max_rollbacks);
      yield { type: "note", text: trouble.message };
      yield { type: "note", text: await rollBack() };
      continue;
    }

    state.step++;
    state.tokens += tokens;
    const seconds = (performance.now() - began) / 1000;
    state.seconds += seconds;
    const metrics: StepMetrics = {
      step: state.step,
      loss,
      learning_rate: optimizer.learningRate,
      grad_norm: gradNorm,
      tokens: state.tokens,
      tokens_per_second: tokens / seconds,
      seconds: state.seconds,
    };
    yield { type: "step", metrics };
    const result = yield* lookUnlessStopped(state.step);
    if (result !== null && result !== "stopped") Object.assign(metrics, { val_loss: result.loss, val_bits_per_byte: result.bitsPerByte });
    run.log(metrics);
    if (result === "stopped") {
      why = "stopped";
      break;
    }
    if (state.step % training.save_steps === 0 || state.step === training.max_steps || state.best?.step === state.step) yield await save();
    await turn();
  }
  if (saved !== state.step && state.step > 0) yield await save();
  yield { type: "end", why, step: state.step, best: state.best };
}

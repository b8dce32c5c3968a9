/** Training: recipes, runs on disk, the loop and its parts. */

export { bars, chart } from "./chart.ts";
export { type CheckpointParts, loadCheckpoint, newestCheckpoint, pruneCheckpoints, saveCheckpoint, type TrainingState } from "./checkpoint.ts";
export { type EvaluationResult, evaluateLoss } from "./evaluate.ts";
export { type FindLearningRateOptions, findLearningRate, type LearningRateCurve } from "./find-learning-rate.ts";
export { findNonFinite, isSpike, type LossWatch, newWatch, nonFiniteLoss } from "./health.ts";
export { type Sampler, scheduleOf, type TrainingEvent, type TrainingParts, trainingLoop } from "./loop.ts";
export { type Machine, measureMachine, measurePeakFlops } from "./machine.ts";
export { checkMemory, type Plan, type PlannedText, planTraining, waysToFit } from "./plan.ts";
export { planText } from "./planned-text.ts";
export { checkSameData, END_OF_TEXT, openText, type PreparedData, prepareData, resolveDataPaths } from "./prepare-data.ts";
export { emulationNote, type Manifest, openPretraining, optimizerOf, type PretrainOptions, type PretrainSession } from "./pretrain.ts";
export { createProgress, type Progress, type ProgressOptions } from "./progress.ts";
export { differences, modelConfig, type Recipe, recipeSchema } from "./recipe.ts";
export { frequentTokens, type ReportOptions, reportHtml, type TokenCount, writeReport } from "./report.ts";
export { type Baseline, type LoggedMetrics, openRun, type RunFolder, type RunSample, readRun, type StepMetrics } from "./run-folder.ts";
export { checkPrompts } from "./sample-prompts.ts";
export { accumulateGradients, inputsOf } from "./step.ts";

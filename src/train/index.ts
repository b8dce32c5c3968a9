/** Training: recipes, runs on disk, the loop and its parts. */
export { type CheckpointParts, loadCheckpoint, newestCheckpoint, pruneCheckpoints, saveCheckpoint, type TrainingState } from "./checkpoint.ts";
export { computedParameters, flopsPerToken, measurePeakFlops } from "./cost.ts";
export { evaluateLoss, type EvaluationResult } from "./evaluate.ts";
export { findNonFinite, isSpike, type LossWatch, newWatch, nonFiniteLoss } from "./health.ts";
export { type Sampler, scheduleOf, type TrainingEvent, trainingLoop, type TrainingParts } from "./loop.ts";
export { checkMemory, type Plan, planTraining } from "./plan.ts";
export { checkSameData, END_OF_TEXT, openText, type PreparedData, prepareData, resolveDataPaths } from "./prepare-data.ts";
export { type Manifest, openPretraining, optimizerOf, type PretrainOptions, type PretrainSession } from "./pretrain.ts";
export { createProgress, duration, type Progress, type ProgressOptions } from "./progress.ts";
export { differences, modelConfig, type Recipe, recipeSchema } from "./recipe.ts";
export { bars, chart } from "./chart.ts";
export { frequentTokens, reportHtml, type ReportOptions, type TokenCount, writeReport } from "./report.ts";
export { openRun, readRun, type RunFolder, type RunSample, type StepMetrics } from "./run-folder.ts";
export { accumulateGradients, inputsOf } from "./step.ts";

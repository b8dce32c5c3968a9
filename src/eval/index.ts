/** Evaluation: how well a model predicts text, and the baseline to beat. */
export type { Likelihood } from "./likelihood.ts";
export { type NgramModel, ngramModel, type NgramOptions } from "./ngram.ts";
export { negativeLogLikelihood, perplexity, type PerplexityOptions, type TextFit } from "./perplexity.ts";
export { type Task, type TaskInput, tasks, tasksNamed } from "./tasks.ts";

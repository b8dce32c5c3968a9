/** Evaluation: how well a model predicts text, and the baseline to beat. */
export type { Likelihood } from "./likelihood.ts";
export { type NgramModel, type NgramOptions, ngramModel } from "./ngram.ts";
export { negativeLogLikelihood, type PerplexityOptions, perplexity, type TextFit } from "./perplexity.ts";
export { type Task, type TaskInput, tasks, tasksNamed } from "./tasks.ts";

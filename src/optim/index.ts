/** Optimisers, learning-rate schedules, clipping. */
export { clipGradNorm } from "./clipping.ts";
export { type CommonOptions, clipFactor, decayGroups, type Optimizer, type OptimizerState, type ParameterGroup, type StepResult, type Trainable } from "./optimizer.ts";
export { adam, type AdamOptions, adamw, rmsprop, type RmspropOptions, sgd, type SgdOptions } from "./optimizers.ts";
export { constant, cosine, linear, oneCycle, type Schedule, type ScheduleOptions, wsd } from "./schedules.ts";

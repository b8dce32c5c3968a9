/** Optimisers, learning-rate schedules, clipping. */
export { clipGradNorm } from "./clipping.ts";
export {
  type CommonOptions,
  clipFactor,
  decayGroups,
  type Optimizer,
  type OptimizerState,
  type ParameterGroup,
  type StepResult,
  type Trainable,
} from "./optimizer.ts";
export { type AdamOptions, adam, adamw, type RmspropOptions, rmsprop, type SgdOptions, sgd } from "./optimizers.ts";
export { constant, cosine, linear, oneCycle, type Schedule, type ScheduleOptions, wsd } from "./schedules.ts";

/** Generation: prompts to text, the batching engine, samplers, log-probabilities, and the paged state underneath. */
export { endIds } from "../tokenizers/end-ids.ts";
export { type Beam, type BeamSearchOptions, beamSearch } from "./beam-search.ts";
export { type ContrastiveSearchOptions, contrastiveSearch } from "./contrastive-search.ts";
export { createEngine, type Engine, type EngineOptions, type EngineRequestOptions, type EngineStream } from "./engine.ts";
export { type GenerateOptions, type Generation, generate, generateStream } from "./generate.ts";
export { logprobs } from "./logprobs.ts";
export { createPagedState, PAGE, type PagedState, type Sequence, type StateOptions, type StepEntry } from "./paged-state.ts";
export type { Done, Prompt, RequestOptions, RequestUsage, TokenEvent, TokenLogprob } from "./request.ts";
export {
  breakerIds,
  checkSampling,
  draw,
  greedy,
  type SamplerState,
  type SamplingOptions,
  sample,
  samplerState,
  shapeLogits,
  uniformAt,
} from "./samplers.ts";
export type { BatchOptions, BatchUsage } from "./scheduler.ts";
export {
  addLogitBias,
  applyTemperature,
  type DryOptions,
  keepMinP,
  keepSurprise,
  keepTopK,
  keepTopNSigma,
  keepTopP,
  keepTypical,
  penalizeDry,
  penalizePresence,
  penalizeRepetition,
} from "./shapers.ts";
export type { SpeculationOptions } from "./speculation.ts";
export { createTextStream, type TextStream } from "./text-stream.ts";

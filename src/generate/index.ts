/** Generation: prompts to text, samplers, log-probabilities, and the paged state underneath. */
export { endIds } from "../tokenizers/end-ids.ts";
export { type Done, type GenerateOptions, type Generation, generate, generateStream, logprobs, type Prompt, type TokenEvent } from "./generate.ts";
export { createPagedState, PAGE, type PagedState, type Sequence, type StateOptions, type StepEntry } from "./paged-state.ts";
export {
  addLogitBias,
  applyTemperature,
  checkSampling,
  draw,
  greedy,
  keepMinP,
  keepTopK,
  keepTopP,
  penalizePresence,
  penalizeRepetition,
  type SamplingOptions,
  sample,
  shapeLogits,
  uniformAt,
} from "./samplers.ts";
export { createTextStream, type TextStream } from "./text-stream.ts";

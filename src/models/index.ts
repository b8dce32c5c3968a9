/** Models: one file an architecture, opened and saved as Hugging Face folders. */
export { architectures, configText, createModel, describeModel, fromPretrained, loadWeights, saveModel, weightEntries } from "./auto.ts";
export { CausalLM, type CausalLMInputs, CausalLMOutput, type ModelDescription, type ModelDimensions, shiftLabels } from "./causal-lm.ts";
export { gpt2Counts, llamaCounts, type ModelCounts, modelCounts } from "./counts.ts";
export { GPT2, type GPT2Config, gpt2ConfigSchema } from "./gpt2.ts";
export { Llama, type LlamaConfig, llamaConfigSchema } from "./llama.ts";
export { parameterCountOf, sizedConfig, sizedKeys } from "./sized.ts";

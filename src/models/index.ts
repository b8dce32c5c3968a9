/** Models: one file an architecture, opened and saved as Hugging Face folders. */
export { type Architecture, type ArchitectureDeclaration, defineArchitecture, type SavedPerRow, type Shape, type WeightNames } from "./architecture.ts";
export { architectureNamed, architectures, describeModel, registerArchitecture } from "./architectures.ts";
export { configText, fromPretrained, loadWeights, saveModel, weightEntries } from "./auto.ts";
export { CausalLM, type CausalLMInputs, CausalLMOutput, contextOf, type ModelDescription, type ModelDimensions, outputOf, shiftLabels } from "./causal-lm.ts";
export { configKeys } from "./config-values.ts";
export { countsFrom, type ModelCounts, modelCounts, type ParametersByPart } from "./counts.ts";
export { type CreateOptions, createModel } from "./create.ts";
export { describeGguf, type OpenOptions } from "./gguf-model.ts";
export { GPT2, type GPT2Config, gpt2ConfigSchema, gpt2Counts } from "./gpt2.ts";
export { Llama, type LlamaConfig, llamaConfigSchema, llamaCounts } from "./llama.ts";
export { parameterCountOf, sizedConfig, sizedKeys } from "./sized.ts";

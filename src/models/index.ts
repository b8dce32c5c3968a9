/** Models: one file an architecture, opened and saved as Hugging Face folders. */
export { type Architecture, type ArchitectureDeclaration, defineArchitecture, type SavedPerRow, type Shape, type WeightNames } from "./architecture.ts";
export { architectureNamed, architectures, describeModel, registerArchitecture } from "./architectures.ts";
export { configText, fromPretrained, loadWeights, saveModel, weightEntries } from "./auto.ts";
export { Bloom, type BloomConfig, bloomConfigSchema, bloomCounts } from "./bloom.ts";
export { CausalLM, type CausalLMInputs, CausalLMOutput, contextOf, type ModelDescription, type ModelDimensions, outputOf, shiftLabels } from "./causal-lm.ts";
export { configKeys } from "./config-values.ts";
export { countsFrom, type ModelCounts, modelCounts, type ParametersByPart } from "./counts.ts";
export { createModel } from "./create.ts";
export { Falcon, type FalconConfig, falconConfigSchema, falconCounts } from "./falcon.ts";
export { describeGguf } from "./gguf-model.ts";
export { GPTNeoX, type GPTNeoXConfig, gptNeoXConfigSchema, gptNeoXCounts } from "./gpt_neox.ts";
export { GPT2, type GPT2Config, gpt2ConfigSchema, gpt2Counts } from "./gpt2.ts";
export { Granite, type GraniteConfig, graniteConfigSchema, graniteCounts } from "./granite.ts";
export { Llama, type LlamaConfig, llamaConfigSchema, llamaCounts } from "./llama.ts";
export { Olmo2, type Olmo2Config, olmo2ConfigSchema, olmo2Counts } from "./olmo2.ts";
export { OPT, type OPTConfig, optConfigSchema, optCounts } from "./opt.ts";
export { Phi3, type Phi3Config, phi3ConfigSchema, phi3Counts } from "./phi3.ts";
export { parameterCountOf, sizedConfig, sizedKeys } from "./sized.ts";

/** Models: one file an architecture, opened and saved as Hugging Face folders. */
export { type Architecture, type ArchitectureDeclaration, defineArchitecture, type SavedPerRow, type Shape, type WeightNames } from "./architecture.ts";
export { architectureNamed, architectures, describeModel, registerArchitecture } from "./architectures.ts";
export { configText, fromPretrained, loadWeights, saveModel, weightEntries } from "./auto.ts";
export { CausalLM, type CausalLMInputs, CausalLMOutput, contextOf, type ModelDescription, type ModelDimensions, outputOf, shiftLabels } from "./causal-lm.ts";
export { configKeys } from "./config-values.ts";
export { countsFrom, type ModelCounts, modelCounts, type ParametersByPart } from "./counts.ts";
export { createModel } from "./create.ts";
export { Gemma, type GemmaConfig, gemmaConfigSchema, gemmaCounts } from "./gemma.ts";
export { Gemma2, type Gemma2Config, gemma2ConfigSchema, gemma2Counts } from "./gemma2.ts";
export { Gemma3Text, type Gemma3TextConfig, gemma3TextConfigSchema, gemma3TextCounts } from "./gemma3_text.ts";
export { describeGguf } from "./gguf-model.ts";
export { GPT2, type GPT2Config, gpt2ConfigSchema, gpt2Counts } from "./gpt2.ts";
export { Llama, type LlamaConfig, llamaConfigSchema, llamaCounts } from "./llama.ts";
export { Mistral, type MistralConfig, mistralConfigSchema, mistralCounts } from "./mistral.ts";
export { Qwen2, type Qwen2Config, qwen2ConfigSchema, qwen2Counts } from "./qwen2.ts";
export { Qwen3, type Qwen3Config, qwen3ConfigSchema, qwen3Counts } from "./qwen3.ts";
export { parameterCountOf, sizedConfig, sizedKeys } from "./sized.ts";
export { SmolLM3, type SmolLM3Config, smolLM3ConfigSchema, smolLM3Counts } from "./smollm3.ts";

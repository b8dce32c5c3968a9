/** The architectures by name. */
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import { parseModelConfig } from "../formats/hf-config.ts";
import type { Architecture } from "./architecture.ts";
import { bloom } from "./bloom.ts";
import type { ModelDescription } from "./causal-lm.ts";
import { falcon } from "./falcon.ts";
import { gptNeoX } from "./gpt_neox.ts";
import { gpt2 } from "./gpt2.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { olmo2 } from "./olmo2.ts";
import { opt } from "./opt.ts";
import { phi3 } from "./phi3.ts";

/** Those that groundup brings along. To add one: its file, and its name here. */
const BUILT_IN: readonly Architecture[] = [gpt2, llama, phi3, gptNeoX, olmo2, granite, opt, bloom, falcon];

/** Every architecture by its `model_type`, those of `registerArchitecture` too. */
export const architectures: Record<string, Architecture> = Object.create(null);
for (const architecture of BUILT_IN) architectures[architecture.modelType] = architecture;

/**
 * Adds an architecture of your own: `fromPretrained`, `createModel`, recipes and plans then know its `model_type`.
 * @throws ConfigError where the name is taken
 */
export function registerArchitecture(architecture: Architecture): void {
  const { modelType } = architecture;
  if (modelType in architectures)
    throw new ConfigError(`registerArchitecture: the name is taken, expected a model_type other than ${list()}, got ${modelType}. Choose another.`);
  architectures[modelType] = architecture;
}

const list = (): string => Object.keys(architectures).join(", ");

/** @throws ConfigError for an unknown name, with the known ones */
export function architectureNamed(modelType: unknown, where: string): Architecture {
  if (typeof modelType === "string" && modelType in architectures) return architectures[modelType];
  const hint = typeof modelType === "string" ? didYouMean(modelType, Object.keys(architectures)) : "";
  throw new ConfigError(
    `${where}: unknown architecture, expected model_type to be one of ${list()}, got ${JSON.stringify(modelType)}.${hint} Choose a supported model.`,
  );
}

/**
 * What a config as config.json holds it says of the model: nothing is allocated, so it answers for any size.
 * @throws ConfigError listing every problem
 */
export function describeModel(config: Record<string, unknown>, where = "config"): ModelDescription {
  const architecture = architectureNamed(config.model_type, where);
  const complete = parseModelConfig(architecture.schema, architecture.keys, config as never, where);
  return { architecture, modelType: architecture.modelType, config: complete, dimensions: architecture.dimensions(complete) };
}

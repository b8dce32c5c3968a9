/** The architectures by name. */
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import { COMMON_KEYS, parseModelConfig } from "../formats/hf-config.ts";
import { isJsonObject, type Json } from "../formats/json.ts";
import type { Architecture } from "./architecture.ts";
import { bloom } from "./bloom.ts";
import type { ModelDescription } from "./causal-lm.ts";
import { falcon } from "./falcon.ts";
import { gemma } from "./gemma.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3Text } from "./gemma3_text.ts";
import { gptNeoX } from "./gpt_neox.ts";
import { gptOss } from "./gpt_oss.ts";
import { gpt2 } from "./gpt2.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { mixtral } from "./mixtral.ts";
import { olmo2 } from "./olmo2.ts";
import { opt } from "./opt.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { qwen3Moe } from "./qwen3_moe.ts";
import { smollm3 } from "./smollm3.ts";

/** Those that groundup brings along. To add one: its file, and its name here. */
const BUILT_IN: readonly Architecture[] = [
  ...[gpt2, llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3Text, smollm3, phi3, olmo2, granite],
  ...[gptNeoX, opt, bloom, falcon, mixtral, qwen3Moe, gptOss],
];

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

/** @throws ConfigError for an unknown name, with the known ones and the one that has most of the settings of `config` */
export function architectureNamed(modelType: unknown, where: string, config: Readonly<Record<string, unknown>> = {}): Architecture {
  if (typeof modelType === "string" && modelType in architectures) return architectures[modelType];
  if (modelType === undefined)
    throw new ConfigError(
      `${where}: no model_type, expected one of ${list()}, got none. It is no language model's config.json, or a part of one: get the whole folder.`,
    );
  const spelt = typeof modelType === "string" ? didYouMean(modelType, Object.keys(architectures)) : "";
  const hint = spelt === "" ? nearest(config) : spelt;
  const classes = Array.isArray(config.architectures) ? config.architectures.filter((name) => typeof name === "string") : [];
  const named = classes.length > 0 ? ` (${classes.join(", ")})` : "";
  throw new ConfigError(
    `${where}: an architecture that groundup does not run (yet), expected a model_type that it has, got ${JSON.stringify(modelType)}${named}.${hint} Choose a model of one of ${list()}; or add this one: docs/architecture.md tells how, registerArchitecture() takes it.`,
  );
}

/** Settings that nearly every model has, or that say nothing of its arithmetic. */
const TELLS_NOTHING = new Set([
  ...COMMON_KEYS,
  "vocab_size",
  "hidden_size",
  "num_hidden_layers",
  "intermediate_size",
  "initializer_range",
  "tie_word_embeddings",
]);
/** Fewer settings in common are chance. */
const LEAST_SHARED = 3;

/** Which architecture has most of a config's telling settings, in words; nothing where none has half of them. */
function nearest(config: Readonly<Record<string, unknown>>): string {
  const given = Object.keys(config).filter((key) => !TELLS_NOTHING.has(key));
  let [best, most] = ["", Math.max(given.length / 2, LEAST_SHARED - 1)];
  for (const { modelType, schema } of Object.values(architectures)) {
    const { shape = {} } = schema as { shape?: Readonly<Record<string, unknown>> };
    const shared = given.filter((key) => key in shape).length;
    if (shared > most) [best, most] = [modelType, shared];
  }
  return best === "" ? "" : ` By its settings it is nearest to ${best}.`;
}

/**
 * The text part of a config whose model sees or hears too (`textOf`), with the token ids of the whole; any other config as it is.
 * @throws ConfigError where the text part is missing
 */
export function textPart(config: Record<string, unknown>, where: string): Record<string, unknown> {
  const architecture = Object.values(architectures).find(({ textOf = [] }) => textOf.includes(config.model_type as string));
  if (architecture === undefined) return config;
  const { text_config: text = null, bos_token_id, eos_token_id, pad_token_id } = config;
  if (!isJsonObject(text as Json))
    throw new ConfigError(
      `${where}: a ${config.model_type} without its text part, expected text_config to be an object, got ${JSON.stringify(text)}. Get the complete file.`,
    );
  const ids = Object.entries({ bos_token_id, eos_token_id, pad_token_id }).filter(([, id]) => id !== undefined);
  return { ...(text as object), ...Object.fromEntries(ids), model_type: architecture.modelType };
}

/**
 * What a config as config.json holds it says of the model: nothing is allocated, so it answers for any size.
 * @throws ConfigError listing every problem
 */
export function describeModel(config: Record<string, unknown>, where = "config"): ModelDescription {
  const text = textPart(config, where);
  const architecture = architectureNamed(text.model_type, where, text);
  const { quantization_config: packing = null, ...settings } = text;
  checkPacking(packing as Json, where);
  const complete = parseModelConfig(architecture.schema, architecture.keys, settings as never, where);
  return { architecture, modelType: architecture.modelType, config: complete, dimensions: architecture.dimensions(complete) };
}

/** How weights may be packed (`quant_method`); the files say the rest. */
const PACKINGS = ["mxfp4", "bitsandbytes"];

function checkPacking(packing: Json, where: string): void {
  if (packing === null) return;
  const method = isJsonObject(packing) ? packing.quant_method : packing;
  if (!PACKINGS.includes(method as string))
    throw new ConfigError(
      `${where}: weights that are quantised in a way that groundup does not read, expected quantization_config with quant_method ${PACKINGS.join(" or ")}, got ${JSON.stringify(method ?? null)}. Choose a model without, or a GGUF file of it.`,
    );
}

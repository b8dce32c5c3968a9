/** Weights that lie elsewhere (`openWeights`) as a Hugging Face folder, one tensor at a time. */
import { ConfigError } from "../errors.ts";
import { quantizeBlocks } from "../formats/gguf/quantize.ts";
import { encodeModelWeights, type TensorEntry } from "../formats/safetensors-write.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { tokenizerFiles } from "../tokenizers/files/save.ts";
import { tokenizerConfig } from "../tokenizers/files/tokenizer-config.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { unknownId } from "../tokenizers/tokenizer-spec.ts";
import type { ModelDescription } from "./causal-lm.ts";
import type { WeightSource } from "./weight-source.ts";

/** The float formats of a folder's weights. */
export const FOLDER_DTYPES = ["F32", "F16", "BF16"] as const;
type FolderDtype = (typeof FOLDER_DTYPES)[number];

/** What goes into the folder. */
export interface SaveFolderOptions {
  /** Of all weights. Default: each as it is stored; what is no plain float there becomes F32. */
  dtype?: FolderDtype;
  tokenizer?: Tokenizer | null;
  /** Jinja text that lays out a conversation. */
  chatTemplate?: string | null;
  /** The text of generation_config.json. Default: the ids that the weights' file tells of. */
  generationConfig?: string | null;
  /** Bytes of a file at most, default 5e9. */
  maxShardBytes?: number;
  /** Takes the place of what has the name. Default false. */
  replace?: boolean;
}

const OPTIONS: KnownOptions<SaveFolderOptions> = {
  dtype: true,
  tokenizer: true,
  chatTemplate: true,
  generationConfig: true,
  maxShardBytes: true,
  replace: true,
};

/**
 * Writes a folder that Hugging Face transformers opens: config.json, model.safetensors (one or several), the tokenizer with tokenizer_config.json and chat template,
 * generation_config.json. It appears whole or not at all.
 * @throws RunError where something has its name (without `replace`) or the disk fails
 */
export async function saveFolder(source: WeightSource, path: string, options: SaveFolderOptions = {}): Promise<{ bytes: number; files: string[] }> {
  checkOptions("saveFolder", options, OPTIONS);
  const { dtype, tokenizer = null, chatTemplate = null, maxShardBytes, replace = false } = options;
  if (dtype !== undefined && !FOLDER_DTYPES.includes(dtype))
    throw new ConfigError(`saveFolder: unknown dtype, expected ${FOLDER_DTYPES.join(", ")}, got ${dtype}. Quantised weights are saved as GGUF.`);
  const { writeFolderAtomic } = await import("../formats/atomic-write.ts");
  const kept = (format: string): FolderDtype => FOLDER_DTYPES.find((one) => one === format) ?? "F32";
  const entries = [...source.shapes].map(([name, shape]): TensorEntry => {
    const chosen = dtype ?? kept(source.formats.get(name) ?? "F32");
    return { name, dtype: chosen, shape, data: async () => quantizeBlocks(chosen, await source.read(name), `${source.name}, tensor ${name}`) };
  });
  const weights = encodeModelWeights(entries, maxShardBytes === undefined ? {} : { maxShardBytes });
  const texts: Record<string, string | Uint8Array> = {
    "config.json": jsonText({ ...configJson(source.description), ...source.tokenIds, ...named(mostly(entries)) }),
    "generation_config.json": options.generationConfig ?? jsonText(Object.fromEntries(Object.entries(source.tokenIds).filter(([, id]) => id !== null))),
    ...(tokenizer === null ? {} : { ...tokenizerFiles(tokenizer.spec), "tokenizer_config.json": jsonText(configOf(source, tokenizer, chatTemplate)) }),
    ...(chatTemplate === null ? {} : { "chat_template.jinja": chatTemplate }),
  };
  await writeFolderAtomic(
    path,
    async (folder) => {
      for (const { file, bytes, content } of weights) await folder.write(file, content, { bytes });
      for (const [file, content] of Object.entries(texts)) await folder.write(file, content);
    },
    { replace },
  );
  return { bytes: weights.reduce((sum, { bytes }) => sum + bytes, 0), files: [...weights.map(({ file }) => file), ...Object.keys(texts)] };
}

const jsonText = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** The dtype that most numbers have: that of the matrices. */
function mostly(entries: readonly TensorEntry[]): FolderDtype {
  const counts = { F32: 0, F16: 0, BF16: 0 };
  for (const { dtype, shape } of entries) counts[dtype as FolderDtype] += shape.reduce((a, b) => a * b, 1);
  return FOLDER_DTYPES.toSorted((a, b) => counts[b] - counts[a])[0] as FolderDtype;
}

function named(dtype: FolderDtype): { dtype: string; torch_dtype: string } {
  const torch = { F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype];
  return { dtype: torch, torch_dtype: torch };
}

/**
 * What config.json should hold. Only a model says it, so one of a single layer is asked, and what differs because of that is put back.
 */
export function configJson({ architecture, config }: ModelDescription): Record<string, unknown> {
  const { layers } = architecture.keyOf;
  const count = config[layers] as number;
  const one = Object.fromEntries(
    Object.entries({ ...config, [layers]: 1 }).map(([key, value]) => [
      key,
      Array.isArray(value) && value.length === count && count > 1 ? value.slice(0, 1) : value,
    ]),
  );
  const model = architecture.create(one);
  const json = { ...model.configJson() };
  model.dispose();
  for (const [key, value] of Object.entries(config)) if (JSON.stringify(one[key]) !== JSON.stringify(value) && Object.hasOwn(json, key)) json[key] = value;
  return json;
}

/** What the tokenizer's files said; what they did not say, as the model's do. */
function configOf({ description, tokenIds }: WeightSource, tokenizer: Tokenizer, chatTemplate: string | null): Record<string, unknown> {
  const { spec } = tokenizer;
  const [eos] = typeof tokenIds.eos_token_id === "number" ? [tokenIds.eos_token_id] : (tokenIds.eos_token_id ?? []);
  const ids = { bos_token: tokenIds.bos_token_id, eos_token: eos, pad_token: tokenIds.pad_token_id, unk_token: unknownId(spec.model) };
  const ofModel = Object.entries(ids).flatMap(([part, id]) => {
    const token = id === null || id === undefined ? undefined : tokenizer.idToToken(id);
    return token === undefined ? [] : [[part, token]];
  });
  return {
    ...tokenizerConfig({
      ...spec,
      chat: { templates: {}, ...spec.chat, tokens: { ...Object.fromEntries(ofModel), ...spec.chat?.tokens } },
      settings: { maxLength: description.dimensions.context, ...spec.settings },
    }),
    ...(chatTemplate === null ? {} : { chat_template: chatTemplate }),
  };
}

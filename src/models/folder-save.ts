/** Weights that lie elsewhere (`openWeights`) as a Hugging Face folder, one tensor at a time. */
import { ConfigError } from "../errors.ts";
import { PACKING_FLOATS, PACKINGS, type Packing, packedEntries, packingConfig } from "../formats/bitsandbytes.ts";
import { quantizeBlocks } from "../formats/gguf/quantize.ts";
import { configText } from "../formats/hf-config.ts";
import { MXFP4_CODES, mxfp4Codes, mxfp4Exponents } from "../formats/mxfp4.ts";
import { type TensorDtype, tensorBytes } from "../formats/safetensors.ts";
import { encodeModelWeights, type TensorEntry } from "../formats/safetensors-write.ts";
import { Linear } from "../nn/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { deferred } from "../tensor/index.ts";
import { tokenizerFiles } from "../tokenizers/files/save.ts";
import { tokenizerConfig } from "../tokenizers/files/tokenizer-config.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { unknownId } from "../tokenizers/tokenizer-spec.ts";
import type { ModelDescription } from "./causal-lm.ts";
import { piecesOf } from "./weight-names.ts";
import type { WeightSource } from "./weight-source.ts";

/** The float formats of a folder's weights. */
export const FOLDER_DTYPES = ["F32", "F16", "BF16"] as const;
type FolderDtype = (typeof FOLDER_DTYPES)[number];

/** What goes into the folder. */
export interface SaveFolderOptions {
  /** Of all weights. Default: each as it is stored; what is no plain float there becomes F32, but for gpt-oss' experts in MXFP4, which stay so. */
  dtype?: FolderDtype;
  /**
   * How the matrices of linear layers are packed, as bitsandbytes does it: "nf4" with double quantisation, 4.13 bits a weight, or "int8", a scale a row. The head, embeddings,
   * routers and experts stay floats, as in transformers. Default: they are floats.
   */
  packing?: Packing;
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
  packing: true,
  tokenizer: true,
  chatTemplate: true,
  generationConfig: true,
  maxShardBytes: true,
  replace: true,
};

/** What was written. */
export interface SavedFolder {
  /** Of the weights' files. */
  readonly bytes: number;
  readonly files: string[];
  /** Of the tensors alone, by their number of values. */
  readonly bitsPerWeight: number;
  /** How many weights have each format. */
  readonly layouts: Readonly<Record<string, number>>;
}

/**
 * Writes a folder that Hugging Face transformers opens: config.json, model.safetensors (one or several), the tokenizer with tokenizer_config.json and chat template,
 * generation_config.json. It appears whole or not at all.
 * @throws RunError where something has its name (without `replace`) or the disk fails
 */
export async function saveFolder(source: WeightSource, path: string, options: SaveFolderOptions = {}): Promise<SavedFolder> {
  checkOptions("saveFolder", options, OPTIONS);
  const { dtype, packing, tokenizer = null, chatTemplate = null, maxShardBytes, replace = false } = options;
  if (dtype !== undefined && !FOLDER_DTYPES.includes(dtype))
    throw new ConfigError(`saveFolder: unknown dtype, expected ${FOLDER_DTYPES.join(", ")}, got ${dtype}. Quantised weights are saved as GGUF.`);
  if (packing !== undefined && !PACKINGS.includes(packing))
    throw new ConfigError(`saveFolder: unknown packing, expected ${PACKINGS.join(" or ")}, got ${packing}. Choose one of them.`);
  const { writeFolderAtomic } = await import("../formats/atomic-write.ts");
  const kept = (format: string): FolderDtype => FOLDER_DTYPES.find((one) => one === format) ?? "F32";
  const { mxfp4, parts = [], written = [] } = source.description.architecture.weights;
  const read = keepingTwo((name) => source.read(name));
  const inMxfp4 = (name: string): boolean =>
    dtype === undefined && mxfp4?.of.test(name) === true && source.formats.get(name) === "MXFP4" && source.blocks !== undefined;
  const matrices = packing === undefined ? null : linearWeights(source);
  const layouts: Record<string, number> = {};
  const entries = [...source.shapes].flatMap(([name, shape]): TensorEntry[] => {
    const isPacked = packing !== undefined && matrices?.has(name) === true;
    const chosen = dtype ?? kept(source.formats.get(name) ?? "F32");
    const format = isPacked ? packing.toUpperCase() : packing === undefined && inMxfp4(name) ? "MXFP4" : chosen;
    layouts[format] = (layouts[format] ?? 0) + 1;
    const file = written.reduce((known, [pattern, spelling]) => known.replace(pattern, spelling), name);
    if (isPacked) return packedEntries(packing, file, shape, () => source.read(name));
    if (format === "MXFP4") return mxfp4Entries(source, name, shape);
    const whole = { file, shape, begin: 0 };
    const pieces = piecesOf(name, shape, parts);
    return (pieces.length === 0 ? [whole] : pieces).map((piece) => ({
      name: piece.file,
      dtype: chosen,
      shape: piece.shape,
      async data() {
        const values = pieces.length === 0 ? await source.read(name) : await read(name);
        const count = piece.shape.reduce((a, b) => a * b, 1);
        return quantizeBlocks(chosen, values.subarray(piece.begin, piece.begin + count), `${source.name}, tensor ${name}`);
      },
    }));
  });
  const said =
    packing !== undefined ? packingConfig(packing) : layouts.MXFP4 === undefined ? null : { modules_to_not_convert: mxfp4?.others, quant_method: "mxfp4" };
  const weights = encodeModelWeights(entries, maxShardBytes === undefined ? {} : { maxShardBytes });
  const texts: Record<string, string | Uint8Array> = {
    "config.json": configText(
      { ...configJson(source.description), ...source.tokenIds, ...named(mostly(entries)), ...(said === null ? {} : { quantization_config: said }) },
      [...(source.description.architecture.floats ?? []), ...PACKING_FLOATS],
    ),
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
  const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
  const stored = sum(entries.map(({ dtype: code, shape }) => tensorBytes(code, shape) as number));
  const values = sum([...source.shapes.values()].map((shape) => shape.reduce((a, b) => a * b, 1)));
  return {
    bytes: sum(weights.map(({ bytes }) => bytes)),
    files: [...weights.map(({ file }) => file), ...Object.keys(texts)],
    bitsPerWeight: (8 * stored) / values,
    layouts,
  };
}

/** The matrices that bitsandbytes packs: those of linear layers but the head, and but routers, which are none in transformers. @throws ConfigError where there are none */
function linearWeights({ name: where, description: { architecture, config, modelType } }: WeightSource): ReadonlySet<string> {
  const model = deferred(() => architecture.create(config));
  const found = [...model.namedModules()].flatMap(([name, module]) => (module instanceof Linear ? [`${name}.weight`] : []));
  model.dispose();
  const packed = found.filter((name) => !architecture.weights.tied.includes(name) && !/\.mlp\.(gate|router)\.weight$/.test(name));
  if (packed.length === 0)
    throw new ConfigError(
      `${where}: nothing to pack, expected linear layers with weights (out, in), got a ${modelType}, which has none beside its head. Choose a GGUF type instead.`,
    );
  return new Set(packed);
}

/** Remembers the last two weights: the parts of an expert's two matrices take turns in a file. */
function keepingTwo(read: (name: string) => Promise<Float32Array<ArrayBuffer>>): typeof read {
  const kept = new Map<string, Promise<Float32Array<ArrayBuffer>>>();
  return (name) => {
    const found = kept.get(name) ?? read(name);
    if (!kept.has(name) && kept.size === 2) kept.delete(kept.keys().next().value as string);
    kept.set(name, found);
    return found;
  };
}

const jsonText = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** A weight (experts, in, out) as a folder holds its blocks. */
function mxfp4Entries(source: WeightSource, name: string, [experts, columns, rows]: readonly number[]): TensorEntry[] {
  const shape = [experts as number, rows as number, (columns as number) / 32];
  const blocks = () => (source.blocks as NonNullable<typeof source.blocks>)(name);
  return [
    { name: `${name}_blocks`, dtype: "U8", shape: [...shape, MXFP4_CODES], data: async () => mxfp4Codes(await blocks()) },
    { name: `${name}_scales`, dtype: "U8", shape, data: async () => mxfp4Exponents(await blocks()) },
  ];
}

/** The dtype that most floats have: that of the matrices. */
function mostly(entries: readonly TensorEntry[]): FolderDtype {
  const counts: Partial<Record<TensorDtype, number>> & Record<FolderDtype, number> = { F32: 0, F16: 0, BF16: 0 };
  for (const { dtype, shape } of entries) counts[dtype] = (counts[dtype] ?? 0) + shape.reduce((a, b) => a * b, 1);
  return FOLDER_DTYPES.toSorted((a, b) => counts[b] - counts[a])[0] as FolderDtype;
}

function named(dtype: FolderDtype): { dtype: string; torch_dtype: string } {
  const torch = { F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype];
  return { dtype: torch, torch_dtype: torch };
}

/** What config.json should hold. Only a model says it, so one is asked whose weights never get memory. */
export function configJson({ architecture, config }: ModelDescription): Record<string, unknown> {
  const model = deferred(() => architecture.create(config));
  const json = { ...model.configJson() };
  model.dispose();
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

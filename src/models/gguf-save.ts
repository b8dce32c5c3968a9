/** Models as GGUF files: the architecture's metadata, its weights under GGUF's names in the layout of a file type, and the tokenizer. */
import { ConfigError } from "../errors.ts";
import { FILE_TYPES, type GgufFileType, type LayoutModel, layoutOf, PLAIN_FILE_TYPES } from "../formats/gguf/file-types.ts";
import { quantizeBlocks } from "../formats/gguf/quantize.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { GGML_TYPES, type GgmlType } from "../formats/gguf/types.ts";
import { text, u32 } from "../formats/gguf/values.ts";
import { encodeGguf, type GgufEntry } from "../formats/gguf/write.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { ggufTokenizerMetadata } from "../tokenizers/files/gguf-tokenizer-write.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { CausalLM } from "./causal-lm.ts";
import { type Form, fileBlocks, fileValues, ropeKeyOf, seenShape } from "./gguf-model.ts";
import { ggufNames, sliceShape } from "./gguf-names.ts";
import { ropeToGguf } from "./gguf-rope.ts";
import type { RopeParameters } from "./rope-tables.ts";
import { type WeightSource, weightsOf } from "./weight-source.ts";

/** How a model is saved as GGUF. */
export interface SaveGgufOptions {
  /** The file type, as llama.cpp names them. Default `F16`. */
  type?: GgufFileType;
  /** Goes into the file, so that llama.cpp and groundup need nothing else. */
  tokenizer?: Tokenizer | null;
  /** Jinja text that lays out a conversation, for chat programs. */
  chatTemplate?: string | null;
  /** What programs call the model (`general.name`). */
  name?: string;
  /** Called before each tensor is made. */
  progress?: (tensor: string, done: number, of: number) => void;
}

const OPTIONS: KnownOptions<SaveGgufOptions> = { type: true, tokenizer: true, chatTemplate: true, name: true, progress: true };

/** What was written. */
export interface SavedGguf {
  readonly bytes: number;
  /** Of the tensors alone, by their number of values. */
  readonly bitsPerWeight: number;
  /** How many tensors have each layout. */
  readonly layouts: Readonly<Record<string, number>>;
}

/**
 * Writes a model, or weights that lie elsewhere (`openWeights`), as one GGUF file that llama.cpp opens. One tensor at a time is in memory beside the model. The file
 * appears whole or not at all, in the place of what had its name.
 * @throws ConfigError for an architecture or a tokenizer that GGUF has no form for; RunError where the disk fails
 */
export async function saveGguf(model: CausalLM | WeightSource, path: string, options: SaveGgufOptions = {}): Promise<SavedGguf> {
  checkOptions("saveGguf", options, OPTIONS);
  const { type = "F16" } = options;
  if (!Object.hasOwn(FILE_TYPES, type))
    throw new ConfigError(`saveGguf: unknown type, expected one of ${Object.keys(FILE_TYPES).join(", ")}, got ${type}. Choose one of them.`);
  const source = model instanceof CausalLM ? weightsOf(model) : model;
  const form = formOf(source);
  const rope = ropeOf(source, form);
  const metadata = describe(source, form, type, rope.metadata, options);
  const { entries, layouts, values, bytes: weights } = entriesOf(source, form, type, rope.tensors, options.progress);
  // Experts as the model was trained make it a file of theirs.
  if (PLAIN_FILE_TYPES.includes(type) && layouts.MXFP4 !== undefined) metadata.set("general.file_type", u32(FILE_TYPES.MXFP4.code));
  const { bytes, content } = encodeGguf(metadata, entries, path);
  const { writeFileAtomic } = await import("../formats/atomic-write.ts");
  await writeFileAtomic(path, content, { bytes });
  return { bytes, bitsPerWeight: (8 * weights) / values, layouts };
}

function formOf({ name, description: { architecture } }: WeightSource): Form {
  if (architecture.gguf !== undefined) return architecture.gguf;
  throw new ConfigError(
    `${name}: an architecture without a GGUF form, expected one that GGUF files hold, got ${architecture.modelType}. Save a Hugging Face folder, or add "gguf" to its declaration.`,
  );
}

/** @throws ConfigError for what such files can't say */
function ropeOf(source: WeightSource, form: Form): ReturnType<typeof ropeToGguf> {
  const { config, dimensions } = source.description;
  const parameters = (config[ropeKeyOf(form)] ?? null) as RopeParameters | null;
  return ropeToGguf({
    // Some configs have the length before the stretching as a key of their own (Phi-3).
    parameters: parameters === null ? null : { original_max_position_embeddings: config.original_max_position_embeddings as number | undefined, ...parameters },
    rotary: form.rotary?.(config) ?? dimensions.headDim,
    context: dimensions.context,
    theta: Number(config.rope_theta ?? 10000),
    exactRamp: form.exactRamp === true,
    architecture: form.architecture,
    stretched: form.stretched ?? ["linear", "yarn"],
  });
}

function describe(
  source: WeightSource,
  form: Form,
  type: GgufFileType,
  rope: Readonly<Record<string, GgufValue>>,
  options: SaveGgufOptions,
): Map<string, GgufValue> {
  const { config, dimensions } = source.description;
  const { bos_token_id: bos, eos_token_id: eos, pad_token_id: padding } = source.tokenIds;
  const tokenizer =
    options.tokenizer == null
      ? {}
      : ggufTokenizerMetadata(options.tokenizer.spec, { vocabulary: dimensions.vocabulary, bos, eos, padding, chatTemplate: options.chatTemplate });
  const named: Record<string, GgufValue> = {
    "general.architecture": text(form.architecture),
    "general.type": text("model"),
    ...(options.name === undefined ? {} : { "general.name": text(options.name) }),
    "general.file_type": u32(FILE_TYPES[type].code),
    "general.quantization_version": u32(2),
    ...Object.fromEntries(Object.entries({ ...form.metadata(config), ...rope }).map(([key, value]) => [key.replace("{arch}", form.architecture), value])),
    ...tokenizer,
  };
  return new Map(Object.entries(named));
}

function entriesOf(
  source: WeightSource,
  form: Form,
  type: GgufFileType,
  tensors: Record<string, Float32Array>,
  progress: SaveGgufOptions["progress"],
): { entries: GgufEntry[]; layouts: Record<string, number>; values: number; bytes: number } {
  const { config, dimensions } = source.description;
  const { toFile, partsOf } = ggufNames(form.names);
  const slices = [...source.shapes].flatMap(([name, whole]) => partsOf(name).map((slice) => ({ ...slice, whole, file: toFile(slice.key) })));
  const model: LayoutModel = {
    layers: dimensions.layers,
    group: dimensions.heads / dimensions.kvHeads,
    tied: !slices.some(({ file }) => file === "output.weight"),
  };
  const layouts: Record<string, number> = {};
  let [values, bytes] = [0, 0];
  const entries: GgufEntry[] = Object.entries(tensors).map(([name, factors]) => ({
    name,
    type: "F32",
    shape: [factors.length],
    data: quantizeBlocks("F32", factors, name),
  }));
  let done = 0;
  for (const { name, part, whole, file } of slices) {
    if (file === undefined)
      throw new ConfigError(
        `${source.name}: weight "${name}" has no name in GGUF files, expected one of the architecture's, got another. Save a Hugging Face folder.`,
      );
    const shape = sliceShape(seenShape(whole, name, form), part);
    const wanted = layoutOf(type, file, shape, model);
    const kept = (form.added?.(name) ?? 0) === 0 ? keptLayout(source, name, wanted) : null;
    const layout = kept ?? wanted;
    layouts[layout] = (layouts[layout] ?? 0) + 1;
    entries.push({
      name: file,
      type: layout,
      shape,
      async data() {
        progress?.(file, done++, slices.length);
        if (kept !== null && source.blocks !== undefined) return fileBlocks(await source.blocks(name), name, whole, part, form, config);
        return quantizeBlocks(wanted, fileValues(await source.read(name), name, whole, part, form, config), `${source.name}, tensor ${name}`);
      },
    });
    const count = shape.reduce((a, b) => a * b, 1);
    values += count;
    bytes += (count / GGML_TYPES[layout].elements) * GGML_TYPES[layout].bytes;
  }
  return { entries, layouts, values, bytes };
}

const bitsOf = (layout: GgmlType): number => GGML_TYPES[layout].bytes / GGML_TYPES[layout].elements;

/**
 * A weight's own layout where its blocks go into the file as they are: they are of the wanted layout already, or MXFP4, which models are trained in and which no layout of as
 * many bits holds better, plain floats included; null for all others.
 */
function keptLayout({ formats, blocks }: WeightSource, name: string, wanted: GgmlType): GgmlType | null {
  const stored = formats.get(name) as GgmlType;
  const isKept = stored === "MXFP4" ? bitsOf(wanted) >= bitsOf(stored) : stored === wanted && GGML_TYPES[stored].elements > 1;
  return blocks !== undefined && isKept ? stored : null;
}

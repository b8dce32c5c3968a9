/**
 * A model from one GGUF file: its metadata say which architecture and sizes, its tensors (of any layout that `dequantizeBlocks` knows) become weights under
 * Hugging Face's names: block-quantised matrices as they are, all others in float32.
 */
import { FormatError } from "../errors.ts";
import { dequantizeBlocks } from "../formats/gguf/dequantize.ts";
import { type GgufReader, type GgufTensor, openGguf } from "../formats/gguf/read.ts";
import type { Source } from "../formats/source.ts";
import { replaceParameter } from "../nn/index.ts";
import { type DType, deferred, isQuantized, type QuantizedDType, quantizedFromBytes, scope, type Tensor, transpose } from "../tensor/index.ts";
import type { Architecture, GgufForm, GgufLookup } from "./architecture.ts";
import { architectures, describeModel } from "./architectures.ts";
import type { CausalLM, ModelDescription } from "./causal-lm.ts";
import { createModel } from "./create.ts";
import { misfit, ownNames } from "./weight-names.ts";

/** How a model is opened. */
export interface OpenOptions {
  /** "f32": block-quantised matrices of a GGUF file become float32, four to eight times as large. By default they stay as they are, and products on them multiply integers. */
  dtype?: "f32";
}

type Form = GgufForm<Readonly<Record<string, unknown>>>;

/** @throws FormatError for an architecture that groundup does not have, and where names or shapes do not fit it; `source` is closed */
export async function modelFromGguf(source: Source, options: OpenOptions = {}): Promise<CausalLM> {
  const reader = await openGguf(source).catch(async (error) => {
    await source.close();
    throw error;
  });
  try {
    const { config, form } = configOf(reader);
    const keepsBlocks = options.dtype !== "f32";
    const stored = [...reader.tensors.values()].reduce((sum, t) => sum + t.bytes, 0);
    const model = deferred(() => createModel(config, reader.name, keepsBlocks ? { bytes: stored } : {}));
    try {
      await loadTensors(model, reader, form, keepsBlocks);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model.eval();
  } finally {
    await reader.close();
  }
}

/** What a file's metadata say of its model. @throws FormatError for an architecture or a form of positions that groundup does not have */
export function describeGguf(reader: GgufReader): ModelDescription {
  return describeModel(configOf(reader).config, reader.name);
}

/** The config, as config.json would hold it. */
function configOf(reader: GgufReader): { config: Record<string, unknown>; form: Form } {
  const { architecture, form } = architectureOf(reader);
  const lookup = lookupIn(reader);
  checkRotary(lookup, reader.name);
  const ids = { bos_token_id: "bos", eos_token_id: "eos", pad_token_id: "padding" };
  const tokenIds = Object.fromEntries(Object.entries(ids).map(([key, name]) => [key, lookup.optional(`tokenizer.ggml.${name}_token_id`) ?? null]));
  return { config: { model_type: architecture.modelType, ...form.config(lookup), ...tokenIds }, form };
}

function architectureOf(reader: GgufReader): { architecture: Architecture; form: Form } {
  const named = reader.metadata.get("general.architecture");
  for (const architecture of Object.values(architectures))
    if (architecture.gguf !== undefined && architecture.gguf.architecture === named?.value) return { architecture, form: architecture.gguf };
  const known = Object.values(architectures).flatMap(({ gguf }) => (gguf === undefined ? [] : [gguf.architecture]));
  throw new FormatError(
    `${reader.name}: an architecture that is not supported (yet), expected general.architecture to be one of ${known.join(", ")}, got ${JSON.stringify(named?.value ?? null)}. Choose a supported model.`,
  );
}

function lookupIn({ name: file, metadata, tensors }: GgufReader): GgufLookup {
  const architecture = String(metadata.get("general.architecture")?.value);
  const full = (key: string) => key.replace("{arch}", architecture);
  const get = (key: string) => metadata.get(full(key));
  function optional(key: string): number | undefined {
    const found = get(key);
    if (found === undefined) return undefined;
    const number = found.kind === "u64" || found.kind === "i64" ? Number(found.value) : found.value;
    if (typeof number !== "number")
      throw new FormatError(`${file}, metadata "${full(key)}": wrong kind, expected a number, got ${found.kind}. Get the file again.`);
    return number;
  }
  return {
    optional,
    number(key) {
      const found = optional(key);
      if (found === undefined)
        throw new FormatError(`${file}: metadata lack "${full(key)}", expected a number, got nothing. Get a complete file of the model.`);
      return found;
    },
    text(key) {
      const found = get(key);
      return found?.kind === "string" ? found.value : undefined;
    },
    has: (tensor) => tensors.has(tensor),
    shape(tensor) {
      const found = tensors.get(tensor);
      if (found === undefined)
        throw new FormatError(
          `${file}: no tensor "${tensor}", expected a model's weights, got ${tensors.size} tensors without it. Get a complete file of the model.`,
        );
      return found.shape;
    },
  };
}

/** Refuses what would load and compute something else: parts of heads that turn, and stretched positions. */
function checkRotary(file: GgufLookup, name: string): void {
  const [turning, heads, hidden] = [
    file.optional("{arch}.rope.dimension_count"),
    file.optional("{arch}.attention.head_count"),
    file.optional("{arch}.embedding_length"),
  ];
  const headDim = file.optional("{arch}.attention.key_length") ?? (hidden ?? 0) / (heads ?? 1);
  if (turning !== undefined && turning !== headDim)
    throw new FormatError(
      `${name}: heads that turn in part are not supported (yet), expected rope.dimension_count ${headDim}, got ${turning}. Choose another model.`,
    );
  const scaling = file.text("{arch}.rope.scaling.type") ?? "none";
  if (scaling !== "none")
    throw new FormatError(
      `${name}: stretched positions are not supported in GGUF files (yet), expected rope.scaling.type none, got ${scaling}. Open the model's Hugging Face folder.`,
    );
}

async function loadTensors(model: CausalLM, reader: GgufReader, form: Form, keepsBlocks: boolean): Promise<void> {
  const wanted = model.stateDict();
  const ours = ownNames([...reader.tensors.keys()], wanted, { base: "", names: form.names });
  const found = new Set(ours.values());
  const missing = [...wanted.keys()].filter((name) => !found.has(name));
  const unexpected = [...ours].filter(([, name]) => !wanted.has(name)).map(([file]) => file);
  if (missing.length > 0 || unexpected.length > 0) throw new FormatError(misfit(reader.name, missing, unexpected, "metadata"));
  const pairs = [...ours].map(([file, name]) => ({ info: reader.tensors.get(file) as GgufTensor, name, target: wanted.get(name) as Tensor }));
  for (const { info, name, target } of pairs) {
    const shape = form.transposed?.(name) === true ? target.shape.toReversed() : target.shape;
    if (info.shape.join() !== shape.join())
      throw new FormatError(
        `${reader.name}, tensor ${info.name}: wrong shape, expected (${shape.join(", ")}), got (${info.shape.join(", ")}). The metadata and the weights do not belong together.`,
      );
  }
  for (const { info, name, target } of pairs) {
    const heads = form.shuffledHeads?.(name, model.config) ?? 0;
    const transposed = form.transposed?.(name) === true;
    const bytes = await reader.read(info.name);
    const dtype = info.type.toLowerCase() as DType;
    if (keepsBlocks && isQuantized(dtype) && info.shape.length === 2) {
      replaceParameter(model, name, quantized(heads > 0 ? unshuffled(bytes, heads, info.shape[0]) : bytes, info.shape, dtype, transposed));
      continue;
    }
    let values = dequantizeBlocks(info.type, bytes, `${reader.name}, tensor ${info.name}`);
    if (heads > 0) values = unshuffled(values, heads, info.shape[0]);
    target.write(transposed ? turned(values, info.shape) : values);
  }
}

/** A file's blocks as a weight, (out, in) or, where ours lies the other way round, (in, out). */
function quantized(bytes: Uint8Array, shape: readonly number[], dtype: QuantizedDType, across: boolean): Tensor {
  return scope(() => {
    const weight = quantizedFromBytes(bytes, shape, dtype);
    return across ? transpose(weight) : weight;
  });
}

/** In a head of d rows llama.cpp puts row d/2 + i behind row i; this puts the halves one behind the other again. Rows of numbers, or of blocks. */
function unshuffled<Values extends Float32Array<ArrayBuffer> | Uint8Array>(values: Values, heads: number, rows: number): Values {
  const width = values.length / rows;
  const d = rows / heads;
  const out = values.slice() as Values;
  for (let row = 0; row < rows; row++) {
    const [head, i] = [Math.floor(row / d), row % d];
    const to = head * d + (i % 2) * (d / 2) + (i >> 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

function turned(values: Float32Array<ArrayBuffer>, [rows, columns]: readonly number[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = values[i * columns + j];
  return out;
}

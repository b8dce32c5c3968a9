/**
 * A model from one GGUF file: its metadata say which architecture and sizes, its tensors (of any layout that `dequantizeBlocks` knows) become weights under
 * Hugging Face's names: block-quantised matrices as they are, all others in float32.
 */
import { FormatError } from "../errors.ts";
import { dequantizeBlocks, unreadLayouts } from "../formats/gguf/dequantize.ts";
import type { GgufReader, GgufTensor } from "../formats/gguf/read.ts";
import { GGML_TYPES } from "../formats/gguf/types.ts";
import { metadataNumber } from "../formats/gguf/values.ts";
import { parameterReplacer } from "../nn/index.ts";
import {
  type DType,
  deferred,
  isQuantized,
  noGrad,
  type QuantizedDType,
  quantizedInPieces,
  scope,
  type Tensor,
  tensorFrom,
  transpose,
  writtenInParts,
} from "../tensor/index.ts";
import type { Architecture, GgufForm, GgufLookup } from "./architecture.ts";
import { architectures, describeModel } from "./architectures.ts";
import type { CausalLM, ModelDescription } from "./causal-lm.ts";
import { createModel } from "./create.ts";
import { cutSlice, ggufNames, type Part, pasteSlice, sliceShape } from "./gguf-names.ts";
import { longRope, ropeFromFactors, ropeFromMetadata } from "./gguf-rope.ts";
import { openedBytes } from "./weight-memory.ts";
import { checkFit } from "./weight-names.ts";

export type Form = GgufForm<Readonly<Record<string, unknown>>>;

/** How a model is opened. */
export interface OpenOptions {
  /** "f32": block-quantised matrices become float32, four to eight times as large. By default they stay as they are, and products on them multiply integers. */
  dtype?: "f32";
}

/** @throws FormatError for an architecture that groundup does not have, and where names or shapes do not fit it; the reader is closed */
export async function modelFromGguf(reader: GgufReader, options: OpenOptions = {}): Promise<CausalLM> {
  try {
    checkLayouts(reader);
    const { config, form } = await ggufConfig(reader);
    const keepsBlocks = options.dtype !== "f32";
    const bytes = openedBytes(ggufWeights(reader), keepsBlocks);
    const model = deferred(() => createModel(config, reader.name, { bytes }));
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

/** What a file's tensors are, as `openedBytes` asks it. */
export const ggufWeights = ({ tensors }: GgufReader): { shape: readonly number[]; format: string }[] =>
  [...tensors.values()].map(({ shape, type }) => ({ shape, format: type }));

/** @throws FormatError where weights are in layouts that nothing here reads, before the first is read */
export function checkLayouts({ name, tensors }: GgufReader): void {
  const unread = unreadLayouts(tensors.values());
  if (unread !== null) throw new FormatError(`${name}: ${unread}`);
}

/** What a file's metadata say of its model. @throws FormatError for an architecture or a form of positions that groundup does not have */
export function describeGguf(reader: GgufReader): ModelDescription {
  return describeModel(configOf(reader).config, reader.name);
}

/** The config as config.json would hold it, with what stands in tensors (factors of rotary frequencies). */
export async function ggufConfig(reader: GgufReader): Promise<{ config: Record<string, unknown>; form: Form }> {
  const made = configOf(reader);
  const factors = async (name: string): Promise<Float32Array> =>
    dequantizeBlocks(reader.tensors.get(name)?.type ?? "F32", await reader.read(name), `${reader.name}, tensor ${name}`);
  const [freqs, short, long] = ROPE_TENSORS;
  const has = (name: string) => reader.tensors.has(name);
  if (!has(freqs) && !(has(short) && has(long))) return made;
  const { dimensions, config } = describeModel(made.config, reader.name);
  const shape = { rotary: made.form.rotary?.(config) ?? dimensions.headDim, context: dimensions.context, theta: Number(config.rope_theta ?? 10000) };
  const rope = has(freqs) ? ropeFromFactors(await factors(freqs), shape) : longRope(await factors(short), await factors(long), lookupIn(reader), shape);
  return { ...made, config: { ...made.config, [ropeKeyOf(made.form)]: rope } };
}

export const ropeKeyOf = (form: Form): string => form.ropeKey ?? "rope_parameters";

/** Tensors that belong to the config. */
export const ROPE_TENSORS = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"] as const;

/** The config, as config.json would hold it, as far as the metadata tell. */
function configOf(reader: GgufReader): { config: Record<string, unknown>; form: Form } {
  const { architecture, form } = architectureOf(reader);
  const lookup = lookupIn(reader);
  checkRotary(lookup, form, reader.name);
  const id = (name: string): number | null => lookup.optional(`tokenizer.ggml.${name}_token_id`) ?? null;
  const [eos, eot] = [id("eos"), id("eot")];
  const tokenIds = {
    bos_token_id: id("bos"),
    eos_token_id: eot === null || eot === eos ? eos : [eos, eot].filter((one) => one !== null),
    pad_token_id: id("padding"),
  };
  const rope = ropeFromMetadata(lookup, reader.name);
  const exact = form.exactRamp === true && rope?.rope_type === "yarn" ? { truncate: false } : {};
  const stretched = rope === null ? {} : { [ropeKeyOf(form)]: { ...rope, ...exact } };
  return { config: { model_type: architecture.modelType, ...form.config(lookup), ...stretched, ...tokenIds }, form };
}

function architectureOf(reader: GgufReader): { architecture: Architecture; form: Form } {
  const named = reader.metadata.get("general.architecture");
  const lookup = lookupIn(reader);
  for (const architecture of Object.values(architectures)) {
    const form = architecture.gguf;
    if (form !== undefined && form.architecture === named?.value && form.matches?.(lookup) !== false) return { architecture, form };
  }
  const known = new Set(Object.values(architectures).flatMap(({ gguf }) => (gguf === undefined ? [] : [gguf.architecture])));
  throw new FormatError(
    `${reader.name}: an architecture that is not supported (yet), expected a general.architecture that groundup has, got ${JSON.stringify(named?.value ?? null)}. Choose a model of one of ${[...known].join(", ")}; or add this one: docs/architecture.md tells how.`,
  );
}

function lookupIn({ name: file, metadata, tensors }: GgufReader): GgufLookup {
  const architecture = String(metadata.get("general.architecture")?.value);
  const full = (key: string) => key.replace("{arch}", architecture);
  const get = (key: string) => metadata.get(full(key));
  const optional = (key: string) => metadataNumber({ name: file, metadata }, full(key));
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
    flag(key) {
      const found = get(key);
      return found?.kind === "bool" ? found.value : undefined;
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

/** Refuses what would load and compute something else: heads that turn in part. */
function checkRotary(file: GgufLookup, form: Form, name: string): void {
  const [turning, heads, hidden] = [
    file.optional("{arch}.rope.dimension_count"),
    file.optional("{arch}.attention.head_count"),
    file.optional("{arch}.embedding_length"),
  ];
  const headDim = file.optional("{arch}.attention.key_length") ?? (hidden ?? 0) / (heads ?? 1);
  if (turning !== undefined && turning !== headDim && form.rotary === undefined)
    throw new FormatError(
      `${name}: heads that turn in part are not supported (yet), expected rope.dimension_count ${headDim}, got ${turning}. Choose another model.`,
    );
}

async function loadTensors(model: CausalLM, reader: GgufReader, form: Form, keepsBlocks: boolean): Promise<void> {
  const wanted = model.stateDict();
  const { toOurs, partsOf } = ggufNames(form.names);
  const slices = new Map([...wanted.keys()].flatMap((name) => partsOf(name).map((slice) => [slice.key, slice] as const)));
  const there = [...reader.tensors.values()].filter((info) => !isRope(info.name)).map((info) => ({ info, key: toOurs(info.name, slices) ?? info.name }));
  const found = new Set(there.map(({ key }) => key));
  const missing = [...slices.keys()].filter((key) => !found.has(key));
  const unexpected = there.flatMap(({ info, key }) => (slices.has(key) ? [] : [info.name]));
  const pairs = there.flatMap(({ info, key }) => {
    const slice = slices.get(key);
    return slice === undefined ? [] : [{ info, name: slice.name, part: slice.part, target: wanted.get(slice.name) as Tensor }];
  });
  const misshaped = pairs
    .map(({ info, name, part, target }) => ({ name: info.name, expected: sliceShape(seenShape(target.shape, name, form), part), got: info.shape }))
    .filter(({ expected, got }) => expected.join() !== got.join());
  checkFit(reader.name, { missing, unexpected, misshaped }, "metadata");
  const byName = new Map<string, typeof pairs>();
  // In the order of their places, as `readPiece` likes it.
  for (const pair of pairs.toSorted((a, b) => a.info.offset - b.info.offset)) byName.set(pair.name, [...(byName.get(pair.name) ?? []), pair]);
  const replace = parameterReplacer(model);
  for (const [name, parts] of byName) {
    const { target } = parts[0] as (typeof pairs)[number];
    const across = form.transposed?.(name) === true;
    const dtypes = new Set(parts.map(({ info }) => info.type.toLowerCase() as DType));
    const [dtype] = dtypes;
    if (keepsBlocks && dtype !== undefined && isQuantized(dtype) && dtypes.size === 1 && target.rank > 1 && (form.added?.(name) ?? 0) === 0) {
      replace(name, await readQuantized(reader, name, parts, dtype, target.shape, form, model.config));
      continue;
    }
    for (const { info, part } of parts) {
      if (part === null && !across && (form.added?.(name) ?? 0) === 0 && !isTurned(name, info.shape, form, model.config)) {
        await readAsItLies(reader, info, target);
        continue;
      }
      const values = dequantizeBlocks(info.type, await reader.read(info.name), `${reader.name}, tensor ${info.name}`);
      const ours = ourRows(values, name, info.shape, form, model.config);
      if (part === null && !across) target.write(ours);
      else scope(() => void noGrad(() => partView(across ? transpose(target) : target, part, info.shape).copyFrom(tensorFrom(ours, info.shape))));
    }
  }
}

/** Whether a file has the rows of our weight in another order. */
const isTurned = (name: string, shape: readonly number[], form: Form, config: Readonly<Record<string, unknown>>): boolean =>
  (form.rowOrder?.(name, shape[0] as number, config) ?? null) !== null;

/** Numbers that are ours as they stand in the file, piece by piece. */
async function readAsItLies(reader: GgufReader, { name, type, bytes: length }: GgufTensor, target: Tensor): Promise<void> {
  const write = writtenInParts(target);
  for (let at = 0; at < length; ) {
    const bytes = await reader.readPiece(name, at, GGML_TYPES[type].bytes);
    write(type === "F32" ? bytes : dequantizeBlocks(type, bytes, `${reader.name}, tensor ${name}`));
    at += bytes.length;
  }
}

/** The part of a weight, a view. */
function partView(whole: Tensor, part: Part | null, shape: readonly number[]): Tensor {
  if (part === null) return whole;
  const { index, of, alternates } = part;
  const [blocks, rows, ...rest] = shape as [number, number, ...number[]];
  if (!alternates) return whole.narrow(1, index * rows, rows);
  return whole
    .reshape([blocks, rows, of, ...rest])
    .narrow(2, index, 1)
    .reshape(shape);
}

export const isRope = (name: string): boolean => (ROPE_TENSORS as readonly string[]).includes(name);

/** The shape of our weight as files see it, before it is taken apart. */
export function seenShape(shape: readonly number[], name: string, form: Form): readonly number[] {
  return form.transposed?.(name) === true ? [...shape.slice(0, -2), shape.at(-1) as number, shape.at(-2) as number] : shape;
}

/** A tensor's numbers as they stand in a file of this shape, with rows and values as our weight of this name has them; it may still lie the other way round, or be a part. */
function ourRows(
  values: Float32Array<ArrayBuffer>,
  name: string,
  shape: readonly number[],
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Float32Array<ArrayBuffer> {
  const order = form.rowOrder?.(name, shape[0] as number, config) ?? null;
  const ours = order === null ? values : inOurOrder(values, order);
  const added = form.added?.(name) ?? 0;
  return added === 0 ? ours : ours.map((value) => value - added);
}

/** Our weight of this name and shape, from the tensors that a file has of it. */
export function ourValues(
  pieces: readonly { readonly values: Float32Array<ArrayBuffer>; readonly shape: readonly number[]; readonly part: Part | null }[],
  name: string,
  shape: readonly number[],
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Float32Array<ArrayBuffer> {
  const seen = seenShape(shape, name, form);
  let whole: Float32Array<ArrayBuffer> | undefined;
  for (const { values, shape: there, part } of pieces) {
    const ours = ourRows(values, name, there, form, config);
    if (part === null) whole = ours;
    else pasteSlice((whole ??= new Float32Array(pieces.length * ours.length)), seen, part, ours);
  }
  return form.transposed?.(name) === true ? turned(whole as Float32Array<ArrayBuffer>, seen) : (whole as Float32Array<ArrayBuffer>);
}

/** Their blocks, as files see the weight, with rows as ours has them. */
export function ourBlocks(
  pieces: readonly { readonly bytes: Uint8Array<ArrayBuffer>; readonly shape: readonly number[]; readonly part: Part | null }[],
  name: string,
  shape: readonly number[],
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Uint8Array<ArrayBuffer> {
  const length = pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const seen = inBytes(seenShape(shape, name, form), length);
  let whole: Uint8Array<ArrayBuffer> | undefined;
  for (const { bytes, shape: there, part } of pieces) {
    const order = form.rowOrder?.(name, there[0] as number, config) ?? null;
    const ours = order === null ? bytes : inOurOrder(bytes, order);
    if (part === null) whole = ours;
    else pasteSlice((whole ??= new Uint8Array(length)), seen, part, ours);
  }
  return whole as Uint8Array<ArrayBuffer>;
}

/** The shape of so many bytes of blocks, which lie along the last dimension. */
const inBytes = (seen: readonly number[], length: number): readonly number[] => [...seen.slice(0, -1), length / seen.slice(0, -1).reduce((a, b) => a * b, 1)];

/** The other way round: the blocks that a file holds of our weight of this shape. */
export function fileBlocks(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  shape: readonly number[],
  part: Part | null,
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Uint8Array<ArrayBuffer> {
  const seen = inBytes(seenShape(shape, name, form), bytes.length);
  const there = cutSlice(bytes, seen, part);
  const order = form.rowOrder?.(name, seen[0] as number, config) ?? null;
  return order === null ? there : inFileOrder(there, order);
}

/** The other way round: what a file holds of our weight of this shape. */
export function fileValues(
  values: Float32Array<ArrayBuffer>,
  name: string,
  shape: readonly number[],
  part: Part | null,
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Float32Array<ArrayBuffer> {
  const seen = seenShape(shape, name, form);
  let there = cutSlice(form.transposed?.(name) === true ? turned(values, shape) : values, seen, part);
  const added = form.added?.(name) ?? 0;
  if (added !== 0) there = there.map((value) => value + added);
  const order = form.rowOrder?.(name, seen[0] as number, config) ?? null;
  return order === null ? there : inFileOrder(there, order);
}

/** A weight of the blocks that a file has of it, (out, in) or several of them, or, where ours lies the other way round, (in, out). */
async function readQuantized(
  reader: GgufReader,
  name: string,
  parts: readonly { readonly info: GgufTensor; readonly part: Part | null }[],
  dtype: QuantizedDType,
  shape: readonly number[],
  form: Form,
  config: Readonly<Record<string, unknown>>,
): Promise<Tensor> {
  const weight = quantizedInPieces(reader.name, seenShape(shape, name, form), dtype);
  let whole: Tensor;
  try {
    const [{ info, part }] = parts as [(typeof parts)[number]];
    if (part === null && !isTurned(name, info.shape, form, config)) {
      for (let at = 0; at < info.bytes; ) {
        const bytes = await reader.readPiece(info.name, at, weight.unit);
        weight.add(bytes);
        at += bytes.length;
      }
    } else {
      // Rows in another order than ours. One tensor need not outlive the next.
      const read = (info: GgufTensor) => (parts.length === 1 ? reader.readPiece(info.name, 0, info.bytes) : reader.read(info.name));
      const pieces = [];
      for (const { info, part } of parts) pieces.push({ bytes: await read(info), shape: info.shape, part });
      weight.add(ourBlocks(pieces, name, shape, form, config));
    }
    whole = weight.whole();
  } catch (error) {
    weight.dispose();
    throw error;
  }
  if (form.transposed?.(name) !== true) return whole;
  const ours = transpose(whole);
  whole.dispose("its view the other way round");
  return ours;
}

type Rows = Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** Row r of the file is row order[r] of ours: rows of numbers, or of blocks. */
export function inOurOrder<Values extends Rows>(values: Values, order: Int32Array): Values {
  const width = values.length / order.length;
  const out = values.slice() as Values;
  for (const [row, to] of order.entries()) out.set(values.subarray(row * width, (row + 1) * width), to * width);
  return out;
}

export function inFileOrder<Values extends Rows>(values: Values, order: Int32Array): Values {
  const width = values.length / order.length;
  const out = values.slice() as Values;
  for (const [row, from] of order.entries()) out.set(values.subarray(from * width, (from + 1) * width), row * width);
  return out;
}

/** A matrix, or each of several, the other way round. */
function turned(values: Float32Array<ArrayBuffer>, shape: readonly number[]): Float32Array<ArrayBuffer> {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const out = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += rows * columns)
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[at + j * rows + i] = values[at + i * columns + j];
  return out;
}

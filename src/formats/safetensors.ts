/**
 * Reading safetensors: a header of JSON in front of the tensors' bytes. Nothing in the file is trusted: the header is
 * bounded, duplicate names are refused, and every offset is checked before a byte is allocated or read.
 *
 * Source: the format's page, https://huggingface.co/docs/safetensors. Layout: `N` as u64 little-endian; N bytes of
 * JSON, `{ name: { dtype, shape, data_offsets: [begin, end] } }` with offsets from the end of the header; then the
 * bytes, little-endian, row-major, without holes. `__metadata__` holds strings only.
 */

import { didYouMean } from "../did-you-mean.ts";
import { FormatError } from "../errors.ts";
import { isJsonObject, type Json, parseJson } from "./json.ts";
import type { Source } from "./source.ts";

/** Bits of one element, and whether groundup computes with it (the others can be listed, not read). */
export const SAFETENSORS_DTYPES = {
  BOOL: { bits: 8, readable: true },
  F4: { bits: 4, readable: false },
  F6_E2M3: { bits: 6, readable: false },
  F6_E3M2: { bits: 6, readable: false },
  U8: { bits: 8, readable: true },
  I8: { bits: 8, readable: true },
  F8_E5M2: { bits: 8, readable: true },
  F8_E4M3: { bits: 8, readable: true },
  F8_E8M0: { bits: 8, readable: true },
  F8_E4M3FNUZ: { bits: 8, readable: true },
  F8_E5M2FNUZ: { bits: 8, readable: true },
  I16: { bits: 16, readable: true },
  U16: { bits: 16, readable: true },
  F16: { bits: 16, readable: true },
  BF16: { bits: 16, readable: true },
  I32: { bits: 32, readable: true },
  U32: { bits: 32, readable: true },
  F32: { bits: 32, readable: true },
  C64: { bits: 64, readable: true },
  F64: { bits: 64, readable: true },
  I64: { bits: 64, readable: true },
  U64: { bits: 64, readable: true },
} as const;

/** Every dtype that a file may name. */
export type SafetensorsDtype = keyof typeof SAFETENSORS_DTYPES;

/** The dtypes that can be read and written. */
export type TensorDtype = {
  [D in SafetensorsDtype]: (typeof SAFETENSORS_DTYPES)[D]["readable"] extends true ? D : never;
}[SafetensorsDtype];

/** A tensor as a file's header describes it. */
export interface TensorInfo {
  name: string;
  dtype: SafetensorsDtype;
  /** Sizes of the dimensions; empty for a scalar. */
  shape: readonly number[];
  /** Length in bytes. */
  bytes: number;
  /** First byte, counted from the start of the file. Not always a multiple of the element size. */
  offset: number;
  /** The file that holds it, for messages. */
  file: string;
}

/** A tensor's description with its bytes: little-endian, row-major, starting at byte 0 of their own ArrayBuffer. */
export interface StoredTensor {
  name: string;
  dtype: TensorDtype;
  shape: readonly number[];
  data: Uint8Array<ArrayBuffer>;
}

/** Tensors by name from one safetensors file, or from many that an index joins. */
export interface TensorReader {
  readonly name: string;
  /** In the order of the file(s). */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The strings under `__metadata__` (of a sharded model: of all files, joined). */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads one tensor; nothing is kept.
   *
   * @throws FormatError when there is no such tensor (with a suggestion) or its dtype is not supported
   */
  read(name: string): Promise<StoredTensor>;
  close(): Promise<void>;
}

// The limit of the Rust package (100 MB): a larger header is refused there too.
const MAX_HEADER_BYTES = 100_000_000;
// NumPy's and PyTorch's limits are 64; real tensors stay below 8.
const MAX_DIMENSIONS = 64;

/**
 * Opens one safetensors file. Only the header is read; the source is closed by the reader's `close()`.
 *
 * @throws FormatError naming the file, the tensor and the field when anything does not fit
 */
export async function openSafetensors(source: Source): Promise<TensorReader> {
  const { tensors, metadata } = await readHeader(source);
  return {
    name: source.name,
    tensors,
    metadata,
    read: async (name) => readTensor(source, findTensor(tensors, name, source.name)),
    close: () => source.close(),
  };
}

/** The tensor of this name, or an error that lists the nearest name. */
export function findTensor(tensors: ReadonlyMap<string, TensorInfo>, name: string, where: string): TensorInfo {
  const info = tensors.get(name);
  if (info === undefined) {
    throw new FormatError(
      `${where}: no tensor ${JSON.stringify(name)}, expected one of its ${tensors.size} tensors, got an unknown name.` +
        `${didYouMean(name, tensors.keys())} Check that this file belongs to the model.`,
    );
  }
  return info;
}

/** Reads the bytes of a tensor that a checked header describes. */
export async function readTensor(source: Source, info: TensorInfo): Promise<StoredTensor> {
  const { name, dtype, shape, offset, bytes } = info;
  if (!isReadable(dtype)) {
    throw new FormatError(
      `${info.file}: tensor ${JSON.stringify(name)} is ${dtype}, expected ${readableDtypes.join(", ")}, got ${dtype}: floats below 8 bits are not computed with. ` +
        "Convert the file to F32, BF16 or F16.",
    );
  }
  const data = await source.read(offset, bytes);
  if (dtype === "BOOL") {
    const bad = data.findIndex((byte) => byte > 1);
    if (bad >= 0) {
      throw new FormatError(
        `${info.file}: tensor ${JSON.stringify(name)} is damaged at element ${bad}, expected 0 or 1 in a BOOL tensor, ` +
          `got ${data[bad]}. Fetch the file again.`,
      );
    }
  }
  return { name, dtype, shape, data };
}

const isReadable = (dtype: SafetensorsDtype): dtype is TensorDtype => SAFETENSORS_DTYPES[dtype].readable;
const readableDtypes = (Object.keys(SAFETENSORS_DTYPES) as SafetensorsDtype[]).filter(isReadable);

/**
 * Bytes of a tensor by its dtype and shape, with every product checked.
 *
 * @returns undefined when a dimension is not a count, the size is no safe integer, or sub-byte elements don't fill bytes
 */
export function tensorBytes(dtype: SafetensorsDtype, shape: readonly unknown[]): number | undefined {
  let elements = 1;
  for (const size of shape) {
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0 || Object.is(size, -0)) return undefined;
    elements *= size;
    if (!Number.isSafeInteger(elements)) return undefined;
  }
  const bits = elements * SAFETENSORS_DTYPES[dtype].bits;
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : undefined;
}

interface Header {
  tensors: Map<string, TensorInfo>;
  metadata: Record<string, string>;
}

async function readHeader(source: Source): Promise<Header> {
  const file = source.name;
  if (source.size < 8) {
    throw new FormatError(`${file}: cut off, expected a safetensors file of at least 8 bytes, got ${source.size}. Fetch or copy the file again.`);
  }
  const start = await source.read(0, 8);
  const length = new DataView(start.buffer).getBigUint64(0, true);
  const limit = Math.min(MAX_HEADER_BYTES, source.size - 8);
  if (length < 2n || length > BigInt(limit)) {
    throw new FormatError(
      `${file}: bad header length, expected 2 to ${limit} bytes, got ${length}. This is no safetensors file, or it is cut off; fetch it again.`,
    );
  }
  const headerBytes = Number(length);
  const bytes = await source.read(8, headerBytes);
  if (bytes[0] !== 0x7b) {
    throw new FormatError(`${file}: bad header, expected it to begin with "{", got byte ${bytes[0]}. This is no safetensors file; fetch it again.`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${file}: damaged header, expected UTF-8, got bytes that are no characters. Fetch it again.`, { cause });
  }
  const json = parseJson(text, `${file} (header)`, { maxDepth: 4 });
  if (!isJsonObject(json)) throw new FormatError(`${file}: bad header, expected an object, got another value. Fetch it again.`);

  const dataStart = 8 + headerBytes;
  const dataBytes = source.size - dataStart;
  const tensors = new Map<string, TensorInfo>();
  let metadata: Record<string, string> = {};
  for (const [name, entry] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(entry, file);
    else tensors.set(name, parseTensor(name, entry, file, dataStart, dataBytes));
  }
  checkLayout(tensors, file, dataStart, dataBytes);
  return { tensors, metadata };
}

function parseMetadata(entry: Json, file: string): Record<string, string> {
  if (isJsonObject(entry) && Object.values(entry).every((value) => typeof value === "string")) {
    return entry as Record<string, string>;
  }
  throw new FormatError(`${file}: bad "__metadata__", expected an object of strings, got something else. Write the file again without it.`);
}

function parseTensor(name: string, entry: Json, file: string, dataStart: number, dataBytes: number): TensorInfo {
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(
      `${file}: tensor ${JSON.stringify(name.slice(0, 200))} has ${what}, expected ${expected}, ` +
        `got ${(JSON.stringify(got) ?? "nothing").slice(0, 200)}. The file is damaged or hostile; fetch it again from a source you trust.`,
    );
  };
  if (!isJsonObject(entry)) return fail("a bad entry", "an object with dtype, shape and data_offsets", entry);
  const { dtype, shape, data_offsets: offsets, ...rest } = entry;
  if (Object.keys(rest).length > 0) return fail("an unknown field", "dtype, shape and data_offsets", Object.keys(rest)[0]);
  if (typeof dtype !== "string" || !Object.hasOwn(SAFETENSORS_DTYPES, dtype)) {
    return fail("an unknown dtype", Object.keys(SAFETENSORS_DTYPES).join(", "), dtype);
  }
  if (!Array.isArray(shape) || shape.length > MAX_DIMENSIONS) {
    return fail("a bad shape", `a list of at most ${MAX_DIMENSIONS} sizes`, Array.isArray(shape) ? shape.length : shape);
  }
  const bytes = tensorBytes(dtype as SafetensorsDtype, shape);
  if (bytes === undefined) return fail("an impossible shape", "sizes that are counts, with a product below 2^53 bits", shape);
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [undefined, undefined];
  const isOffset = (value: Json | undefined): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isOffset(begin) || !isOffset(end) || begin > end || end > dataBytes) {
    return fail("data_offsets outside the file (it may be cut off)", `[begin, end] with begin <= end <= ${dataBytes}`, offsets);
  }
  if (end - begin !== bytes) {
    return fail("data_offsets that don't fit its shape", `${bytes} bytes for ${dtype} [${shape.join(", ")}]`, end - begin);
  }
  return { name, dtype: dtype as SafetensorsDtype, shape: shape as number[], bytes, offset: dataStart + begin, file };
}

/** The tensors must cover the data exactly: no byte twice (two tensors could alias), no byte unused (it could hide a payload). */
function checkLayout(tensors: ReadonlyMap<string, TensorInfo>, file: string, dataStart: number, dataBytes: number): void {
  const inOrder = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let next = dataStart;
  let previous = "the header";
  for (const { name, offset, bytes } of inOrder) {
    if (offset !== next) {
      throw new FormatError(
        `${file}: tensor ${JSON.stringify(name)} ${offset < next ? "overlaps" : "leaves a hole after"} ${previous}, ` +
          `expected it to begin at byte ${next}, got ${offset}. The file is damaged or hostile; fetch it again from a source you trust.`,
      );
    }
    next = offset + bytes;
    previous = JSON.stringify(name);
  }
  if (next !== dataStart + dataBytes) {
    throw new FormatError(
      `${file}: bytes after the last tensor, expected a file of ${next} bytes, got ${dataStart + dataBytes}. ` +
        "The file is damaged or two files were joined; fetch it again.",
    );
  }
}

/**
 * Reading GGUF (versions 2 and 3, little-endian): typed metadata, then the tensors' names, shapes and places, then their bytes. Nothing in the file is
 * trusted: a count or length is compared with what is left of the file before anything is made from it.
 */
import { didYouMean } from "../../did-you-mean.ts";
import { FormatError } from "../../errors.ts";
import { readForward } from "../read-ahead.ts";
import type { Source } from "../source.ts";
import { GGML_TYPES, type GgmlType, ggmlTypeOf, VALUE_KINDS, type ValueKind } from "./types.ts";

/** Items of a numeric array. */
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A metadata value with the kind that the file gave it, so that it can be written back as it was. 64-bit integers are bigint. */
export type GgufValue =
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "u64" | "i64"; readonly value: bigint }
  | { readonly kind: Exclude<ValueKind, "bool" | "string" | "u64" | "i64" | "array">; readonly value: number }
  | { readonly kind: "array"; readonly of: ValueKind; readonly value: GgufNumbers | readonly string[] | readonly boolean[] | readonly GgufValue[] };

/** A tensor as the file describes it. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** As everywhere in groundup: outermost dimension first, rows last (the file has them the other way round). */
  readonly shape: readonly number[];
  readonly bytes: number;
  /** First byte, counted from the start of the file. */
  readonly offset: number;
}

/** An open GGUF file. */
export interface GgufReader {
  readonly name: string;
  readonly version: number;
  /** Tensors begin at multiples of so many bytes. */
  readonly alignment: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** A tensor's bytes as they are in the file. @throws FormatError when there is no such tensor (with a suggestion) or the file has become shorter */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Some of a tensor's bytes from `from` on: as many whole multiples of `unit` as one reading gave, at least one, or what is left. They are seen, not given: the next call
   * writes over them. Tensors that are read in the file's order cost few readings and little memory, however many and large they are.
   */
  readPiece(name: string, from: number, unit: number): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

const MAGIC = 0x46554747; // "GGUF"
/** Enough for most headers: what is cut off is read again from the start. */
const FIRST_READ = 1 << 22;
/** Larger than any real header (the largest vocabularies take 15 MB); read before more is known, memory is at stake. */
const MOST_HEADER = 1 << 29;
/** Larger than any real file: what points beyond is damaged or hostile, and no sign of a download that did not finish. */
const MOST_FILE = 2 ** 42;
const MOST_DIMENSIONS = 4;
const DEEPEST_ARRAY = 4;
const BYTES_OF: Record<Exclude<ValueKind, "string" | "array">, number> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  u64: 8,
  i64: 8,
  f64: 8,
};

interface Header {
  version: number;
  alignment: number;
  metadata: Map<string, GgufValue>;
  tensors: Map<string, GgufTensor>;
}

/** The part of the header that has been read ends here: read more and begin again. */
class NeedsMore extends Error {}

/**
 * Opens a GGUF file. Only its header is read; the source is closed by the reader's `close()`.
 * @throws FormatError naming the file, the key or tensor and what is wrong
 */
export async function openGguf(source: Source): Promise<GgufReader> {
  const header = await readHeader(source);
  function find(name: string): GgufTensor {
    const info = header.tensors.get(name);
    if (info === undefined)
      throw new FormatError(
        `${source.name}: no tensor ${JSON.stringify(name)}, expected one of its ${header.tensors.size} tensors, got an unknown name.${didYouMean(name, header.tensors.keys())} Check that this file belongs to the model.`,
      );
    return info;
  }
  const forward = readForward(source);
  return {
    name: source.name,
    ...header,
    async read(name) {
      const { offset, bytes } = find(name);
      // Small tensors between those that are read in pieces are there already.
      return forward.held(offset, bytes)?.slice() ?? source.read(offset, bytes);
    },
    async readPiece(name, from, unit) {
      const { offset, bytes } = find(name);
      const left = bytes - from;
      const there = await forward.from(offset + from, Math.min(unit, left));
      return there.subarray(0, there.length >= left ? left : there.length - (there.length % unit));
    },
    async close() {
      await forward.settled();
      await source.close();
    },
  };
}

/** The texts that end at these bytes, each after eight that are none of its own. `whole` is what all bytes stand for. */
function cutTexts(whole: string, bytes: Uint8Array, ends: Uint32Array): readonly string[] {
  let [at, unit] = [0, 0];
  return Array.from(ends, (end) => {
    [at, unit] = [at + 8, unit + 8];
    const first = unit;
    // A character is as many units of JavaScript's strings as it has bytes that begin one, and one more where it has four.
    for (; at < end; at++) {
      const byte = bytes[at] as number;
      if ((byte & 0xc0) !== 0x80) unit += byte >= 0xf0 ? 2 : 1;
    }
    return whole.slice(first, unit);
  });
}

/** What is said of a file whose own header tells that there is more of it. */
const endsEarly = (file: string, expected: string, got: number): FormatError =>
  new FormatError(
    `${file}: the file ends early, expected ${expected}, got ${got}. Most likely its download or copy did not finish: fetch it again, with "groundup pull ORG/NAME:FILE.gguf" if it is of the hub.`,
  );

async function readHeader(source: Source): Promise<Header> {
  // The header's length stands nowhere: it is read in doubling steps until it is whole.
  for (let length = Math.min(FIRST_READ, source.size); ; length = Math.min(2 * length, source.size)) {
    const bytes = await source.read(0, length);
    try {
      return parseHeader(bytes, source.size, source.name);
    } catch (error) {
      if (!(error instanceof NeedsMore)) throw error;
    }
    if (length === source.size) throw endsEarly(source.name, `more than ${length} bytes`, length);
    if (length >= MOST_HEADER)
      throw new FormatError(`${source.name}: absurd header, expected at most ${MOST_HEADER} bytes, got more. This is no GGUF file, or a hostile one.`);
  }
}

function parseHeader(bytes: Uint8Array<ArrayBuffer>, fileSize: number, file: string): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let at = 0;

  const fail = (where: string, what: string, expected: string, got: unknown): never => {
    throw new FormatError(
      `${file}${where}: ${what}, expected ${expected}, got ${got}. The file is damaged or hostile; fetch it again from a source you trust.`,
    );
  };
  /** Moves on by `length` bytes and says where they begin. */
  function take(length: number): number {
    if (at + length > bytes.length) throw new NeedsMore();
    at += length;
    return at - length;
  }
  const u32 = (): number => view.getUint32(take(4), true);
  /** A count of things of at least `least` bytes each: no more than the file has room for. */
  function count(where: string, what: string, least: number): number {
    const place = take(8);
    const value = view.getUint32(place, true) + 2 ** 32 * view.getUint32(place + 4, true);
    const most = Math.floor((fileSize - at) / least);
    if (value > most && at + value * least <= MOST_HEADER) throw endsEarly(file, `at least ${at + value * least} bytes`, fileSize);
    if (value > most) fail(where, `absurd ${what}`, `at most ${most} (what is left of the file)`, view.getBigUint64(place, true));
    return value;
  }
  function text(where: string, what: string): string {
    const length = count(where, `length of ${what}`, 1);
    const start = take(length);
    try {
      return decoder.decode(bytes.subarray(start, start + length));
    } catch {
      return fail(where, `bad ${what}`, "UTF-8", "bytes that are no characters");
    }
  }
  /** Texts one behind the other, as vocabularies have them: checked now, but made when somebody looks, for who wants the weights does not. */
  function texts(where: string, length: number): GgufValue {
    const start = at;
    const ends = new Uint32Array(length);
    for (let i = 0; i < length; i++) {
      take(count(where, "length of text", 1));
      ends[i] = at - start;
    }
    const own = bytes.slice(start, at);
    // With zeros for the lengths between them (of which the upper four bytes are), they are UTF-8 as a whole where each is.
    for (let i = 0, place = 0; i < length; place = ends[i++] as number) own[place] = own[place + 1] = own[place + 2] = own[place + 3] = 0;
    const whole = (): string => {
      try {
        return decoder.decode(own);
      } catch {
        return fail(where, "bad text", "UTF-8", "bytes that are no characters");
      }
    };
    whole();
    let made: readonly string[] | undefined;
    return {
      kind: "array",
      of: "string",
      get value() {
        made ??= cutTexts(whole(), own, ends);
        return made;
      },
    };
  }
  function kind(where: string): ValueKind {
    const code = u32();
    return VALUE_KINDS[code] ?? fail(where, "unknown kind of value", `0 to ${VALUE_KINDS.length - 1}`, code);
  }
  function flag(where: string): boolean {
    const byte = bytes[take(1)];
    if (byte > 1) fail(where, "bad boolean", "0 or 1", byte);
    return byte === 1;
  }
  function value(where: string, of: ValueKind, depth = 0): GgufValue {
    switch (of) {
      case "bool":
        return { kind: of, value: flag(where) };
      case "string":
        return { kind: of, value: text(where, "text") };
      case "u64":
        return { kind: of, value: view.getBigUint64(take(8), true) };
      case "i64":
        return { kind: of, value: view.getBigInt64(take(8), true) };
      case "array":
        return array(where, depth);
      default:
        return { kind: of, value: Number(numbers(of, 1)[0]) };
    }
  }
  function array(where: string, depth: number): GgufValue {
    if (depth >= DEEPEST_ARRAY) fail(where, "arrays nested too deep", `at most ${DEEPEST_ARRAY} levels`, "more");
    const of = kind(where);
    const length = count(where, "number of items", of === "array" ? 12 : of === "string" ? 8 : BYTES_OF[of]);
    if (of === "string") return texts(where, length);
    if (of === "bool") return { kind: "array", of, value: Array.from({ length }, () => flag(where)) };
    if (of === "array") return { kind: "array", of, value: Array.from({ length }, () => value(where, of, depth + 1)) };
    return { kind: "array", of, value: numbers(of, length) };
  }
  function numbers(of: Exclude<ValueKind, "bool" | "string" | "array">, length: number): GgufNumbers {
    const size = BYTES_OF[of] * length;
    const start = take(size);
    // A copy, which begins where any typed array may lie; every platform that Node runs on is little-endian.
    const own = bytes.slice(start, start + size).buffer;
    switch (of) {
      case "u8":
        return new Uint8Array(own);
      case "i8":
        return new Int8Array(own);
      case "u16":
        return new Uint16Array(own);
      case "i16":
        return new Int16Array(own);
      case "u32":
        return new Uint32Array(own);
      case "i32":
        return new Int32Array(own);
      case "f32":
        return new Float32Array(own);
      case "f64":
        return new Float64Array(own);
      case "u64":
        return new BigUint64Array(own);
      case "i64":
        return new BigInt64Array(own);
    }
  }

  if (bytes.length < 4 || u32() !== MAGIC)
    throw new FormatError(`${file}: not a GGUF file, expected it to begin with "GGUF", got other bytes. Check the path, or fetch the file again.`);
  const version = u32();
  if (version === 2 << 24 || version === 3 << 24)
    throw new FormatError(`${file}: a big-endian GGUF, expected a little-endian one, got version ${version >>> 24} the other way round. Get the usual file.`);
  if (version !== 2 && version !== 3)
    throw new FormatError(
      `${file}: unknown version of GGUF, expected 2 or 3, got ${version}. ${version === 1 ? "Convert it with a recent llama.cpp." : "It needs a newer groundup."}`,
    );
  const tensorCount = count("", "number of tensors", 24);
  const keyCount = count("", "number of metadata keys", 13);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = text(`, metadata key ${i}`, "name");
    const where = `, metadata ${JSON.stringify(key)}`;
    if (metadata.has(key)) fail(where, "key given twice", "each key once", "it again");
    metadata.set(key, value(where, kind(where)));
  }
  const aligned = metadata.get("general.alignment");
  const alignment = aligned === undefined ? 32 : aligned.kind === "u32" ? aligned.value : Number.NaN;
  if (!(alignment >= 1 && alignment <= 1 << 20 && Number.isInteger(Math.log2(alignment))))
    fail(', metadata "general.alignment"', "bad alignment", "a power of two as u32", aligned?.kind === "u32" ? alignment : aligned?.kind);

  const listed: (Omit<GgufTensor, "offset"> & { from: bigint })[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const name = text(`, tensor ${i}`, "name");
    const where = `, tensor ${JSON.stringify(name)}`;
    if (names.has(name)) fail(where, "name given twice", "each name once", "it again");
    names.add(name);
    const rank = u32();
    if (rank > MOST_DIMENSIONS) fail(where, "too many dimensions", `at most ${MOST_DIMENSIONS}`, rank);
    const sizes = Array.from({ length: rank }, () => Number(view.getBigUint64(take(8), true)));
    const code = u32();
    const type = ggmlTypeOf(code) ?? fail(where, "unknown layout", "a number of ggml's types", code);
    const from = view.getBigUint64(take(8), true);
    const layout = GGML_TYPES[type];
    const elements = sizes.reduce((n, size) => n * size, 1);
    const bytesOf = (elements / layout.elements) * layout.bytes;
    if (!Number.isSafeInteger(elements) || bytesOf > MOST_FILE) fail(where, "absurd shape", `at most ${MOST_FILE} bytes`, `(${sizes.join(", ")}) of ${type}`);
    if ((sizes[0] ?? 1) % layout.elements !== 0) fail(where, "broken blocks", `rows of a multiple of ${layout.elements} for ${type}`, sizes[0]);
    listed.push({ name, type, shape: sizes.reverse(), bytes: bytesOf, from });
  }

  const start = Math.ceil(at / alignment) * alignment;
  const whole = listed.reduce((most, { from, bytes: own }) => Math.max(most, start + Number(from) + own), at);
  if (whole > fileSize && whole <= MOST_FILE) throw endsEarly(file, `at least ${whole} bytes`, fileSize);
  const tensors = new Map<string, GgufTensor>();
  let [end, last] = [0, ""];
  for (const { from, ...info } of listed.toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : a.bytes - b.bytes))) {
    const where = `, tensor ${JSON.stringify(info.name)}`;
    if (from % BigInt(alignment) !== 0n) fail(where, "bad place", `a multiple of ${alignment}`, from);
    if (from + BigInt(start + info.bytes) > BigInt(fileSize))
      fail(where, "a place outside the file", `an end within ${fileSize} bytes`, `${from} + ${start + info.bytes}`);
    if (Number(from) < end) fail(where, `overlaps ${JSON.stringify(last)}`, `a start from ${end}`, from);
    [end, last] = [Number(from) + info.bytes, info.name];
    tensors.set(info.name, { ...info, offset: start + Number(from) });
  }
  // In the order of the file's list, which is that of the layers.
  return { version, alignment, metadata, tensors: new Map(listed.map(({ name }) => [name, tensors.get(name) as GgufTensor])) };
}

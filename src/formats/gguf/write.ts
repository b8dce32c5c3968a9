/** Writing GGUF (version 3, little-endian). Tensors are asked for one at a time, so a model is converted without a copy of itself. */
import { FormatError } from "../../errors.ts";
import type { GgufNumbers, GgufValue } from "./read.ts";
import { GGML_TYPES, type GgmlType, VALUE_KINDS, type ValueKind } from "./types.ts";

/** A tensor to be written. */
export interface GgufEntry {
  readonly name: string;
  readonly type: GgmlType;
  /** Outermost dimension first. */
  readonly shape: readonly number[];
  /** Its blocks, or a function that makes them when their turn comes. */
  readonly data: Uint8Array | (() => Uint8Array | Promise<Uint8Array>);
}

/** A file ready to be written. */
export interface GgufFile {
  /** Its whole length in bytes. */
  readonly bytes: number;
  /** Header, then each tensor. May be iterated once or many times. */
  readonly content: AsyncIterable<Uint8Array>;
}

const ALIGNMENT = 32;
const MAGIC = new TextEncoder().encode("GGUF");

/**
 * One GGUF file. `general.alignment` is written as 32, whatever the metadata say.
 * @throws FormatError for a name that comes twice, rows that are no whole blocks; while iterating, for data of the wrong length
 */
export function encodeGguf(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufEntry[], where = "GGUF file"): GgufFile {
  const header = new Bytes();
  const kept = [...metadata].filter(([key]) => key !== "general.alignment");
  header.raw(MAGIC);
  header.u32(3);
  header.u64(tensors.length);
  header.u64(kept.length);
  for (const [key, value] of kept) {
    header.text(key);
    header.u32(VALUE_KINDS.indexOf(value.kind));
    header.value(value);
  }
  const names = new Set<string>();
  let from = 0;
  const places = tensors.map(({ name, type, shape }) => {
    if (names.has(name)) throw new FormatError(`${where}: tensor ${JSON.stringify(name)} comes twice, expected each name once, got two. Rename one.`);
    names.add(name);
    const { elements, bytes, code } = GGML_TYPES[type];
    if ((shape.at(-1) ?? 1) % elements !== 0)
      throw new FormatError(
        `${where}: tensor ${JSON.stringify(name)} can't be ${type}, expected rows of a multiple of ${elements}, got (${shape.join(", ")}). Choose another layout for it.`,
      );
    const length = (shape.reduce((n, size) => n * size, 1) / elements) * bytes;
    header.text(name);
    header.u32(shape.length);
    for (const size of shape.toReversed()) header.u64(size);
    header.u32(code);
    header.u64(from);
    from += padded(length);
    return length;
  });
  header.pad();
  return {
    bytes: header.length + from,
    content: {
      async *[Symbol.asyncIterator]() {
        yield header.bytes();
        for (const [i, { name, type, shape, data }] of tensors.entries()) {
          const blocks = typeof data === "function" ? await data() : data;
          if (blocks.length !== places[i])
            throw new FormatError(
              `${where}: tensor ${JSON.stringify(name)} has data of the wrong length, expected ${places[i]} bytes for ${type} (${shape.join(", ")}), got ${blocks.length}. Check its layout and shape.`,
            );
          yield blocks;
          if (blocks.length % ALIGNMENT !== 0) yield new Uint8Array(padded(blocks.length) - blocks.length);
        }
      },
    },
  };
}

const padded = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

/** Bytes that grow. */
class Bytes {
  length = 0;
  private room = new Uint8Array(1 << 16);
  private view = new DataView(this.room.buffer);

  /** Makes room for `count` bytes and says where. */
  private take(count: number): number {
    if (this.length + count > this.room.length) {
      const larger = new Uint8Array(Math.max(2 * this.room.length, this.length + count));
      larger.set(this.room);
      this.room = larger;
      this.view = new DataView(larger.buffer);
    }
    this.length += count;
    return this.length - count;
  }
  raw(bytes: Uint8Array): void {
    const at = this.take(bytes.length);
    this.room.set(bytes, at);
  }
  u32(value: number): void {
    const at = this.take(4);
    this.view.setUint32(at, value, true);
  }
  u64(value: number): void {
    const at = this.take(8);
    this.view.setBigUint64(at, BigInt(value), true);
  }
  text(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }
  value(value: GgufValue): void {
    if (value.kind === "string") this.text(value.value);
    else if (value.kind === "array") {
      this.u32(VALUE_KINDS.indexOf(value.of));
      this.u64(value.value.length);
      this.items(value.of, value.value);
    } else this.items(value.kind, [value.value]);
  }
  private items(of: ValueKind, values: GgufNumbers | readonly (string | boolean | number | bigint | GgufValue)[]): void {
    for (const item of values) {
      if (typeof item === "object") this.value(item);
      else if (typeof item === "string") this.text(item);
      else if (typeof item === "boolean") this.raw(Uint8Array.of(item ? 1 : 0));
      else this.number(of, item);
    }
  }
  private number(of: ValueKind, value: number | bigint): void {
    const bits = Number(/\d+/.exec(of)?.[0]);
    const at = this.take(bits / 8);
    if (of === "f32") this.view.setFloat32(at, Number(value), true);
    else if (of === "f64") this.view.setFloat64(at, Number(value), true);
    else if (bits === 64) this.view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    else if (bits === 32) this.view.setUint32(at, Number(value), true);
    else if (bits === 16) this.view.setUint16(at, Number(value), true);
    else this.view.setUint8(at, Number(value));
  }
  pad(): void {
    this.take(padded(this.length) - this.length);
  }
  bytes(): Uint8Array {
    return this.room.subarray(0, this.length);
  }
}

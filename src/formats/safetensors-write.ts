/**
 * Writing safetensors, byte for byte as the Python package does: tensors of wider dtypes first and then by name, the
 * header padded with spaces to a multiple of 8. Tensors are asked for one at a time, so a model saves without a copy of itself.
 */
import { FormatError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { SAFETENSORS_DTYPES, type SafetensorsDtype, type TensorDtype, tensorBytes } from "./safetensors.ts";
import { INDEX_FILE, SINGLE_FILE } from "./safetensors-shards.ts";

/** A tensor to be written. */
export interface TensorEntry {
  name: string;
  dtype: TensorDtype;
  shape: readonly number[];
  /** Its little-endian bytes, as any typed array over them, or a function that fetches them when their turn comes. */
  data: ArrayBufferView | (() => ArrayBufferView | Promise<ArrayBufferView>);
}

/** One file ready to be written. */
export interface SafetensorsFile {
  file: string;
  /** Its whole length in bytes. */
  bytes: number;
  /** Header, then each tensor. May be iterated once or many times. */
  content: AsyncIterable<Uint8Array>;
}

/** A dtype's place in the Python package's order: aligned data needs the widest dtypes first. */
const RANK = Object.fromEntries(Object.keys(SAFETENSORS_DTYPES).map((dtype, rank) => [dtype, rank])) as Record<SafetensorsDtype, number>;

/** Order of UTF-8 bytes, which is the order of code points, not of JavaScript's UTF-16 units. */
function compareText(a: string, b: string): number {
  const [left, right] = [a[Symbol.iterator](), b[Symbol.iterator]()];
  for (;;) {
    const [x, y] = [left.next().value, right.next().value];
    if (x === undefined || y === undefined) return (x === undefined ? 0 : 1) - (y === undefined ? 0 : 1);
    if (x !== y) return (x.codePointAt(0) as number) - (y.codePointAt(0) as number);
  }
}

function checkedBytes(entry: TensorEntry, where: string): number {
  const bytes = tensorBytes(entry.dtype, entry.shape);
  if (bytes === undefined || entry.name === "__metadata__") {
    throw new FormatError(
      `${where}: tensor ${JSON.stringify(entry.name)} can't be stored, expected a name other than __metadata__ and sizes that ` +
        `are counts, got ${entry.dtype} [${entry.shape.join(", ")}]. Give it another name or shape.`,
    );
  }
  return bytes;
}

/**
 * One safetensors file from tensors in any order.
 *
 * @param metadata strings stored under `__metadata__` (keys in sorted order)
 * @throws FormatError for a duplicate name or impossible shape; while iterating, for data of the wrong length
 */
export function encodeSafetensors(entries: readonly TensorEntry[], options: { metadata?: Record<string, string>; file?: string } = {}): SafetensorsFile {
  checkOptions("encodeSafetensors", options, { metadata: true, file: true });
  const file = options.file ?? SINGLE_FILE;
  const names = new Set<string>();
  for (const { name } of entries) {
    if (names.has(name)) {
      throw new FormatError(`${file}: tensor ${JSON.stringify(name)} comes twice, expected each name once, got two. Rename one.`);
    }
    names.add(name);
  }
  const ordered = [...entries].sort((a, b) => RANK[b.dtype] - RANK[a.dtype] || compareText(a.name, b.name));

  // By hand: an object with keys such as "0" would be reordered by JSON.stringify.
  const fields: string[] = [];
  const metadata = Object.entries(options.metadata ?? {}).sort(([a], [b]) => compareText(a, b));
  if (metadata.length > 0) {
    fields.push(`"__metadata__":{${metadata.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`);
  }
  let dataBytes = 0;
  for (const entry of ordered) {
    const end = dataBytes + checkedBytes(entry, file);
    fields.push(`${JSON.stringify(entry.name)}:{"dtype":"${entry.dtype}","shape":[${entry.shape.join(",")}],"data_offsets":[${dataBytes},${end}]}`);
    dataBytes = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerBytes), true);
  header.set(json, 8);

  return {
    file,
    bytes: header.length + dataBytes,
    content: {
      async *[Symbol.asyncIterator]() {
        yield header;
        for (const entry of ordered) {
          const view = typeof entry.data === "function" ? await entry.data() : entry.data;
          const expected = checkedBytes(entry, file);
          if (view.byteLength !== expected) {
            throw new FormatError(
              `${file}: tensor ${JSON.stringify(entry.name)} has data of the wrong length, expected ${expected} bytes for ` +
                `${entry.dtype} [${entry.shape.join(", ")}], got ${view.byteLength}. Check its dtype and shape.`,
            );
          }
          yield new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        }
      },
    },
  };
}

/**
 * A model's weights as files: one `model.safetensors`, or, past `maxShardBytes` of data, `model-00001-of-0000N.safetensors` …
 * and the index, cut as Hugging Face transformers cuts them (in the given order; a shard is closed when the next tensor would not fit).
 *
 * @param maxShardBytes bytes of tensor data in a file, default 5e9 (a larger single tensor gets a file of its own)
 */
export function encodeModelWeights(
  entries: readonly TensorEntry[],
  options: { metadata?: Record<string, string>; maxShardBytes?: number } = {},
): SafetensorsFile[] {
  checkOptions("encodeModelWeights", options, { metadata: true, maxShardBytes: true });
  const maxShardBytes = options.maxShardBytes ?? 5e9;
  // transformers refuses files whose metadata doesn't name a framework it knows.
  const metadata = { format: "pt", ...options.metadata };
  const shards: TensorEntry[][] = [[]];
  let shardBytes = 0;
  let totalBytes = 0;
  for (const entry of entries) {
    const bytes = checkedBytes(entry, SINGLE_FILE);
    const shard = shards.at(-1) as TensorEntry[];
    if (shard.length > 0 && shardBytes + bytes > maxShardBytes) {
      shards.push([entry]);
      shardBytes = 0;
    } else {
      shard.push(entry);
    }
    shardBytes += bytes;
    totalBytes += bytes;
  }
  if (shards.length === 1) return [encodeSafetensors(entries, { metadata, file: SINGLE_FILE })];

  const number = (n: number) => String(n).padStart(5, "0");
  const names = shards.map((_, i) => `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`);
  const homes = new Map<string, string>();
  shards.forEach((shard, i) => {
    for (const { name } of shard) {
      if (homes.has(name)) {
        throw new FormatError(`${INDEX_FILE}: tensor ${JSON.stringify(name)} comes twice, expected each name once, got two. Rename one.`);
      }
      homes.set(name, names[i]);
    }
  });
  // Python writes the map sorted, with two spaces, by the order of code points.
  const lines = [...homes].sort(([a], [b]) => compareText(a, b)).map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  const index = `{\n  "metadata": {\n    "total_size": ${totalBytes}\n  },\n  "weight_map": {\n${lines.join(",\n")}\n  }\n}\n`;
  const indexBytes = new TextEncoder().encode(index);
  return [
    ...shards.map((shard, i) => encodeSafetensors(shard, { metadata, file: names[i] })),
    {
      file: INDEX_FILE,
      bytes: indexBytes.length,
      content: {
        async *[Symbol.asyncIterator]() {
          yield indexBytes;
        },
      },
    },
  ];
}

import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { openSafetensors } from "./safetensors.ts";
import { openModelWeights } from "./safetensors-shards.ts";
import { encodeModelWeights, encodeSafetensors, type SafetensorsFile, type TensorEntry } from "./safetensors-write.ts";
import { bytesSource, memoryFolder } from "./source.ts";

async function bytesOf(file: SafetensorsFile): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of file.content) pieces.push(piece.slice());
  return new Uint8Array(Buffer.concat(pieces));
}

const openBytes = (bytes: Uint8Array) => openSafetensors(bytesSource(bytes, "m.safetensors"));

/** A file with any header text and any data. */
function raw(header: string | object, data: number | Uint8Array, headerLength?: bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const body = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + json.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(body, 8 + json.length);
  return bytes;
}

const f32 = (name: string, shape: number[], values: number[]): TensorEntry => ({
  name,
  dtype: "F32",
  shape,
  data: new Float32Array(values),
});

test("writes the very bytes of the Python package (safetensors.fixture.py)", async () => {
  const one = (name: string) => f32(name, [1], [1]);
  const entries: TensorEntry[] = [
    { name: "t0", dtype: "BOOL", shape: [2], data: new Uint8Array([0, 1]) },
    { name: "t1", dtype: "U8", shape: [2], data: new Uint8Array([0, 1]) },
    { name: "t2", dtype: "I8", shape: [2], data: new Int8Array([0, 1]) },
    { name: "t3", dtype: "F16", shape: [2], data: new Uint16Array([0, 0x3c00]) },
    { name: "t4", dtype: "BF16", shape: [2], data: new Uint16Array([0, 0x3f80]) },
    { name: "t5", dtype: "I32", shape: [2], data: () => new Int32Array([0, 1]) },
    { name: "t6", dtype: "F32", shape: [2], data: async () => new Float32Array([0, 1]) },
    { name: "t7", dtype: "F64", shape: [2], data: new Float64Array([0, 1]) },
    { name: "t8", dtype: "I64", shape: [2], data: new BigInt64Array([0n, 1n]) },
    f32("😀", [], [3]),
    f32("\uffee", [0, 3], []),
    one('q"\u2028\x01\x7f\n'),
    one("10"),
    one("9"),
  ];
  for (const order of [entries, [...entries].reverse()]) {
    const file = encodeSafetensors(order, { metadata: { format: "pt" } });
    const bytes = await bytesOf(file);
    expect(bytes.length).toBe(918);
    expect(file.bytes).toBe(918);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe("a0b1e8e4cb77f18e849b140bb1b2671e22a739df9e785dec6ecdeb067d179678");
  }
  const reader = await openBytes(await bytesOf(encodeSafetensors(entries, { metadata: { format: "pt" } })));
  expect(reader.metadata).toEqual({ format: "pt" });
  expect(reader.tensors.size).toBe(entries.length);
  for (const { name, dtype, shape, data } of entries) {
    const view = typeof data === "function" ? await data() : data;
    const stored = await reader.read(name);
    expect([stored.dtype, stored.shape]).toEqual([dtype, shape]);
    expect(stored.data.byteOffset).toBe(0);
    expect([...stored.data]).toEqual([...new Uint8Array(view.buffer, view.byteOffset, view.byteLength)]);
  }
});

test("reads data at any offset into aligned memory, as older files need", async () => {
  const header = {
    a: { dtype: "U8", shape: [3], data_offsets: [0, 3] },
    b: { dtype: "F32", shape: [2], data_offsets: [3, 11] },
  };
  const data = new Uint8Array([7, 8, 9, ...new Uint8Array(new Float32Array([1.5, -2]).buffer)]);
  const reader = await openBytes(raw(header, data));
  expect([...new Float32Array((await reader.read("b")).data.buffer)]).toEqual([1.5, -2]);
});

const tensor = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ t: { dtype, shape, data_offsets } });
const F32 = (begin: number, end: number) => ({ dtype: "F32", shape: [(end - begin) / 4], data_offsets: [begin, end] });

test.each<[string, Uint8Array, RegExp]>([
  ["empty file", new Uint8Array(0), /cut off, expected a safetensors file of at least 8 bytes, got 0/],
  ["header length past the file", raw("{}", 0, 100n), /bad header length, expected 2 to 2 bytes, got 100/],
  ["header length of 2^64 - 1", raw("{}", 0, 2n ** 64n - 1n), /bad header length/],
  ["header length of 2^63 with room", raw("{}", 64, 2n ** 63n), /bad header length/],
  ["header length 0", raw("{}", 0, 0n), /bad header length/],
  ["not an object", raw("[]", 0), /expected it to begin with/],
  ["space before the object", raw(" {}", 0), /expected it to begin with/],
  ["header cut in the middle", raw('{"t":{"dtype":"F3', 0), /line 1, column 18: bad string/],
  ["text after the header", raw("{}x", 0), /text after the value/],
  ["not UTF-8", raw(`{"${"x"}":1}`.replace("x", "\u00ff"), 0).map((byte, i) => (i === 10 ? 0xff : byte)), /damaged header, expected UTF-8/],
  ["duplicate names", raw(`{"t":${JSON.stringify(F32(0, 4))},"t":${JSON.stringify(F32(4, 8))}}`, 8), /duplicate key "t"/],
  ["deep nesting", raw(`{"t":${"[".repeat(5000)}`, 0), /nested too deep/],
  ["metadata of numbers", raw({ __metadata__: { a: 1 } }, 0), /bad "__metadata__"/],
  ["entry no object", raw({ t: 3 }, 0), /a bad entry/],
  ["missing field", raw({ t: { dtype: "F32", shape: [1] } }, 4), /data_offsets outside the file.*got nothing/],
  ["unknown field", raw({ t: { ...F32(0, 4), extra: 1 } }, 4), /unknown field.*"extra"/],
  ["unknown dtype", raw(tensor("F33", [1], [0, 4]), 4), /unknown dtype.*got "F33"/],
  ["dtype of the prototype", raw(tensor("constructor", [1], [0, 4]), 4), /unknown dtype/],
  ["negative size", raw(tensor("F32", [-1], [0, 4]), 4), /impossible shape/],
  ["fractional size", raw(tensor("F32", [0.5], [0, 2]), 2), /impossible shape/],
  ["size as text", raw(tensor("F32", ["1"], [0, 4]), 4), /impossible shape/],
  ["absurd size", raw(tensor("F32", [1e15, 1e15], [0, 4]), 4), /impossible shape/],
  ["product that wraps to 0", raw(tensor("F32", [4294967296, 4294967296], [0, 0]), 0), /impossible shape/],
  ["absurd size times 0", raw(tensor("F32", [2 ** 50, 2 ** 50, 0], [0, 0]), 0), /impossible shape/],
  ["absurd size that fits a double", raw(tensor("F32", [2 ** 40], [0, 2 ** 42]), 4), /data_offsets outside the file/],
  ["too many dimensions", raw(tensor("F32", Array(65).fill(1), [0, 4]), 4), /a bad shape/],
  ["wrong dtype for the bytes", raw(tensor("F16", [2], [0, 8]), 8), /don't fit its shape, expected 4 bytes for F16 \[2\], got 8/],
  ["wrong shape for the bytes", raw(tensor("F32", [3], [0, 8]), 8), /don't fit its shape/],
  ["offsets past the end (truncated)", raw(tensor("F32", [4], [0, 16]), 12), /data_offsets outside the file \(it may be cut off\)/],
  ["offsets reversed", raw(tensor("F32", [1], [4, 0]), 4), /data_offsets outside/],
  ["negative offset", raw(tensor("F32", [1], [-4, 0]), 4), /data_offsets outside/],
  ["three offsets", raw(tensor("F32", [1], [0, 4, 8]), 8), /data_offsets outside/],
  ["overlap", raw({ a: F32(0, 8), b: F32(4, 12) }, 12), /tensor "b" overlaps "a"/],
  ["two names for the same bytes", raw({ a: F32(0, 8), b: F32(0, 8) }, 8), /tensor "b" overlaps "a"/],
  ["hole at the start", raw({ a: F32(4, 8) }, 8), /leaves a hole after the header/],
  ["hole between", raw({ a: F32(0, 4), b: F32(8, 12) }, 12), /leaves a hole after "a"/],
  ["bytes after the end", raw({ a: F32(0, 4) }, 5), /bytes after the last tensor/],
  ["data without tensors", raw({}, 5), /bytes after the last tensor/],
])("refuses: %s", async (_, bytes, message) => {
  await expect(openBytes(bytes)).rejects.toThrow(FormatError);
  await expect(openBytes(bytes)).rejects.toThrow(message);
});

test("floats below 8 bits can be listed but not read", async () => {
  const reader = await openBytes(raw(tensor("F4", [8], [0, 4]), 4));
  expect(reader.tensors.get("t")).toMatchObject({ dtype: "F4", shape: [8], bytes: 4 });
  await expect(reader.read("t")).rejects.toThrow(/"t" is F4.*floats below 8 bits are not computed with.*Convert the file/);
  await expect((await openBytes(raw(tensor("BOOL", [2], [0, 2]), new Uint8Array([1, 2])))).read("t")).rejects.toThrow(/expected 0 or 1.*got 2/);
});

test("an unknown tensor gets a suggestion", async () => {
  const reader = await openBytes(await bytesOf(encodeSafetensors([f32("wte.weight", [1], [1])])));
  await expect(reader.read("wte.wieght")).rejects.toThrow('Did you mean "wte.weight"?');
});

test("the writer refuses duplicate names, bad shapes and data of another length", async () => {
  expect(() => encodeSafetensors([f32("a", [1], [1]), f32("a", [1], [1])])).toThrow(/comes twice/);
  expect(() => encodeModelWeights([f32("a", [1], [1]), f32("a", [1], [1])], { maxShardBytes: 4 })).toThrow(/comes twice/);
  expect(() => encodeSafetensors([f32("a", [1.5], [1])])).toThrow(/can't be stored/);
  await expect(bytesOf(encodeSafetensors([f32("a", [2], [1])]))).rejects.toThrow(/expected 8 bytes for F32 \[2\], got 4/);
});

async function shardedFolder() {
  const entries = [f32("a", [2], [1, 2]), f32("b", [1], [3]), f32("c", [2], [4, 5]), f32("d", [9], Array(9).fill(6))];
  const files: Record<string, Uint8Array | string> = {};
  for (const file of encodeModelWeights(entries, { maxShardBytes: 12 })) files[file.file] = await bytesOf(file);
  return files;
}
const INDEX = "model.safetensors.index.json";
const text = (bytes: Uint8Array | string) => (typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes));

test("sharded models are cut like transformers does and read back", async () => {
  const files = await shardedFolder();
  expect(Object.keys(files)).toEqual(["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", INDEX]);
  expect(JSON.parse(text(files[INDEX]))).toEqual({
    metadata: { total_size: 56 },
    weight_map: {
      a: "model-00001-of-00003.safetensors",
      b: "model-00001-of-00003.safetensors",
      c: "model-00002-of-00003.safetensors",
      d: "model-00003-of-00003.safetensors",
    },
  });
  const reader = await openModelWeights(memoryFolder(files));
  expect([...reader.tensors.keys()]).toEqual(["a", "b", "c", "d"]);
  expect([...new Float32Array((await reader.read("c")).data.buffer)]).toEqual([4, 5]);
});

test.each<[string, (files: Record<string, Uint8Array | string>) => void, RegExp]>([
  [
    "a path out of the folder",
    (f) => {
      f[INDEX] = text(f[INDEX]).replace("model-00001-of", "../model-00001-of");
    },
    /bad file for tensor "a"/,
  ],
  [
    "an absolute path",
    (f) => {
      f[INDEX] = '{"weight_map":{"a":"/etc/x.safetensors"}}';
    },
    /bad file for tensor/,
  ],
  [
    "a missing shard",
    (f) => {
      delete f["model-00002-of-00003.safetensors"];
    },
    /model-00002-of-00003\.safetensors: not found/,
  ],
  [
    "a tensor in another file",
    (f) => {
      f[INDEX] = text(f[INDEX]).replace('"b": "model-00001', '"b": "model-00002');
    },
    /"b" is not where the index says, expected it in model-00002/,
  ],
  [
    "a tensor the index lacks",
    (f) => {
      f[INDEX] = text(f[INDEX]).replace(/\n {4}"a".*,/, "");
    },
    /"a" is not where the index says/,
  ],
  [
    "a tensor the files lack",
    (f) => {
      f[INDEX] = text(f[INDEX]).replace('"a":', '"zz": "model-00001-of-00003.safetensors",\n"a":');
    },
    /1 tensors are not in their files.*zz/,
  ],
  [
    "an index cut off",
    (f) => {
      f[INDEX] = text(f[INDEX]).slice(0, 90);
    },
    /cut off/,
  ],
  [
    "an index without a map",
    (f) => {
      f[INDEX] = "{}";
    },
    /weight_map/,
  ],
  [
    "both kinds",
    (f) => {
      f["model.safetensors"] = new Uint8Array(8);
    },
    /got both/,
  ],
  [
    "no weights, but a broken pickle",
    (f) => {
      for (const key of Object.keys(f)) delete f[key];
      f["pytorch_model.bin"] = "";
    },
    /pytorch_model\.bin: not a zip archive/,
  ],
])("refuses a sharded model with %s", async (_, damage, message) => {
  const files = await shardedFolder();
  damage(files);
  await expect(openModelWeights(memoryFolder(files))).rejects.toThrow(FormatError);
  await expect(openModelWeights(memoryFolder(files))).rejects.toThrow(message);
});

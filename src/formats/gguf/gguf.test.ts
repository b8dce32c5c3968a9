import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../errors.ts";
import { bytesSource } from "../source.ts";
import { DEQUANTIZED, dequantizeBlocks } from "./dequantize.ts";
import { QUANTIZED, type QuantizedType, quantizeBlocks } from "./quantize.ts";
import { K_BLOCKS } from "./quantize-k.ts";
import { openGguf } from "./read.ts";
import { GGML_TYPES, type GgmlType } from "./types.ts";
import { encodeGguf } from "./write.ts";

const fixture = JSON.parse(readFileSync(new URL("gguf.fixture.json", import.meta.url), "utf8")) as {
  dequantised: Record<string, { blocks: string; values: string }>;
  inputs: string;
  quantised: Record<string, string>;
  file: string;
};
const bytes = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, "base64"));
const floats = (text: string): Float32Array => new Float32Array(bytes(text).buffer);
const whole = bytes(fixture.file);
const open = (content: Uint8Array) => openGguf(bytesSource(content, "small.gguf"));

describe("blocks", () => {
  test.each(Object.entries(fixture.dequantised))("%s gives the reference's values bit for bit", (type, { blocks, values }) => {
    const made = dequantizeBlocks(type as GgmlType, bytes(blocks), "test");
    expect(Buffer.from(made.buffer).equals(Buffer.from(bytes(values)))).toBe(true);
  });

  test("every layout that is computed with has a fixture, or is a plain float", () => {
    expect(DEQUANTIZED.filter((type) => !(type in fixture.dequantised))).toEqual(["F32", "F16", "BF16"]);
    const numbers = floats(fixture.inputs);
    expect(dequantizeBlocks("F32", new Uint8Array(numbers.buffer), "test")).toEqual(numbers);
    for (const type of ["F16", "BF16"] as const) {
      const values = dequantizeBlocks(type, bytes(fixture.quantised[type]), "test");
      for (const [i, value] of values.entries())
        expect(Math.abs(value - numbers[i])).toBeLessThanOrEqual(Math.abs(numbers[i]) * 2 ** (type === "F16" ? -11 : -8) + 2 ** -25);
    }
  });

  test.each(Object.entries(fixture.quantised))("%s is made as the reference makes it, bit for bit", (type, blocks) => {
    expect(Buffer.from(quantizeBlocks(type as QuantizedType, floats(fixture.inputs), "test")).equals(Buffer.from(bytes(blocks)))).toBe(true);
  });

  test("every layout that can be made has a fixture, or searched scales (quantize-k.test.ts)", () => {
    expect(QUANTIZED.filter((type) => !(type in fixture.quantised))).toEqual(["F32", ...Object.keys(K_BLOCKS)]);
    expect(quantizeBlocks("F32", Float32Array.of(1.5, -2), "test")).toEqual(new Uint8Array(Float32Array.of(1.5, -2).buffer));
    expect(() => quantizeBlocks("Q8_0", new Float32Array(33), "tensor a")).toThrow("tensor a: can't be Q8_0, expected a multiple of 32 numbers, got 33");
  });

  test("other layouts and broken blocks are refused", () => {
    expect(() => dequantizeBlocks("IQ1_S", new Uint8Array(50), "m.gguf, tensor a")).toThrow(
      /^m\.gguf, tensor a: blocks that can't be read as numbers, expected one of F32, .*, got IQ1_S\. Take them from a file in one of these layouts\.$/,
    );
    expect(() => dequantizeBlocks("Q8_0", new Uint8Array(33), "m.gguf")).toThrow("expected a multiple of 34 bytes for Q8_0, got 33");
  });
});

describe("a file of the reference's writer", () => {
  test("metadata of every kind", async () => {
    const { metadata, version, alignment } = await open(whole);
    expect([version, alignment]).toEqual([3, 32]);
    expect(Object.fromEntries(metadata)).toEqual({
      "general.architecture": { kind: "string", value: "llama" },
      text: { kind: "string", value: "ünï 語" },
      uint8: { kind: "u8", value: 200 },
      int8: { kind: "i8", value: -3 },
      uint16: { kind: "u16", value: 60000 },
      int16: { kind: "i16", value: -3000 },
      uint32: { kind: "u32", value: 4000000000 },
      int32: { kind: "i32", value: -2000000000 },
      float32: { kind: "f32", value: Math.fround(0.1) },
      float64: { kind: "f64", value: 0.1 },
      uint64: { kind: "u64", value: 2n ** 63n + 1n },
      int64: { kind: "i64", value: -(2n ** 62n) },
      bool: { kind: "bool", value: true },
      strings: { kind: "array", of: "string", value: ["a", "", "語"] },
      ints: { kind: "array", of: "i32", value: Int32Array.of(1, -2, 3) },
      floats: { kind: "array", of: "f32", value: Float32Array.of(0.5, -1.5) },
      bools: { kind: "array", of: "bool", value: [true, false] },
    });
  });

  test("tensors, outermost dimension first", async () => {
    const reader = await open(whole);
    expect([...reader.tensors.values()].map(({ name, type, shape }) => [name, type, shape])).toEqual([
      ["one", "F32", [2, 3]],
      ["two", "Q8_0", [4, 64]],
      ["three", "F16", [5]],
    ]);
    expect(dequantizeBlocks("F32", await reader.read("one"), "one")).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5));
    expect(await reader.read("two")).toEqual(bytes(fixture.quantised.Q8_0));
    expect(dequantizeBlocks("F16", await reader.read("three"), "three")).toEqual(Float32Array.of(0, 1, 2, 3, 4));
    await expect(reader.read("tow")).rejects.toThrow('no tensor "tow", expected one of its 3 tensors, got an unknown name. Did you mean "two"?');
  });

  test("written again: what was read", async () => {
    const reader = await open(whole);
    const entries = [...reader.tensors.values()].map((info) => ({ ...info, data: () => reader.read(info.name) }));
    const made = encodeGguf(reader.metadata, entries);
    const pieces: Uint8Array[] = [];
    for await (const piece of made.content) pieces.push(piece);
    const written = Buffer.concat(pieces);
    expect(written.length).toBe(made.bytes);
    const again = await open(written);
    expect(again.metadata).toEqual(reader.metadata);
    expect([...again.tensors.values()].map(({ offset: _, ...info }) => info)).toEqual([...reader.tensors.values()].map(({ offset: _, ...info }) => info));
    for (const name of reader.tensors.keys()) expect(await again.read(name)).toEqual(await reader.read(name));
    // The reference writes its keys in the same order and pads as we do.
    expect(Buffer.from(whole).equals(written)).toBe(true);
  });

  test("what can't be written", async () => {
    const entry = { name: "a", type: "Q8_0", shape: [2, 32], data: new Uint8Array(68) } as const;
    expect(() => encodeGguf(new Map(), [entry, entry])).toThrow('tensor "a" comes twice');
    expect(() => encodeGguf(new Map(), [{ ...entry, shape: [2, 33] }])).toThrow("expected rows of a multiple of 32, got (2, 33)");
    const short = encodeGguf(new Map(), [{ ...entry, data: new Uint8Array(67) }]).content[Symbol.asyncIterator]();
    await short.next();
    await expect(short.next()).rejects.toThrow("expected 68 bytes for Q8_0 (2, 32), got 67");
  });

  test("cut off anywhere: one error, never a crash", async () => {
    // Behind the last tensor comes padding that nothing needs.
    const end = Math.max(...[...(await open(whole)).tensors.values()].map((tensor) => tensor.offset + tensor.bytes));
    for (let length = 0; length < end; length += 7) {
      const error = (await open(whole.slice(0, length)).catch((e) => e)) as Error;
      expect(error, String(length)).toBeInstanceOf(FormatError);
      const [, expected, got] =
        /^small\.gguf: the file ends early, expected (?:at least|more than) (\d+) bytes, got (\d+)\. Most likely its download/.exec(error.message) ?? [];
      if (length >= 4) expect([Number(got), Number(expected) >= length, Number(expected) <= end], `${length}: ${error.message}`).toEqual([length, true, true]);
    }
    // Where the header is whole, it says how much the file has.
    await expect(open(whole.slice(0, end - 1))).rejects.toThrow(`expected at least ${end} bytes, got ${end - 1}.`);
  });

  test("a file of metadata alone needs nothing behind them", async () => {
    const pieces: Uint8Array[] = [];
    for await (const piece of encodeGguf(new Map([["general.name", { kind: "string", value: "vocabulary" }]]), []).content) pieces.push(piece);
    const written = Buffer.concat(pieces);
    for (const end of [written.length, written.indexOf("vocabulary") + "vocabulary".length]) {
      const { metadata, tensors } = await open(written.subarray(0, end));
      expect([metadata.get("general.name")?.value, tensors.size], String(end)).toEqual(["vocabulary", 0]);
    }
  });

  test("a changed byte anywhere in the header is refused or read, never a crash", async () => {
    let refused = 0;
    for (let at = 0; at < 900; at++) {
      const broken = whole.slice();
      broken[at] ^= 0xff;
      await open(broken).catch((error) => {
        expect(error, `byte ${at}`).toBeInstanceOf(FormatError);
        refused++;
      });
    }
    expect(refused).toBeGreaterThan(300);
  });
});

/** A file by hand: little-endian numbers of the given widths, and texts with their lengths. */
function file(...parts: (readonly [bits: 32 | 64, value: number | bigint] | string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(
    parts.map((part) => {
      if (part instanceof Uint8Array) return part;
      const number = typeof part === "string" ? ([64, Buffer.byteLength(part)] as const) : part;
      const out = Buffer.alloc(number[0] / 8);
      if (number[0] === 32) out.writeUInt32LE(Number(number[1]));
      else out.writeBigUInt64LE(BigInt(number[1]));
      return typeof part === "string" ? Buffer.concat([out, Buffer.from(part)]) : out;
    }),
  );
}
const start = (tensors: number | bigint, keys: number | bigint, version = 3) =>
  [
    [32, 0x46554747],
    [32, version],
    [64, tensors],
    [64, keys],
  ] as const;
const tensor = (name: string, sizes: (number | bigint)[], type: keyof typeof GGML_TYPES | number, from: number) =>
  [name, [32, sizes.length], ...sizes.map((size) => [64, size] as const), [32, typeof type === "number" ? type : GGML_TYPES[type].code], [64, from]] as const;
const space = new Uint8Array(256);

test.each([
  ["no GGUF", file([32, 1], [32, 3]), /not a GGUF file/],
  ["version 1", file(...start(0, 0, 1)), /unknown version of GGUF, expected 2 or 3, got 1\. Convert/],
  ["version 9", file(...start(0, 0, 9)), /got 9\. It needs a newer/],
  ["big-endian", file(...start(0, 0, 3 << 24)), /a big-endian GGUF/],
  ["absurd number of tensors", file(...start(2n ** 60n, 0), space), /absurd number of tensors/],
  ["absurd number of keys", file(...start(0, 2n ** 60n), space), /absurd number of metadata keys/],
  ["absurd text", file(...start(0, 1), "k", [32, 8], [64, 2n ** 40n], space), /metadata "k": absurd length of text/],
  ["absurd array", file(...start(0, 1), "k", [32, 9], [32, 4], [64, 2n ** 40n], space), /metadata "k": absurd number of items/],
  [
    "arrays in arrays",
    file(
      ...start(0, 1),
      "k",
      [32, 9],
      ...Array.from(
        { length: 6 },
        () =>
          [
            [32, 9],
            [64, 1],
          ] as const,
      ).flat(),
      space,
    ),
    /nested too deep/,
  ],
  ["unknown kind", file(...start(0, 1), "k", [32, 13], space), /unknown kind of value, expected 0 to 12, got 13/],
  ["bad boolean", file(...start(0, 1), "k", [32, 7], Uint8Array.of(2), space), /bad boolean, expected 0 or 1, got 2/],
  ["text that is no UTF-8", file(...start(0, 1), "k", [32, 8], [64, 1], Uint8Array.of(0xff), space), /bad text, expected UTF-8/],
  [
    "texts of which none is UTF-8 but both together are",
    file(...start(0, 1), "k", [32, 9], [32, 8], [64, 2], [64, 1], Uint8Array.of(0xc3), [64, 1], Uint8Array.of(0xa9), space),
    /metadata "k": bad text, expected UTF-8/,
  ],
  [
    "texts of absurd length",
    file(...start(0, 1), "k", [32, 9], [32, 8], [64, 2], "a", [64, 2n ** 63n], space),
    /metadata "k": absurd length of text, .* got 9223372036854775808/,
  ],
  ["key twice", file(...start(0, 2), "k", [32, 4], [32, 1], "k", [32, 4], [32, 1], space), /key given twice/],
  ["bad alignment", file(...start(0, 1), "general.alignment", [32, 4], [32, 24], space), /bad alignment, expected a power of two/],
  ["name twice", file(...start(2, 0), ...tensor("a", [4], "F32", 0), ...tensor("a", [4], "F32", 32), space), /tensor "a": name given twice/],
  ["five dimensions", file(...start(1, 0), ...tensor("a", [1, 1, 1, 1, 1], "F32", 0), space), /too many dimensions/],
  ["unknown layout", file(...start(1, 0), ...tensor("a", [4], 5, 0), space), /unknown layout/],
  ["absurd shape", file(...start(1, 0), ...tensor("a", [2n ** 40n, 2n ** 40n], "F32", 0), space), /absurd shape/],
  ["broken blocks", file(...start(1, 0), ...tensor("a", [16, 2], "Q8_0", 0), space), /broken blocks, expected rows of a multiple of 32 for Q8_0, got 16/],
  ["place between", file(...start(1, 0), ...tensor("a", [4], "F32", 4), space), /bad place, expected a multiple of 32/],
  ["place outside", file(...start(1, 0), ...tensor("a", [4], "F32", 512), space), /the file ends early, expected at least \d+ bytes, got \d+\./],
  ["place far outside", file(...start(1, 0), ...tensor("a", [4], "F32", 2 ** 50), space), /a place outside the file, .*damaged or hostile/],
  ["overlap", file(...start(2, 0), ...tensor("a", [16], "F32", 0), ...tensor("b", [4], "F32", 32), space), /overlaps "a"/],
])("hostile: %s", async (_, content, message) => {
  await expect(open(content)).rejects.toThrow(FormatError);
  await expect(open(content)).rejects.toThrow(message);
});

test("a header longer than what is read at first", async () => {
  const long = "x".repeat(5 << 20);
  const { metadata } = await open(file(...start(0, 2), "long", [32, 8], long, "k", [32, 4], [32, 7], space));
  expect(metadata.get("long")).toEqual({ kind: "string", value: long });
  expect(metadata.get("k")).toEqual({ kind: "u32", value: 7 });
});

test("texts of any characters, in a list", async () => {
  const texts = ["", "plain", "\0\0\0\0\0\0\0\0", "Ġthe", "語", "\u{1f600}\u{1f601} é", "", "\ufeffmark", "end"];
  const { metadata } = await open(file(...start(0, 2), "k", [32, 9], [32, 8], [64, texts.length], ...texts, "next", [32, 4], [32, 7], space));
  expect(metadata.get("k")).toEqual({ kind: "array", of: "string", value: texts });
  expect(metadata.get("next")).toEqual({ kind: "u32", value: 7 });
});

test("tensors in pieces: whole units, all bytes, whatever is read between them", async () => {
  const sizes = { large: 150_000, small: 3, other: 40_000 };
  const entries = Object.entries(sizes).map(([name, blocks], t) => ({
    name,
    type: "Q8_0" as const,
    shape: [blocks, 32],
    data: Uint8Array.from({ length: 34 * blocks }, (_, i) => (i * 31 + t) % 251),
  }));
  const parts: Uint8Array[] = [];
  for await (const part of encodeGguf(new Map(), entries).content) parts.push(part);
  const source = bytesSource(Buffer.concat(parts), "pieces.gguf");
  const readings: number[] = [];
  const reader = await openGguf({
    ...source,
    readInto(offset, into) {
      readings.push(into.length);
      return source.readInto(offset, into);
    },
  });
  const unit = 34 * 1000;
  for (const { name, data } of entries) {
    for (let at = 0; at < data.length; ) {
      const piece = await reader.readPiece(name, at, unit);
      expect(piece.length % unit === 0 || at + piece.length === data.length).toBe(true);
      expect(Buffer.compare(piece, data.subarray(at, at + piece.length))).toBe(0);
      at += piece.length;
      expect(await reader.read("small")).toEqual(entries[1].data);
    }
  }
  // 6.5 MB, read in the file's order.
  expect(readings.length).toBe(2);
  expect(await reader.readPiece("large", 34 * 149_999, unit)).toEqual(entries[0].data.subarray(34 * 149_999));
  const whole = await reader.readPiece("large", 0, 34 * 150_000);
  expect(Buffer.compare(whole, entries[0].data)).toBe(0);
  await expect(reader.readPiece("tow", 0, 1)).rejects.toThrow('no tensor "tow"');
});

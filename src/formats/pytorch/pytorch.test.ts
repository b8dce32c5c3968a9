/** Files of torch.save, and pickles that want something else. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { FormatError } from "../../errors.ts";
import { fromPretrained, openWeights } from "../../models/index.ts";
import { noGrad, scope, tensorFrom } from "../../tensor/index.ts";
import { openModelWeights } from "../safetensors-shards.ts";
import { floatsOf } from "../safetensors-values.ts";
import { bytesSource, memoryFolder } from "../source.ts";
import { openPytorch } from "./read.ts";
import { unpickle } from "./unpickle.ts";

const fixture = JSON.parse(readFileSync(new URL("pytorch.fixture.json", import.meta.url), "utf8")) as Record<string, string> & {
  ids: number[];
  logits: number[];
};
const bytesOf = (name: string): Buffer => Buffer.from(fixture[name] as string, "base64");
const dir = mkdtempSync(join(tmpdir(), "groundup-pytorch-"));
afterAll(() => rmSync(dir, { recursive: true }));

const VALUES: Record<string, number[]> = {
  f32: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
  turned: [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
  part: [5, 6, 7, 8],
  half: [1.5, -2],
  bf16: [1.5, -3],
  f64: [Math.fround(0.1)],
  scalar: [7],
  none: [],
  parameter: [3, 4],
  float8: [0.5, -448],
};

describe("torch.save", () => {
  test.each(["tensors", "protocol 4"])("%s: every dtype, views, parameters", async (name) => {
    const reader = await openPytorch(bytesSource(bytesOf(name), "a.pt"));
    expect([...reader.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape.join()])).toEqual([
      ["f32", "F32", "3,4"],
      ["turned", "F32", "4,3"],
      ["part", "F32", "4"],
      ["half", "F16", "2"],
      ["bf16", "BF16", "2"],
      ["f64", "F64", "1"],
      ["whole", "I64", "2"],
      ["flags", "BOOL", "2"],
      ["scalar", "F32", ""],
      ["none", "F32", "0,3"],
      ["parameter", "F32", "2"],
      ["float8", "F8_E4M3", "2"],
    ]);
    for (const [name, values] of Object.entries(VALUES)) expect([...floatsOf(await reader.read(name), "a.pt")], name).toEqual(values);
    expect([...new BigInt64Array((await reader.read("whole")).data.buffer)]).toEqual([2n ** 40n, -1n]);
    expect([...(await reader.read("flags")).data]).toEqual([1, 0]);
    await expect(reader.read("turnd")).rejects.toThrow(/no tensor "turnd".*Did you mean "turned"/);
  });

  test("the format before 1.6 is told apart", async () => {
    await expect(openPytorch(bytesSource(bytesOf("old"), "a.pt"))).rejects.toThrow(
      /a\.pt: not a zip archive, expected a file of torch\.save since PyTorch 1\.6, got the older format/,
    );
    await expect(openPytorch(bytesSource(new TextEncoder().encode("hello"), "a.pt"))).rejects.toThrow(/a\.pt: not a zip archive, .*, got other bytes/);
  });

  test("code in a pickle of that format, or in a bare one, is refused by its name", async () => {
    const code = Uint8Array.from([0x80, 2, ...new TextEncoder().encode("cposix\nsystem\nq\0X\x02\0\0\0idq\x01\x85q\x02Rq\x03.")]);
    await expect(openPytorch(bytesSource(code, "a.pt"))).rejects.toThrow(/a\.pt, byte \d+: .*posix\.system/);
    const old = bytesOf("old");
    // Behind the first two pickles: a magic number and a version.
    const stop = old.indexOf(0x2e, old.indexOf(0x2e) + 1) + 1;
    await expect(openPytorch(bytesSource(Uint8Array.from([...old.subarray(0, stop), ...code]), "a.pt"))).rejects.toThrow(/posix\.system/);
  });

  test("pytorch_model.bin stands in for safetensors, in several files too", async () => {
    const single = await openModelWeights(memoryFolder({ "pytorch_model.bin": bytesOf("tensors") }));
    expect(single.tensors.size).toBe(12);
    const names = [...single.tensors.keys()];
    const index = (file: string) => JSON.stringify({ weight_map: Object.fromEntries(names.map((name) => [name, file])) });
    const sharded = await openModelWeights(memoryFolder({ "pytorch_model.bin.index.json": index("a-1.bin"), "a-1.bin": bytesOf("tensors") }));
    expect([...floatsOf(await sharded.read("turned"), "")]).toEqual(VALUES.turned);
    await expect(openModelWeights(memoryFolder({ "pytorch_model.bin.index.json": index("../a.bin") }))).rejects.toThrow(
      /expected the name of a \.bin file in the same folder, got "\.\.\/a\.bin"/,
    );
  });

  test("nanoGPT's checkpoint is a GPT-2 with transformers' logits", async () => {
    const path = join(dir, "ckpt.pt");
    writeFileSync(path, bytesOf("nanogpt"));
    const model = await fromPretrained(path);
    expect(model.config).toMatchObject({ n_layer: 2, n_embd: 16, n_positions: 16, vocab_size: 40, activation_function: "gelu" });
    const inputIds = tensorFrom(Int32Array.from(fixture.ids), [1, fixture.ids.length]);
    const { values } = scope(() => noGrad(() => ({ values: model.forward({ inputIds }).logits.dataSync() as Float32Array })));
    const largest = Math.max(...fixture.logits.map(Math.abs));
    expect(Math.max(...fixture.logits.map((x, i) => Math.abs(x - values[i])))).toBeLessThan(2e-6 * largest);
    model.dispose();
    writeFileSync(path, bytesOf("tensors"));
    await expect(openWeights(path)).rejects.toThrow(/weights without a config, expected nanoGPT's checkpoint with model_args/);
  });
});

/** Instructions by hand. */
const text = (value: string): number[] => [0x8c, Buffer.byteLength(value), ...Buffer.from(value)];
const name = (module: string, attribute: string): number[] => [...Buffer.from(`c${module}\n${attribute}\n`)];
const program = (...parts: (readonly number[] | string)[]): Uint8Array =>
  Uint8Array.from([0x80, 2, parts.map((part) => (typeof part === "string" ? [...Buffer.from(part)] : part)), 0x2e].flat(2));
const run = (bytes: Uint8Array) => unpickle(bytes, "a.pt");
const storage = ["(", text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), [0x4b, 4], "tQ"] as const;
const rebuilt = (offset: number[], shape: number[], strides: number[]) =>
  program(
    name("torch._utils", "_rebuild_tensor_v2"),
    "(",
    ...storage,
    offset,
    "(",
    ...shape.map((n) => [0x4b, n]),
    "t",
    "(",
    ...strides.map((n) => [0x4b, n]),
    "t",
    [0x89],
    "N",
    "tR",
  );

test("a plain tensor by hand", () => {
  expect(run(rebuilt([0x4b, 1], [3], [1])).value).toMatchObject({ offset: 1, shape: [3], strides: [1], storage: { dtype: "F32", key: "0", size: 4 } });
});

test.each<[string, Uint8Array, RegExp]>([
  ["os.system", program(name("os", "system"), text("echo"), [0x85], "R"), /a name that weights have no use for, expected those of tensors, got "os\.system"/],
  ["posix.system by the stack", program(text("posix"), text("system"), [0x93]), /got "posix\.system"/],
  ["eval", program(name("builtins", "eval")), /got "builtins\.eval"/],
  ["getattr", program(name("builtins", "getattr")), /got "builtins\.getattr"/],
  ["a name that only begins well", program(name("torch._utils", "_rebuild_tensor_v2.__globals__")), /got "torch\._utils\._rebuild_tensor_v2\.__globals__"/],
  ["torch.load in it", program(name("torch", "load")), /got "torch\.load"/],
  ["INST", program("(ios\nsystem\n"), /an instruction that weights have no use for, expected .*, got 0x69/],
  ["OBJ", program("(", name("torch", "Size"), "o"), /got 0x6f/],
  ["EXT1", program([0x82, 1]), /got 0x82/],
  ["PERSID", program("P0\n"), /got 0x50/],
  ["a class that is called", program(name("torch", "FloatStorage"), ")R"), /a call that weights have no use for, .*got "torch\.FloatStorage"/],
  ["a text that is called", program(text("x"), ")R"), /a call of something else/],
  ["another storage", program("(", text("module"), "tQ"), /a reference out of the pickle/],
  ["beyond the storage", rebuilt([0x4b, 2], [3], [1]), /a tensor outside its storage, expected at most 4 elements, got one that reaches element 4/],
  ["beyond by strides", rebuilt([0x4b, 0], [2, 2], [4, 1]), /a tensor outside its storage/],
  ["repeated by strides of 0", rebuilt([0x4b, 0], [200, 200], [0, 0]), /a tensor larger than its storage, expected at most 4 elements, got 40000/],
  ["a negative offset", rebuilt([0x4a, 255, 255, 255, 255], [1], [1]), /a bad tensor/],
  ["sizes without strides", rebuilt([0x4b, 0], [1, 1], [1]), /at most 8 sizes, with as many strides/],
  ["cut off", program(text("x")).slice(0, -1), /cut off/],
  ["a text of four gigabytes", program([0x58, 255, 255, 255, 255]), /absurd text/],
  ["a number of a gigabyte", program([0x8b, 0, 0, 0, 64]), /absurd number/],
  ["an empty stack", program("s"), /broken program/],
  ["a mark that is not there", program("t"), /broken program, expected a mark/],
  ["a memo that is not there", program("h\x05"), /a value that was put aside/],
  ["protocol 9", Uint8Array.of(0x80, 9, 0x2e), /unknown protocol, expected 2 to 5, got 9/],
  ["types of types", program(name("torch._tensor", "_rebuild_from_type_v2"), [0x94], "(", "h\x00", "N", "N", "N", "tR"), /a tensor of a type of a type/],
])("hostile: %s", (_, bytes, message) => {
  expect(() => run(bytes)).toThrow(FormatError);
  expect(() => run(bytes)).toThrow(message);
});

test("billions of values out of few bytes are refused, and what is in itself is no trouble", () => {
  // A list of a thousand pairs, made into dicts again and again.
  const pairs = Array.from({ length: 1000 }, () => [0x4b, 1, 0x4b, 2, 0x86]).flat();
  const again = Array.from({ length: 3000 }, () => ["h\x00", "0"]).flat();
  const dicts = Array.from({ length: 3000 }, () => ["h\x01h\x00", [0x85], "R0"]).flat();
  expect(() => run(program("](", pairs, "e", [0x94], "0", name("collections", "OrderedDict"), [0x94], "0", ...again, ...dicts, "N"))).toThrow(
    /too many values/,
  );
  expect(run(program("]", [0x94], "h\x00", "a")).length).toBe(8);
  const deep = program("]".repeat(100_000), "a".repeat(99_999));
  expect(run(deep).length).toBe(deep.length);
});

describe("archives", () => {
  const whole = bytesOf("tensors");
  const changed = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(whole);
    change(bytes);
    return openPytorch(bytesSource(bytes, "a.pt"));
  };
  const directory = whole.indexOf("PK\x01\x02", 0, "latin1");
  test.each<[string, (bytes: Buffer) => void, RegExp]>([
    ["compressed", (b) => b.writeUInt16LE(8, directory + 10), /is compressed, expected bytes as they are, as torch\.save writes them, got method 8/],
    ["encrypted", (b) => b.writeUInt16LE(1, directory + 8), /is encrypted/],
    ["of two sizes", (b) => b.writeUInt32LE(9, directory + 20), /contradicts itself, expected/],
    ["a place outside", (b) => b.writeUInt32LE(0xfffffff, directory + 42), /lies outside/],
    ["a place without header", (b) => b.writeUInt32LE(3, directory + 42), /no header of its own|overlaps/],
    [
      "a length beyond the end",
      (b) => {
        b.writeUInt32LE(0x7fffffff, directory + 20);
        b.writeUInt32LE(0x7fffffff, directory + 24);
      },
      /lies outside/,
    ],
    ["more entries than there are", (b) => b.writeUInt16LE(999, b.indexOf("PK\x06\x06", 0, "latin1") + 32), /broken directory/],
  ])("%s", async (_, change, message) => {
    await expect(changed(change)).rejects.toThrow(FormatError);
    await expect(changed(change)).rejects.toThrow(message);
  });

  test("cut off anywhere: one error", async () => {
    for (let length = 0; length < whole.length; length += 97)
      await expect(openPytorch(bytesSource(whole.subarray(0, length), "a.pt")), String(length)).rejects.toThrow(FormatError);
  });
});

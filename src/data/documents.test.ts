import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConfigError, DataError, FormatError } from "../errors.ts";
import { type Document, type DocumentMode, splitIntoDocuments } from "./documents.ts";
import { openDocuments, type ReadOptions } from "./read-documents.ts";
import { emptyStatistics, withStatistics } from "./statistics.ts";
import { decodeText } from "./text-decoding.ts";

let dir: string;
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), "groundup-data-"));
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

async function* stream<T>(...pieces: T[]) {
  yield* pieces;
}
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Any split of the input gives the same output: pieces of 1, 2, 3, 7 units. */
async function cut(text: string, mode: DocumentMode, max?: number): Promise<string[]> {
  const results = [];
  for (const size of [1, 2, 3, 7, 1000]) {
    const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    results.push(await all(splitIntoDocuments(stream(...pieces), mode, max)));
  }
  for (const result of results) expect(result).toEqual(results[0]);
  return results[0];
}

test("documents are files, lines, paragraphs, or lie between separators", async () => {
  expect(await cut("a\n\nb\n", "file")).toEqual(["a\n\nb\n"]);
  expect(await cut("a\r\n\n b\nc", "line")).toEqual(["a", " b", "c"]);
  expect(await cut("\n\na\nb\n\n \t\n\nc\r\n\r\nd\n\n", "blank-line")).toEqual(["a\nb", "c", "d"]);
  expect(await cut("a\n<|endoftext|>\nb<|endoftext|><|endoftext|> \n<|endoftext|>c <|endof", "<|endoftext|>")).toEqual(["a", "b", "c <|endof"]);
  await expect(cut("a", "blank_line" as DocumentMode)).rejects.toThrow(ConfigError);
  await expect(cut("a", "blank_line" as DocumentMode)).rejects.toThrow('Did you mean "blank-line"?');
});

test("a document that is too long is cut at line ends, and nothing is lost", async () => {
  const text = `${"word and word\n".repeat(40)}${"x".repeat(95)}😀${"y".repeat(150)}`;
  let cuts = 0;
  const parts = await all(splitIntoDocuments(stream(text), "file", 100, () => cuts++));
  expect(parts.join("")).toBe(text);
  expect(cuts).toBe(parts.length - 1);
  for (const part of parts) {
    expect(part.length).toBeLessThanOrEqual(100);
    expect(part).not.toMatch(/\p{Surrogate}/u);
  }
  expect(parts[0]).toBe("word and word\n".repeat(7));
  expect((await cut(`${"a".repeat(30)}\n\nb`, "blank-line", 16)).join("|")).toBe(`${"a".repeat(16)}|${"a".repeat(14)}|b`);
});

async function decode(bytes: Uint8Array) {
  const counts = { bytes: 0, replaced: 0 };
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < bytes.length; i++) pieces.push(bytes.subarray(i, i + 1));
  return { text: (await all(decodeText(stream(...pieces), "f", counts))).join(""), ...counts };
}

test("invalid UTF-8 is replaced and counted; a real U+FFFD is not", async () => {
  const bytes = new Uint8Array([...Buffer.from("né�"), 0xff, 0x61, 0xe2, 0x82, 0x62, 0xf0, 0x9f]);
  expect(await decode(bytes)).toEqual({ text: "né��a�b�", bytes: bytes.length, replaced: 3 });
  expect((await decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61]))).text).toBe("a");
  expect((await decode(Buffer.from("a\ufeffb"))).text).toBe("a\ufeffb");
});

test("decoding in pieces equals decoding at once, across the border of the first look", async () => {
  const text = "aé€😀\n".repeat(20_000);
  const bytes = new Uint8Array(Buffer.from(text));
  for (const size of [1013, 65_536, 65_537, 1 << 20]) {
    const pieces = [];
    for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
    const counts = { bytes: 0, replaced: 0 };
    expect((await all(decodeText(stream(...pieces), "f", counts))).join("") === text).toBe(true);
    expect(counts).toEqual({ bytes: bytes.length, replaced: 0 });
  }
});

test.each<[string, Uint8Array, RegExp]>([
  ["zeros", new Uint8Array(100), /binary data/],
  ["a PNG", new Uint8Array([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13]), /binary data/],
  ["gzip", new Uint8Array(gzipSync("hello")), /compressed with gzip; name it \.gz/],
  ["UTF-16", new Uint8Array([0xff, 0xfe, 0x61, 0]), /got UTF-16/],
  ["another encoding", new Uint8Array(Buffer.from("日本語テキスト".repeat(20), "latin1")).map((b) => b | 0x80), /another encoding/],
  ["control characters", new Uint8Array(50).fill(7), /binary data/],
])("%s is refused", async (_, bytes, message) => {
  await expect(decode(bytes)).rejects.toThrow(DataError);
  await expect(decode(bytes)).rejects.toThrow(message);
});

const read = async (paths: string | string[], options: ReadOptions = {}): Promise<Document[]> => all(await openDocuments(paths, options));

test("reads txt, jsonl, gz and zst from folders and globs in a fixed order", async () => {
  await fs.mkdir(join(dir, "sub"));
  const json = '{"text":"one","n":1}\n\n{"text":"t\\u00e9wo"}\r\n{"text":" "}';
  await fs.writeFile(join(dir, "b.txt"), "bee");
  await fs.writeFile(join(dir, "a.jsonl"), json);
  await fs.writeFile(join(dir, "sub", "c.jsonl.gz"), gzipSync(json));
  // zstd frame of "zed\n", made with the zstd program; and two frames in one file.
  const frame = Buffer.from("KLUv/QRYIQAAemVkCtY0kAo=", "base64");
  await fs.writeFile(join(dir, "sub", "d.txt.zst"), Buffer.concat([frame, frame]));
  await fs.writeFile(join(dir, "skip.png"), new Uint8Array(9));
  await fs.writeFile(join(dir, ".hidden.txt"), "no");
  const notes: string[] = [];
  const found = await read(dir, { onNote: (sentence) => notes.push(sentence) });
  expect(found.map(({ text, source, index }) => [source.slice(dir.length + 1), index, text])).toEqual([
    ["a.jsonl", 0, "one"],
    ["a.jsonl", 1, "téwo"],
    ["b.txt", 0, "bee"],
    [join("sub", "c.jsonl.gz"), 0, "one"],
    [join("sub", "c.jsonl.gz"), 1, "téwo"],
    [join("sub", "d.txt.zst"), 0, "zed\nzed\n"],
  ]);
  expect(notes).toEqual([expect.stringMatching(/1 files that are not .txt.* were skipped/)]);
  expect((await read(join(dir, "*.txt"))).map(({ text }) => text)).toEqual(["bee"]);
  expect((await read(join(dir, "**", "*.jsonl*"))).length).toBe(4);
  expect((await read([join(dir, "b.txt"), join(dir, "?.txt")])).length).toBe(1);
});

test("zstd: a skippable frame first, as parallel compressors write it, and a window that is absurd", async () => {
  const frame = Buffer.from("KLUv/QRYIQAAemVkCtY0kAo=", "base64");
  const skippable = (size: number) => Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, size, 0, 0, 0]), Buffer.alloc(size, 0xff)]);
  // Its size looks like the descriptor of a frame with a content of 2^64 bytes.
  await fs.writeFile(join(dir, "a.txt.zst"), Buffer.concat([skippable(0xe4), frame]));
  expect((await read(join(dir, "a.txt.zst"))).map(({ text }) => text)).toEqual(["zed\n"]);
  const absurd = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0, 0]);
  for (const bytes of [absurd, Buffer.concat([skippable(3), absurd])]) {
    await fs.writeFile(join(dir, "b.txt.zst"), bytes);
    await expect(read(join(dir, "b.txt.zst"))).rejects.toThrow(/can't be decompressed, expected Zstandard data/);
  }
});

test("invalid bytes are said once, however often the files are read", async () => {
  await fs.writeFile(join(dir, "a.txt"), new Uint8Array([0x61, 0xff, 0x62]));
  await fs.writeFile(join(dir, "b.jsonl"), '{"text":"x\\ud800y"}');
  const notes: string[] = [];
  const documents = await openDocuments(dir, { onNote: (sentence) => notes.push(sentence) });
  const statistics = emptyStatistics();
  for (const _ of [1, 2]) expect((await all(documents)).map(({ text }) => text)).toEqual(["a�b", "x�y"]);
  await all(withStatistics(documents, statistics));
  expect(notes).toEqual([
    expect.stringMatching(/a\.txt: 1 invalid UTF-8 sequence was replaced/),
    expect.stringMatching(/b\.jsonl: 1 invalid UTF-8 sequence was replaced/),
  ]);
  expect(statistics).toMatchObject({ documents: 2, characters: 6, bytes: 10, longestDocument: 3, replaced: 2 });
});

test.each<[string, Record<string, string | Uint8Array>, RegExp, ReadOptions?]>([
  ["an empty file", { "a.txt": "" }, /no text, expected at least one document, got 1 file without/],
  ["white space", { "a.txt": " \n\n", "b.jsonl": '{"text":""}' }, /got 2 files without a visible character/],
  ["a line that is no JSON", { "a.jsonl": '{"text":"x"}\n{"text":' }, /a\.jsonl, line 2: not JSON/],
  ["a field that is missing", { "a.jsonl": '{"content":"x","id":1}' }, /line 1: no text.*"text".*keys content, id/],
  ["a field that is misspelt", { "a.jsonl": '{"content":"x"}' }, /Did you mean "content"\?/, { field: "contents" }],
  ["a text that is no string", { "a.jsonl": '{"text":["x"]}' }, /line 1: no text/],
  ["a damaged gz", { "a.txt.gz": gzipSync("x".repeat(1000)).subarray(0, 20) }, /a\.txt\.gz: can't be decompressed, expected gzip/],
  ["no gz", { "a.txt.gz": "plain text" }, /can't be decompressed/],
  ["no zst", { "a.txt.zst": "plain text, long enough" }, /can't be decompressed, expected Zstandard/],
  ["a zst cut off", { "a.txt.zst": Buffer.from("KLUv/QRYIQAAemVk", "base64") }, /can't be decompressed, expected Zstandard/],
  ["binary in a gz", { "a.txt.gz": gzipSync(new Uint8Array(99)) }, /binary data/],
  ["nothing that is text", { "a.png": "x" }, /no data, expected text files .* in the folder, got none of 1 files/],
])("refuses %s", async (_, files, message, options = {}) => {
  for (const [name, content] of Object.entries(files)) await fs.writeFile(join(dir, name), content);
  await expect(read(dir, options)).rejects.toThrow(DataError);
  await expect(read(dir, options)).rejects.toThrow(message);
});

test("paths that don't exist say so", async () => {
  await expect(read(join(dir, "none.txt"))).rejects.toThrow(FormatError);
  await expect(read(join(dir, "*.txt"))).rejects.toThrow(/no data, expected files that match/);
  await expect(read([])).rejects.toThrow(DataError);
  await fs.writeFile(join(dir, "a.json"), "{}");
  await expect(read(join(dir, "a.json"))).rejects.toThrow(/one JSON value/);
});

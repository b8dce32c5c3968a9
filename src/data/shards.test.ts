import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConfigError, DataError, FormatError, GroundupError } from "../errors.ts";
import { openFile, openFolder } from "../formats/node-file.ts";
import { type Folder, memoryFolder } from "../formats/source.ts";
import type { Document } from "./documents.ts";
import { openShards } from "./shard-manifest.ts";
import { memoryTokens, openTokenFile } from "./token-data.ts";
import { type WriteShardsOptions, writeShards } from "./write-shards.ts";

let dir: string;
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), "groundup-shards-"));
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

const bytes = { encode: (text: string) => ({ ids: new Uint8Array(Buffer.from(text)) }) };
const documents = (texts: string[]): Document[] => texts.map((text, index) => ({ text, source: "t.txt", index }));
const write = (texts: string[], options: Partial<WriteShardsOptions> = {}, encoder = bytes as { encode(text: string): { ids: ArrayLike<number> } }) =>
  writeShards(join(dir, "out"), documents(texts), encoder, { vocabSize: 257, ...options });

test.each([
  [257, "u16"],
  [70_000, "u32"],
] as const)("documents become shards and read back (vocabulary of %i: %s)", async (vocabSize, dtype) => {
  const texts = ["hello", "", "wörld", "x".repeat(40)];
  const manifest = await write(texts, { vocabSize, endOfText: 256, shardTokens: 7, tokenizerHash: "t" });
  expect(manifest).toMatchObject({ dtype, vocabSize, endOfText: 256, tokenizerHash: "t", tokens: 54, documents: 3 });
  expect(manifest.shards.map(({ tokens }) => tokens)).toEqual([7, 7, 7, 7, 7, 7, 7, 5]);
  expect(manifest.statistics).toMatchObject({
    documents: 4,
    characters: 50,
    bytes: 51,
    tokens: 54,
    longestDocument: 40,
  });
  const wanted = [...Buffer.from("hello"), 256, ...Buffer.from("wörld"), 256, ...Buffer.from("x".repeat(40)), 256];
  for (const keepBytes of [0, 1 << 20]) {
    const data = await openShards(openFolder(join(dir, "out")), { keepBytes });
    expect([...data.documentStarts]).toEqual([0, 6, 13, 54]);
    for (let start = 0; start <= 54; start++) {
      for (const length of [0, 1, 6, 8, 54 - start]) {
        if (start + length <= 54) expect([...(await data.read(start, length))]).toEqual(wanted.slice(start, start + length));
      }
    }
    await expect(data.read(50, 5)).rejects.toThrow(DataError);
    await data.verify();
    expect(data.manifest).toEqual(manifest);
    await data.close();
  }
});

test("blocks larger than the buffer and shards of any size keep every id", async () => {
  const text = Array.from({ length: 600_000 }, (_, i) => String.fromCharCode(97 + ((i * 7) % 26))).join("");
  const progress: number[] = [];
  await write([text, text.slice(0, 99)], { shardTokens: 250_001, onProgress: ({ tokens }) => progress.push(tokens) });
  const data = await openShards(openFolder(join(dir, "out")));
  expect(Buffer.from(Uint8Array.from(await data.read(0, data.tokens))).toString() === text + text.slice(0, 99)).toBe(true);
  expect(progress.length).toBe(3);
  await data.close();
});

test("small shards are read once and kept; of large ones a window reads its own bytes and no more", async () => {
  await write(["x".repeat(5000), "y".repeat(3000)], { shardTokens: 3000 });
  const folder = openFolder(join(dir, "out"));
  let got = 0;
  const counted: Folder = {
    ...folder,
    async open(file) {
      const source = await folder.open(file);
      const read = async (offset: number, length: number) => {
        if (file.startsWith("shard-")) got += length;
        return source.read(offset, length);
      };
      return { ...source, read };
    },
  };
  for (const [keepBytes, opening, window] of [
    [16_000, 16_000, 0],
    [15_999, 0, 40],
  ]) {
    got = 0;
    const data = await openShards(counted, { keepBytes });
    expect(got).toBe(opening);
    got = 0;
    // Across the border of two files.
    expect(await data.read(2990, 20)).toEqual(new Int32Array(20).fill(120));
    expect(got).toBe(window);
    await data.close();
  }
});

test("the identity follows the content", async () => {
  const identity = async (text: string) => {
    await write([text], { replace: true });
    const data = await openShards(openFolder(join(dir, "out")));
    await data.close();
    return data.identity;
  };
  expect(await identity("abc")).toBe(await identity("abc"));
  expect(await identity("abc")).not.toBe(await identity("abd"));
});

test("an id outside the vocabulary, no tokens and bad options are refused and leave nothing", async () => {
  await expect(write(["fine", "bad"], { vocabSize: 100 })).rejects.toThrow(
    /t\.txt, document 0: token id outside the vocabulary at token 0, expected 0 to 99, got 102/,
  );
  await expect(write(["a"], {}, { encode: () => ({ ids: [-1] }) })).rejects.toThrow(DataError);
  await expect(write(["a"], {}, { encode: () => ({ ids: [Number.NaN] }) })).rejects.toThrow(DataError);
  await expect(write([])).rejects.toThrow(/no tokens/);
  await expect(write(["a"], { endOfText: 257 })).rejects.toThrow(ConfigError);
  await expect(write(["a"], { vocabSize: 0 })).rejects.toThrow(ConfigError);
  await expect(write(["a"], { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  expect(await fs.readdir(dir)).toEqual([]);
});

test("shards that were damaged are refused", async () => {
  await write(["hello", "world"]);
  const out = join(dir, "out");
  const open = () => openShards(openFolder(out));
  const shard = await fs.readFile(join(out, "shard-00000.bin"));

  await fs.writeFile(join(out, "shard-00000.bin"), Buffer.concat([shard.subarray(0, 8), Buffer.from([1, 0]), shard.subarray(10)]));
  const changed = await open();
  await expect(changed.verify()).rejects.toThrow(/shard-00000\.bin: damaged, expected SHA-256/);
  await changed.close();

  await fs.writeFile(join(out, "shard-00000.bin"), Buffer.concat([shard.subarray(0, 8), Buffer.from([255, 255]), shard.subarray(10)]));
  const foreign = await open();
  await expect(foreign.read(0, 10)).rejects.toThrow(/id 65535 at place 4 is outside the vocabulary, expected a whole number from 0 to 256, got 65535/);
  await foreign.close();

  await fs.writeFile(join(out, "shard-00000.bin"), shard.subarray(0, 19));
  await expect(open()).rejects.toThrow(/wrong size, expected 20 bytes by the manifest, got 19/);
  await fs.writeFile(join(out, "shard-00000.bin"), shard);
  await fs.writeFile(join(out, "documents.bin"), new Uint8Array(24));
  await expect(open()).rejects.toThrow(/bad document boundaries/);
  await expect(openShards(openFolder(dir))).rejects.toThrow(/no token shards/);
});

test("no damaged manifest does anything but throw a typed error", async () => {
  await write(["hello", "world"], { shardTokens: 6, endOfText: 256 });
  const files: Record<string, Uint8Array | string> = {};
  for (const name of await fs.readdir(join(dir, "out"))) files[name] = new Uint8Array(await fs.readFile(join(dir, "out", name)));
  const good = Buffer.from(files["manifest.json"]).toString();
  await (await openShards(memoryFolder(files))).verify();
  for (const [from, to, message] of [
    ['"shard-00001.bin"', '"../x.bin"', /bad shard name/],
    ['"tokens": 12,\n  "documents"', '"tokens": 13,\n  "documents"', /don't add up/],
    ['"dtype": "u16"', '"dtype": "u8"', /dtype is not one of its values/],
    ['"endOfText": 256', '"endOfText": 257', /end-of-text id outside/],
    ['"vocabSize": 257', '"vocabSize": 1e300', /vocabSize/],
    ['"format"', '"fromat"', /fromat is unknown/],
  ] as const) {
    expect(good).toContain(from);
    await expect(openShards(memoryFolder({ ...files, "manifest.json": good.replace(from, to) }))).rejects.toThrow(message);
  }
  let seed = 5;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  let refused = 0;
  for (let round = 0; round < 1500; round++) {
    const letters = [...good];
    for (let edits = random(3); edits >= 0; edits--) letters[random(letters.length)] = '{}[]",:0-9eE\\ nul'[random(17)];
    try {
      await (await openShards(memoryFolder({ ...files, "manifest.json": letters.join("") }))).verify();
    } catch (error) {
      refused++;
      if (!(error instanceof GroundupError)) throw error;
    }
  }
  expect(refused).toBeGreaterThan(1000);
});

test("nanoGPT's train.bin is read: 16-bit ids and nothing else", async () => {
  const path = join(dir, "train.bin");
  await fs.writeFile(path, new Uint8Array(new Uint16Array([1, 50256, 3]).buffer));
  const open = async (options = {}) => openTokenFile(await openFile(path), options);
  const data = await open({ vocabSize: 50257 });
  expect([...(await data.read(0, 3))]).toEqual([1, 50256, 3]);
  expect([...data.documentStarts]).toEqual([0, 3]);
  const bounded = await open({ vocabSize: 50256 });
  await expect(bounded.read(0, 3)).rejects.toThrow(DataError);
  const before = data.identity;
  await fs.writeFile(path, new Uint8Array(new Uint16Array([1, 50256, 4]).buffer));
  expect((await open()).identity).not.toBe(before);
  // Of a larger file too, wherever the change is.
  const ids = Uint16Array.from({ length: 100_000 }, (_, i) => i % 50_000);
  const identities = new Set<string>();
  for (const place of [null, 0, 1, 2047, 50_000, 77_777, 99_999]) {
    await fs.writeFile(path, new Uint8Array(ids.map((id, i) => (i === place ? id + 1 : id)).buffer));
    const file = await open();
    identities.add(file.identity);
    await file.close();
  }
  expect(identities.size).toBe(7);
  await fs.writeFile(path, new Uint8Array(3));
  await expect(open()).rejects.toThrow(/expected a multiple of 2 bytes, got 3/);
  await fs.writeFile(path, "");
  await expect(open()).rejects.toThrow(DataError);
  await fs.writeFile(path, new Uint8Array(new Uint32Array([4294967295]).buffer));
  await expect((await open({ dtype: "u32" })).read(0, 1)).rejects.toThrow(/got 4294967295/);
  await expect(openFile(join(dir, "none.bin"))).rejects.toThrow(FormatError);
});

test("tokens in memory are checked", async () => {
  expect(() => memoryTokens([0, 5], { vocabSize: 5 })).toThrow(DataError);
  expect(() => memoryTokens([0, 1], { documentStarts: [0, 0, 2] })).toThrow(/bad document boundaries/);
  expect(memoryTokens([1, 2]).identity).not.toBe(memoryTokens([2, 1]).identity);
});

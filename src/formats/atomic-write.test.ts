import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FormatError, RunError } from "../errors.ts";
import { isTemporary, type WriteFileSystem, writeFileAtomic, writeFolderAtomic } from "./atomic-write.ts";
import { lastGoodCheckpoint, listCheckpoints, removeLeftovers, verifyCheckpoint, writeCheckpoint } from "./checkpoint-folder.ts";
import { openFile, openFolder } from "./node-file.ts";
import { saveModelWeights } from "./safetensors-save.ts";
import { openModelWeights } from "./safetensors-shards.ts";

let dir: string;
beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), "groundup-formats-"));
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

/** A disk on which only `room` bytes can be written; every other call is the real one. */
function smallDisk(room: number, code = "ENOSPC"): WriteFileSystem {
  return {
    ...fs,
    open: async (...args: Parameters<typeof fs.open>) => {
      const handle = await fs.open(...args);
      const write = handle.write.bind(handle) as (bytes: Uint8Array, offset: number, length: number) => Promise<unknown>;
      handle.write = (async (bytes: Uint8Array, offset: number, length: number) => {
        if (room <= 0) throw Object.assign(new Error(`${code}: write`), { code, syscall: "write" });
        const taken = Math.min(length, room);
        room -= taken;
        return write(bytes, offset, taken);
      }) as typeof handle.write;
      return handle;
    },
  };
}
const names = async (path = dir) => (await fs.readdir(path)).sort();

test("writes text, bytes and streams of both, and replaces what was there", async () => {
  const path = join(dir, "new", "a.txt");
  await writeFileAtomic(path, "one");
  await writeFileAtomic(path, new Uint8Array([0x74, 0x77, 0x6f]));
  expect(await fs.readFile(path, "utf8")).toBe("two");
  await writeFileAtomic(
    path,
    (async function* () {
      yield "thr";
      yield new Uint8Array([0x65, 0x65]);
    })(),
  );
  expect(await fs.readFile(path, "utf8")).toBe("three");
  expect(await names(join(dir, "new"))).toEqual(["a.txt"]);
});

test.each(["ENOSPC", "EDQUOT", "EIO"])("%s in the middle of a file keeps the old one and says how much was needed", async (code) => {
  const path = join(dir, "weights.bin");
  await writeFileAtomic(path, "the good one");
  const attempt = writeFileAtomic(path, new Uint8Array(1000), { fileSystem: smallDisk(300, code) });
  await expect(attempt).rejects.toThrow(RunError);
  await expect(attempt).rejects.toThrow(
    new RegExp(`weights\\.bin: could not be written.*${code}.*to write 1000 bytes.*byte 300.*before is untouched and still good`),
  );
  expect(await fs.readFile(path, "utf8")).toBe("the good one");
  expect(await names()).toEqual(["weights.bin"]);
});

test("a rename that fails leaves the old file", async () => {
  const path = join(dir, "a");
  await writeFileAtomic(path, "old");
  const fileSystem = { ...fs, rename: async () => Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" })) };
  await expect(writeFileAtomic(path, "new", { fileSystem })).rejects.toThrow(/EIO.*untouched and still good/);
  expect(await fs.readFile(path, "utf8")).toBe("old");
  expect(await names()).toEqual(["a"]);
});

test("a file that can't fit is refused before the first byte", async () => {
  await expect(writeFileAtomic(join(dir, "a"), "x", { bytes: 2 ** 52 })).rejects.toThrow(
    /disk is full.*expected to write 4503599627370496 bytes, got as far as byte 0/,
  );
  expect(await names()).toEqual([]);
});

test("an error of the content itself passes through, and nothing is left", async () => {
  const content = (function* () {
    yield "half";
    throw new FormatError("m: bad");
  })();
  await expect(writeFileAtomic(join(dir, "a"), content)).rejects.toThrow(FormatError);
  expect(await names()).toEqual([]);
});

test("a path through a file, and a folder in the way, are typed errors", async () => {
  await writeFileAtomic(join(dir, "f"), "x");
  await expect(writeFileAtomic(join(dir, "f", "g"), "x")).rejects.toThrow(RunError);
  await expect(writeFileAtomic(join("/proc", "groundup", "g"), "x")).rejects.toThrow(RunError);
  await fs.mkdir(join(dir, "full", "er"), { recursive: true });
  await expect(writeFileAtomic(join(dir, "full"), "x")).rejects.toThrow(/full: could not be written/);
  expect(await names()).toEqual(["f", "full"]);
});

test("a folder appears whole or not at all", async () => {
  const path = join(dir, "out");
  const attempt = writeFolderAtomic(
    path,
    async (folder) => {
      await folder.write("sub/a", "12345");
      expect(await names()).toEqual([expect.stringMatching(/^\.out\./)]);
      await folder.write("b", "12345");
    },
    { fileSystem: smallDisk(7) },
  );
  await expect(attempt).rejects.toThrow(/out: could not be written, the disk is full/);
  expect(await names()).toEqual([]);
  await writeFolderAtomic(path, (folder) => folder.write("sub/a", "1"));
  expect(await fs.readFile(join(path, "sub", "a"), "utf8")).toBe("1");
  await expect(writeFolderAtomic(path, async () => {})).rejects.toThrow(/already exists/);
  await writeFolderAtomic(path, (folder) => folder.write("c", "2"), { replace: true });
  expect(await names(path)).toEqual(["c"]);
  await expect(writeFolderAtomic(join(dir, "o2"), (folder) => folder.write("../escape", ""))).rejects.toThrow(/bad file name/);
  expect(await names()).toEqual(["out"]);
});

test("a full disk in the middle of a checkpoint leaves the previous one good", async () => {
  const fill = (text: string) => async (folder: { write(name: string, content: string): Promise<void> }) => {
    await folder.write("model.safetensors", text);
    await folder.write("training/state.json", text);
  };
  await writeCheckpoint(dir, 100, fill("a".repeat(50)));
  await writeCheckpoint(dir, 200, fill("b".repeat(50)));
  await expect(writeCheckpoint(dir, 300, fill("c".repeat(50)), { fileSystem: smallDisk(70) })).rejects.toThrow(RunError);
  expect((await listCheckpoints(dir)).map(({ step }) => step)).toEqual([100, 200]);
  await verifyCheckpoint(join(dir, "step-000200"), { hashes: true });
  expect(await lastGoodCheckpoint(dir)).toMatchObject({ checkpoint: { step: 200 }, damaged: [] });
});

test("a damaged checkpoint is noticed and the one before it is used; leftovers are removed", async () => {
  for (const step of [1, 2, 3]) await writeCheckpoint(dir, step, (folder) => folder.write("w", `weights ${step}`));
  await fs.writeFile(join(dir, "step-000003", "w"), "weights x");
  await fs.truncate(join(dir, "step-000002", "w"), 3);
  await verifyCheckpoint(join(dir, "step-000003"));
  await expect(verifyCheckpoint(join(dir, "step-000003"), { hashes: true })).rejects.toThrow(/w: damaged, expected SHA-256/);
  await expect(verifyCheckpoint(join(dir, "step-000002"))).rejects.toThrow(/expected 9 bytes, got 3/);
  const { checkpoint, damaged } = await lastGoodCheckpoint(dir);
  expect(checkpoint?.step).toBe(1);
  expect(damaged.map((entry) => entry.checkpoint.step)).toEqual([3, 2]);
  await fs.mkdir(join(dir, ".step-000004.123-0123abcd.tmp"));
  expect(isTemporary("step-000004")).toBe(false);
  expect(await removeLeftovers(dir)).toEqual([".step-000004.123-0123abcd.tmp"]);
});

test("files on disk are read at any place; missing, short and foreign paths say so", async () => {
  const path = join(dir, "x.bin");
  await fs.writeFile(path, new Uint8Array([1, 2, 3, 4]));
  const source = await openFile(path);
  expect([...(await source.read(1, 2))]).toEqual([2, 3]);
  await expect(source.read(3, 2)).rejects.toThrow(/x\.bin: cut off, expected at least 5 bytes, got 4/);
  await expect(source.read(-1, 2)).rejects.toThrow(FormatError);
  await expect(source.read(0, Number.NaN)).rejects.toThrow(FormatError);
  await fs.truncate(path, 2);
  await expect(source.read(0, 4)).rejects.toThrow(/became shorter/);
  await source.close();
  await expect(openFile(join(dir, "none"))).rejects.toThrow(/none: not found/);
  await expect(openFile(dir)).rejects.toThrow(/not a file/);
});

test("saving weights again in another number of files leaves no mixture", async () => {
  const entries = ["a", "b"].map((name) => ({
    name,
    dtype: "F32" as const,
    shape: [2],
    data: new Float32Array([1, 2]),
  }));
  expect(await saveModelWeights(dir, entries, { maxShardBytes: 8 })).toHaveLength(3);
  expect(await saveModelWeights(dir, entries)).toEqual(["model.safetensors"]);
  expect(await names()).toEqual(["model.safetensors"]);
  const reader = await openModelWeights(openFolder(dir));
  expect([...new Float32Array((await reader.read("b")).data.buffer)]).toEqual([1, 2]);
  await reader.close();
});

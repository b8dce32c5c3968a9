/**
 * Checkpoints of a run on disk: `checkpoints/step-000500/`, each whole or absent. `files.json` inside lists every file
 * with its size and SHA-256, so that a checkpoint that was damaged later is noticed and the one before it is used.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FormatError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { type Content, type FolderWriter, isTemporary, WRITE_OPTIONS, type WriteOptions, writeFolderAtomic } from "./atomic-write.ts";
import { parseConfig } from "./hf-config.ts";
import { parseJson } from "./json.ts";
import { openFile, whereThere } from "./node-file.ts";
import { readText } from "./source.ts";

const FILES = "files.json";
const filesSchema = z.strictObject({
  files: z.record(z.string(), z.strictObject({ bytes: z.int().nonnegative(), sha256: z.string().regex(/^[0-9a-f]{64}$/) })),
});

/** A checkpoint's folder and the step after which it was written. */
export interface Checkpoint {
  step: number;
  path: string;
}

/** The folder's name for a step: `step-000500`. Longer numbers are not cut. */
export const checkpointName = (step: number): string => `step-${String(step).padStart(6, "0")}`;

/**
 * Writes `<root>/step-NNNNNN` in one atomic move. `fill` writes the files; `files.json` is added.
 *
 * @throws RunError when the disk fails or the step is there already; earlier checkpoints are untouched
 */
export async function writeCheckpoint(
  root: string,
  step: number,
  fill: (folder: FolderWriter) => Promise<void>,
  options: WriteOptions = {},
): Promise<Checkpoint> {
  checkOptions("writeCheckpoint", options, WRITE_OPTIONS);
  const path = join(root, checkpointName(step));
  await writeFolderAtomic(
    path,
    async (folder) => {
      const files: Record<string, { bytes: number; sha256: string }> = {};
      await fill({
        path: folder.path,
        async write(name, content, fileOptions) {
          const hash = createHash("sha256");
          const count = { bytes: 0 };
          await folder.write(name, counted(content, hash, count), {
            bytes: content instanceof Uint8Array ? content.byteLength : undefined,
            ...fileOptions,
          });
          files[name] = { bytes: count.bytes, sha256: hash.digest("hex") };
        },
      });
      await folder.write(FILES, `${JSON.stringify({ files }, null, 2)}\n`);
    },
    options,
  );
  return { step, path };
}

async function* counted(content: Content, hash: ReturnType<typeof createHash>, count: { bytes: number }) {
  const pieces = typeof content === "string" || content instanceof Uint8Array ? [content] : content;
  for await (const piece of pieces) {
    const bytes = typeof piece === "string" ? Buffer.from(piece, "utf8") : piece;
    hash.update(bytes);
    count.bytes += bytes.byteLength;
    yield bytes;
  }
}

/** All whole checkpoints of a run, oldest first. Leftovers of unfinished writes are not among them. */
export async function listCheckpoints(root: string): Promise<Checkpoint[]> {
  const names = await whereThere(root, fs.readdir(root), []);
  return names
    .map((name) => /^step-([0-9]{6,15})$/.exec(name))
    .filter((match) => match !== null)
    .map((match) => ({ step: Number(match[1]), path: join(root, match[0]) }))
    .sort((a, b) => a.step - b.step);
}

/** Length of a file in bytes; undefined where there is none. */
async function sizeOfFile(file: string): Promise<number | undefined> {
  return (await whereThere(file, fs.stat(file), undefined))?.size;
}

const OTHERWISE = "Use another checkpoint; or, if you changed it on purpose, delete files.json beside it.";

/**
 * Checks a checkpoint against its `files.json`: every size, and with `hashes` every byte.
 *
 * @throws FormatError that names the first file that is missing, of another size or changed
 */
export async function verifyCheckpoint(path: string, options: { hashes?: boolean } = {}): Promise<void> {
  checkOptions("verifyCheckpoint", options, { hashes: true });
  const list = join(path, FILES);
  const source = await openFile(list);
  const text = await readText(source, 16 << 20).finally(() => source.close());
  const { files } = parseConfig(filesSchema, parseJson(text, list), list);
  for (const [name, { bytes, sha256 }] of Object.entries(files)) {
    const file = join(path, name);
    const size = await sizeOfFile(file);
    if (size !== bytes) {
      throw new FormatError(`${file}: damaged, expected ${bytes} bytes, got ${size ?? "no file"}. ${OTHERWISE}`);
    }
    if (options.hashes && (await hashFile(file)) !== sha256) {
      throw new FormatError(`${file}: damaged, expected SHA-256 ${sha256}, got another. ${OTHERWISE}`);
    }
  }
}

/** SHA-256 of a file, read in pieces, as lower-case hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return hash.digest("hex");
}

/**
 * The newest checkpoint that passes `verifyCheckpoint` with hashes, and the ones after it that did not.
 */
export async function lastGoodCheckpoint(root: string): Promise<{ checkpoint: Checkpoint | undefined; damaged: { checkpoint: Checkpoint; error: Error }[] }> {
  const damaged: { checkpoint: Checkpoint; error: Error }[] = [];
  for (const checkpoint of (await listCheckpoints(root)).reverse()) {
    try {
      await verifyCheckpoint(checkpoint.path, { hashes: true });
      return { checkpoint, damaged };
    } catch (error) {
      damaged.push({ checkpoint, error: error as Error });
    }
  }
  return { checkpoint: undefined, damaged };
}

/** Removes what unfinished writes left in a folder. Call it only while holding the run's lock. Returns the names. */
export async function removeLeftovers(root: string): Promise<string[]> {
  const names = (await whereThere(root, fs.readdir(root), [])).filter(isTemporary);
  for (const name of names) await fs.rm(join(root, name), { recursive: true, force: true });
  return names;
}

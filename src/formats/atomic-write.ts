/**
 * Writing without ever losing what was there: everything goes into a temporary file or folder beside the target, is
 * flushed to the disk (the file, then the folder that names it), and takes the target's name in one rename.
 * Whoever reads sees the old content or the new, never half of one, whenever the process or the machine dies.
 */
import { randomBytes } from "node:crypto";
import * as nodeFs from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { GroundupError, RunError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";

/** The few calls that writing needs; tests put a failing disk here. */
export type WriteFileSystem = Pick<typeof nodeFs, "open" | "rename" | "rm" | "mkdir" | "statfs" | "stat">;

/** What may be written: one piece, or many that are made while writing. Strings become UTF-8. */
export type Content = string | Uint8Array | Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>;

/** How something is written. */
export interface WriteOptions {
  /** Bytes that will be written, when known: a disk that can't hold them is refused before the first byte. */
  bytes?: number;
  fileSystem?: WriteFileSystem;
}

export const WRITE_OPTIONS: KnownOptions<WriteOptions> = { bytes: true, fileSystem: true };

/** Writes files into a folder that takes its final name when all of them are whole. */
export interface FolderWriter {
  /** The temporary folder, for writers that need a path. Files put there by other means are not flushed. */
  readonly path: string;
  /** Writes and flushes one file. `name` may hold folders (`training/state.json`). */
  write(name: string, content: Content, options?: { bytes?: number }): Promise<void>;
}

const CAUSES: Record<string, [what: string, advice: string]> = {
  ENOSPC: ["the disk is full (ENOSPC)", "Free some space, or write to another disk, and run again."],
  EDQUOT: ["your disk quota is used up (EDQUOT)", "Free some space, or write elsewhere, and run again."],
  EFBIG: ["the file is too large for this file system or limit (EFBIG)", "Write to another disk, or in smaller shards."],
  EACCES: ["no permission to write there (EACCES)", "Change the folder's permissions or choose another folder."],
  EPERM: ["writing there is not permitted (EPERM)", "Change the folder's permissions or choose another folder."],
  EROFS: ["the disk is read-only (EROFS)", "Choose another folder."],
  EIO: ["the disk reported an error (EIO)", "Check the disk; keep a copy of what is on it."],
  ENOTDIR: ["a file is in the way of a folder (ENOTDIR)", "Choose another path."],
  EEXIST: ["a file is in the way of a folder (EEXIST)", "Choose another path."],
  ENOENT: ["no such folder, and it can't be made (ENOENT)", "Choose another path."],
  EISDIR: ["a folder has this name (EISDIR)", "Choose another path."],
};

/** What the system says of a write that failed, in words. */
export const whatFailed = (cause: unknown): string => CAUSES[(cause as NodeJS.ErrnoException).code ?? ""]?.[0] ?? String(cause);

function writeError(target: string, kind: "file" | "folder", cause: unknown, written: number, bytes?: number): Error {
  // What the caller's own content generator throws on purpose stays as it is.
  if (cause instanceof GroundupError) return cause;
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? "";
  if (!Object.hasOwn(CAUSES, code) && !(cause as NodeJS.ErrnoException | undefined)?.syscall) return cause as Error;
  const [what, advice] = CAUSES[code] ?? [String(cause), "Check the path and the disk."];
  const needed = bytes === undefined ? "to write all of it" : `to write ${bytes} bytes`;
  return new RunError(
    `${target}: could not be written, ${what}, expected ${needed}, got as far as byte ${written}. ` +
      `Whatever ${kind} was there before is untouched and still good. ${advice}`,
    { cause },
  );
}

/**
 * When tidying up after a failed write fails as well, the first failure is the one to report; what stays behind bears a temporary
 * name that no reader takes for whole, and `removeLeftovers` takes it away.
 */
const LEFT_BEHIND = (): void => undefined;

/** A name that sorts beside its target, is unlikely to exist, and is recognised by `isTemporary`. */
const temporaryName = (target: string) => join(dirname(target), `.${basename(target)}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`);

/** Whether a file or folder name is a leftover of a write that did not finish. */
export const isTemporary = (name: string): boolean => /^\..+\.[0-9]+-[0-9a-f]{8}\.tmp$/.test(name);

function* single(piece: Uint8Array | string) {
  yield piece;
}

async function flushFolder(path: string, fs: WriteFileSystem): Promise<void> {
  // Windows can't open a folder; its file system journals renames by itself.
  if (process.platform === "win32") return;
  const handle = await fs.open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** `mkdir` with all folders above. Node's own recursive one never returns where the system denies that a parent exists (`/proc`). */
export async function makeFolder(path: string, fs: WriteFileSystem = nodeFs): Promise<void> {
  try {
    await makeOneFolder(path, fs);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || dirname(path) === path) throw error;
    await makeFolder(dirname(path), fs);
    await makeOneFolder(path, fs);
  }
}

/** Somebody else may make it in the same moment. */
async function makeOneFolder(path: string, fs: WriteFileSystem): Promise<void> {
  try {
    await fs.mkdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !(await fs.stat(path)).isDirectory()) throw error;
  }
}

async function checkRoom(folder: string, bytes: number, fs: WriteFileSystem): Promise<void> {
  let free: number;
  try {
    const disk = await fs.statfs(folder);
    free = disk.bavail * disk.bsize;
  } catch {
    // Some network file systems don't say; then the write itself will tell.
    return;
  }
  if (bytes > free) throw Object.assign(new Error(`${free} bytes are free`), { code: "ENOSPC" });
}

/** Writes and flushes one file under its own name. `progress` counts the bytes, and survives a failure. */
async function writePlain(path: string, content: Content, fs: WriteFileSystem, progress: { written: number }): Promise<void> {
  const pieces = typeof content === "string" || content instanceof Uint8Array ? single(content) : content;
  const handle = await fs.open(path, "wx");
  try {
    for await (const piece of pieces) {
      const bytes = typeof piece === "string" ? Buffer.from(piece, "utf8") : piece;
      let done = 0;
      while (done < bytes.byteLength) {
        // Below 2^31 at a time: what one write() of the operating system takes.
        const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.byteLength - done, 1 << 30));
        done += bytesWritten;
        progress.written += bytesWritten;
      }
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes a file so that its old content stays until the new one is whole and on the disk.
 *
 * @throws RunError when the disk is full, read-only or broken: says the file, the bytes needed and that the old file is good
 */
export async function writeFileAtomic(path: string, content: Content, options: WriteOptions = {}): Promise<void> {
  checkOptions("writeFileAtomic", options, WRITE_OPTIONS);
  const fs = options.fileSystem ?? nodeFs;
  const target = resolve(path);
  const temporary = temporaryName(target);
  const bytes = options.bytes ?? (content instanceof Uint8Array ? content.byteLength : undefined);
  const progress = { written: 0 };
  try {
    await makeFolder(dirname(target), fs);
    if (bytes !== undefined) await checkRoom(dirname(target), bytes, fs);
    await writePlain(temporary, content, fs, progress);
    await fs.rename(temporary, target);
    await flushFolder(dirname(target), fs);
  } catch (cause) {
    await fs.rm(temporary, { force: true }).catch(LEFT_BEHIND);
    throw writeError(path, "file", cause, progress.written, bytes);
  }
}

/**
 * Writes a folder so that it appears under its name only when `fill` has finished and every file is on the disk.
 *
 * With `replace`, a folder that is already there steps aside first and is removed at the end. Between the two renames
 * a crash leaves no folder under the name, but the old one whole beside it (`.<name>.….tmp`): code that must always find
 * one, such as checkpoints, gives each folder a new name instead.
 *
 * @throws RunError when the target exists (without `replace`) or the disk fails; the temporary folder is removed
 */
export async function writeFolderAtomic(
  path: string,
  fill: (folder: FolderWriter) => Promise<void>,
  options: WriteOptions & { replace?: boolean } = {},
): Promise<void> {
  checkOptions("writeFolderAtomic", options, { ...WRITE_OPTIONS, replace: true });
  const fs = options.fileSystem ?? nodeFs;
  const target = resolve(path);
  const temporary = temporaryName(target);
  const progress = { written: 0 };
  const exists = async () => {
    try {
      await fs.stat(target);
      return true;
    } catch (cause) {
      if ((cause as { code?: string }).code === "ENOENT") return false;
      throw writeError(path, "folder", cause, 0, options.bytes);
    }
  };
  if (!options.replace && (await exists())) {
    throw new RunError(`${path}: already exists, expected a new name, got one in use. Remove it or choose another name.`);
  }
  let needed = options.bytes;
  try {
    await makeFolder(temporary, fs);
    if (needed !== undefined) await checkRoom(temporary, needed, fs);
    const folders = new Set([temporary]);
    await fill({
      path: temporary,
      async write(name, content, fileOptions = {}) {
        checkOptions("write", fileOptions, { bytes: true });
        const file = join(temporary, name);
        if (!file.startsWith(temporary))
          throw new RunError(`${path}: bad file name, expected one inside the folder, got ${JSON.stringify(name)}. Remove the "..".`);
        const size = fileOptions.bytes ?? (content instanceof Uint8Array ? content.byteLength : undefined);
        needed = options.bytes ?? (size === undefined ? undefined : progress.written + size);
        for (let folder = dirname(file); folder.length > temporary.length; folder = dirname(folder)) folders.add(folder);
        await makeFolder(dirname(file), fs);
        if (size !== undefined) await checkRoom(temporary, size, fs);
        await writePlain(file, content, fs, progress);
      },
    });
    for (const folder of folders) await flushFolder(folder, fs);
    if (options.replace && (await exists())) {
      const aside = temporaryName(target);
      await fs.rename(target, aside);
      await fs.rename(temporary, target);
      await flushFolder(dirname(target), fs);
      await fs.rm(aside, { recursive: true, force: true });
    } else {
      await fs.rename(temporary, target);
      await flushFolder(dirname(target), fs);
    }
  } catch (cause) {
    await fs.rm(temporary, { recursive: true, force: true }).catch(LEFT_BEHIND);
    throw writeError(path, "folder", cause, progress.written, needed);
  }
}

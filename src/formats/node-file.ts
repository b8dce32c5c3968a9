/** Files and folders on disk as `Source` and `Folder` (see source.ts). */
import type { Stats } from "node:fs";
import * as fs from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { FormatError } from "../errors.ts";
import { checkRange, type Folder, type Source } from "./source.ts";

// One read() of the operating system moves at most 2^31 - 1 bytes.
const MAX_READ = 1 << 30;

/** Turns an error of opening or reading into one that says what to do. */
export function readError(path: string, cause: unknown): FormatError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const what: Record<string, [what: string, got: string, advice: string]> = {
    ENOENT: ["not found", "nothing at this path", "Check the path."],
    EISDIR: ["not a file", "a folder", "Name a file inside it."],
    ENOTFILE: ["not a file", "a device or pipe", "Save what it gives to a file first."],
    ENOTDIR: ["not found", "a path that goes through a file", "Check the path."],
    ELOOP: ["can't be read", "links that lead in a circle (ELOOP)", "Mend the links."],
    EACCES: ["can't be read", "no permission (EACCES)", "Change its permissions or run as its owner."],
    EMFILE: ["can't be opened", "too many open files (EMFILE)", "Close readers that are no longer needed."],
  };
  const [problem, got, advice] = what[code ?? ""] ?? ["can't be read", String(cause), "Check the disk and the path."];
  return new FormatError(`${path}: ${problem}, expected a readable file, got ${got}. ${advice}`, { cause });
}

/** What the system says of a path at which nothing is, or can be. */
const ABSENT = new Set(["ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"]);

/**
 * What looking at a path gave, or `otherwise` where nothing is there.
 * @throws FormatError for everything else that went wrong: a folder without permission is not an empty one
 */
export async function whereThere<T, U>(path: string, looked: Promise<T>, otherwise: U): Promise<T | U> {
  try {
    return await looked;
  } catch (cause) {
    return absentOr(path, cause, otherwise);
  }
}

/** The same of an error that was caught. */
export function absentOr<U>(path: string, cause: unknown, otherwise: U): U {
  if (ABSENT.has((cause as NodeJS.ErrnoException).code ?? "")) return otherwise;
  throw readError(path, cause);
}

/** The files at any depth below a folder, by their names from there with `/`; folders have none. None where nothing is there. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await whereThere(folder, fs.readdir(folder, { recursive: true, withFileTypes: true }), []);
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
}

/** What `readError` takes for something that is there and no regular file. */
export const notAFile = (stat: Stats): { code: string } => ({ code: stat.isDirectory() ? "EISDIR" : "ENOTFILE" });

/**
 * Opens a file for reading at any place. The file stays open until `close()`.
 *
 * @throws FormatError when it does not exist, is no regular file or may not be read
 */
export async function openFile(path: string): Promise<Source> {
  let handle: fs.FileHandle;
  let stat: Stats;
  try {
    stat = await fs.stat(path);
    // Before opening: that of a pipe would wait for a writer.
    if (!stat.isFile()) throw notAFile(stat);
    handle = await fs.open(path, "r");
  } catch (cause) {
    throw readError(path, cause);
  }
  const source = { name: path, size: stat.size };
  async function readInto(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void> {
    checkRange(source, offset, into.length);
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await handle.read(into, done, Math.min(into.length - done, MAX_READ), offset + done);
      if (bytesRead === 0) {
        throw new FormatError(
          `${path}: became shorter while it was read, expected ${source.size} bytes, got ${offset + done}. ` +
            "Make sure that nothing writes to it and read it again.",
        );
      }
      done += bytesRead;
    }
  }
  return {
    ...source,
    async read(offset, length) {
      checkRange(source, offset, length);
      const bytes = allocate(path, length);
      await readInto(offset, bytes);
      return bytes;
    },
    readInto,
    close: () => handle.close(),
  };
}

function allocate(path: string, length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new FormatError(
      `${path}: a piece of ${length} bytes is too large for this process, expected one that fits into memory. ` +
        "Use a machine with more memory, or a file with smaller tensors.",
      { cause },
    );
  }
}

/** A folder on disk. It need not exist yet: `has` then answers false. */
export function openFolder(path: string): Folder {
  return {
    name: path,
    async has(file) {
      const at = join(path, file);
      return (await whereThere(at, fs.stat(at), null))?.isFile() ?? false;
    },
    open: (file) => openFile(join(path, file)),
  };
}

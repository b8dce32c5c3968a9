/** Where a tokenizer's files come from and go to. Nothing here imports Node at load time, so that the folder loads in browsers. */
import { FormatError } from "../../errors.ts";

/** Files by name: a folder on disk, a download, a map in memory. */
export interface TokenizerFiles {
  /** What error messages call it. */
  readonly name: string;
  /** The file's bytes, or null if there is no such file. */
  read(file: string): Promise<Uint8Array | null>;
  /** What there is, where that can be told. */
  list?(): Promise<readonly string[]>;
}

/** Larger than any real tokenizer file (the largest known are below 40 MB); read before that is known, memory is at stake. */
const MOST_BYTES = 1 << 28;

/** Files in memory. */
export function memoryFiles(files: Readonly<Record<string, Uint8Array | string>>, name = "<memory>"): TokenizerFiles {
  return {
    name,
    async read(file) {
      const content = Object.hasOwn(files, file) ? files[file] : undefined;
      if (content === undefined) return null;
      return typeof content === "string" ? new TextEncoder().encode(content) : content;
    },
  };
}

type NodeFs = typeof import("node:fs/promises");
type NodePath = typeof import("node:path");

function nodeModules(): { fs: NodeFs; path: NodePath } {
  const load = globalThis.process?.getBuiltinModule;
  if (load === undefined) {
    throw new FormatError("tokenizer files: no file system here, expected Node, got another runtime. Pass TokenizerFiles instead of a path.");
  }
  return { fs: load("node:fs/promises") as NodeFs, path: load("node:path") as NodePath };
}

/** @throws FormatError where paths mean nothing: in a browser */
export function checkFileSystem(): void {
  nodeModules();
}

/** A folder on disk, or one file of it: `only` is then its name. */
export async function diskFiles(at: string): Promise<TokenizerFiles & { readonly only?: string }> {
  const { fs, path } = nodeModules();
  const stat = await fs.stat(at).catch((cause: NodeJS.ErrnoException) => {
    throw new FormatError(`${at}: can't be read, expected a tokenizer folder or file, got ${cause.code ?? cause.message}. Check the path.`, { cause });
  });
  const folder = stat.isDirectory() ? at : path.dirname(at);
  return {
    name: folder,
    only: stat.isDirectory() ? undefined : path.basename(at),
    async read(file) {
      const full = path.join(folder, file);
      const info = await fs.stat(full).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOENT") return null;
        throw new FormatError(`${full}: can't be read, expected a tokenizer file, got ${cause.code ?? cause.message}. Check its permissions.`, { cause });
      });
      if (info === null || !info.isFile()) return null;
      if (info.size > MOST_BYTES) {
        throw new FormatError(`${full}: absurd size, expected at most ${MOST_BYTES} bytes, got ${info.size}. This is no tokenizer file.`);
      }
      return readWhole(fs, full, info.size);
    },
    list: () => fs.readdir(folder),
  };
}

/** A file of `size` bytes in as few reads as the system makes of it, where `readFile` takes one for each half a megabyte. */
async function readWhole(fs: NodeFs, full: string, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  const handle = await fs.open(full);
  try {
    let filled = 0;
    while (filled < size) {
      const { bytesRead } = await handle.read(bytes, filled, size - filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } finally {
    await handle.close();
  }
}

/** Writes files into a folder, which is made if it is not there. Each appears whole or not at all. */
export async function writeFiles(folder: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  const { path } = nodeModules();
  const { writeFileAtomic } = await import("../../formats/atomic-write.ts");
  for (const [name, content] of Object.entries(files)) await writeFileAtomic(path.join(folder, name), content);
}

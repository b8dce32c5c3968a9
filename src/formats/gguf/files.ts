/** GGUF on disk: models in several files. */
import { FormatError } from "../../errors.ts";
import { openFile } from "../node-file.ts";
import type { Source } from "../source.ts";
import { type GgufReader, type GgufTensor, openGguf } from "./read.ts";
import { SPLIT } from "./split-names.ts";

const MOST_FILES = 10_000;

/**
 * Opens a GGUF file, or all of those that the first of several names (`split.*`): metadata are the first's, tensors those of all.
 * @throws FormatError where one is missing, or does not belong to the others
 */
export async function openGgufFiles(path: string): Promise<GgufReader> {
  const first = await opened(path);
  const count = numberIn(first, "split.count") ?? 1;
  if (count <= 1) return first;
  const readers = [first];
  try {
    const named = SPLIT.exec(path);
    if (numberIn(first, "split.no") !== 0 || named === null || Number(named[1]) !== 1 || Number(named[2]) !== count || count > MOST_FILES)
      throw new FormatError(
        `${path}: one of several files, expected the first, named …-00001-of-${String(count).padStart(5, "0")}.gguf, got number ${(numberIn(first, "split.no") ?? 0) + 1} of ${count}. Name the first file; keep the names that the files came with.`,
      );
    for (let i = 2; i <= count; i++) {
      const file = path.replace(SPLIT, `-${String(i).padStart(5, "0")}-of-${named[2]}.gguf`);
      const reader = await opened(file);
      readers.push(reader);
      if (numberIn(reader, "split.no") !== i - 1 || numberIn(reader, "split.count") !== count)
        throw new FormatError(
          `${file}: does not belong to the other files, expected split.no ${i - 1} of ${count}, got ${numberIn(reader, "split.no")} of ${numberIn(reader, "split.count")}. Fetch it again.`,
        );
    }
    return joined(path, readers);
  } catch (error) {
    await closeAll(readers);
    throw error;
  }
}

function joined(path: string, readers: readonly GgufReader[]): GgufReader {
  const [first] = readers as [GgufReader];
  const tensors = new Map<string, GgufTensor>();
  const homes = new Map<string, GgufReader>();
  for (const reader of readers) {
    for (const [name, info] of reader.tensors) {
      if (tensors.has(name))
        throw new FormatError(
          `${reader.name}: tensor ${JSON.stringify(name)} is in another file too, expected each once, got it again. Fetch the files again.`,
        );
      tensors.set(name, info);
      homes.set(name, reader);
    }
  }
  const wanted = numberIn(first, "split.tensors.count");
  if (wanted !== undefined && wanted !== tensors.size)
    throw new FormatError(`${path}: tensors are missing, expected ${wanted} in ${readers.length} files, got ${tensors.size}. Fetch the files again.`);
  const home = (name: string): GgufReader => homes.get(name) ?? first;
  return {
    ...first,
    tensors,
    read: (name) => home(name).read(name),
    readPiece: (name, from, unit) => home(name).readPiece(name, from, unit),
    close: () => closeAll(readers),
  };
}

async function closeAll(readers: readonly GgufReader[]): Promise<void> {
  const ended = await Promise.allSettled(readers.map((reader) => reader.close()));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}

async function opened(path: string): Promise<GgufReader> {
  const source: Source = await openFile(path);
  return openGguf(source).catch(async (error) => {
    await source.close();
    throw error;
  });
}

function numberIn({ metadata }: GgufReader, key: string): number | undefined {
  const found = metadata.get(key);
  return typeof found?.value === "number" ? found.value : typeof found?.value === "bigint" ? Number(found.value) : undefined;
}

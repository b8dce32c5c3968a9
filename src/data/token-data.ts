/** Token ids on disk or in memory, as one long stream with document boundaries. */
import { DataError } from "../errors.ts";
import type { Source } from "../formats/source.ts";
import { checkOptions } from "../options.ts";
import { checkTokenIds } from "../token-ids.ts";
import { hashHex, hashNumbers } from "./stable-hash.ts";

/** A tokenised text. Ids of all documents in a row. */
export interface TokenData {
  readonly name: string;
  /** Number of ids. */
  readonly tokens: number;
  /** Ids are below this; undefined when nobody said (a bare file of ids). */
  readonly vocabSize: number | undefined;
  /**
   * First id of each document, and at the end the number of ids: documents + 1 values. Eight bytes for each document stay
   * in memory.
   */
  readonly documentStarts: Float64Array;
  /** Changes when the ids or the boundaries change; a cursor holds it, so that a run never goes on with other data. */
  readonly identity: string;
  /**
   * `length` ids from `start` (memory of its own).
   *
   * @throws DataError for an id outside the vocabulary, FormatError for a range outside the data
   */
  read(start: number, length: number): Promise<Int32Array>;
  close(): Promise<void>;
}

/** How ids are stored in files: 16 or 32 bits. */
export type TokenDtype = "u16" | "u32";

export const TOKEN_BYTES: Record<TokenDtype, number> = { u16: 2, u32: 4 };

/** Ids that were made in this process. */
export function memoryTokens(ids: ArrayLike<number>, options: { vocabSize?: number; documentStarts?: ArrayLike<number>; name?: string } = {}): TokenData {
  checkOptions("memoryTokens", options, { vocabSize: true, documentStarts: true, name: true });
  const name = options.name ?? "<memory>";
  checkStored(ids, options.vocabSize, name, 0);
  const kept = Int32Array.from(ids);
  const documentStarts = Float64Array.from(options.documentStarts ?? [0, kept.length]);
  checkDocumentStarts(documentStarts, kept.length, name);
  return {
    name,
    tokens: kept.length,
    vocabSize: options.vocabSize,
    documentStarts,
    identity: `memory:${kept.length}:${hashHex(hashNumbers(kept))}:${hashHex(hashNumbers(documentStarts))}`,
    async read(start, length) {
      checkTokenRange(start, length, kept.length, name);
      return kept.slice(start, start + length);
    },
    async close() {},
  };
}

/** Boundaries must begin at 0, grow, and end at the number of ids. */
export function checkDocumentStarts(starts: Float64Array, tokens: number, where: string): void {
  let good = starts.length >= 1 && starts[0] === 0 && starts[starts.length - 1] === tokens;
  for (let i = 1; good && i < starts.length; i++) good = Number.isSafeInteger(starts[i]) && starts[i] > starts[i - 1];
  if (!good) {
    throw new DataError(`${where}: bad document boundaries, expected growing places from 0 to ${tokens}, got others. Make the shards again.`);
  }
}

export function checkTokenRange(start: number, length: number, tokens: number, where: string): void {
  if (!(Number.isSafeInteger(start) && Number.isSafeInteger(length) && start >= 0 && length >= 0 && start + length <= tokens)) {
    throw new DataError(
      `${where}: token range outside the data, expected at most ${tokens} tokens, got ${length} from ${start}. Check the cursor and the context length.`,
    );
  }
}

/**
 * @param start the place of `ids[0]` in the data
 * @throws DataError with the place of the first id that no vocabulary of this size has
 */
function checkStored(ids: ArrayLike<number>, vocabSize: number | undefined, where: string, start: number): void {
  checkTokenIds(where, ids, vocabSize ?? 0x7fffffff, {
    from: start,
    advice: "The data belongs to another tokenizer, or the file is damaged; make the shards again.",
  });
}

/** Ids of one type in a source, from its first byte. */
export interface TokenFile {
  source: Source;
  dtype: TokenDtype;
  tokens: number;
}

/**
 * Reads over files of ids as if they were one.
 *
 * Node has no memory mapping. Data up to `keepBytes` is read once and kept; larger data is read window by window at its
 * place in the file, where the operating system's page cache is the bounded cache that a mapping would use too.
 */
export async function tokenFilesReader(
  files: readonly TokenFile[],
  vocabSize: number | undefined,
  keepBytes = 64 << 20,
): Promise<(start: number, length: number) => Promise<Int32Array>> {
  const firsts = [0];
  for (const { tokens } of files) firsts.push((firsts.at(-1) as number) + tokens);
  const total = firsts.at(-1) as number;
  const bytes = files.reduce((sum, { dtype, tokens }) => sum + tokens * TOKEN_BYTES[dtype], 0);
  const kept = bytes <= keepBytes ? await Promise.all(files.map((file) => file.source.read(0, file.tokens * TOKEN_BYTES[file.dtype]))) : undefined;
  const name = files[0]?.source.name ?? "<no files>";

  return async (start, length) => {
    checkTokenRange(start, length, total, name);
    const ids = new Int32Array(length);
    let done = 0;
    let file = upperBound(firsts, start) - 1;
    while (done < length) {
      const { source, dtype, tokens } = files[file];
      const from = start + done - firsts[file];
      const take = Math.min(length - done, tokens - from);
      const size = TOKEN_BYTES[dtype];
      const raw = kept?.[file] ?? (await source.read(from * size, take * size));
      // Bytes on disk are little-endian, as are all machines that Node runs on but one.
      const view = dtype === "u16" ? new Uint16Array(raw.buffer) : new Uint32Array(raw.buffer);
      const first = kept ? from : 0;
      const stored = view.subarray(first, first + take);
      // Before they become signed.
      checkStored(stored, vocabSize, source.name, from);
      ids.set(stored, done);
      done += take;
      file++;
    }
    return ids;
  };
}

/** Number of values in a sorted list that are at most `value`. */
export function upperBound(sorted: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Opens a bare file of ids without a manifest, such as nanoGPT's `train.bin` (u16, little-endian), as one document.
 *
 * Its identity covers the size and 64 pieces spread over the file, because hashing tens of gigabytes at each start would
 * take longer than it helps; shards with a manifest have full hashes.
 */
export async function openTokenFile(source: Source, options: { dtype?: TokenDtype; vocabSize?: number; keepBytes?: number } = {}): Promise<TokenData> {
  checkOptions("openTokenFile", options, { dtype: true, vocabSize: true, keepBytes: true });
  const dtype = options.dtype ?? "u16";
  const size = TOKEN_BYTES[dtype];
  if (source.size === 0 || source.size % size !== 0) {
    throw new DataError(
      `${source.name}: no list of ${dtype} token ids, expected a multiple of ${size} bytes, got ${source.size}. The file is cut off or of another type.`,
    );
  }
  const tokens = source.size / size;
  const piece = Math.min(4096, source.size);
  const lanes: number[] = [];
  for (let i = 0; i < 64; i++) {
    lanes.push(...hashNumbers(await source.read(Math.floor(((source.size - piece) * i) / 63), piece)));
  }
  return {
    name: source.name,
    tokens,
    vocabSize: options.vocabSize,
    documentStarts: Float64Array.of(0, tokens),
    identity: `file:${dtype}:${tokens}:${hashHex(hashNumbers(lanes))}`,
    read: await tokenFilesReader([{ source, dtype, tokens }], options.vocabSize, options.keepBytes),
    close: () => source.close(),
  };
}

/**
 * How readers of files see bytes. Nothing here imports Node: a file, a byte array, an HTTP range or a browser's File can
 * all be a `Source`, and a model folder on any of them a `Folder`.
 */
import { FormatError } from "../errors.ts";

/** Bytes that can be read at any place. */
export interface Source {
  /** What error messages call it: a path, a URL, `<memory>`. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes from `offset` into memory of its own (never a view of something shared), so that the
   * result starts at byte 0 of its ArrayBuffer and any typed array can be laid over it.
   *
   * @throws FormatError when the range does not lie within the source, or the source has become shorter
   */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Fills memory of the caller's with what lies from `offset` on. @throws FormatError as `read` does */
  readInto(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void>;
  close(): Promise<void>;
}

/** A folder of files, such as a Hugging Face model folder. */
export interface Folder {
  readonly name: string;
  has(file: string): Promise<boolean>;
  /** @throws FormatError when there is no such file; the message names it. */
  open(file: string): Promise<Source>;
}

/**
 * Checks a range against a source before anything is allocated.
 *
 * @throws FormatError when offset or length is not a non-negative safe integer or the range ends after the source
 */
export function checkRange(source: { name: string; size: number }, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new FormatError(
      `${source.name}: bad byte range, expected non-negative integers, got offset ${offset} and length ${length}. ` +
        "The file or the program that reads it is wrong; check the file's size and hash.",
    );
  }
  if (offset + length > source.size) {
    throw new FormatError(`${source.name}: cut off, expected at least ${offset + length} bytes, got ${source.size}. Fetch or copy the file again.`);
  }
}

/** A `Source` over bytes in memory. Reads are copies, as the interface says. */
export function bytesSource(bytes: Uint8Array, name = "<memory>"): Source {
  const source = { name, size: bytes.byteLength };
  return {
    ...source,
    async read(offset, length) {
      checkRange(source, offset, length);
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
    async readInto(offset, into) {
      checkRange(source, offset, into.length);
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async close() {},
  };
}

/** A `Folder` over byte arrays in memory: file name → contents. Strings become UTF-8. */
export function memoryFolder(files: Record<string, Uint8Array | string>, name = "<memory>"): Folder {
  const has = (file: string) => Object.hasOwn(files, file);
  return {
    name,
    has: async (file) => has(file),
    async open(file) {
      if (!has(file)) {
        throw new FormatError(`${name}/${file}: not found, expected a file, got nothing. Check the name.`);
      }
      const content = files[file];
      return bytesSource(typeof content === "string" ? new TextEncoder().encode(content) : content, `${name}/${file}`);
    },
  };
}

/**
 * Reads a whole source as strict UTF-8 text (a byte order mark is dropped).
 *
 * @param maxBytes larger sources are refused before they are read
 * @throws FormatError when the source is too large or not UTF-8
 */
export async function readText(source: Source, maxBytes: number): Promise<string> {
  if (source.size > maxBytes) {
    throw new FormatError(
      `${source.name}: too large, expected at most ${maxBytes} bytes of text, got ${source.size}. This is probably not the file it is named after.`,
    );
  }
  const bytes = await source.read(0, source.size);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${source.name}: not text, expected UTF-8, got bytes that are no characters. Fetch or save the file again as UTF-8.`, { cause });
  }
}

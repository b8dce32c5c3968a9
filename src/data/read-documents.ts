/**
 * Documents from files on disk: `.txt` (and any other name), `.jsonl`, each also as `.gz` or `.zst`; folders and globs of
 * them. Everything is streamed; memory holds one document and a few pieces of the file.
 */
import { createReadStream } from "node:fs";
import * as fs from "node:fs/promises";
import { join, sep } from "node:path";
import { pipeline } from "node:stream";
import * as zlib from "node:zlib";
import { DataError } from "../errors.ts";
import { notAFile, readError } from "../formats/node-file.ts";
import { checkOptions } from "../options.ts";
import { type Document, type DocumentMode, documentOfJsonLine, MAX_DOCUMENT_CHARACTERS, splitIntoDocuments } from "./documents.ts";
import { type DecodeCounts, decodeText } from "./text-decoding.ts";
import { unzstd } from "./zstd.ts";

/** How files become documents. */
export interface ReadOptions {
  /** How text files are cut into documents; default `"file"`. JSONL has one document on each line. */
  document?: DocumentMode;
  /** Field of a JSONL line that holds the text; default `"text"`. */
  field?: string;
  /** Longer documents are cut into several; default 16,777,216. */
  maxDocumentCharacters?: number;
  /** Receives, once each, sentences that a user should see (replaced bytes, cut documents, skipped files). */
  onNote?: (sentence: string) => void;
}

/** The documents of some files. Each iteration reads the files again, in the same order. */
export interface DocumentFiles extends AsyncIterable<Document> {
  /** The files, in the order in which they are read. */
  readonly files: readonly string[];
}

const COMPRESSED = /\.(gz|zst)$/;
const JSON_LINES = /\.(jsonl|ndjson)(\.gz|\.zst)?$/;
/** What is taken from a folder. Files that are named one by one may end in anything. */
const IN_FOLDERS = /\.(txt|text|md|jsonl|ndjson)(\.gz|\.zst)?$/;

/**
 * Finds the files of one or more paths: files, folders (with all folders inside) and globs (`*`, `**`, `?`).
 *
 * @returns documents in a fixed order: paths as given, files of a folder or glob by name
 * @throws DataError when a path matches nothing
 */
export async function openDocuments(paths: string | readonly string[], options: ReadOptions = {}): Promise<DocumentFiles> {
  checkOptions("openDocuments", options, { document: true, field: true, maxDocumentCharacters: true, onNote: true });
  const told = new Set<string>();
  const note = (sentence: string) => {
    if (!told.has(sentence)) options.onNote?.(sentence);
    told.add(sentence);
  };
  const files: string[] = [];
  for (const path of typeof paths === "string" ? [paths] : paths) {
    for (const file of await filesOf(path, note)) if (!files.includes(file)) files.push(file);
  }
  if (files.length === 0) throw new DataError("data: no paths, expected at least one file, folder or glob, got none. Name one.");
  return { files, [Symbol.asyncIterator]: () => readFiles(files, options, note) };
}

async function filesOf(path: string, note: (sentence: string) => void): Promise<string[]> {
  const stat = await fs.stat(path).catch((cause) => {
    if (cause.code === "ENOENT" && /[*?]/.test(path)) return undefined;
    throw readError(path, cause);
  });
  if (stat?.isFile()) return [path];
  // Data is read more than once: a pipe gives it only once.
  if (stat && !stat.isDirectory()) throw readError(path, notAFile(stat));
  const root = stat ? path : globRoot(path);
  const all = await walk(root);
  const wanted = stat ? IN_FOLDERS : globPattern(path);
  const found = all.filter((file) => wanted.test(stat ? file : file.split(sep).join("/")));
  if (stat && found.length < all.length) {
    note(`${path}: ${all.length - found.length} files that are not .txt, .text, .md, .jsonl or .ndjson (or those as .gz, .zst) were skipped.`);
  }
  if (found.length === 0) {
    throw new DataError(
      `${path}: no data, expected ${stat ? "text files (.txt, .md, .jsonl; also .gz, .zst) in the folder" : "files that match"}, ` +
        `got none of ${all.length} files. Check the path.`,
    );
  }
  return found;
}

async function walk(folder: string): Promise<string[]> {
  const entries = await fs.readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw readError(folder, cause);
  });
  const files: string[] = [];
  // By code unit, not by the machine's language: the order must be the same everywhere.
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith(".")) continue;
    const path = join(folder, entry.name);
    // Links to files are followed, links to folders not: they could run in circles.
    if (entry.isDirectory()) files.push(...(await walk(path)));
    else if (entry.isFile() || (entry.isSymbolicLink() && (await leadsToFile(path)))) files.push(path);
  }
  return files;
}

/** A link that leads nowhere is an error: text would be missing without a word. */
async function leadsToFile(link: string): Promise<boolean> {
  const info = await fs.stat(link).catch((cause: unknown) => {
    throw readError(link, cause);
  });
  return info.isFile();
}

function globRoot(glob: string): string {
  const parts = glob.split(/[/\\]/);
  const fixed = parts.slice(
    0,
    parts.findIndex((part) => /[*?]/.test(part)),
  );
  return fixed.length === 0 ? "." : fixed.join("/") || "/";
}

function globPattern(glob: string): RegExp {
  const source = glob
    .replace(/^\.\//, "")
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replace(/\*\*\/|\*\*|\*|\?/g, (wild) => ({ "**/": "(?:.*/)?", "**": ".*", "*": "[^/]*" })[wild] ?? "[^/]");
  return new RegExp(`^${source}$`);
}

async function* readFiles(files: readonly string[], options: ReadOptions, note: (sentence: string) => void): AsyncGenerator<Document> {
  let documents = 0;
  for (const file of files) {
    const counts = { bytes: 0, replaced: 0 };
    let index = 0;
    let reported = 0;
    for await (const text of readFile(file, options, counts, note)) {
      yield { text, source: file, index: index++, replaced: counts.replaced - reported };
      reported = counts.replaced;
      documents++;
    }
    if (counts.replaced > 0) {
      note(replacedNote(file, counts.replaced));
    }
    if (index === 0) note(`${file}: has no text and was skipped.`);
  }
  if (documents === 0) {
    throw new DataError(
      `${files.slice(0, 3).join(", ")}${files.length > 3 ? ", …" : ""}: no text, expected at least one document, got ` +
        `${files.length} ${files.length === 1 ? "file" : "files"} without a visible character. Check that this is the right data.`,
    );
  }
}

export const replacedNote = (file: string, replaced: number): string =>
  `${file}: ${replaced} invalid UTF-8 ${replaced === 1 ? "sequence was" : "sequences were"} replaced by U+FFFD.`;

async function* readFile(file: string, options: ReadOptions, counts: DecodeCounts, note: (sentence: string) => void): AsyncGenerator<string> {
  const limit = options.maxDocumentCharacters ?? MAX_DOCUMENT_CHARACTERS;
  const onCut = () => note(`${file}: documents longer than ${limit} characters were cut into several at a line's end.`);
  if (/\.json(\.gz|\.zst)?$/.test(file)) {
    throw new DataError(`${file}: one JSON value, expected text or JSONL (an object on each line), got .json. Convert it to .jsonl.`);
  }
  const text = decodeText(readBytes(file), file, counts);
  if (!JSON_LINES.test(file)) {
    yield* splitIntoDocuments(text, options.document ?? "file", limit, onCut);
    return;
  }
  let number = 0;
  for await (const line of splitLines(text, file)) {
    number++;
    if (!/\S/.test(line)) continue;
    const content = documentOfJsonLine(line, options.field ?? "text", `${file}, line ${number}`).replace(/\p{Surrogate}/gu, () => {
      // JSON can spell half of a surrogate pair, which no UTF-8 text holds.
      counts.replaced++;
      return "\ufffd";
    });
    yield* splitIntoDocuments(single(content), "file", limit, onCut);
  }
}

async function* single(text: string) {
  yield text;
}

// V8's longest string is 2^29 - 24 characters; stop well before with an error that names the file.
const MAX_LINE = 1 << 28;

async function* splitLines(chunks: AsyncIterable<string>, where: string): AsyncGenerator<string> {
  let pending: string[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf("\n"); end >= 0; end = chunk.indexOf("\n", from)) {
      pending.push(chunk.slice(from, end));
      yield pending.join("");
      pending = [];
      length = 0;
      from = end + 1;
    }
    pending.push(chunk.slice(from));
    length += chunk.length - from;
    if (length > MAX_LINE) {
      throw new DataError(`${where}: a line is too long, expected at most ${MAX_LINE} characters, got more. This is probably no JSONL.`);
    }
  }
  yield pending.join("");
}

/** The file's bytes, decompressed by its name. */
export async function* readBytes(file: string): AsyncGenerator<Uint8Array> {
  const raw = createReadStream(file, { highWaterMark: 1 << 20 });
  const kind = COMPRESSED.exec(file)?.[1];
  try {
    if (kind === "gz") {
      const gunzip = zlib.createGunzip({ chunkSize: 1 << 18 });
      // `pipeline` hands an error of the file on to the reader of the stream and closes both.
      yield* pipeline(raw, gunzip, () => {});
    } else if (kind === "zst") {
      yield* unzstd(raw);
    } else {
      yield* raw;
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall) throw readError(file, cause);
    throw new DataError(
      `${file}: can't be decompressed, expected ${kind === "gz" ? "gzip" : "Zstandard"} data, got ${(cause as Error).message}. ` +
        "The file is damaged, cut off or misnamed; fetch it again.",
      { cause },
    );
  } finally {
    raw.destroy();
  }
}

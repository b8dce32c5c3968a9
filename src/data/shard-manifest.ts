/**
 * A folder of token shards: `shard-00000.bin` … (ids, little-endian u16 or u32, one stream cut at any token),
 * `documents.bin` (u64 little-endian: first token of each document, then the number of tokens) and `manifest.json`.
 */
import * as z from "zod";
import { DataError, FormatError } from "../errors.ts";
import { parseConfig, parseConfigText } from "../formats/hf-config.ts";
import { type Folder, readText, type Source } from "../formats/source.ts";
import { checkOptions } from "../options.ts";
import { checkDocumentStarts, TOKEN_BYTES, type TokenData, type TokenFile, tokenFilesReader } from "./token-data.ts";

export const MANIFEST = "manifest.json";
export const DOCUMENTS = "documents.bin";
export const shardName = (index: number): string => `shard-${String(index).padStart(5, "0")}.bin`;

const count = z.int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be a SHA-256 of 64 hexadecimal digits");

/** What `manifest.json` beside shards must hold. */
export const manifestSchema = z.strictObject({
  format: z.literal("groundup-tokens"),
  version: z.literal(1),
  dtype: z.enum(["u16", "u32"]),
  vocabSize: z.int().positive().max(0x7fffffff),
  /** What made the ids: a hash of the tokenizer's file, null when nobody gave one. */
  tokenizerHash: z.string().nullable(),
  /** The id behind each document, null when there is none. */
  endOfText: count.nullable(),
  tokens: count,
  documents: count,
  statistics: z.strictObject({
    documents: count,
    characters: count,
    bytes: count,
    tokens: count,
    tokensPerByte: z.number().nonnegative(),
    longestDocument: count,
    replaced: count,
  }),
  shards: z.array(z.strictObject({ file: z.string(), tokens: z.int().positive(), sha256 })).max(100_000),
  boundaries: z.strictObject({ file: z.literal(DOCUMENTS), sha256 }),
});

/** `manifest.json` beside shards, checked. */
export type ShardManifest = z.output<typeof manifestSchema>;

/** Shards that are open: token data and what the manifest says. */
export interface ShardData extends TokenData {
  readonly vocabSize: number;
  readonly manifest: ShardManifest;
  /** Reads every byte and compares the hashes. @throws FormatError that names the first damaged file */
  verify(): Promise<void>;
}

/**
 * Opens a folder of shards. Sizes are checked against the manifest at once, hashes by `verify()`.
 *
 * @param options.keepBytes data up to this size stays in memory; default 64 MiB
 * @throws FormatError, ConfigError or DataError when files are missing, cut off or don't belong together
 */
export async function openShards(folder: Folder, options: { keepBytes?: number } = {}): Promise<ShardData> {
  checkOptions("openShards", options, { keepBytes: true });
  const { manifest, text } = await readManifest(folder);
  const opened: Source[] = [];
  const open = async (file: string, bytes: number): Promise<Source> => {
    const source = await folder.open(file);
    opened.push(source);
    if (source.size !== bytes) {
      throw new FormatError(`${source.name}: wrong size, expected ${bytes} bytes by the manifest, got ${source.size}. Make the shards again.`);
    }
    return source;
  };
  const close = async () => {
    for (const source of opened) await source.close();
  };
  try {
    const files: TokenFile[] = [];
    for (const { file, tokens } of manifest.shards) {
      files.push({ source: await open(file, tokens * TOKEN_BYTES[manifest.dtype]), dtype: manifest.dtype, tokens });
    }
    const boundaries = await open(DOCUMENTS, (manifest.documents + 1) * 8);
    const documentStarts = readDocumentStarts(await boundaries.read(0, boundaries.size));
    checkDocumentStarts(documentStarts, manifest.tokens, boundaries.name);
    return {
      name: folder.name,
      tokens: manifest.tokens,
      vocabSize: manifest.vocabSize,
      documentStarts,
      identity: `shards:${await digest(new TextEncoder().encode(text))}`,
      read: await tokenFilesReader(files, manifest.vocabSize, options.keepBytes),
      close,
      manifest,
      async verify() {
        const hashes = [...manifest.shards.map((shard) => shard.sha256), manifest.boundaries.sha256];
        for (const [i, source] of [...files.map((file) => file.source), boundaries].entries()) {
          const found = await digest(await source.read(0, source.size));
          if (found !== hashes[i]) {
            throw new FormatError(`${source.name}: damaged, expected SHA-256 ${hashes[i]} by the manifest, got ${found}. Make the shards again.`);
          }
        }
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readManifest(folder: Folder): Promise<{ manifest: ShardManifest; text: string }> {
  if (!(await folder.has(MANIFEST))) {
    throw new DataError(`${folder.name}: no token shards, expected a folder with ${MANIFEST}, got none. Check the path, or make the shards first.`);
  }
  const source = await folder.open(MANIFEST);
  const text = await readText(source, 64 << 20).finally(() => source.close());
  const manifest = parseConfig(manifestSchema, parseConfigText(text, source.name), source.name);
  checkManifest(manifest, source.name);
  return { manifest, text };
}

function checkManifest(manifest: ShardManifest, where: string): void {
  const fail = (what: string, expected: unknown, got: unknown) => {
    throw new FormatError(`${where}: ${what}, expected ${expected}, got ${got}. The manifest is damaged; make the shards again.`);
  };
  manifest.shards.forEach(({ file }, i) => {
    if (file !== shardName(i)) fail("bad shard name", shardName(i), JSON.stringify(file));
  });
  const sum = manifest.shards.reduce((total, { tokens }) => total + tokens, 0);
  if (sum !== manifest.tokens) fail("shards don't add up", `${manifest.tokens} tokens`, sum);
  if (manifest.documents > manifest.tokens) fail("more documents than tokens", `at most ${manifest.tokens}`, manifest.documents);
  if (manifest.dtype === "u16" && manifest.vocabSize > 0x10000) fail("vocabulary too large for u16", "at most 65536", manifest.vocabSize);
  if (manifest.endOfText !== null && manifest.endOfText >= manifest.vocabSize) {
    fail("end-of-text id outside the vocabulary", `less than ${manifest.vocabSize}`, manifest.endOfText);
  }
}

function readDocumentStarts(bytes: Uint8Array<ArrayBuffer>): Float64Array {
  const words = new Uint32Array(bytes.buffer);
  const starts = new Float64Array(words.length / 2);
  for (let i = 0; i < starts.length; i++) starts[i] = words[2 * i] + words[2 * i + 1] * 0x1_0000_0000;
  return starts;
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = new Uint8Array(await globalThis.crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

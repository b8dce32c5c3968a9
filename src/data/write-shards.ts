/** Tokenising documents into a folder of shards (see shard-manifest.ts for its layout). */
import { createHash } from "node:crypto";
import { ConfigError, DataError } from "../errors.ts";
import { writeFolderAtomic } from "../formats/atomic-write.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import type { Document } from "./documents.ts";
import { DOCUMENTS, MANIFEST, type ShardManifest, shardName } from "./shard-manifest.ts";
import { countDocument, type DataStatistics, emptyStatistics } from "./statistics.ts";
import type { TokenDtype } from "./token-data.ts";

/** The one method of a tokenizer that is needed here. */
export interface Encoder {
  encode(text: string): { ids: ArrayLike<number> };
}

/** How documents become shards of ids. */
export interface WriteShardsOptions {
  /** Ids must be below this. Up to 65,536 are stored in 16 bits, more in 32. */
  vocabSize: number;
  /** Id put behind each document, so that a model learns where texts end; none when absent. */
  endOfText?: number;
  /** Hash of the tokenizer, for the manifest. */
  tokenizerHash?: string;
  /** Tokens in a file; default 2^27 (256 MiB of u16). */
  shardTokens?: number;
  /** Put the new folder in the place of one that is there. */
  replace?: boolean;
  signal?: AbortSignal;
  /** Called after each 2^18 tokens or so. */
  onProgress?: (statistics: Readonly<DataStatistics>) => void;
}

const OPTIONS: KnownOptions<WriteShardsOptions> = {
  vocabSize: true,
  endOfText: true,
  tokenizerHash: true,
  shardTokens: true,
  replace: true,
  signal: true,
  onProgress: true,
};

const BLOCK_TOKENS = 1 << 18;

/**
 * Encodes documents one after another and writes them. Memory holds one document, a block of ids, and eight bytes for each
 * document. The folder appears whole or not at all.
 *
 * @returns the manifest as written
 * @throws DataError for an id outside the vocabulary or when there is no token; RunError when the disk fails
 */
export async function writeShards(
  folder: string,
  documents: AsyncIterable<Document> | Iterable<Document>,
  encoder: Encoder,
  options: WriteShardsOptions,
): Promise<ShardManifest> {
  checkOptions("writeShards", options, OPTIONS);
  const { vocabSize, endOfText, shardTokens = 1 << 27 } = options;
  if (!Number.isSafeInteger(vocabSize) || vocabSize < 1 || vocabSize > 0x7fffffff) {
    throw new ConfigError(`${folder}: bad vocabulary size, expected 1 to 2147483647, got ${vocabSize}. Correct it.`);
  }
  if (endOfText !== undefined && !(Number.isInteger(endOfText) && endOfText >= 0 && endOfText < vocabSize)) {
    throw new ConfigError(`${folder}: end-of-text id outside the vocabulary, expected 0 to ${vocabSize - 1}, got ${endOfText}. Correct it.`);
  }
  const dtype: TokenDtype = vocabSize <= 0x10000 ? "u16" : "u32";
  const statistics = emptyStatistics();
  const starts = new GrowingStarts();
  let manifest: ShardManifest | undefined;

  await writeFolderAtomic(
    folder,
    async (writer) => {
      const blocks = encodeBlocks()[Symbol.asyncIterator]();
      const shards: ShardManifest["shards"] = [];
      let pending = await blocks.next();
      while (!pending.done) {
        const file = shardName(shards.length);
        const hash = createHash("sha256");
        let tokens = 0;
        await writer.write(
          file,
          (async function* () {
            while (!pending.done && tokens < shardTokens) {
              const block: Uint16Array | Uint32Array = pending.value;
              const room = shardTokens - tokens;
              const part: Uint16Array | Uint32Array = block.length <= room ? block : block.subarray(0, room);
              const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
              hash.update(bytes);
              yield bytes;
              tokens += part.length;
              pending = part === block ? await blocks.next() : { done: false, value: block.subarray(room) };
            }
          })(),
        );
        shards.push({ file, tokens, sha256: hash.digest("hex") });
      }
      if (statistics.tokens === 0) {
        throw new DataError(`${folder}: no tokens, expected text in the documents, got ${statistics.documents} documents without a token. Check the data.`);
      }
      const boundaries = starts.bytes(statistics.tokens);
      await writer.write(DOCUMENTS, boundaries);
      manifest = {
        format: "groundup-tokens",
        version: 1,
        dtype,
        vocabSize,
        tokenizerHash: options.tokenizerHash ?? null,
        endOfText: endOfText ?? null,
        tokens: statistics.tokens,
        documents: starts.length,
        statistics,
        shards,
        boundaries: { file: DOCUMENTS, sha256: createHash("sha256").update(boundaries).digest("hex") },
      };
      await writer.write(MANIFEST, `${JSON.stringify(manifest, null, 2)}\n`);
    },
    { replace: options.replace },
  );
  return manifest as unknown as ShardManifest;

  /** Blocks of ids; a block is consumed before the next is asked for, so one buffer is enough. */
  async function* encodeBlocks(): AsyncGenerator<Uint16Array | Uint32Array> {
    const buffer = dtype === "u16" ? new Uint16Array(BLOCK_TOKENS) : new Uint32Array(BLOCK_TOKENS);
    let filled = 0;
    for await (const document of documents) {
      options.signal?.throwIfAborted();
      const { ids } = encoder.encode(document.text);
      const length = ids.length + (endOfText !== undefined && ids.length > 0 ? 1 : 0);
      if (length > 0) starts.push(statistics.tokens);
      for (let i = 0; i < length; i++) {
        const id = i < ids.length ? ids[i] : (endOfText as number);
        if (!(id >= 0 && id < vocabSize)) {
          throw new DataError(
            `${document.source}, document ${document.index}: token id outside the vocabulary at token ${i}, expected 0 to ${vocabSize - 1}, ` +
              `got ${id}. The tokenizer has more tokens than the vocabulary size says; give its real size.`,
          );
        }
        buffer[filled++] = id;
        if (filled === BLOCK_TOKENS) {
          yield buffer;
          filled = 0;
          options.onProgress?.(statistics);
        }
      }
      countDocument(statistics, document, length);
    }
    if (filled > 0) yield buffer.subarray(0, filled);
    options.onProgress?.(statistics);
  }
}

/** A list of numbers below 2^53 that grows without boxing them. */
class GrowingStarts {
  length = 0;
  #values = new Float64Array(1024);

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new Float64Array(this.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length++] = value;
  }

  /** All of them and a last one, as u64 little-endian. */
  bytes(last: number): Uint8Array {
    const words = new Uint32Array((this.length + 1) * 2);
    for (let i = 0; i <= this.length; i++) {
      const value = i < this.length ? this.#values[i] : last;
      words[2 * i] = value;
      words[2 * i + 1] = Math.floor(value / 0x1_0000_0000);
    }
    return new Uint8Array(words.buffer);
  }
}

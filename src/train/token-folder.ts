/** A folder of token ids that another program wrote: nanoGPT's `train.bin` and `val.bin`, 16-bit and little-endian, without a header. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openTokenFile, type Side, type TokenData } from "../data/index.ts";
import { didYouMean } from "../did-you-mean.ts";
import { DataError } from "../errors.ts";
import { openFile } from "../formats/index.ts";
import { type Tokenizer, unknownId } from "../tokenizers/index.ts";

/** Ids that are read at a time where all are looked at. */
const PIECE = 1 << 20;

const FILES: Record<Side, string> = { train: "train.bin", validation: "val.bin" };

/**
 * Opens both files. An id that the tokenizer does not have is found when it is read.
 * @throws DataError when one is missing, or holds no list of ids
 */
export async function openTokenFolder(folder: string, vocabSize?: number): Promise<Record<Side, TokenData>> {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  for (const file of Object.values(FILES)) {
    if (names.includes(file)) continue;
    const got = names.length === 0 ? "no such folder, or an empty one" : names.slice(0, 8).join(", ");
    throw new DataError(
      `${folder}: no ${file}, expected ${Object.values(FILES).join(" and ")} of 16-bit token ids, got ${got}.${didYouMean(file, names)} Correct data.tokens.`,
    );
  }
  const open = async (side: Side) => openTokenFile(await openFile(join(folder, FILES[side])), vocabSize === undefined ? {} : { vocabSize });
  const train = await open("train");
  try {
    return { train, validation: await open("validation") };
  } catch (error) {
    await train.close();
    throw error;
  }
}

/**
 * Bytes of the text that the ids stand for; special tokens have none. Null where one of them stands for text that nobody knows (a tokenizer's unknown token).
 * @throws DataError for an id that the tokenizer does not have
 */
export async function textBytes(data: TokenData, tokenizer: Tokenizer, signal?: AbortSignal): Promise<number | null> {
  const lengths = Float64Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.byteLength(id));
  const unknown = unknownId(tokenizer.spec.model);
  if (unknown !== undefined) lengths[unknown] = Number.NaN;
  let bytes = 0;
  for (let at = 0; at < data.tokens; at += PIECE) {
    signal?.throwIfAborted();
    for (const id of await data.read(at, Math.min(PIECE, data.tokens - at))) bytes += lengths[id];
  }
  return Number.isNaN(bytes) ? null : bytes;
}

/** A folder of token ids that another program wrote: nanoGPT's `train.bin` and `val.bin`, 16-bit and little-endian, without a header. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openTokenFile, type Side, type TokenData } from "../data/index.ts";
import { didYouMean } from "../did-you-mean.ts";
import { DataError } from "../errors.ts";
import { openFile } from "../formats/index.ts";

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

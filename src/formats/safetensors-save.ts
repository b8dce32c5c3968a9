/** Saving model weights into a folder on disk. */
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "./atomic-write.ts";
import { INDEX_FILE, SINGLE_FILE } from "./safetensors-shards.ts";
import { encodeModelWeights, type TensorEntry } from "./safetensors-write.ts";

/**
 * Writes `model.safetensors`, or shards and their index, into a folder (made when absent). Each file is whole or absent;
 * weights of an earlier save under other names are removed when the new ones are on the disk, so that nobody reads a mixture.
 *
 * @returns names of the files written
 * @throws RunError when the disk fails; files that were not yet replaced stay good
 */
export async function saveModelWeights(
  folder: string,
  entries: readonly TensorEntry[],
  options: { metadata?: Record<string, string>; maxShardBytes?: number } = {},
): Promise<string[]> {
  const files = encodeModelWeights(entries, options);
  for (const { file, bytes, content } of files) await writeFileAtomic(join(folder, file), content, { bytes });
  const written = files.map(({ file }) => file);
  for (const name of await fs.readdir(folder)) {
    const ours = name === SINGLE_FILE || name === INDEX_FILE || /^model-\d{5,}-of-\d{5,}\.safetensors$/.test(name);
    if (ours && !written.includes(name)) await fs.rm(join(folder, name));
  }
  return written;
}

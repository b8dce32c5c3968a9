/**
 * Models in several safetensors files: `model.safetensors.index.json` maps each tensor to the file that holds it, as
 * Hugging Face transformers writes it. Opening checks that index and files agree both ways.
 */
import { FormatError } from "../errors.ts";
import { isJsonObject, parseJson } from "./json.ts";
import { findTensor, openSafetensors, readTensor, type TensorInfo, type TensorReader } from "./safetensors.ts";
import { type Folder, readText, type Source } from "./source.ts";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

const MAX_INDEX_BYTES = 64 << 20;
const MAX_SHARDS = 10_000;

/**
 * Opens the weights of a model folder: `model.safetensors`, or the files that its index names.
 *
 * @throws FormatError when there are none, both, or index and files disagree
 */
export async function openModelWeights(folder: Folder): Promise<TensorReader> {
  const [single, index] = [await folder.has(SINGLE_FILE), await folder.has(INDEX_FILE)];
  if (single && index) {
    throw new FormatError(`${folder.name}: two sets of weights, expected ${SINGLE_FILE} or ${INDEX_FILE}, got both. Remove the one that is out of date.`);
  }
  if (single) return open(await folder.open(SINGLE_FILE));
  if (index) return openShards(folder);
  const other = (await folder.has("pytorch_model.bin"))
    ? " It has pytorch_model.bin, which can hold programs and is not read; convert it to safetensors."
    : " Check the path.";
  throw new FormatError(`${folder.name}: no weights, expected ${SINGLE_FILE} or ${INDEX_FILE}, got neither.${other}`);
}

async function open(source: Source): Promise<TensorReader> {
  try {
    return await openSafetensors(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function readIndex(folder: Folder): Promise<{ where: string; weightMap: Map<string, string> }> {
  const source = await folder.open(INDEX_FILE);
  const text = await readText(source, MAX_INDEX_BYTES).finally(() => source.close());
  const where = source.name;
  const json = parseJson(text, where, { maxDepth: 16 });
  const map = isJsonObject(json) ? json.weight_map : undefined;
  if (!isJsonObject(map) || Object.keys(map).length === 0) {
    throw new FormatError(`${where}: bad index, expected "weight_map" with tensor names and files, got none. Fetch the file again.`);
  }
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    // A name with a separator could leave the folder.
    if (typeof file !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(file)) {
      throw new FormatError(
        `${where}: bad file for tensor ${JSON.stringify(tensor)}, expected the name of a .safetensors file in the same folder, ` +
          `got ${JSON.stringify(file)}. Fetch the index again from a source you trust.`,
      );
    }
    weightMap.set(tensor, file);
  }
  return { where, weightMap };
}

async function openShards(folder: Folder): Promise<TensorReader> {
  const { where, weightMap } = await readIndex(folder);
  const files = [...new Set(weightMap.values())].sort();
  if (files.length > MAX_SHARDS) {
    throw new FormatError(`${where}: too many files, expected at most ${MAX_SHARDS}, got ${files.length}. Fetch the index again.`);
  }
  const sources = new Map<string, Source>();
  const closeAll = async () => {
    for (const source of sources.values()) await source.close();
  };
  try {
    const tensors = new Map<string, TensorInfo>();
    const homes = new Map<string, Source>();
    const metadata: Record<string, string> = Object.create(null);
    for (const file of files) {
      const source = await folder.open(file);
      sources.set(file, source);
      const shard = await openSafetensors(source);
      Object.assign(metadata, shard.metadata);
      for (const [name, info] of shard.tensors) {
        const home = weightMap.get(name);
        if (home !== file) {
          throw new FormatError(
            `${source.name}: tensor ${JSON.stringify(name)} is not where the index says, expected it in ` +
              `${home ?? "the index"}, got it in ${file}. Index and files belong to different models; fetch them again.`,
          );
        }
        tensors.set(name, info);
        homes.set(name, source);
      }
    }
    const missing = [...weightMap.keys()].filter((name) => !tensors.has(name));
    if (missing.length > 0) {
      throw new FormatError(
        `${where}: ${missing.length} tensors are not in their files, expected ${weightMap.size}, got ${tensors.size}: ` +
          `${missing.slice(0, 5).join(", ")}${missing.length > 5 ? ", …" : ""}. Fetch the files again.`,
      );
    }
    return {
      name: where,
      tensors,
      metadata,
      async read(name) {
        const info = findTensor(tensors, name, where);
        return readTensor(homes.get(name) as Source, info);
      },
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

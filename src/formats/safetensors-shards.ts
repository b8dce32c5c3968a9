/**
 * Models in several safetensors files: `model.safetensors.index.json` maps each tensor to the file that holds it, as
 * Hugging Face transformers writes it. Opening checks that index and files agree both ways.
 */
import { FormatError } from "../errors.ts";
import { isJsonObject, parseJson } from "./json.ts";
import { openPytorch } from "./pytorch/read.ts";
import { findTensor, openSafetensors, type TensorInfo, type TensorReader } from "./safetensors.ts";
import { type Folder, readText, type Source } from "./source.ts";

export const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** What older folders have in their place (transformers before 4.35). */
export const PYTORCH_FILE = "pytorch_model.bin";
export const PYTORCH_INDEX = "pytorch_model.bin.index.json";

const MAX_INDEX_BYTES = 64 << 20;
const MAX_SHARDS = 10_000;

/**
 * Opens the weights of a model folder: `model.safetensors`, or the files that its index names; where there are none, PyTorch's `pytorch_model.bin` or the files of its index.
 *
 * @throws FormatError when there are none, both, or index and files disagree
 */
export async function openModelWeights(folder: Folder): Promise<TensorReader> {
  const [single, index] = [await folder.has(SINGLE_FILE), await folder.has(INDEX_FILE)];
  if (single && index) {
    throw new FormatError(`${folder.name}: two sets of weights, expected ${SINGLE_FILE} or ${INDEX_FILE}, got both. Remove the one that is out of date.`);
  }
  if (single) return open(await folder.open(SINGLE_FILE));
  if (index) return openShards(folder, SAFETENSORS);
  if (await folder.has(PYTORCH_FILE)) return open(await folder.open(PYTORCH_FILE), openPytorch);
  if (await folder.has(PYTORCH_INDEX)) return openShards(folder, PYTORCH);
  throw new FormatError(`${folder.name}: no weights, expected ${SINGLE_FILE}, ${INDEX_FILE} or ${PYTORCH_FILE}, got none of them. Check the path.`);
}

/** A format of several files: its index, how they are called, and what opens one. */
interface Sharded {
  readonly index: string;
  readonly ending: ".safetensors" | ".bin";
  open(source: Source): Promise<TensorReader>;
}
const SAFETENSORS: Sharded = { index: INDEX_FILE, ending: ".safetensors", open: openSafetensors };
const PYTORCH: Sharded = { index: PYTORCH_INDEX, ending: ".bin", open: openPytorch };

async function open(source: Source, reader = openSafetensors): Promise<TensorReader> {
  try {
    return await reader(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function readIndex(folder: Folder, { index, ending }: Sharded): Promise<{ where: string; weightMap: Map<string, string> }> {
  const source = await folder.open(index);
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
    if (typeof file !== "string" || /[/\\:\0]/.test(file) || !file.endsWith(ending) || file === ending) {
      throw new FormatError(
        `${where}: bad file for tensor ${JSON.stringify(tensor)}, expected the name of a ${ending} file in the same folder, ` +
          `got ${JSON.stringify(file)}. Fetch the index again from a source you trust.`,
      );
    }
    weightMap.set(tensor, file);
  }
  return { where, weightMap };
}

async function openShards(folder: Folder, format: Sharded): Promise<TensorReader> {
  const { where, weightMap } = await readIndex(folder, format);
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
    const homes = new Map<string, TensorReader>();
    const metadata: Record<string, string> = Object.create(null);
    for (const file of files) {
      const source = await folder.open(file);
      sources.set(file, source);
      const shard = await format.open(source);
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
        homes.set(name, shard);
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
        const { name: known } = findTensor(tensors, name, where);
        return (homes.get(known) as TensorReader).read(known);
      },
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** Opening and saving models: a config.json names the architecture, and the weights must fit it exactly. */
import { ConfigError, FormatError, GroundupError } from "../errors.ts";
import { readConfigJson, configText as textOfConfig } from "../formats/hf-config.ts";
import { openWeightFiles } from "../formats/packed-weights.ts";
import type { TensorEntry } from "../formats/safetensors-write.ts";
import type { Folder } from "../formats/source.ts";
import { type Module, parameterReplacer } from "../nn/index.ts";
import { checkOptions } from "../options.ts";
import { cast, deferred, dequantize, noGrad, quantizedFromBytes, scope, type Tensor, transpose } from "../tensor/index.ts";
import type { Architecture, WeightNames } from "./architecture.ts";
import { describeModel } from "./architectures.ts";
import type { CausalLM } from "./causal-lm.ts";
import { modelCounts } from "./counts.ts";
import { createModel } from "./create.ts";
import type { OpenOptions } from "./gguf-model.ts";
import { openedBytes } from "./weight-memory.ts";
import { checkFit, ownNames, piecesOf } from "./weight-names.ts";

async function folderOf(place: string | Folder): Promise<Folder> {
  if (typeof place !== "string") return place;
  const { openFolder } = await import("../formats/node-file.ts");
  return openFolder(place);
}

/**
 * Opens a Hugging Face model folder (config.json and model.safetensors, one file or shards, or PyTorch's pytorch_model.bin), a GGUF file, nanoGPT's ckpt.pt, a model of the
 * hub (`org/name`, `org/name@revision`, `org/name:file.gguf`) or of Ollama's (`ollama:name:tag`). A path that exists wins; a model of the hub is fetched where the cache
 * does not have it, as `pullModel` does. Weights become float32; block-quantised matrices of a GGUF file and gpt-oss' experts in MXFP4 stay so (and are frozen) unless
 * `dtype: "f32"` asks for numbers.
 * @throws HubError or ConfigError for a model that is not to be had; FormatError listing the names that are missing and the ones the model does not know, and any wrong shape or dtype
 */
export async function fromPretrained(place: string | Folder, options: OpenOptions = {}): Promise<CausalLM> {
  checkOptions("fromPretrained", options, { dtype: true });
  if (options.dtype !== undefined && options.dtype !== "f32")
    throw new ConfigError(
      `fromPretrained: not a dtype that weights can be opened in, expected "f32", got ${JSON.stringify(options.dtype)}. Leave it out to keep a GGUF file's own`,
    );
  if (typeof place === "string") {
    const { locate } = await import("../formats/hub/locate.ts");
    const { path, gguf } = await locate(place, { weights: true, onConfig: checkArchitecture });
    if (gguf) {
      const [{ openGgufFiles }, { modelFromGguf }] = await Promise.all([import("../formats/gguf/files.ts"), import("./gguf-model.ts")]);
      return modelFromGguf(await openGgufFiles(path), options);
    }
    const { modelFrom, openWeights, PYTORCH } = await import("./weight-source.ts");
    if (PYTORCH.test(path)) {
      const source = await openWeights(path);
      return modelFrom(source).finally(() => source.close());
    }
    return fromFolder(await folderOf(path), options);
  }
  return fromFolder(place, options);
}

/** Before its weights are fetched. @throws ConfigError for a config.json of a model that groundup does not run */
export async function checkArchitecture(path: string): Promise<void> {
  describeModel(await readConfigJson(await folderOf(path.replace(/[\\/]config\.json$/, ""))), path);
}

async function fromFolder(folder: Folder, options: OpenOptions): Promise<CausalLM> {
  const config = await readConfigJson(folder);
  const where = `${folder.name}/config.json`;
  const keepsBlocks = options.dtype !== "f32";
  const told = modelCounts(describeModel(config, where)).parameters.total;
  const { weights, bytes } = await sizeOf(folder, keepsBlocks);
  checkSize(told, weights, where);
  const model = deferred(() => createModel(config, where, { bytes }));
  try {
    await fill(model, folder, keepsBlocks);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model.eval();
}

/** How many weights a folder has, and the bytes they take when they are opened. */
async function sizeOf(folder: Folder, keepsBlocks: boolean): Promise<{ weights: number; bytes: number }> {
  const reader = await openWeightFiles(folder);
  await reader.close();
  const found = [...reader.weights.values()];
  const weights = found.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return { weights, bytes: openedBytes(found, keepsBlocks) };
}

/** A config that tells of so many times the weights that there are is no near miss, whose differences are worth a list. */
const MOST_TIMES = 1000;

/** Refuses a config that tells of far more weights than there are before a model is made of it. `fill` compares names and shapes. */
function checkSize(weights: number, there: number, where: string): void {
  if (weights > MOST_TIMES * there) {
    throw new FormatError(
      `${where}: tells of another model than the weights beside it, expected about ${there} weights, got sizes that make ${weights}. Use the config.json that came with these weights.`,
    );
  }
}

const OWN_NAMES: WeightNames = { base: "", tied: [], names: [] };

/**
 * Loads a folder's weights (model.safetensors, one file or shards) into a model of the same shape, or into a module of your own, whose names must be the file's.
 * @throws FormatError listing the names that are missing and the ones the model does not know, and any wrong shape or dtype
 */
export async function loadWeights(model: Module & { readonly architecture?: Architecture }, place: string | Folder): Promise<void> {
  await fill(model, await folderOf(place), false);
}

/** `loadWeights`, or with `keepsBlocks` what is stored in blocks stays so. */
async function fill(model: Module & { readonly architecture?: Architecture }, folder: Folder, keepsBlocks: boolean): Promise<void> {
  const reader = await openWeightFiles(folder);
  try {
    const wanted = model.stateDict();
    const there = [...reader.weights.keys()];
    const { tied, parts = [], ...table } = model.architecture?.weights ?? OWN_NAMES;
    const ours = ownNames(there, wanted, table);
    const has = new Set(ours.values());
    // Where a file has parts of a tensor, each must be there.
    const pieces = new Map(
      [...wanted].flatMap(([name, t]) => (has.has(name) ? [] : piecesOf(name, t.shape, parts)).map((piece) => [piece.file, { name, piece }] as const)),
    );
    const inParts = new Set([...has].flatMap((name) => pieces.get(name)?.name ?? []));
    const missing = [
      ...[...wanted.keys()].filter((name) => !has.has(name) && !inParts.has(name)),
      ...[...pieces].filter(([file, { name }]) => inParts.has(name) && !has.has(file)).map(([file]) => file),
    ];
    const unexpected = [...ours].filter(([, name]) => !wanted.has(name) && !pieces.has(name) && !tied.includes(name)).map(([file]) => file);
    const pairs = [...ours].flatMap(([file, name]): { file: string; name: string | null; shape: readonly number[]; into: () => Tensor }[] => {
      const [target, part] = [wanted.get(name), pieces.get(name)];
      if (target !== undefined) return [{ file, name, shape: target.shape, into: () => target }];
      return part === undefined ? [] : [{ file, name: null, shape: part.piece.shape, into: () => part.piece.of(wanted.get(part.name) as Tensor) }];
    });
    const misshaped = pairs
      .map(({ file, shape }) => ({ name: file, expected: shape, got: reader.weights.get(file)?.shape ?? [] }))
      .filter(({ expected, got }) => expected.join() !== got.join());
    // All before the first value: a model that does not fit stays as it was.
    checkFit(reader.name, { missing, unexpected, misshaped }, model.architecture === undefined ? "module" : "config.json");
    const replace = parameterReplacer(model);
    for (const { file, name, shape, into } of pairs) {
      if (keepsBlocks && name !== null && reader.weights.get(file)?.format === "MXFP4") {
        const [experts, inner, outer] = shape as [number, number, number];
        const blocks = await reader.blocks(file);
        replace(
          name,
          scope(() => transpose(quantizedFromBytes(blocks, [experts, outer, inner], "mxfp4"))),
        );
        continue;
      }
      const values = await reader.read(file);
      scope(() => void noGrad(into).write(values));
    }
  } finally {
    await reader.close();
  }
}

/**
 * What a model's weight file holds, in order, each fetched when its turn comes: for `saveModelWeights`. Of any module.
 * @throws GroundupError where a weight is block-quantised and no dtype is asked for: these files hold numbers
 */
export function weightEntries(model: Module & { readonly architecture?: Architecture }, options: { dtype?: "f32" | "bf16" | "f16" } = {}): TensorEntry[] {
  checkOptions("weightEntries", options, { dtype: true });
  const blocks = [...model.stateDict()].find(([, p]) => p.isQuantized);
  if (options.dtype === undefined && blocks !== undefined)
    throw new GroundupError(
      `save: safetensors files hold no block-quantised weights, expected floats, got ${blocks[0]} as ${blocks[1].dtype}. Ask for a dtype ("bf16", "f16" or "f32") to save the numbers they stand for`,
    );
  const { dtype = "f32" } = options;
  const code = ({ f32: "F32", bf16: "BF16", f16: "F16" } as const)[dtype];
  const { parts = [], written = [] } = model.architecture?.weights ?? OWN_NAMES;
  const entry = (name: string, shape: readonly number[], of: () => Tensor): TensorEntry => ({
    name: written.reduce((known, [pattern, file]) => known.replace(pattern, file), name),
    dtype: code,
    shape,
    data: () => scope(() => ({ bytes: noGrad(() => numbersOf(of(), dtype)).bytesSync() })).bytes,
  });
  return [...model.stateDict()].flatMap(([name, p]) => {
    const pieces = piecesOf(name, p.shape, parts);
    return pieces.length === 0 ? [entry(name, p.shape, () => p)] : pieces.map((piece) => entry(piece.file, piece.shape, () => piece.of(p)));
  });
}

const numbersOf = (t: Tensor, dtype: "f32" | "bf16" | "f16"): Tensor => cast(t.isQuantized ? dequantize(t) : t, dtype);

/** Writes a folder that Hugging Face transformers opens: config.json and model.safetensors. */
export async function saveModel(model: CausalLM, folder: string, options: { dtype?: "f32" | "bf16" | "f16"; maxShardBytes?: number } = {}): Promise<void> {
  checkOptions("saveModel", options, { dtype: true, maxShardBytes: true });
  const { saveModelWeights } = await import("../formats/safetensors-save.ts");
  const { writeFileAtomic } = await import("../formats/atomic-write.ts");
  const { dtype, maxShardBytes } = options;
  await saveModelWeights(folder, weightEntries(model, dtype === undefined ? {} : { dtype }), {
    metadata: { format: "pt" },
    ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
  });
  await writeFileAtomic(`${folder}/config.json`, configText(model, dtype));
}

/** config.json's text. */
export function configText(model: CausalLM, dtype: "f32" | "bf16" | "f16" = "f32"): string {
  const torch = { f32: "float32", bf16: "bfloat16", f16: "float16" }[dtype];
  return textOfConfig({ ...model.configJson(), ...model.tokenIds, dtype: torch, torch_dtype: torch }, model.architecture.floats ?? []);
}

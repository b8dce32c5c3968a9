/**
 * A model's weights one at a time, under the model's own names, wherever they lie: in a model in memory, a Hugging Face folder or a GGUF file. What is converted from
 * one format to another goes through here, so that it takes memory for one tensor and not for the model.
 */
import { FormatError } from "../errors.ts";
import { dequantizeBlocks } from "../formats/gguf/dequantize.ts";
import { readConfigJson } from "../formats/hf-config.ts";
import { openWeightFiles, type WeightInfo } from "../formats/packed-weights.ts";
import { openPytorch } from "../formats/pytorch/read.ts";
import { deferred, dequantize, scope, type Tensor } from "../tensor/index.ts";
import { describeModel } from "./architectures.ts";
import type { CausalLM, ModelDescription } from "./causal-lm.ts";
import { createModel } from "./create.ts";
import { checkLayouts, ggufConfig, isRope, ourBlocks, ourValues, seenShape } from "./gguf-model.ts";
import { ggufNames, wholeOf } from "./gguf-names.ts";
import { fromNanoGpt } from "./nanogpt.ts";
import { checkFit, type Differences, ownNames, piecesOf } from "./weight-names.ts";

/** Weights that can be asked for by name. */
export interface WeightSource {
  readonly name: string;
  readonly description: ModelDescription;
  readonly tokenIds: CausalLM["tokenIds"];
  /** By our name, in the model's order. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** How each is stored: `F32`, `BF16`, `Q4_K`. */
  readonly formats: ReadonlyMap<string, string>;
  /** One tensor as float32; nothing is kept. */
  read(name: string): Promise<Float32Array<ArrayBuffer>>;
  /** One tensor's blocks, where its format is one of GGUF's: row behind row of what is multiplied by one input, whichever way ours lies. */
  blocks?(name: string): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** The weights of a model in memory. It stays the caller's. */
export function weightsOf(model: CausalLM): WeightSource {
  const state = model.stateDict();
  return {
    name: model.modelType,
    description: model,
    tokenIds: model.tokenIds,
    shapes: new Map([...state].map(([name, { shape }]) => [name, shape])),
    formats: new Map([...state].map(([name, { dtype, isQuantized }]) => [name, isQuantized ? dtype.toUpperCase() : "F32"])),
    read: async (name) =>
      scope(() => {
        const held = state.get(name) as Tensor;
        return { values: Float32Array.from((held.isQuantized ? dequantize(held).contiguous() : held).dataSync() as Float32Array) };
      }).values,
    blocks: async (name) => (state.get(name) as Tensor).bytesSync() as Uint8Array<ArrayBuffer>,
    async close() {},
  };
}

/**
 * Opens the weights of a Hugging Face folder, a GGUF file (or the first of several) or a checkpoint of nanoGPT.
 * @throws FormatError where the weights are not those of the config
 */
export async function openWeights(place: string): Promise<WeightSource> {
  const { isGgufFile } = await import("../formats/gguf/is-gguf-file.ts");
  const [gguf, single] = [await isGgufFile(place), PYTORCH.test(place)];
  const source = gguf ? await fromGguf(place) : single ? await fromPytorch(place) : await fromFolder(place);
  try {
    checkWeights(source, gguf || single ? "metadata" : "config.json");
  } catch (error) {
    await source.close();
    throw error;
  }
  return source;
}

/** A checkpoint that is a file of its own. */
export const PYTORCH = /\.(pt|pth|bin|ckpt)$/i;

async function fromPytorch(place: string): Promise<WeightSource> {
  const { openFile } = await import("../formats/node-file.ts");
  const source = await openFile(place);
  try {
    return fromNanoGpt(await openPytorch(source));
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The weights as a model in memory. @throws FormatError where names or shapes are not the model's */
export async function modelFrom(source: WeightSource): Promise<CausalLM> {
  const model = createModel({ ...source.description.config, model_type: source.description.modelType }, source.name);
  try {
    const wanted = model.stateDict();
    for (const [name, target] of wanted) target.write(await source.read(name));
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model.eval();
}

function differences({ shapes }: WeightSource, wanted: ReadonlyMap<string, Tensor>): Differences {
  return {
    missing: [...wanted.keys()].filter((name) => !shapes.has(name)),
    unexpected: [...shapes.keys()].filter((name) => !wanted.has(name)),
    misshaped: [...wanted].flatMap(([name, { shape }]) => {
      const got = shapes.get(name);
      return got === undefined || got.join() === shape.join() ? [] : [{ name, expected: shape, got }];
    }),
  };
}

/** @throws FormatError where names or shapes are not the model's */
function checkWeights(source: WeightSource, of: "config.json" | "metadata"): void {
  const { architecture, config } = source.description;
  const model = deferred(() => architecture.create(config));
  const found = differences(source, model.stateDict());
  model.dispose();
  checkFit(source.name, found, of);
}

const inOrder = (names: readonly string[]): string[] => names.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }));

async function fromFolder(place: string): Promise<WeightSource> {
  const { openFolder } = await import("../formats/node-file.ts");
  const folder = openFolder(place);
  const json = await readConfigJson(folder);
  const description = describeModel(json, `${place}/config.json`);
  const reader = await openWeightFiles(folder);
  const { base, tied, names } = description.architecture.weights;
  const files = [...reader.weights.keys()];
  const isWhole = files.some((file) => file.startsWith(base));
  const ours = ownNames(files, new Map(), { base: isWhole ? "" : base, names });
  const shared = new Set(description.config.tie_word_embeddings === false ? [] : tied);
  const fileOf = new Map([...ours].filter(([, name]) => !shared.has(name)).map(([file, name]) => [name, file]));
  const weights = new Map<string, FolderWeight>();
  const infoOf = (file: string): WeightInfo => reader.weights.get(file) as WeightInfo;
  for (const { name, shape, pieces: wanted } of wholesIn(fileOf, description)) {
    const pieces = wanted.map(({ file, begin, shape: own }) => {
      const there = fileOf.get(file);
      if (there === undefined || infoOf(there).shape.join() !== own.join())
        throw new FormatError(
          `${place}: ${file} is not as the config tells, expected (${own.join(", ")}), got ${there === undefined ? "none" : `(${infoOf(there).shape.join(", ")})`}. Get a complete model.`,
        );
      fileOf.delete(file);
      return { file: there, begin };
    });
    const formats = new Set(pieces.map(({ file }) => infoOf(file).format));
    weights.set(name, { shape, format: [...formats].join(" and "), pieces });
  }
  for (const [name, file] of fileOf) weights.set(name, { ...infoOf(file), pieces: [{ file, begin: 0 }] });
  const found = (name: string): FolderWeight => {
    const weight = weights.get(name);
    if (weight === undefined)
      throw new FormatError(`${place}: no weight "${name}", expected one of its ${weights.size}, got an unknown name. Get a complete model.`);
    return weight;
  };
  const { bos_token_id = null, eos_token_id = null, pad_token_id = null } = json as Partial<CausalLM["tokenIds"]>;
  return {
    name: place,
    description,
    tokenIds: { bos_token_id, eos_token_id, pad_token_id },
    shapes: new Map(inOrder([...weights.keys()]).map((name) => [name, found(name).shape])),
    formats: new Map([...weights].map(([name, { format }]) => [name, format])),
    async read(name) {
      const { shape, pieces } = found(name);
      const [only] = pieces;
      if (pieces.length === 1 && only !== undefined) return reader.read(only.file);
      const whole = new Float32Array(shape.reduce((a, b) => a * b, 1));
      for (const { file, begin } of pieces) whole.set(await reader.read(file), begin);
      return whole;
    },
    blocks: (name) => reader.blocks((found(name).pieces[0] as { file: string }).file),
    close: () => reader.close(),
  };
}

/** A weight of a folder, from the tensors that have its numbers, side by side. */
interface FolderWeight extends WeightInfo {
  readonly pieces: readonly { readonly file: string; readonly begin: number }[];
}

/** The weights that files have in parts, each with those; a model whose weights never get memory tells their shapes. */
function wholesIn(names: ReadonlyMap<string, string>, { architecture, config }: ModelDescription) {
  const { parts = [] } = architecture.weights;
  if (parts.length === 0) return [];
  const model = deferred(() => architecture.create(config));
  const shapes = [...model.stateDict()].map(([name, { shape }]) => ({ name, shape }));
  model.dispose();
  return shapes
    .filter(({ name }) => !names.has(name))
    .map((weight) => ({ ...weight, pieces: piecesOf(weight.name, weight.shape, parts) }))
    .filter(({ pieces }) => pieces.some(({ file }) => names.has(file)));
}

/** The names of a model's weights and of their parts, from one with a single layer. */
function namesOf({ architecture, config }: ModelDescription): { has(name: string): boolean } {
  const model = createModel({ ...config, model_type: architecture.modelType, [architecture.keyOf.layers]: 1 });
  const { partsOf } = ggufNames(architecture.gguf?.names ?? []);
  const names = new Set([...model.stateDict().keys()].flatMap((name) => partsOf(name).map(({ key }) => key)));
  model.dispose();
  return { has: (name) => names.has(name.replace(/\.\d+\./, ".0.")) };
}

async function fromGguf(place: string): Promise<WeightSource> {
  const { openGgufFiles } = await import("../formats/gguf/files.ts");
  const reader = await openGgufFiles(place);
  try {
    checkLayouts(reader);
    const { config, form } = await ggufConfig(reader);
    const description = describeModel(config, place);
    const { toOurs, partsOf } = ggufNames(form.names);
    const wanted = namesOf(description);
    const byKey = new Map([...reader.tensors.values()].filter((info) => !isRope(info.name)).map((info) => [toOurs(info.name, wanted) ?? info.name, info]));
    // Parts of a weight stand under its name.
    const names = inOrder([...new Set([...byKey.keys()].map(wholeOf))]);
    const piecesOf = new Map(names.map((name) => [name, partsOf(name).map(({ key, part }) => ({ info: byKey.get(key), part }))]));
    const infosOf = (name: string) =>
      (piecesOf.get(name) ?? [{ info: undefined, part: null }]).map(({ info, part }) => {
        if (info === undefined)
          throw new FormatError(`${place}: no weight "${name}", expected one of its ${names.length}, got an unknown name. Get a complete model.`);
        return { info, part };
      });
    const shapeOf = (name: string): readonly number[] => {
      const infos = infosOf(name);
      const { shape } = (infos[0] as (typeof infos)[number]).info;
      return seenShape(infos.length > 1 ? [shape[0] as number, (shape[1] as number) * infos.length, ...shape.slice(2)] : shape, name, form);
    };
    const { bos_token_id = null, eos_token_id = null, pad_token_id = null } = config as Partial<CausalLM["tokenIds"]>;
    const shapes = new Map(names.map((name) => [name, shapeOf(name)]));
    const formats = new Map(names.map((name) => [name, [...new Set(infosOf(name).map(({ info }) => info.type))].join(" and ")]));
    return {
      name: place,
      description,
      tokenIds: { bos_token_id, eos_token_id, pad_token_id },
      shapes,
      formats,
      async read(name) {
        const pieces = [];
        for (const { info, part } of infosOf(name))
          pieces.push({
            values: dequantizeBlocks(info.type, await reader.read(info.name), `${place}, tensor ${info.name}`),
            shape: info.shape,
            part,
          });
        return ourValues(pieces, name, shapes.get(name) as readonly number[], form, description.config);
      },
      async blocks(name) {
        const pieces = [];
        for (const { info, part } of infosOf(name)) pieces.push({ bytes: await reader.read(info.name), shape: info.shape, part });
        return ourBlocks(pieces, name, shapes.get(name) as readonly number[], form, description.config);
      },
      close: () => reader.close(),
    };
  } catch (error) {
    await reader.close();
    throw error;
  }
}

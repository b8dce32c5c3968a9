/**
 * What an architecture is: one declaration, at the end of its file, of everything that the rest of groundup asks about it. A missing part does not compile.
 * `contract.test.ts` runs what must hold of every architecture on its samples.
 */
import type * as z from "zod";
import type { GgufValue } from "../formats/gguf/read.ts";
import type { ConfigKeys } from "../formats/hf-config.ts";
import type { CausalLM, ModelDimensions } from "./causal-lm.ts";
import type { ModelCounts } from "./counts.ts";

/** What the rest of groundup asks about an architecture whose config is `Config`. */
export interface ArchitectureDeclaration<Config extends object> {
  /** `model_type` of Hugging Face's config.json. */
  readonly modelType: string;
  /** Model types whose config holds one of this architecture under `text_config`: models that see or hear too, of which the text part is opened. */
  readonly textOf?: readonly string[];
  /** The config, under the keys that are written; refuses sizes that do not go together. */
  readonly schema: z.ZodType<Config>;
  /** Their other spellings, older and newer, and the keys without effect. */
  readonly keys: ConfigKeys;
  /** Keys whose whole numbers are written with a point, 30 as 30.0: transformers refuses them without. */
  readonly floats?: readonly (keyof Config & string)[];
  /** The keys of its longest sequence and its number of layers. */
  readonly keyOf: { readonly context: keyof Config & string; readonly layers: keyof Config & string };
  readonly weights: WeightNames;
  /** How GGUF files hold it; left out where they do not. */
  readonly gguf?: GgufForm<Config>;
  /** The sizes, under names that all architectures share. */
  dimensions(config: Config): ModelDimensions;
  /** The model, with fresh weights. */
  create(config: Config): CausalLM;
  /** Parameters, arithmetic and the memory of its keys and values, by formula. */
  counts(config: Config): ModelCounts;
  /** What forward leaves for backward while it trains, by formula, for sequences of `length` tokens. */
  savedPerRow(config: Config, length: number): SavedPerRow;
  /** The config keys that a model's size decides, for a shape (`sizedConfig`). */
  shapedBy(shape: Shape): Partial<Config>;
  /** Small configs, one for each setting that changes the arithmetic or the counts. */
  readonly samples: readonly Partial<Config>[];
}

/** A declaration whose config has been checked by its own schema. */
export type Architecture = ArchitectureDeclaration<Readonly<Record<string, unknown>>>;

/** Declares an architecture whose config is `Config`. */
export function defineArchitecture<Config extends object>(declaration: ArchitectureDeclaration<Config>): Architecture {
  return declaration as unknown as Architecture;
}

/** How names in weight files become the model's own, which are those of its properties. */
export interface WeightNames {
  /** What stands before every name but the head's; files of the base model alone leave it out. */
  readonly base: string;
  /** Names that may be missing, because the tensor is another's: a head that is the embedding's table. */
  readonly tied: readonly string[];
  /** Other spellings: what the pattern matches becomes the text behind it, as `String.replace` does it; null is known and no weight. The first that matches counts. */
  readonly names: readonly (readonly [pattern: RegExp, ours: string | null])[];
  /** Our tensors that files hold in parts, and that are saved so. */
  readonly parts?: readonly WeightPart[];
  /** Names of ours that files are written with in another spelling: what the pattern matches becomes the text behind it. */
  readonly written?: readonly (readonly [pattern: RegExp, file: string])[];
  /** Those of ours, (experts, in, out), that folders hold as MXFP4 too, and what their config then names as not so (`modules_to_not_convert`). */
  readonly mxfp4?: { readonly of: RegExp; readonly others: readonly string[] };
}

/** Files with a tensor for each expert: ours hold those of all experts, one behind the other along the first dimension. */
export interface WeightPart {
  /** Our tensor; `{i}` stands for the layer's number. */
  readonly ours: string;
  /** The file's, `{i}` for the same number and `{e}` for the expert's. */
  readonly file: string;
  /** Which of how many equal parts of our second dimension it is; left out where it is all of it. */
  readonly part?: readonly [index: number, of: number];
}

/** A GGUF file's metadata, read by name. `{arch}` in a key stands for the file's architecture. */
export interface GgufLookup {
  /** @throws FormatError where the key is missing or no number */
  number(key: string): number;
  /** Undefined where the key is missing. @throws FormatError where it is no number */
  optional(key: string): number | undefined;
  text(key: string): string | undefined;
  /** Undefined where the key is missing or no boolean. */
  flag(key: string): boolean | undefined;
  has(tensor: string): boolean;
  /** @throws FormatError where the tensor is missing */
  shape(tensor: string): readonly number[];
}

/**
 * A file's name and ours, of a tensor or of what stands before `.weight` and `.bias`; `{i}` in both stands for a layer's number. Behind ours, `0/2` says that the file's is
 * the first of two equal parts of our second dimension (as files see it, where `transposed`), `0::2` that it is each second item of it, from the first.
 */
export type GgufName = readonly [file: string, ours: string];

/** Kinds of stretched positions that GGUF files can say. */
export type StretchedKind = "linear" | "yarn" | "llama3" | "longrope";

/** How GGUF files hold an architecture, for reading and writing. */
export interface GgufForm<Config> {
  /** `general.architecture`. */
  readonly architecture: string;
  /** Whether a file of this architecture's name is one; where several share a name the first counts that says so. */
  matches?(file: GgufLookup): boolean;
  /** Items of a head that turn, where that is not the whole head. */
  rotary?(config: Config): number;
  /** The config's key of how positions are stretched. Default `rope_parameters`. */
  readonly ropeKey?: keyof Config & string;
  /** The kinds of stretched positions that llama.cpp reads of these files. Default linear and yarn, which are metadata alone. */
  readonly stretched?: readonly StretchedKind[];
  /** Whether yarn's ramp keeps its fractions (`truncate: false`): files don't say it, and others' is rounded. */
  readonly exactRamp?: boolean;
  /** The config that the metadata tell of; how positions are stretched is added to it. */
  config(file: GgufLookup): Partial<Config>;
  /**
   * What the metadata say of a config, by key, `{arch}` standing for the architecture: `config` reads the same config back.
   * @throws ConfigError for settings that such files cannot say
   */
  metadata(config: Config): Readonly<Record<string, GgufValue>>;
  readonly names: readonly GgufName[];
  /** For one of our weights of so many rows: which of our rows each row of the file is (`neighbouringHalves`); null where they stand as ours do. */
  rowOrder?(name: string, rows: number, config: Config): Int32Array | null;
  /** Whether our weight of this name lies the other way round, (in, out), or for each expert (experts, in, out). */
  transposed?(name: string): boolean;
  /** What files have added to each value of our weight of this name: norms that multiply by 1 + w are stored as 1 + w. */
  added?(name: string): number;
}

/** In floats, for each row (token) of a layer's input. */
export interface SavedPerRow {
  /** What one layer's forward leaves for its backward. */
  layer: number;
  /** Gradients that a layer's backward holds at one time, beside those of the residual stream. */
  gradients: number;
  /** The widest result inside a layer. */
  widest: number;
  /** What a pass without a graph takes: for each size of result that a layer makes, as many as live at one time. */
  evaluated: number;
}

/**
 * `attend`'s part of `SavedPerRow`. Fused, it keeps its result and a log-sum for each head. With dropout it runs as plain operations: masked scores, probabilities
 * and what dropout left of them, each a number for every key (and three more where a soft cap bends the scores); keys and values repeated for every head that shares them; two gradients as large as the scores.
 */
export function attentionPerRow(attention: {
  heads: number;
  kvHeads: number;
  headDim: number;
  dropout: number;
  length: number;
  softcap?: boolean;
}): Pick<SavedPerRow, "layer" | "gradients"> {
  const { heads, kvHeads, headDim, dropout, length, softcap = false } = attention;
  const result = heads * headDim;
  if (dropout === 0) return { layer: result + heads, gradients: 0 };
  return { layer: result + (softcap ? 6 : 3) * heads * length + 2 * (heads - kvHeads) * headDim, gradients: 2 * heads * length };
}

/** A model's shape, as `sizedConfig` chooses it. */
export interface Shape {
  layers: number;
  /** A multiple of 64. */
  width: number;
  heads: number;
}

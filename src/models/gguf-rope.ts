/**
 * Rotary positions that are stretched for longer texts, in a GGUF file and in a config (`rope_parameters`), both ways.
 *
 * linear and yarn are metadata (`rope.scaling.*`). Llama 3's scaling and LongRoPE are tensors of one factor for each frequency, which divide it: `rope_freqs`, and
 * `rope_factors_short` with `rope_factors_long`. llama.cpp multiplies yarn's attention factor by 1 + 0.1·ln(factor) itself, so files hold what is left of it.
 */
import { ConfigError, FormatError } from "../errors.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { f32, shortest, text, u32 } from "../formats/gguf/values.ts";
import type { GgufLookup, StretchedKind } from "./architecture.ts";
import { checkSayable } from "./gguf-sayable.ts";
import { frequencies, type RopeParameters } from "./rope-tables.ts";

/** What a config says of its positions. */
export interface RopeConfig {
  readonly parameters: RopeParameters | null;
  /** Items of a head that turn. */
  readonly rotary: number;
  readonly context: number;
  readonly theta: number;
  /** `exactRamp` of the architecture's files. */
  readonly exactRamp: boolean;
  /** Their name, and the kinds that readers of them have. */
  readonly architecture: string;
  readonly stretched: readonly StretchedKind[];
}

type RopeSizes = Pick<RopeConfig, "rotary" | "context" | "theta">;

const ownFactor = (factor: number): number => 1 + 0.1 * Math.log(factor);

/** The metadata's part, `{arch}` standing for the architecture; `null` where positions are not stretched by metadata. @throws FormatError for a kind that is not known */
export function ropeFromMetadata(file: GgufLookup, name: string): RopeParameters | null {
  // llama.cpp takes a factor without a type for a linear one, and looks at none where the type is "none".
  const kind = file.text("{arch}.rope.scaling.type") ?? "linear";
  const original = file.optional("{arch}.rope.scaling.original_context_length");
  const factor = file.optional("{arch}.rope.scaling.factor") ?? file.optional("{arch}.rope.scale_linear");
  const attention = file.optional("{arch}.rope.scaling.attn_factor");
  switch (kind) {
    case "none":
    case "longrope":
      return null;
    case "linear":
      return factor === undefined || factor === 1 ? null : { rope_type: "linear", factor };
    case "yarn": {
      if (factor === undefined)
        throw new FormatError(`${name}: yarn without its factor, expected metadata "rope.scaling.factor", got none. Get a complete file of the model.`);
      const [fast, slow] = [file.optional("{arch}.rope.scaling.yarn_beta_fast"), file.optional("{arch}.rope.scaling.yarn_beta_slow")];
      return {
        rope_type: "yarn",
        factor,
        ...(original === undefined ? {} : { original_max_position_embeddings: original }),
        ...(attention === undefined ? {} : { attention_factor: shortest(Math.fround(attention * ownFactor(factor))) }),
        ...(fast === undefined ? {} : { beta_fast: fast }),
        ...(slow === undefined ? {} : { beta_slow: slow }),
      };
    }
    default:
      throw new FormatError(
        `${name}: stretched positions of an unknown kind, expected rope.scaling.type none, linear, yarn or longrope, got ${kind}. Choose another model.`,
      );
  }
}

/** Llama 3's settings that give these factors, or the factors themselves. */
export function ropeFromFactors(factors: Float32Array, shape: RopeSizes): RopeParameters {
  const factor = factors.reduce((a, b) => Math.max(a, b), 1);
  const llama3: RopeParameters = { rope_type: "llama3", factor, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const made = llama3Factors(llama3, shape);
  if (made.length === factors.length && made.every((value, i) => Math.abs(value - factors[i]) <= 1e-5 * value)) return llama3;
  // The same factors for texts of any length, and no factor on attention.
  const same = Array.from(factors, shortest);
  return { rope_type: "longrope", short_factor: same, long_factor: same, attention_factor: 1 };
}

/** LongRoPE from its tensors and metadata. The factor on attention is left out where it is the formula's: a file holds 7 digits of it. */
export function longRope(short: Float32Array, long: Float32Array, file: GgufLookup, shape: RopeSizes): RopeParameters {
  const original = file.optional("{arch}.rope.scaling.original_context_length");
  const attention = file.optional("{arch}.rope.scaling.attn_factor");
  const rope: RopeParameters = {
    rope_type: "longrope",
    short_factor: Array.from(short, shortest),
    long_factor: Array.from(long, shortest),
    ...(original === undefined ? {} : { original_max_position_embeddings: original }),
  };
  const own = Math.fround(frequencies(rope, shape, 0).attentionFactor);
  return attention === undefined || Math.fround(attention) === own ? rope : { ...rope, attention_factor: attention };
}

function llama3Factors(parameters: RopeParameters, { rotary, context, theta }: RopeSizes): Float64Array {
  const shape = { rotary, context, theta };
  const plain = frequencies(null, shape, 0).inverse;
  return frequencies(parameters, shape, 0).inverse.map((f, i) => (plain[i] as number) / f);
}

/** What a file says of stretched positions: metadata by key, and tensors of factors by name. @throws ConfigError for what llama.cpp does not have ("dynamic"), or not for this architecture */
export function ropeToGguf(rope: RopeConfig): { metadata: Record<string, GgufValue>; tensors: Record<string, Float32Array> } {
  const { parameters, context, architecture, stretched } = rope;
  const p = parameters ?? {};
  const kind = p.rope_type ?? p.type ?? "default";
  const original = u32(p.original_max_position_embeddings ?? context);
  const key = (name: string): string => `{arch}.rope.scaling.${name}`;
  const told = kind === "su" ? "longrope" : kind;
  if (told !== "default" && told !== "dynamic" && !stretched.includes(told)) checkSayable(architecture, "rope_type", ["default", ...stretched], told);
  switch (kind) {
    case "default":
      return { metadata: {}, tensors: {} };
    case "linear":
      return { metadata: { [key("type")]: text("linear"), [key("factor")]: f32(p.factor as number) }, tensors: {} };
    case "yarn": {
      const factor = p.factor as number;
      const { attentionFactor } = frequencies(parameters, rope, 0);
      if ((p.truncate === false) !== rope.exactRamp) {
        const [expected, got] = rope.exactRamp ? ["fractions of dimensions", "whole ones"] : ["whole dimensions", "fractions"];
        throw new ConfigError(
          `GGUF: yarn with truncate: ${p.truncate ?? true}, expected ${expected}, got ${got}. These files don't say it; save a Hugging Face folder.`,
        );
      }
      const left = attentionFactor / ownFactor(factor);
      return {
        metadata: {
          [key("type")]: text("yarn"),
          [key("factor")]: f32(factor),
          [key("original_context_length")]: original,
          ...(Math.abs(left - 1) < 1e-6 ? {} : { [key("attn_factor")]: f32(left) }),
          ...(p.beta_fast === undefined ? {} : { [key("yarn_beta_fast")]: f32(p.beta_fast) }),
          ...(p.beta_slow === undefined ? {} : { [key("yarn_beta_slow")]: f32(p.beta_slow) }),
        },
        tensors: {},
      };
    }
    case "llama3":
      return { metadata: {}, tensors: { "rope_freqs.weight": Float32Array.from(llama3Factors(p, rope)) } };
    case "longrope":
    case "su": {
      const [short, long] = [Float32Array.from(p.short_factor ?? []), Float32Array.from(p.long_factor ?? [])];
      const { attentionFactor } = frequencies(parameters, rope, 0);
      // Factors that are the same for every length are those of a `rope_freqs`.
      if (stretched.includes("llama3") && attentionFactor === 1 && short.every((value, i) => value === long[i]))
        return { metadata: {}, tensors: { "rope_freqs.weight": short } };
      return {
        metadata: { [key("type")]: text("longrope"), [key("original_context_length")]: original, [key("attn_factor")]: f32(attentionFactor) },
        tensors: { "rope_factors_short.weight": short, "rope_factors_long.weight": long },
      };
    }
    default:
      throw new ConfigError(
        `GGUF: stretched positions that llama.cpp does not have, expected linear, yarn, llama3 or longrope, got ${kind}. Save a Hugging Face folder.`,
      );
  }
}

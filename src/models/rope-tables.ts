/**
 * Rotary frequencies with the published scalings for longer contexts, from a config in either of transformers' spellings:
 * `rope_theta` beside `rope_scaling: { rope_type | type, … }` (older), or `rope_parameters: { rope_theta, rope_type, … }` (newer).
 */
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { buffer } from "../nn/index.ts";
import { type Tensor, tensorFrom } from "../tensor/index.ts";

const positive = z.number().positive();
const factors = z.array(positive).min(1);

/** One rotary setting as config.json holds it. Each type's formula stands at `frequencies`. */
export const ropeParametersSchema = z
  .object({
    rope_theta: positive.optional(),
    rope_type: z.enum(["default", "linear", "dynamic", "yarn", "longrope", "llama3"]).optional(),
    /** The older spelling of rope_type. */
    type: z.enum(["default", "linear", "dynamic", "yarn", "longrope", "su", "llama3"]).optional(),
    factor: positive.optional(),
    original_max_position_embeddings: z.int().positive().optional(),
    attention_factor: positive.optional(),
    beta_fast: positive.optional(),
    beta_slow: positive.optional(),
    mscale: z.number().optional(),
    mscale_all_dim: z.number().optional(),
    truncate: z.boolean().optional(),
    short_factor: factors.optional(),
    long_factor: factors.optional(),
    low_freq_factor: positive.optional(),
    high_freq_factor: positive.optional(),
    /** transformers writes it beside every type. Llama turns whole heads, and transformers' Llama has no other arithmetic either. */
    partial_rotary_factor: z.literal(1).optional(),
  })
  .strict()
  .superRefine((p, ctx) => {
    const kind = p.rope_type ?? p.type ?? "default";
    const needed: Record<string, readonly (keyof typeof p)[]> = {
      default: [],
      linear: ["factor"],
      dynamic: ["factor"],
      yarn: ["factor"],
      longrope: ["short_factor", "long_factor"],
      su: ["short_factor", "long_factor"],
      llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
    };
    for (const key of needed[kind] as readonly (keyof typeof p)[]) {
      if (p[key] === undefined) ctx.addIssue({ code: "custom", message: `rope type "${kind}" needs ${key}`, path: [key] });
    }
  });
export type RopeParameters = z.output<typeof ropeParametersSchema>;

export interface RopeShape {
  /** Items of a head that turn; even. */
  rotary: number;
  /** config's max_position_embeddings. */
  context: number;
  theta: number;
}

/** Inverse frequencies (rotary/2, float64), and the factor on cos and sin. `length` is the sequence length that "dynamic" and "longrope" adapt to. */
export function frequencies(
  parameters: RopeParameters | null,
  { rotary, context, theta }: RopeShape,
  length: number,
): { inverse: Float64Array; attentionFactor: number } {
  const half = rotary / 2;
  const plain = (base: number) => Float64Array.from({ length: half }, (_, i) => base ** ((-2 * i) / rotary));
  const p = parameters ?? {};
  const kind = p.rope_type ?? p.type ?? "default";
  const factor = p.factor ?? 1;
  const original = p.original_max_position_embeddings ?? context;
  switch (kind) {
    case "default":
      return { inverse: plain(theta), attentionFactor: 1 };
    // Position interpolation (Chen et al. 2023): positions shrink by the factor.
    case "linear":
      return { inverse: plain(theta).map((f) => f / factor), attentionFactor: 1 };
    // NTK-aware, adapting to the length in use: the base grows with it.
    case "dynamic": {
      const used = Math.max(length, context);
      return { inverse: plain(theta * ((factor * used) / context - (factor - 1)) ** (rotary / (rotary - 2))), attentionFactor: 1 };
    }
    // NTK by parts (Peng et al. 2023): slow dimensions are interpolated, fast ones kept, those between blended by a ramp.
    case "yarn": {
      const { beta_fast: fast = 32, beta_slow: slow = 1, mscale, mscale_all_dim: mscaleAll, truncate = true } = p;
      const dimensionOf = (turns: number) => (rotary * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const [lowRaw, highRaw] = [dimensionOf(fast), dimensionOf(slow)];
      const low = Math.max(truncate ? Math.floor(lowRaw) : lowRaw, 0);
      const highEdge = Math.min(truncate ? Math.ceil(highRaw) : highRaw, rotary - 1);
      const high = low === highEdge ? highEdge + 0.001 : highEdge;
      const inverse = plain(theta).map((f, i) => {
        const kept = 1 - Math.min(Math.max((i - low) / (high - low), 0), 1);
        return (f / factor) * (1 - kept) + f * kept;
      });
      const scale = (by: number) => (factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1);
      return { inverse, attentionFactor: p.attention_factor ?? (mscale && mscaleAll ? scale(mscale) / scale(mscaleAll) : scale(1)) };
    }
    // LongRoPE (Ding et al. 2024): one searched factor a dimension, for short and for long sequences.
    case "su":
    case "longrope": {
      const chosen = (length > original ? p.long_factor : p.short_factor) as readonly number[];
      const stretch = p.original_max_position_embeddings === undefined ? factor : context / original;
      const attentionFactor = p.attention_factor ?? (stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(original)));
      return { inverse: plain(theta).map((f, i) => f / (chosen[i] as number)), attentionFactor };
    }
    // Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between blended.
    case "llama3": {
      const [lowFactor, highFactor] = [p.low_freq_factor as number, p.high_freq_factor as number];
      const inverse = plain(theta).map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength > original / lowFactor) return f / factor;
        if (wavelength < original / highFactor) return f;
        const smooth = (original / wavelength - lowFactor) / (highFactor - lowFactor);
        return ((1 - smooth) * f) / factor + smooth * f;
      });
      return { inverse, attentionFactor: 1 };
    }
  }
}

/** cos and sin tables (positions, rotary/2) that grow when a longer sequence comes. */
export class RopeTables {
  cos: Tensor;
  sin: Tensor;
  private positions = 0;
  private readonly parameters: RopeParameters | null;
  private readonly shape: RopeShape;

  constructor(parameters: RopeParameters | null, shape: RopeShape) {
    this.parameters = parameters;
    this.shape = shape;
    const { rotary } = shape;
    if (rotary % 2 !== 0) throw new ConfigError(`rope: the heads can't turn, expected an even number of items, got ${rotary}. Change head_dim or hidden_size.`);
    for (const name of ["short_factor", "long_factor"] as const) {
      const given = parameters?.[name]?.length ?? rotary / 2;
      if (given !== rotary / 2)
        throw new ConfigError(
          `rope: ${name} has the wrong length, expected one factor for each of ${rotary / 2} frequencies, got ${given}. Correct rope_scaling.`,
        );
    }
    [this.cos, this.sin] = this.build(Math.min(shape.context, 1024), 0);
  }

  /** Tables that hold at least this many positions. "dynamic" and "longrope" use the frequencies for that length. */
  upTo(positions: number): { cos: Tensor; sin: Tensor } {
    const kind = this.parameters?.rope_type ?? this.parameters?.type;
    const adapts = kind === "dynamic" || kind === "longrope" || kind === "su";
    if (positions > this.positions || adapts) {
      const [cos, sin] = this.build(adapts ? positions : Math.max(positions, 2 * this.positions), positions);
      this.cos.dispose("RopeTables");
      this.sin.dispose("RopeTables");
      [this.cos, this.sin] = [cos, sin];
    }
    return this;
  }

  private build(positions: number, length: number): [Tensor, Tensor] {
    const { inverse, attentionFactor } = frequencies(this.parameters, this.shape, length);
    if (!Number.isFinite(attentionFactor) || !inverse.every(Number.isFinite)) {
      throw new ConfigError(
        `rope: the rotary settings give no frequencies, expected numbers, got ${JSON.stringify(this.parameters)} for heads of ${this.shape.rotary} items. Check rope_theta and rope_scaling (or rope_parameters).`,
      );
    }
    const half = inverse.length;
    const [cos, sin] = [new Float32Array(positions * half), new Float32Array(positions * half)];
    for (let p = 0; p < positions; p++) {
      for (let i = 0; i < half; i++) {
        // As PyTorch has it: frequency and angle rounded to float32 first.
        const angle = Math.fround(p * Math.fround(inverse[i] as number));
        cos[p * half + i] = Math.cos(angle) * attentionFactor;
        sin[p * half + i] = Math.sin(angle) * attentionFactor;
      }
    }
    this.positions = positions;
    return [buffer(tensorFrom(cos, [positions, half])), buffer(tensorFrom(sin, [positions, half]))];
  }
}

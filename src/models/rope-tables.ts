/**
 * Rotary frequencies with the published scalings for longer contexts, from a config in either of transformers' spellings:
 * `rope_theta` beside `rope_scaling: { rope_type | type, … }` (older), or `rope_parameters: { rope_theta, rope_type, … }` (newer).
 */
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { buffer, Owned } from "../nn/index.ts";
import { capturedForLengths, concat, noGrad, type Tensor, tensorFrom } from "../tensor/index.ts";

const positive = z.number().positive();
const factors = z.array(positive).min(1);

/** How much of each head turns, as `partial_rotary_factor` says it. */
export const partialRotaryFactor = positive.max(1);

const settingWith = <Turning extends z.ZodType<number>>(turning: Turning) =>
  z
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
      /** transformers writes it beside every type. */
      partial_rotary_factor: turning.optional(),
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

/** One rotary setting as config.json holds it, of an architecture whose heads turn whole. Each type's formula stands at `frequencies`. */
export const ropeParametersSchema = settingWith(z.literal(1));
/** The same where a part of each head may turn: the config has a `partial_rotary_factor` of its own, which reads this one too. */
export const partialRopeParametersSchema = settingWith(partialRotaryFactor);
export type RopeParameters = z.output<typeof ropeParametersSchema>;
export type PartialRopeParameters = z.output<typeof partialRopeParametersSchema>;

/** The number of a head's items that turn. Rounded down, as in transformers. */
export const rotaryOf = (headDim: number, factor: number): number => Math.trunc(headDim * factor);

/** The share of each head that is so many items: `rotaryOf` gives them back, whichever way the division rounds. */
export function shareThatTurns(rotary: number, headDim: number): number {
  const share = rotary / headDim;
  return rotaryOf(headDim, share) === rotary ? share : share + Number.EPSILON;
}

const kindOf = (parameters: PartialRopeParameters | null) => parameters?.rope_type ?? parameters?.type ?? "default";

/** How many positions a model serves: some stretched configs name the length before the stretching, others the one after it, so those take any length, as in transformers. */
export const servedPositions = (parameters: PartialRopeParameters | null, context: number): number =>
  kindOf(parameters) === "default" ? context : Number.POSITIVE_INFINITY;

/** A setting in the older spelling of config.json, `rope_scaling`, which older and newer readers both understand; the base and the share that turns have keys of their own there. */
export function writtenRopeScaling(
  parameters: PartialRopeParameters | null,
): Omit<PartialRopeParameters, "rope_theta" | "type" | "partial_rotary_factor"> | null {
  const { rope_theta: _, type: __, partial_rotary_factor: ___, ...scaling } = parameters ?? {};
  const kind = kindOf(parameters);
  return kind === "default" ? null : { ...scaling, rope_type: kind === "su" ? "longrope" : kind };
}

export interface RopeShape {
  /** Items of a head that turn; even. */
  rotary: number;
  /** config's max_position_embeddings. */
  context: number;
  theta: number;
}

/** Inverse frequencies (rotary/2, float64), and the factor on cos and sin. `length` is the sequence length that "dynamic" and "longrope" adapt to. */
export function frequencies(
  parameters: PartialRopeParameters | null,
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
      const stretch = p.factor ?? context / original;
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

interface Table {
  cos: Tensor;
  sin: Tensor;
}

function release({ cos, sin }: Table): void {
  cos.dispose("RopeTables");
  sin.dispose("RopeTables");
}

/** Tables, and the row of them that each place turns by: i32, as the positions. */
export interface RopeRows extends Table {
  rows: Tensor;
}

/** One sequence of a call: how many places it has there, and how many positions with what came before. */
export interface SequenceLength {
  rows: number;
  positions: number;
}

/** cos and sin tables (positions, rotary/2) that grow when a longer sequence comes. */
export class RopeTables extends Owned {
  private readonly kept = new Map<number, Table>();
  private readonly parameters: PartialRopeParameters | null;
  private readonly shape: RopeShape;

  constructor(parameters: PartialRopeParameters | null, shape: RopeShape) {
    super();
    this.parameters = parameters;
    this.shape = shape;
    const { rotary } = shape;
    if (rotary % 2 !== 0 || rotary < 2)
      throw new ConfigError(
        `rope: the heads can't turn, expected an even number of items of at least 2, got ${rotary}. Change head_dim, hidden_size or the share that turns.`,
      );
    for (const name of ["short_factor", "long_factor"] as const) {
      const given = parameters?.[name]?.length ?? rotary / 2;
      if (given !== rotary / 2)
        throw new ConfigError(
          `rope: ${name} has the wrong length, expected one factor for each of ${rotary / 2} frequencies, got ${given}. Correct rope_scaling.`,
        );
    }
    this.table(this.adaptedTo(0), Math.min(shape.context, 1024));
  }

  /**
   * What each place of `positions` turns by. Each sequence has the frequencies of its own length, whatever stands beside it: "dynamic" and "longrope" give
   * those of different lengths tables of their own, one below the other.
   */
  of(positions: Tensor, sequences: readonly SequenceLength[]): RopeRows {
    const longest = new Map<number, number>();
    for (const { positions: length } of sequences) {
      const adapted = this.adaptedTo(length);
      longest.set(adapted, Math.max(length, longest.get(adapted) ?? 0));
    }
    if (longest.size === 0) longest.set(this.adaptedTo(0), 0);
    const tables = [...longest].map(([adapted, length]) => this.table(adapted, length));
    if (tables.length === 1) {
      const { cos, sin } = tables[0] as Table;
      const [adapted] = longest.keys();
      capturedForLengths(...this.lengthsServed(adapted as number, cos.shape[0] as number));
      return { cos, sin, rows: positions };
    }
    const below = new Map<number, number>();
    let height = 0;
    for (const [i, adapted] of [...longest.keys()].entries()) {
      below.set(adapted, height);
      height += (tables[i] as Table).cos.shape[0] as number;
    }
    const rows = Int32Array.from(positions.dataSync() as Int32Array);
    let at = 0;
    for (const { rows: count, positions: length } of sequences) {
      const offset = below.get(this.adaptedTo(length)) as number;
      for (const end = at + count; at < end; at++) rows[at] = (rows[at] as number) + offset;
    }
    const stacked = (part: keyof Table) =>
      concat(
        tables.map((table) => table[part]),
        0,
      );
    return noGrad(() => ({ cos: stacked("cos"), sin: stacked("sin"), rows: tensorFrom(rows, positions.shape) }));
  }

  /** A length with the same frequencies as this one, so that equal numbers mean equal tables. */
  private adaptedTo(length: number): number {
    const { rope_type, type, original_max_position_embeddings } = this.parameters ?? {};
    const { context } = this.shape;
    switch (rope_type ?? type) {
      case "dynamic":
        return Math.max(length, context);
      case "longrope":
      case "su": {
        const original = original_max_position_embeddings ?? context;
        return length > original ? original + 1 : 0;
      }
      default:
        return 0;
    }
  }

  /** Which lengths that table serves, if it has so many positions: what is captured with it is right for these. */
  private lengthsServed(adapted: number, height: number): [from: number, to: number] {
    const { rope_type, type, original_max_position_embeddings } = this.parameters ?? {};
    const { context } = this.shape;
    switch (rope_type ?? type) {
      case "dynamic":
        return adapted > context ? [adapted, adapted] : [0, Math.min(context, height)];
      case "longrope":
      case "su":
        return adapted > 0 ? [adapted, height] : [0, Math.min(original_max_position_embeddings ?? context, height)];
      default:
        return [0, height];
    }
  }

  /** The table for that length, of at least this many positions. */
  private table(adapted: number, positions: number): Table {
    const { rope_type, type } = this.parameters ?? {};
    // Every length beyond the context has its own: made for one call, and freed with what uses it.
    if ((rope_type ?? type) === "dynamic" && adapted > this.shape.context) return this.build(adapted, positions);
    const held = this.kept.get(adapted);
    const height = held?.cos.shape[0] as number | undefined;
    if (held !== undefined && positions <= (height as number)) return held;
    const { cos, sin } = this.build(adapted, Math.max(positions, 2 * (height ?? 0)));
    const table = { cos: buffer(cos), sin: buffer(sin) };
    if (held !== undefined) release(held);
    this.kept.set(adapted, table);
    return table;
  }

  override dispose(): void {
    for (const table of this.kept.values()) release(table);
    this.kept.clear();
  }

  private build(length: number, positions: number): Table {
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
    return { cos: tensorFrom(cos, [positions, half]), sin: tensorFrom(sin, [positions, half]) };
  }
}

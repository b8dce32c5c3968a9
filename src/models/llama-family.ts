/**
 * What the decoders that descend from Llama have in common: the names of their sizes, what follows from these by formula, both spellings of rotary settings, and
 * windows. Their blocks stand in their own files.
 */
import * as z from "zod";
import { init, type Module } from "../nn/index.ts";
import { attentionPerRow, type SavedPerRow, type Shape } from "./architecture.ts";
import type { ModelDimensions } from "./causal-lm.ts";
import { doesNotDivide } from "./config-values.ts";
import { countsFrom, type ModelCounts } from "./counts.ts";
import type { RopeParameters } from "./rope-tables.ts";

/** Sizes, as config.json names them. */
export interface FamilySizes {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** Null is as many as query heads. */
  num_key_value_heads: number | null;
  /** Null is hidden_size / num_attention_heads. */
  head_dim: number | null;
  max_position_embeddings: number;
}

export function familyDimensions(config: FamilySizes): ModelDimensions {
  const { vocab_size, hidden_size, num_hidden_layers, num_attention_heads: heads, num_key_value_heads, head_dim, max_position_embeddings } = config;
  return {
    vocabulary: vocab_size,
    hidden: hidden_size,
    layers: num_hidden_layers,
    heads,
    kvHeads: num_key_value_heads ?? heads,
    headDim: head_dim ?? hidden_size / heads,
    context: max_position_embeddings,
  };
}

type Problems = Pick<z.RefinementCtx, "addIssue">;

/** Refuses heads that do not go into the width or into each other. */
export function checkHeads({ hidden_size, num_attention_heads: heads, num_key_value_heads, head_dim }: FamilySizes, ctx: Problems): void {
  const kvHeads = num_key_value_heads ?? heads;
  if (head_dim === null && hidden_size % heads !== 0)
    ctx.addIssue({ code: "custom", path: ["num_attention_heads"], message: `${doesNotDivide("hidden_size", hidden_size, heads)} Or set head_dim.` });
  if (heads % kvHeads !== 0) ctx.addIssue({ code: "custom", path: ["num_key_value_heads"], message: doesNotDivide("num_attention_heads", heads, kvHeads) });
}

/** What a layer's queries see, as `layer_types` names it: all before them, or the last `sliding_window` positions. */
export type LayerType = "full_attention" | "sliding_attention";

/** `layer_types`; null leaves the choice to the other keys. */
export const layerTypes = z
  .array(z.enum(["full_attention", "sliding_attention"]))
  .nullable()
  .default(null);

interface Windows {
  num_hidden_layers: number;
  sliding_window: number | null;
  layer_types: readonly LayerType[] | null;
}

/** The window of each layer, null where it has none: as `layer_types` says, or where it is null, as `slides` says of a layer's number, from 0. */
export function windowsOf({ num_hidden_layers, sliding_window, layer_types }: Windows, slides: (layer: number) => boolean = () => false): (number | null)[] {
  return Array.from({ length: num_hidden_layers }, (_, i) =>
    (layer_types === null ? slides(i) : layer_types[i] === "sliding_attention") ? sliding_window : null,
  );
}

/** Refuses `layer_types` of another number of layers, and sliding layers without a window. */
export function checkLayerTypes({ num_hidden_layers, sliding_window, layer_types }: Windows, ctx: Problems): void {
  if (layer_types === null) return;
  if (layer_types.length !== num_hidden_layers)
    ctx.addIssue({
      code: "custom",
      path: ["layer_types"],
      message: `names another number of layers, expected num_hidden_layers = ${num_hidden_layers} types, got ${layer_types.length}. Change one of them.`,
    });
  if (sliding_window === null && layer_types.includes("sliding_attention"))
    ctx.addIssue({ code: "custom", path: ["sliding_window"], message: "is missing, expected the window of the sliding layers, got null. Set it." });
}

/** `use_bidirectional_attention`: a config that asks for queries that see what comes after them is refused. */
export const causalOnly = z.literal(false).nullable().default(false);

/** Other spellings of the keys `rope_theta` and `rope_parameters`. */
export const ROPE_SPELLINGS = { rope_theta: ["rope_parameters.rope_theta", "rope_scaling.rope_theta"], rope_parameters: ["rope_scaling"] };

/** Rotary settings in the older spelling, which older and newer readers both understand. */
export function ropeJson(rope_theta: number, rope_parameters: RopeParameters | null): { rope_theta: number; rope_scaling: object | null } {
  const { rope_theta: _, type, ...scaling } = rope_parameters ?? {};
  const kind = scaling.rope_type ?? type ?? "default";
  return { rope_theta, rope_scaling: kind === "default" ? null : { ...scaling, rope_type: kind } };
}

/** The longest sequence that `forward` takes. Some stretched configs name the length before the stretching, others the one after it: those take any, as in transformers. */
export function longestSequence(rope: RopeParameters | null, context: number): number {
  return (rope?.rope_type ?? rope?.type ?? "default") === "default" ? context : Number.POSITIVE_INFINITY;
}

/** Every matrix from a normal of one width, biases zero, as published. */
export function initialise(model: Module, std: number): void {
  const parameters = [...model.namedParameters()];
  for (const [, p] of parameters) if (p.rank === 2) init.normal(p, { std });
  for (const [name, p] of parameters) if (name.endsWith(".bias")) init.normal(p, { std: 0 });
}

/** What a layer has beside Llama's. */
export interface FamilyParts {
  /** Biases of q, k and v. */
  qkvBias?: boolean;
  /** The bias of o. */
  outputBias?: boolean;
  mlpBias?: boolean;
  /** A norm over the items of each query and key head. */
  qkNorm?: boolean;
  /** Norms behind attention and MLP beside those before them. */
  postNorms?: boolean;
  /** A soft cap on the scores. */
  softcap?: boolean;
  /** The window of each layer, where some have one. */
  windows?: readonly (number | null)[];
  /** Layers whose MLP is a mixture of experts (gated-experts.ts). */
  mixture?: Mixture;
}

/** A mixture of experts in numbers. */
export interface Mixture {
  experts: number;
  /** Those that a token visits. */
  perToken: number;
  /** Neurons of one expert. */
  inner: number;
  /** Layers that have one in place of a plain MLP. */
  layers: number;
  /** Whether the shares of the chosen are worked out from their scores alone. */
  normalized: boolean;
}

/** Trained values by part, arithmetic and state, by formula. */
export function familyCounts(config: FamilySizes & { tie_word_embeddings: boolean }, parts: FamilyParts = {}): ModelCounts {
  const { vocabulary, hidden: c, layers, heads, kvHeads, headDim } = familyDimensions(config);
  const { intermediate_size: inner, tie_word_embeddings } = config;
  const { qkvBias, outputBias, mlpBias, qkNorm, postNorms, windows, mixture } = parts;
  const [q, kv, table] = [heads * headDim, kvHeads * headDim, vocabulary * c];
  const [attention, mlp] = [2 * c * q + 2 * c * kv, 3 * c * inner];
  const plain = layers - (mixture?.layers ?? 0);
  // The router's rows, and so many experts: all of them, or those that a token visits.
  const sparse = (experts: number) => (mixture === undefined ? 0 : mixture.layers * c * (mixture.experts + 3 * experts * mixture.inner));
  return countsFrom({
    parameters: {
      embedding: table,
      positions: 0, // rotary
      attention: layers * (attention + (qkvBias ? q + 2 * kv : 0) + (outputBias ? c : 0)),
      mlp: plain * (mlp + (mlpBias ? 2 * inner + c : 0)) + sparse(mixture?.experts ?? 0),
      norms: (layers * (postNorms ? 4 : 2) + 1) * c + (qkNorm ? layers * 2 * headDim : 0),
      head: tie_word_embeddings ? 0 : table,
    },
    multiplied: layers * attention + plain * mlp + sparse(mixture?.perToken ?? 0) + table,
    queries: layers * q,
    kept: 2 * layers * kv,
    windows,
  });
}

/** What forward leaves for backward while it trains, by formula. */
export function familySaved(config: FamilySizes & { attention_dropout: number }, length: number, parts: FamilyParts = {}): SavedPerRow {
  const { hidden: c, heads, kvHeads, headDim } = familyDimensions(config);
  const [q, kv, inner] = [heads * headDim, kvHeads * headDim, config.intermediate_size];
  const { qkNorm = false, postNorms = false, softcap = false, mixture } = parts;
  const attention = attentionPerRow({ heads, kvHeads, headDim, dropout: config.attention_dropout, length, softcap });
  // For each expert that a token visits: its row, there and back; gate, up and their product; its share, its number, and its two places; and the router's scores, with the shares of all experts where they are worked out.
  const mlp = mixture === undefined ? 3 * inner : mixture.perToken * (2 * c + 3 * mixture.inner + 4) + mixture.experts * (mixture.normalized ? 1 : 2);
  const wide = mixture === undefined ? inner : mixture.perToken * Math.max(2 * mixture.inner, c);
  // Each norm's input, its result and its root; q and k turned, and v; attention; gate, up and their product. Nothing keeps the results of the norms behind
  // attention and MLP, nor those of the heads', which are turned.
  const behind = postNorms ? 2 * (c + 1) : 0;
  const ofHeads = qkNorm ? q + heads + kv + kvHeads : 0;
  return {
    layer: 2 * (2 * c + 1) + behind + ofHeads + (q + 2 * kv) + attention.layer + mlp,
    gradients: Math.max(2 * wide, attention.gradients),
    widest: wide,
    // With the results of the further norms, and of the sums that they leave to the block.
    evaluated: 2 * c + 6 * q + 3 * kv + 3 * wide + (qkNorm ? q + kv : 0) + (postNorms ? 4 * c : 0),
  };
}

/** The config keys that a size decides. */
export function familyShape({ layers, width, heads }: Shape) {
  return {
    num_hidden_layers: layers,
    hidden_size: width,
    num_attention_heads: heads,
    num_key_value_heads: heads,
    // The gated MLP's 8/3 of the width costs what the plain one's 4 does (Shazeer 2020).
    intermediate_size: 64 * Math.ceil((8 * width) / 3 / 64),
  };
}

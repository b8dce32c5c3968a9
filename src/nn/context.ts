/**
 * What a forward pass knows besides its activations: positions, where sequences begin and end, and the state of each layer. A block
 * sees `(x, ctx)`; only `attend` reads what is in it, so packing, paging and batches that mix prefill with decoding never touch a model file.
 */
import { type AttentionOptions, attention, type Tensor } from "../tensor/index.ts";

/**
 * What can be watched inside attention: queries, keys and values as they meet, (B, T, heads, dim); scores and probabilities, (B, heads, T, S); what each head
 * gives, (B, T, heads, dim).
 */
export const ATTENTION_POINTS = ["q", "k", "v", "scores", "probabilities", "heads"] as const;

/** Options of one layer's attention that do not depend on how its rows are laid out. */
export type AttendOptions = Omit<AttentionOptions, "cuSeqlens" | "cuSeqlensK" | "mask">;

/** What a layer carries from one call to the next: keys and values in pages, say. */
export interface LayerState {
  /** Adds this call's keys and values, then lets the queries attend to all so far: q (1, rows, heads, dim), k and v (1, rows, kvHeads, dim) → as q. */
  attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions): Tensor;
}

/** What one forward pass tells every layer: where its rows stand, and what is kept of those before. */
export interface ForwardContext {
  /** i32, one position for each row, in order. */
  readonly positions: Tensor;
  /** Boundaries of ragged rows; absent for a rectangle of equal sequences. */
  readonly cuSeqlens?: Int32Array;
  /** One state a layer, where there is one. */
  readonly state?: readonly LayerState[];
  /** Dropout and the like act. */
  readonly training: boolean;
}

/** Attention of one layer: q (B, T, heads, dim), k and v (B, T, kvHeads, dim), B = 1 for ragged rows. */
export function attend(q: Tensor, k: Tensor, v: Tensor, ctx: ForwardContext, layer: number, options: AttendOptions = {}): Tensor {
  if (ctx.cuSeqlens === undefined) return attention(q, k, v, options);
  const state = ctx.state?.[layer];
  if (state !== undefined) return state.attend(q, k, v, options);
  const rows = (x: Tensor) => x.reshape([-1, x.shape[2] as number, x.shape[3] as number]); // (ΣT, H, D)
  return attention(rows(q), rows(k), rows(v), { ...options, cuSeqlens: ctx.cuSeqlens }).reshape(q.shape);
}

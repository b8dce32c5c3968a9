/** Scaled dot-product attention over rectangles and ragged rows, with its composed twin. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { sinksGradient, withSinks } from "../attention-sinks.ts";
import { attentionGrad, attention as attentionKernel } from "../autocast.ts";
import { type Context, noGrad } from "../autograd.ts";
import type { Operand } from "../kernels.ts";
import { defineOp, type Watch } from "../op.ts";
import { values } from "../samples.ts";
import { contiguousStrides, show } from "../shape.ts";
import { arange, type Tensor, tensor, tensorFrom } from "../tensor.ts";
import { dropout } from "./dropout.ts";
import { add, f32, ge, gt, le, logicalAnd, logicalNot, lt, maskedFill, mul, softcapped, sub } from "./elementwise.ts";
import { concat } from "./joining.ts";
import { matmul } from "./matmul.ts";
import { cast, contiguous, expand, narrow, packed, permute, reshape, transpose, unsqueeze } from "./movement.ts";
import { softmax } from "./softmax.ts";

export interface AttentionOptions {
  /** A query sees keys at its own position and before. Default true. */
  causal?: boolean;
  /** Multiplies the scores. Default 1/√dim. */
  scale?: number;
  /** A query sees only the last `window` positions, its own included. */
  window?: number;
  /** softcap·tanh(score/softcap), as Gemma 2 has it. */
  softcap?: number;
  /** One slope a head: slope·(key position − query position) is added to the scores (ALiBi, Press et al. 2022). f32 (heads). */
  slopes?: Tensor;
  /** Added to the scores; f32, broadcasts to (B, heads, T, S). It gets no gradient. Rectangles only. */
  mask?: Tensor;
  /**
   * One number a head that stands beside the scores in the softmax, and whose share goes nowhere: a query may attend to nothing (gpt-oss; Xiao et al. 2024). f32 (heads).
   * It gets a gradient.
   */
  sinks?: Tensor;
  /** Drops probabilities while training. Runs the composed form, which holds the T×T matrix. */
  dropout?: number;
  /** Ragged rows: where each sequence begins and ends among the query rows, as 0, t₁, t₁+t₂, …; q is then (rows, heads, dim). */
  cuSeqlens?: Int32Array;
  /** The same for the rows of k and v. Default: as cuSeqlens. */
  cuSeqlensK?: Int32Array;
  /** Sees "scores" (before masked places are shut out) and "probabilities" (before dropout), both (B, heads, T, S); ragged rows give one sequence after the other, B = 1. */
  watch?: Watch | undefined;
}

export const ATTENTION_OPTIONS: KnownOptions<AttentionOptions> = {
  causal: true,
  scale: true,
  window: true,
  softcap: true,
  slopes: true,
  sinks: true,
  mask: true,
  dropout: true,
  cuSeqlens: true,
  cuSeqlensK: true,
  watch: true,
};

interface Layout {
  rowsQ: number;
  rowsK: number;
  heads: number;
  kvHeads: number;
  dim: number;
  sequences: number;
}

function layout(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Layout {
  const ragged = options.cuSeqlens !== undefined;
  const rank = ragged ? 3 : 4;
  const wrong = q.rank !== rank ? q : k.rank !== rank ? k : v.rank !== rank ? v : null;
  if (wrong !== null) {
    const words = ragged ? "(rows, heads, dim)" : "(B, T, heads, dim)";
    throw new ShapeError(`attention: expected ${wrong === q ? "q" : wrong === k ? "k" : "v"} ${words}, got ${show(wrong.shape)}`);
  }
  const heads = q.shape[rank - 2] as number;
  const dim = q.shape[rank - 1] as number;
  const kvHeads = k.shape[rank - 2] as number;
  if (dim !== k.shape[rank - 1] || dim !== v.shape[rank - 1] || kvHeads !== v.shape[rank - 2] || heads % kvHeads !== 0) {
    throw new ShapeError(
      `attention: expected k and v with q's dim ${dim} and a number of heads that divides ${heads}, got q ${show(q.shape)}, k ${show(k.shape)}, v ${show(v.shape)}`,
    );
  }
  if (!ragged) {
    const b = q.shape[0] as number;
    const s = k.shape[1] as number;
    if (k.shape[0] !== b || v.shape[0] !== b || v.shape[1] !== s)
      throw new ShapeError(`attention: expected k and v of one length and batch ${b}, got k ${show(k.shape)}, v ${show(v.shape)}`);
    return { rowsQ: b * (q.shape[1] as number), rowsK: b * s, heads, kvHeads, dim, sequences: b };
  }
  const cuQ = options.cuSeqlens as Int32Array;
  const cuK = options.cuSeqlensK ?? cuQ;
  const [rowsQ, rowsK] = [q.shape[0] as number, k.shape[0] as number];
  for (const [name, cu, rows] of [
    ["cuSeqlens", cuQ, rowsQ],
    ["cuSeqlensK", cuK, rowsK],
  ] as const) {
    if (cu[0] !== 0 || cu.at(-1) !== rows || cu.length !== cuQ.length || cu.some((x, i) => i > 0 && x < (cu[i - 1] as number))) {
      throw new ShapeError(
        `attention: expected ${name} to rise from 0 to ${rows} in ${cuQ.length} steps, got [${[...cu].slice(0, 8).join(", ")}${cu.length > 8 ? ", …" : ""}]`,
      );
    }
  }
  if (v.shape[0] !== rowsK) throw new ShapeError(`attention: expected v with ${rowsK} rows like k, got ${show(v.shape)}`);
  return { rowsQ, rowsK, heads, kvHeads, dim, sequences: cuQ.length - 1 };
}

interface Rows {
  readonly x: Tensor;
  readonly row: number;
}

/** x as rows of (heads, dim) a fixed distance apart: as it is where its strides allow, else copied. */
export function asRows(x: Tensor): Rows {
  const n = x.rank;
  const h = x.shape[n - 2] as number;
  const d = x.shape[n - 1] as number;
  if (x.dtype === "f32" && x.isContiguous) return { x, row: h * d };
  const s = x.strides;
  const row = s[n - 3] as number;
  const even = n < 4 || x.shape[0] === 1 || s[0] === row * (x.shape[1] as number);
  const tight = (d === 1 || s[n - 1] === 1) && (h === 1 || s[n - 2] === d);
  if (x.dtype === "f32" && even && tight) return { x, row };
  return { x: noGrad(() => contiguous(cast(x, "f32"))), row: h * d };
}

/** Where ragged sequences begin and end, as the kernels take it: cuQ, startK and lenK, one behind the other. Null for sequences alike. */
function boundaries(sequences: number, { cuSeqlens: cuQ, cuSeqlensK: cuK = cuQ }: AttentionOptions): Tensor | null {
  if (cuQ === undefined || cuK === undefined) return null;
  const all = new Int32Array(3 * sequences + 1);
  for (let s = 0; s < sequences; s++) {
    const start = cuK[s] as number;
    all[s + 1] = cuQ[s + 1] as number;
    all[sequences + 1 + s] = start;
    all[2 * sequences + 1 + s] = (cuK[s + 1] as number) - start;
  }
  return tensorFrom(all, [all.length]);
}

/** Where part `i` of `boundaries` lies. */
const place = (cuts: Tensor | null, sequences: number, i: number): Operand | null => cuts && { storage: cuts.storage, offset: i === 0 ? 0 : i * sequences + 1 };

/** What makes scores of products, as the kernels take it. */
export function rules(options: AttentionOptions, dim: number): { scale: number; causal: number; window: number; softcap: number; slopes: Tensor | null } {
  const { scale = 1 / Math.sqrt(dim), causal = true, window = 0, softcap = 0, slopes = null } = options;
  return { scale, causal: causal ? 1 : 0, window, softcap, slopes };
}

/** Places for the gradients: side by side where q, k and v are parts of the same rows, so that joining them (`split`) costs nothing. */
function gradientsOf(ctx: Context, l: Layout, q: Rows, k: Rows, v: Rows): { gq: Tensor; gk: Tensor; gv: Tensor; rowQ: number; rowK: number } {
  const rowQ = l.heads * l.dim;
  const rowK = l.kvHeads * l.dim;
  const row = rowQ + 2 * rowK;
  const { storage, offset } = q.x;
  const beside = (r: Rows, start: number) => r.row === row && r.x.storage === storage && r.x.offset === offset + start;
  if (l.rowsQ !== l.rowsK || !(beside(q, 0) && beside(k, rowQ) && beside(v, rowQ + rowK)))
    return { gq: ctx.out(q.x.shape), gk: ctx.out(k.x.shape), gv: ctx.out(v.x.shape), rowQ, rowK };
  const whole = ctx.out([l.rowsQ, row]);
  const part = ({ shape }: Tensor, start: number) => {
    const strides = contiguousStrides(shape);
    strides[shape.length - 3] = row;
    if (shape.length === 4) strides[0] = row * (shape[1] as number);
    return whole.view(shape, strides, start);
  };
  return { gq: part(q.x, 0), gk: part(k.x, rowQ), gv: part(v.x, rowQ + rowK), rowQ: row, rowK: row };
}

const attentionOp = defineOp<[q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions, sinks?: Tensor[]]>({
  name: "attention",
  tensors: 3,
  shape: (q, k, v, options, sinks = []) => {
    const { heads } = layout(q, k, v, options);
    const [s] = sinks;
    if (s !== undefined && (s.rank !== 1 || s.shape[0] !== heads))
      throw new ShapeError(`attention: expected sinks (${heads},), one for each head, got ${show(s.shape)}`);
    return q.shape;
  },
  forward: (ctx, shape, q, k, v, options, sinks = []) => {
    const l = layout(q, k, v, options);
    const rq = asRows(q);
    const rk = asRows(k);
    const rv = asRows(v);
    const out = ctx.out(shape);
    const [sink] = sinks;
    let lse = ctx.records || sink !== undefined ? ctx.out([l.heads, l.rowsQ]) : null;
    const { mask, strides } = maskOf(q, k, options);
    const { scale, causal, window, softcap, slopes } = rules(options, l.dim);
    const cuts = boundaries(l.sequences, options);
    attentionKernel(
      rq.x,
      rq.row,
      rk.x,
      rk.row,
      rv.x,
      rv.row,
      out,
      l.heads * l.dim,
      lse,
      place(cuts, l.sequences, 0),
      place(cuts, l.sequences, 1),
      place(cuts, l.sequences, 2),
      l.sequences,
      l.rowsQ,
      l.rowsK,
      l.heads,
      l.kvHeads,
      l.dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
      mask,
      strides,
    );
    if (sink !== undefined) lse = withSinks(out, lse as Tensor, f32(sink));
    ctx.save(rq.x, rk.x, rv.x, out, lse, cuts, sink ?? null);
    return out;
  },
  backward: (ctx, args, g) => {
    const options = args[3];
    const l = layout(args[0], args[1], args[2], options);
    const rq = asRows(ctx.get(0));
    const rk = asRows(ctx.get(1));
    const rv = asRows(ctx.get(2));
    const rg = asRows(g as Tensor);
    const { gq, gk, gv, rowQ, rowK } = gradientsOf(ctx, l, rq, rk, rv);
    const { mask, strides } = maskOf(args[0], args[1], options);
    const { scale, causal, window, softcap, slopes } = rules(options, l.dim);
    const cuts = ctx.maybe(5);
    attentionGrad(
      rq.x,
      rq.row,
      rk.x,
      rk.row,
      rv.x,
      rv.row,
      ctx.get(3),
      l.heads * l.dim,
      ctx.get(4),
      rg.x,
      rg.row,
      gq,
      rowQ,
      gk,
      rowK,
      gv,
      rowK,
      place(cuts, l.sequences, 0),
      place(cuts, l.sequences, 1),
      place(cuts, l.sequences, 2),
      l.sequences,
      l.rowsQ,
      l.rowsK,
      l.heads,
      l.kvHeads,
      l.dim,
      scale,
      causal,
      window,
      softcap,
      slopes,
      mask,
      strides,
    );
    const sink = ctx.maybe(6);
    return sink === null ? [gq, gk, gv] : [gq, gk, gv, sinksGradient(ctx.get(3), ctx.get(4), f32(sink), packed(g as Tensor))];
  },
  composed: (q, k, v, options, sinks = []) => composedAttention(q, k, v, { ...options, sinks: sinks[0] }),
  samples: () => {
    const qkv = (b: number, t: number, h: number, kv: number, d: number, s = t): [Tensor, Tensor, Tensor] => [
      values([b, t, h, d]),
      values([b, s, kv, d], { seed: 2 }),
      values([b, s, kv, d], { seed: 3 }),
    ];
    const sdpa = (more: string) => `F.scaled_dot_product_attention(x0.transpose(1, 2), x1.transpose(1, 2), x2.transpose(1, 2), ${more}).transpose(1, 2)`;
    // The scores written out, for what PyTorch's own function does not take: head h of x1 and x2 is repeated, t and p are positions, `seen` marks the keys that count.
    const long = (score: string, seen: string) =>
      `(lambda q, k, v: (lambda t, p, s: (${score}).masked_fill(~(${seen}), -math.inf).softmax(-1) @ v)(torch.arange(k.size(2) - q.size(2), k.size(2))[:, None], torch.arange(k.size(2))[None], q @ k.mT / math.sqrt(q.size(-1))).transpose(1, 2))(*[y.transpose(1, 2).repeat_interleave(x0.size(-2) // y.size(-2), 1) for y in (x0, x1, x2)])`;
    const parts = (cuts: readonly (readonly [number, number, number, number])[]) =>
      `torch.cat([(lambda q, k, v: ((q @ k.mT / math.sqrt(q.size(-1))).masked_fill(torch.arange(k.size(1))[None] > torch.arange(k.size(1) - q.size(1), k.size(1))[:, None], -math.inf).softmax(-1) @ v).transpose(0, 1))(*[y[c:d].transpose(0, 1).repeat_interleave(x0.size(1) // y.size(1), 0) for y, c, d in ((x0, a, b), (x1, e, f), (x2, e, f))]) for a, b, e, f in ${JSON.stringify(cuts)}])`;
    return [
      { name: "causal", args: () => [...qkv(2, 5, 2, 2, 4), {}], torch: sdpa("is_causal=True") },
      { name: "grouped queries, long", args: () => [...qkv(1, 150, 4, 2, 8), {}], torch: sdpa("is_causal=True, enable_gqa=True"), differences: false },
      {
        name: "not causal, keys of another length, scaled",
        args: () => [...qkv(2, 3, 2, 1, 4, 7), { causal: false, scale: 0.3 }],
        torch: sdpa("scale=0.3, enable_gqa=True"),
      },
      { name: "window", args: () => [...qkv(1, 9, 2, 2, 4), { window: 3 }], torch: long("s", "(p <= t) & (p > t - 3)") },
      { name: "softcap", args: () => [...qkv(1, 6, 2, 2, 4), { softcap: 1.5 }], torch: long("1.5 * (s / 1.5).tanh()", "p <= t") },
      { name: "ALiBi", args: () => [...qkv(1, 6, 2, 2, 4), { slopes: tensor([0.5, 0.25]) }], torch: long("s + slopes[:, None, None] * (p - t)", "p <= t") },
      {
        name: "sinks",
        args: () => [...qkv(2, 5, 4, 2, 4), {}, [values([4], { seed: 6 })]],
        torch:
          "(lambda q, k, v: torch.cat([(q @ k.mT / math.sqrt(q.size(-1))).masked_fill(torch.ones(5, 5).tril() == 0, -math.inf), x3[:, None, None].expand(2, 4, 5, 1)], -1).softmax(-1)[..., :-1] @ v)(*[y.transpose(1, 2).repeat_interleave(x0.size(-2) // y.size(-2), 1) for y in (x0, x1, x2)]).transpose(1, 2)",
      },
      {
        name: "sinks, ragged, window",
        args: () => [
          values([7, 2, 4]),
          values([7, 1, 4], { seed: 2 }),
          values([7, 1, 4], { seed: 3 }),
          { cuSeqlens: Int32Array.of(0, 3, 3, 7), window: 2 },
          [values([2], { seed: 6 })],
        ],
      },
      {
        name: "mask",
        args: () => [...qkv(2, 4, 2, 2, 4), { causal: false, mask: values([2, 1, 4, 4], { seed: 5, requiresGrad: false }) }],
        torch: sdpa("attn_mask=mask"),
      },
      {
        name: "ragged",
        args: () => [values([7, 2, 4]), values([7, 1, 4], { seed: 2 }), values([7, 1, 4], { seed: 3 }), { cuSeqlens: Int32Array.of(0, 3, 3, 7) }],
        torch: parts([
          [0, 3, 0, 3],
          [3, 7, 3, 7],
        ]),
      },
      {
        name: "ragged, more keys than queries",
        args: () => [
          values([3, 2, 4]),
          values([9, 1, 4], { seed: 2 }),
          values([9, 1, 4], { seed: 3 }),
          { cuSeqlens: Int32Array.of(0, 1, 3), cuSeqlensK: Int32Array.of(0, 4, 9) },
        ],
        torch: parts([
          [0, 1, 0, 4],
          [1, 3, 4, 9],
        ]),
      },
    ];
  },
});

const NO_MASK = { mask: null, strides: [0, 0, 0, 0] };

function maskOf(q: Tensor, k: Tensor, options: AttentionOptions): { mask: Tensor | null; strides: number[] } {
  if (options.mask === undefined) return NO_MASK;
  if (options.cuSeqlens !== undefined) throw new ShapeError("attention: expected no mask with cuSeqlens, got one. Ragged rows are masked by their boundaries");
  const target = [q.shape[0] as number, q.shape[2] as number, q.shape[1] as number, k.shape[1] as number];
  const mask = noGrad(() => expand(cast(options.mask as Tensor, "f32"), target));
  return { mask, strides: [...mask.strides] };
}

/** The same from plain operations, one sequence at a time: scores, masks, softmax, weighted sum. */
function composedAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const l = layout(q, k, v, options);
  const { cuSeqlens: cuQ, cuSeqlensK: cuK = cuQ } = options;
  if (cuQ === undefined || cuK === undefined) return dense(q, k, v, options);
  const parts: Tensor[] = [];
  for (let s = 0; s < l.sequences; s++) {
    const [q0, q1, k0, k1] = [cuQ[s], cuQ[s + 1], cuK[s], cuK[s + 1]] as [number, number, number, number];
    if (q1 === q0) continue;
    const cut = (x: Tensor, a: number, b: number) => unsqueeze(x.narrow(0, a, b - a), 0);
    parts.push(reshape(dense(cut(q, q0, q1), cut(k, k0, k1), cut(v, k0, k1), options, s), [q1 - q0, l.heads, l.dim]));
  }
  return parts[0]?.concat(parts.slice(1), 0) ?? packed(q);
}

function dense(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions, sequence = 0): Tensor {
  const see: Watch = options.watch ?? ((_, x) => x);
  const [t, heads, dim] = q.shape.slice(1) as [number, number, number];
  const [s, kvHeads] = k.shape.slice(1) as [number, number];
  const repeat = (x: Tensor) => {
    const y = permute(x, [0, 2, 1, 3]); // (B, kvHeads, S, D)
    const b = x.shape[0] as number;
    return reshape(expand(unsqueeze(y, 2), [b, kvHeads, heads / kvHeads, s, dim]), [b, heads, s, dim]);
  };
  let scores = mul(matmul(permute(q, [0, 2, 1, 3]), transpose(repeat(k))), options.scale ?? 1 / Math.sqrt(dim)); // (B, H, T, S)
  if (options.softcap) scores = softcapped(scores, options.softcap);
  const position = reshape(arange(s - t, s), [t, 1]);
  const key = reshape(arange(s), [1, s]);
  if (options.slopes) scores = add(scores, mul(reshape(options.slopes, [heads, 1, 1]), cast(sub(key, position), "f32")));
  if (options.mask) scores = add(scores, options.mask);
  scores = see("scores", scores, sequence);
  let seen = ge(add(key, s), 0);
  if (options.causal !== false) seen = le(key, position);
  if (options.window) seen = logicalAnd(seen, gt(key, sub(position, options.window)));
  if (options.window && options.causal === false) seen = logicalAnd(seen, lt(key, add(position, options.window)));
  scores = maskedFill(scores, logicalNot(expand(seen, [t, s])), Number.NEGATIVE_INFINITY);
  const { sinks } = options;
  const weights =
    sinks === undefined
      ? softmax(scores)
      : narrow(softmax(concat([scores, expand(reshape(sinks, [heads, 1, 1]), [...scores.shape.slice(0, 3), 1])], -1)), -1, 0, s);
  const probabilities = see("probabilities", weights, sequence);
  return permute(matmul(dropout(probabilities, options.dropout ?? 0), repeat(v)), [0, 2, 1, 3]); // (B, T, H, D)
}

/**
 * softmax(scale·q·kᵀ + …)·v without a T×T matrix (online softmax, Dao et al. 2022): q (B, T, heads, dim), k and v (B, S, kvHeads, dim), or with
 * `cuSeqlens` (rows, heads, dim). Query i of a sequence stands at position S − T + i. Head h reads kv head ⌊h·kvHeads/heads⌋. Result as q, f32.
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  checkOptions("attention", options, ATTENTION_OPTIONS);
  if (options.dropout || options.watch) return composedAttention(q, k, v, options);
  const { sinks } = options;
  return sinks === undefined ? attentionOp(q, k, v, options) : attentionOp(q, k, v, options, [sinks]);
}

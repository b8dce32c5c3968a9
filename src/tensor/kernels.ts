/**
 * The kernels: everything a backend computes. This file is the contract between the operations (`ops/`), the native
 * backend (Rust, `crates/`) and the reference backend (`reference/`, plain TypeScript): names, arguments in order, meaning.
 *
 * Conventions. All numbers are float32 unless a line says otherwise. Operands are contiguous (row-major) unless the kernel
 * takes strides; strides and offsets count items, not bytes. `rows` × `n` means `rows` rows of `n` neighbouring items.
 * An operand is a buffer and an offset; `null` is allowed only where the type says so. An output never overlaps an input
 * unless the line says "in place is fine". "Adds" means `+=` into what the output holds. Every kernel obeys the row contract: what a row gets
 * depends neither on the other rows nor, in the native backend, on the number of threads or the instruction set. There, sums over a row run in 16 lanes
 * (lane i takes items i, i+16, …; the tail is added to lanes 0…; then the lanes are folded i + (i+8), +4, +2, +1). The reference backend sums in float64 and
 * agrees within rounding.
 */

/** A place in a backend's memory: what a tensor is to a kernel. */
export interface Operand {
  readonly storage: {
    readonly buffer: number;
    /** True while the items lie somewhere else alone: `buffer` makes them again. */
    readonly retired?: boolean;
  };
  /** In items of the operand's dtype. */
  readonly offset: number;
}

export type Sizes = readonly number[];

/** Storage types, in the order of their codes. `bool` is one byte, 0 or 1. */
export const DTYPES = ["f32", "bf16", "f16", "i32", "u8", "bool"] as const;
export type ItemDType = (typeof DTYPES)[number];

/** Block-quantised layouts of weights, GGUF's by their names in small letters, in the order of their codes. Their items have no bytes of their own (`quantized.ts`). */
export const QUANTIZED = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4"] as const;
export type QuantizedDType = (typeof QUANTIZED)[number];

export type DType = ItemDType | QuantizedDType;
const ITEMS: Record<ItemDType, number> = { f32: 4, bf16: 2, f16: 2, i32: 4, u8: 1, bool: 1 };
/** Bytes of an item; 0 for quantised layouts. */
export const ITEM_BYTES = { ...ITEMS, ...Object.fromEntries(QUANTIZED.map((name) => [name, 0])) } as Record<DType, number>;

/** Functions of one number, in the order of their codes. `gelu` is exact (erf), `gelu_tanh` its tanh form (Hendrycks and Gimpel 2016); `round` takes halves to even. `logical_not` is not here: see `compare`. */
export const UNARY = [
  "neg",
  "abs",
  "exp",
  "log",
  "sqrt",
  "rsqrt",
  "square",
  "reciprocal",
  "sin",
  "cos",
  "tanh",
  "sigmoid",
  "relu",
  "gelu",
  "gelu_tanh",
  "silu",
  "erf",
  "floor",
  "ceil",
  "round",
  "sign",
  "log1p",
  "expm1",
  "softplus",
] as const;
export type Unary = (typeof UNARY)[number];

/** Functions of two numbers; those from `eq` on are comparisons and write bool. `remainder` has the divisor's sign, as in Python; `maximum` and `minimum` give NaN if either is. */
export const BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder", "eq", "ne", "lt", "le", "gt", "ge"] as const;
export type Binary = (typeof BINARY)[number];

export const REDUCTIONS = ["sum", "max", "min", "prod"] as const;
export type Reduction = (typeof REDUCTIONS)[number];

/** What `linear` does to its product before it stores it. */
export const ACTIVATIONS = ["none", "relu", "gelu", "gelu_tanh", "silu"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

export interface Kernels {
  // --- moving and filling -------------------------------------------------------------------------------------------
  /** out[0..n] = value, for any dtype (code). */
  fill(out: Operand, dtype: number, n: number, value: number): void;
  /** out[i] = x[i] converted. Float to narrower float rounds to nearest even; float to i32 or u8 truncates (NaN gives 0, clamps at the ends); i32 to u8 keeps the low 8 bits, to bf16 or f16 it goes by way of f32; to bool is `!= 0`. */
  cast(x: Operand, xDtype: number, out: Operand, outDtype: number, n: number): void;
  /** out[index · outStrides] = x[index · xStrides] for every index in `shape`; items of `itemBytes` (1, 2 or 4) bytes. Strides may be 0 for x. */
  copy(x: Operand, xStrides: Sizes, out: Operand, outStrides: Sizes, shape: Sizes, itemBytes: number): void;

  // --- elementwise --------------------------------------------------------------------------------------------------
  /** out[i] = f(x[i]), f by its place in UNARY. In place is fine. */
  unary(kind: number, x: Operand, out: Operand, n: number): void;
  /** gx[i] = f'(x[i]) · gy[i]; y is f(x), read instead of x by exp, sqrt, rsqrt, reciprocal, tanh, sigmoid and expm1. Zero for floor, ceil, round, sign. gx may be gy. */
  unaryGrad(kind: number, x: Operand, y: Operand, gy: Operand, gx: Operand, n: number): void;
  /** out (contiguous, of `shape`) = f(a, b), f by its place in BINARY; dtype code f32 or i32 for a and b (i32 wraps at 32 bits, div truncates to zero, div and remainder by 0 are errors; not pow). Comparisons write bool. out may be a or b where that one is contiguous. */
  binary(kind: number, dtype: number, a: Operand, aStrides: Sizes, b: Operand, bStrides: Sizes, out: Operand, shape: Sizes): void;
  /** out = condition ? a : b, of `shape`; condition is bool, a, b and out have items of 4 bytes. */
  where(condition: Operand, conditionStrides: Sizes, a: Operand, aStrides: Sizes, b: Operand, bStrides: Sizes, out: Operand, shape: Sizes): void;
  /** out[i] = alpha·x[i] + beta·y[i]; y may be null when beta is 0. In place is fine. */
  axpby(alpha: number, x: Operand, beta: number, y: Operand | null, out: Operand, n: number): void;

  // --- reductions ---------------------------------------------------------------------------------------------------
  /** x is (outer, n, inner); out (outer, inner) = reduction over n, kind by its place in REDUCTIONS. With inner = 1 a row runs in 16 lanes, cut at every 65 536 items (the parts are then combined in order), else in ascending n for each of the inner columns. max and min pass NaN on. */
  reduce(kind: number, x: Operand, out: Operand, outer: number, n: number, inner: number): void;
  /** As reduce, out is i32: the place of the largest (or, with `least` = 1, smallest) item; the first of equals; a NaN counts as largest (and smallest). */
  argReduce(least: number, x: Operand, out: Operand, outer: number, n: number, inner: number): void;
  /** Running sum along n of (outer, n, inner), ascending; with `reverse` = 1 from the end (the gradient). */
  cumsum(x: Operand, out: Operand, outer: number, n: number, inner: number, reverse: number): void;
  /** Each row sorted: values and their places (i32); `descending` 0 or 1; equal items keep their order; NaN counts as largest. */
  sort(x: Operand, values: Operand, indices: Operand, rows: number, n: number, descending: number): void;
  /** The k largest of each row in descending order (ties: lower place first), as `sort` descending cut at k. */
  topk(x: Operand, values: Operand, indices: Operand, rows: number, n: number, k: number): void;

  // --- indexing (index operands are i32; an index out of range is an error that names it, checked before anything is written) ---
  /** x (outer, n, inner), index and out (outer, k, inner): out[o,j,i] = x[o, index[o,j,i], i]; items of 4 bytes. */
  gather(x: Operand, index: Operand, out: Operand, outer: number, n: number, k: number, inner: number): void;
  /** The gradient of gather: out[o, index[o,j,i], i] += src[o,j,i], in ascending j. */
  scatterAdd(src: Operand, index: Operand, out: Operand, outer: number, n: number, k: number, inner: number): void;
  /** out (count, dim) = rows of weight (rows, dim) named by ids; `dtype` is the weight's code (f32, bf16 or f16), out is f32. */
  embedding(weight: Operand, dtype: number, ids: Operand, out: Operand, count: number, rows: number, dim: number): void;
  /** gw (rows, dim), adds: gw[ids[c]] += gy[c] in ascending c for each row; untouched rows are not read. */
  embeddingGrad(ids: Operand, gy: Operand, gw: Operand, count: number, rows: number, dim: number): void;

  // --- matrix products ----------------------------------------------------------------------------------------------
  /**
   * For each of `batch` problems: c (m×n, rows `cRow` apart) = alpha·a·b, or adds it where `accumulate` = 1.
   * a[i,p] lies at i·aRow + p·aCol, b[p,j] at p·bRow + j·bCol, problem z adds z·aBatch, z·bBatch, z·cBatch (0 repeats).
   * Each output element is one FMA chain in ascending p from 0, cut into blocks of KC = 768: chains of later blocks start at 0 and are
   * added to the sum so far; alpha multiplies the finished sum, then it is added to c.
   */
  gemm(
    a: Operand,
    aRow: number,
    aCol: number,
    aBatch: number,
    b: Operand,
    bRow: number,
    bCol: number,
    bBatch: number,
    c: Operand,
    cRow: number,
    cBatch: number,
    batch: number,
    m: number,
    n: number,
    k: number,
    alpha: number,
    accumulate: number,
  ): void;
  /**
   * A linear layer: out (m, n) = activation(x (m, k) · weightᵀ + bias (n)) + residual (m, n); weight[j, p] (output j, input p) lies at j·wRow + p·wCol:
   * (k, 1) for PyTorch's Linear, (1, n) for GPT-2's Conv1D. The activation's slope at the sum goes to `slope` (m, n) where given: all that a backward
   * pass needs of it. Same chains as gemm. Activation by its place in ACTIVATIONS. out may be residual.
   */
  linear(
    x: Operand,
    weight: Operand,
    wRow: number,
    wCol: number,
    bias: Operand | null,
    residual: Operand | null,
    out: Operand,
    slope: Operand | null,
    m: number,
    n: number,
    k: number,
    activation: number,
  ): void;
  /** The gradient of linear's x: gx (m, k) = (gy (m, n) · weight) · slope (m, k), item by item, or adds it where `accumulate` = 1. Same chains as gemm. gx may be slope. */
  linearInputGrad(
    gy: Operand,
    weight: Operand,
    wRow: number,
    wCol: number,
    slope: Operand | null,
    gx: Operand,
    m: number,
    n: number,
    k: number,
    accumulate: number,
  ): void;
  /**
   * The gradients of linear's weight and bias: gw (n, k), or (k, n) where `transposed` = 1, = gyᵀ · x, or adds it where `accumulate` = 1, same chains as gemm;
   * gb (n), stored where given, the sums of gy's columns, as `reduce` has them.
   */
  linearWeightGrad(x: Operand, gy: Operand, gw: Operand, gb: Operand | null, m: number, n: number, k: number, transposed: number, accumulate: number): void;
  /**
   * `gemm` with every item of a and b first rounded to bfloat16 (to nearest, ties to even), sums in float32. How the sums run depends on the
   * instruction set (`Backend.bf16()`), so bytes are the same only where that is; the rest of the row contract holds.
   */
  gemmBf16(...args: Parameters<Kernels["gemm"]>): void;
  /** `linear` with x and weight rounded in the same way; bias, activation and residual stay float32. */
  linearBf16(...args: Parameters<Kernels["linear"]>): void;
  /** `linearInputGrad` with gy and weight rounded. */
  linearInputGradBf16(...args: Parameters<Kernels["linearInputGrad"]>): void;
  /** `linearWeightGrad` with x and gy rounded in the product; gb stays the sums of gy as it is. */
  linearWeightGradBf16(...args: Parameters<Kernels["linearWeightGrad"]>): void;
  /**
   * Copies a weight (n, k), strides as in `linear`, to the layout that `linearPacked` reads in one stream: groups of 16 outputs, [⌈n/16⌉][k][16],
   * absent outputs 0. out holds ⌈n/16⌉·16·k items. For weights that serve many calls: generation.
   */
  packWeight(weight: Operand, wRow: number, wCol: number, out: Operand, n: number, k: number): void;
  /** `packWeight` of n rows of k items, n a multiple of 16, over the rows themselves. */
  packWeightInPlace(weight: Operand, n: number, k: number): void;
  /** `embedding` of a table (rows, dim) that `packWeight` has copied. */
  embeddingPacked(packed: Operand, ids: Operand, out: Operand, count: number, rows: number, dim: number): void;
  /** `linear` with a weight that `packWeight` has copied: the same bytes. */
  linearPacked(
    x: Operand,
    packed: Operand,
    bias: Operand | null,
    residual: Operand | null,
    out: Operand,
    slope: Operand | null,
    m: number,
    n: number,
    k: number,
    activation: number,
  ): void;

  // --- block-quantised weights (n, k), layouts by their places in QUANTIZED. A packed weight has the backend's own order of rows and planes, and room for
  //     `packedBytes` bytes (`quantized.ts`); k is whole blocks -----------------------------------------------------------
  /** Packs `count` rows of the n from the file's blocks (u8) as those from `first` on; both are multiples of 16, but for a count that ends with the last row. */
  packQuantized(blocks: Operand, packed: Operand, layout: number, first: number, count: number, n: number, k: number): void;
  /** blocks (u8) = the file's bytes of `count` rows from `first` on: what `packQuantized` read. */
  unpackQuantized(packed: Operand, blocks: Operand, layout: number, first: number, count: number, n: number, k: number): void;
  /** out (count, k) = the rows from `first` on in float32, with ggml's roundings. */
  dequantizeRows(packed: Operand, out: Operand, layout: number, first: number, count: number, n: number, k: number): void;
  /** `embedding` of a packed table (rows, dim): out (count, dim) = the rows named by ids (i32), as `dequantizeRows` has them. */
  embeddingQuantized(packed: Operand, layout: number, ids: Operand, out: Operand, count: number, rows: number, dim: number): void;
  /**
   * `linear` with a packed weight. Each row of x is first rounded to 8 bits in blocks of 32: q = round(x · 127 / largest), ties to even, scale = largest / 127 (a
   * block whose largest size is below 1e-36 is zeros). Where a block's largest size is above 6 times the root of the row's mean square, what that leaves over is rounded to 8 bits
   * once more, in steps of scale / 254: a second part, which follows the first in the chain and is multiplied likewise. A sum is one FMA chain over the blocks (or half blocks, where those have scales of their own) in ascending k:
   * (Σ q·code, exact) · (weight's scale · x's scale), then, where the layout has minima, minimum · (x's scale · Σ q).
   */
  linearQuantized(
    x: Operand,
    packed: Operand,
    layout: number,
    bias: Operand | null,
    residual: Operand | null,
    out: Operand,
    slope: Operand | null,
    m: number,
    n: number,
    k: number,
    activation: number,
  ): void;
  /** `linearQuantized` of several weights (sizes[i], k) on the same rows, with a bias each or none (an empty list): outs[i] (m, sizes[i]) has the same bytes. */
  linearsQuantized(
    x: Operand,
    packed: readonly Operand[],
    layouts: Sizes,
    biases: readonly Operand[],
    outs: readonly Operand[],
    sizes: Sizes,
    m: number,
    k: number,
  ): void;

  // --- norms and softmax --------------------------------------------------------------------------------------------
  /** Layer normalisation (Ba et al. 2016) of each row: (x − mean)·rstd·weight + bias; mean and rstd = 1/√(variance + eps) (rows) are kept for the gradient. */
  layerNorm(x: Operand, weight: Operand | null, bias: Operand | null, out: Operand, mean: Operand, rstd: Operand, rows: number, n: number, eps: number): void;
  /** gx, stored or with `accumulate` = 1 added, gw and gb (null: not wanted). Sums over rows run in fixed blocks of rows, so they depend on nothing else. */
  layerNormGrad(
    x: Operand,
    weight: Operand | null,
    mean: Operand,
    rstd: Operand,
    gy: Operand,
    gx: Operand | null,
    gw: Operand | null,
    gb: Operand | null,
    rows: number,
    n: number,
    accumulate: number,
  ): void;
  /** RMS normalisation (Zhang and Sennrich 2019): x·rstd·weight, rstd = 1/√(mean(x²) + eps) (rows). */
  rmsNorm(x: Operand, weight: Operand | null, out: Operand, rstd: Operand, rows: number, n: number, eps: number): void;
  /** As layerNormGrad. */
  rmsNormGrad(
    x: Operand,
    weight: Operand | null,
    rstd: Operand,
    gy: Operand,
    gx: Operand | null,
    gw: Operand | null,
    rows: number,
    n: number,
    accumulate: number,
  ): void;
  /** Softmax of each row, or its logarithm with `log` = 1; a row of −∞ only gives NaN, as in PyTorch. In place is fine. */
  softmax(x: Operand, out: Operand, rows: number, n: number, log: number): void;
  /** gx from the result y: softmax y·(gy − Σ gy·y); log-softmax gy − eʸ·Σ gy. gx may be gy. */
  softmaxGrad(y: Operand, gy: Operand, gx: Operand, rows: number, n: number, log: number): void;

  // --- losses -------------------------------------------------------------------------------------------------------
  /**
   * Cross-entropy of each row of logits (rows, n) with targets (i32): losses[r] = lse[r] − x[target], with label smoothing s:
   * (1 − s)·that + s·(lse − mean(x)); 0 where the target is `ignoreIndex`. lse (rows) is kept for the gradient. Other targets outside 0…n−1 are an error.
   */
  crossEntropy(logits: Operand, targets: Operand, losses: Operand, lse: Operand, rows: number, n: number, ignoreIndex: number, smoothing: number): void;
  /** gx[r,j] = scale[r·scaleStride]·(softmax_j − (1−s)·[j = target] − s/n), 0 for ignored rows. gx may be logits. */
  crossEntropyGrad(
    logits: Operand,
    targets: Operand,
    lse: Operand,
    scale: Operand,
    scaleStride: number,
    gx: Operand,
    rows: number,
    n: number,
    ignoreIndex: number,
    smoothing: number,
  ): void;

  // --- transformer parts --------------------------------------------------------------------------------------------
  /**
   * Rotary embedding (Su et al. 2021) of x seen as (rows, heads, headDim), rows `xRow` and heads `headDim` apart, to out (rows `outRow` apart).
   * cos and sin are tables (positions, rotary/2); row r uses the table row positions[r] (i32). Of each head's first `rotary` items, item i pairs with
   * i + rotary/2 (or 2i with 2i+1 where `interleaved` = 1); the rest is copied. `inverse` = 1 turns back (the gradient). In place is fine.
   */
  rope(
    x: Operand,
    xRow: number,
    out: Operand,
    outRow: number,
    cos: Operand,
    sin: Operand,
    positions: Operand,
    rows: number,
    heads: number,
    headDim: number,
    rotary: number,
    interleaved: number,
    inverse: number,
  ): void;
  /** out = activation(gate)·up, activation by its place in ACTIVATIONS. */
  gated(activation: number, gate: Operand, up: Operand, out: Operand, n: number): void;
  gatedGrad(activation: number, gate: Operand, up: Operand, gy: Operand, ggate: Operand, gup: Operand, n: number): void;
  /**
   * Attention over ragged sequences, never a T×T matrix (online softmax, Dao et al. 2022).
   * q is (rowsQ, heads, dim): row r and head h at r·qRow + h·dim; out likewise with oRow; k and v are (rowsK, kvHeads, dim) with kRow, vRow.
   * Head h reads kv head ⌊h·kvHeads/heads⌋. Sequence s has query rows cuQ[s]…cuQ[s+1]−1 and key positions 0…lenK[s]−1 (cuQ: i32, sequences+1;
   * lenK: i32, sequences). Key position p of s is row startK[s] + p of k and v. Where cuQ, startK and lenK are all null, the sequences are alike:
   * rowsQ/sequences queries and rowsK/sequences keys each. The i-th query of s stands at position lenK[s] − lenQ[s] + i.
   * Key position p counts for a query at position t if: causal = 0 or p ≤ t; window = 0 or p > t − window (and, not causal, p < t + window).
   * Score = scale·q·k, then softcap·tanh(score/softcap) where softcap > 0, then + slopes[h]·(p − t) where slopes (heads) is given (ALiBi,
   * Press et al. 2022), then + mask where given: mask value at s·maskStrides[0] + h·maskStrides[1] + i·maskStrides[2] + p·maskStrides[3].
   * Keys are taken in blocks of 64 at absolute positions. lse (heads, rowsQ) gets the logsumexp of each query's scores (null: not wanted). A query
   * without any key, or whose scores are all −∞, gives 0 and lse −∞.
   */
  attention(
    q: Operand,
    qRow: number,
    k: Operand,
    kRow: number,
    v: Operand,
    vRow: number,
    out: Operand,
    oRow: number,
    lse: Operand | null,
    cuQ: Operand | null,
    startK: Operand | null,
    lenK: Operand | null,
    sequences: number,
    rowsQ: number,
    rowsK: number,
    heads: number,
    kvHeads: number,
    dim: number,
    scale: number,
    causal: number,
    window: number,
    softcap: number,
    slopes: Operand | null,
    mask: Operand | null,
    maskStrides: Sizes,
  ): void;
  /**
   * `attention`, without a mask, to keys and values that lie in pages of 64 positions: k is (pageCount, kvHeads, dim, 64), so that each item of a page's keys lies side by
   * side, and v (pageCount, kvHeads, 64, dim), both f32 or f16 (dtype code), which is taken as the float32 of the same value. Key position p of sequence s is
   * position p mod 64 of page pages[s, ⌊p/64⌋] (i32, sequences × maxPages); what lies behind lenK[s] is not looked at. Same bytes as `attention` over float32 rows
   * of the same values.
   */
  pagedAttention(
    q: Operand,
    qRow: number,
    k: Operand,
    v: Operand,
    dtype: number,
    out: Operand,
    oRow: number,
    lse: Operand | null,
    cuQ: Operand,
    lenK: Operand,
    pages: Operand,
    maxPages: number,
    sequences: number,
    rowsQ: number,
    pageCount: number,
    heads: number,
    kvHeads: number,
    dim: number,
    scale: number,
    causal: number,
    window: number,
    softcap: number,
    slopes: Operand | null,
  ): void;
  /**
   * Writes row r of x (rows, kvHeads, dim), f32, rows xRow apart, to position slots[r] mod 64 of page ⌊slots[r]/64⌋ of `out`, rounded to nearest even where that is f16
   * (dtype code): pages as those of `pagedAttention`, of keys (keys = 1) or of values. Of rows with the same slot the last stays.
   */
  writePages(
    x: Operand,
    xRow: number,
    out: Operand,
    dtype: number,
    keys: number,
    slots: Operand,
    rows: number,
    pageCount: number,
    kvHeads: number,
    dim: number,
  ): void;
  /**
   * The gradients of attention: gq, gk, gv (store; row strides gqRow, gkRow, gvRow) from out, lse and gout (rows goRow apart).
   * Recomputes the probabilities block by block. The mask gets no gradient here.
   */
  attentionGrad(
    q: Operand,
    qRow: number,
    k: Operand,
    kRow: number,
    v: Operand,
    vRow: number,
    out: Operand,
    oRow: number,
    lse: Operand,
    gout: Operand,
    goRow: number,
    gq: Operand,
    gqRow: number,
    gk: Operand,
    gkRow: number,
    gv: Operand,
    gvRow: number,
    cuQ: Operand | null,
    startK: Operand | null,
    lenK: Operand | null,
    sequences: number,
    rowsQ: number,
    rowsK: number,
    heads: number,
    kvHeads: number,
    dim: number,
    scale: number,
    causal: number,
    window: number,
    softcap: number,
    slopes: Operand | null,
    mask: Operand | null,
    maskStrides: Sizes,
  ): void;
  /**
   * `attention` whose products round their operands to bfloat16: q, k, v and, on their way to v, the softmax's weights. Softmax, logsumexp and
   * all sums stay float32. Bytes are the same as for `gemmBf16`.
   */
  attentionBf16(...args: Parameters<Kernels["attention"]>): void;
  /** `pagedAttention` in the same way. */
  pagedAttentionBf16(...args: Parameters<Kernels["pagedAttention"]>): void;
  /** `attentionGrad` in the same way: gout, the probabilities and the derivatives of the scores are rounded too on their way into products. */
  attentionGradBf16(...args: Parameters<Kernels["attentionGrad"]>): void;

  // --- randomness: Philox4x32-10 (Salmon et al. 2011). Item i uses word i mod 4 of the block at counter (block + ⌊i/4⌋), key (keyLow, keyHigh); counters are
  //     (low 32 bits, high 32 bits, stream, 0) -------------------------------------------------------------------------
  /** out[i] = low + (high − low)·u, u = (word >> 8)·2⁻²⁴ in [0, 1). */
  uniform(out: Operand, n: number, keyLow: number, keyHigh: number, stream: number, block: number, low: number, high: number): void;
  /** Standard normal ·std + mean by Box–Muller: words (0,1) of a block give items 4b, 4b+1 and words (2,3) give 4b+2, 4b+3; u1 = ((word >> 8) + 1)·2⁻²⁴, radius √(−2 ln u1), angle 2π·u2 (cos first, then sin). */
  normal(out: Operand, n: number, keyLow: number, keyHigh: number, stream: number, block: number, mean: number, std: number): void;
  /** out (i32) = low + ⌊word·(high − low)·2⁻³²⌋. */
  randint(out: Operand, n: number, keyLow: number, keyHigh: number, stream: number, block: number, low: number, high: number): void;
  /** out[i] = u ≥ p ? x[i]/(1−p) : 0, u as in `uniform`, p in float32. Its own gradient, with the same key and counter. In place is fine. */
  dropout(x: Operand, out: Operand, n: number, p: number, keyLow: number, keyHigh: number, stream: number, block: number): void;

  // --- optimisers: `count` tensors in one pass; arrays of operands p, g, and states; sizes[i] items, own learning rate and weight decay each. `gradScale` multiplies every gradient first (clipping) ---
  /** Decoupled Adam (Loshchilov and Hutter 2019), or Adam with L2 (decoupled = 0). step counts from 1. p −= lr·wd·p; m, v updated; p −= lr·(m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + eps), in PyTorch's order. */
  adamw(
    p: readonly Operand[],
    g: readonly Operand[],
    m: readonly Operand[],
    v: readonly Operand[],
    sizes: Sizes,
    learningRates: Sizes,
    weightDecays: Sizes,
    beta1: number,
    beta2: number,
    eps: number,
    step: number,
    gradScale: number,
    decoupled: number,
  ): void;
  /** SGD with momentum (buffer null-like: pass the parameters again when momentum = 0), dampening 0, optional Nesterov; L2 weight decay. `first` = 1 at the first step: buf = g. */
  sgd(
    p: readonly Operand[],
    g: readonly Operand[],
    buf: readonly Operand[],
    sizes: Sizes,
    learningRates: Sizes,
    weightDecays: Sizes,
    momentum: number,
    nesterov: number,
    first: number,
    gradScale: number,
  ): void;
  /** RMSprop (Hinton 2012): v = αv + (1−α)g²; p −= lr·g/(√v + eps). */
  rmsprop(
    p: readonly Operand[],
    g: readonly Operand[],
    v: readonly Operand[],
    sizes: Sizes,
    learningRates: Sizes,
    weightDecays: Sizes,
    alpha: number,
    eps: number,
    gradScale: number,
  ): void;
  /** Σ x² over all tensors, in float64 over fixed blocks: the square of the global gradient norm. */
  sumSquares(x: readonly Operand[], sizes: Sizes): number;
  /** The place of the first NaN or infinity of x, or −1. */
  firstNonFinite(x: Operand, n: number): number;
}

export type KernelName = keyof Kernels;

/** Kernels whose call gives a number back. */
export const ANSWERING: readonly KernelName[] = ["sumSquares", "firstNonFinite"];

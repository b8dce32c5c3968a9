/** Matrix products. Every output is one float64 sum in ascending p, whatever the shape: a row's bytes do not depend on the other rows. */
import { ShapeError } from "../../errors.ts";
import { bf16ToF32, f32ToBf16 } from "../dtype.ts";
import type { Kernels, Operand } from "../kernels.ts";
import { reach } from "../shape.ts";
import { activationCurve } from "./curves.ts";
import { checkIndices } from "./indexing.ts";
import type { Views } from "./memory.ts";

/** A matrix inside an array: item (i, p) lies at start + i·row + p·col. */
interface Matrix {
  readonly items: Float32Array;
  readonly start: number;
  readonly row: number;
  readonly col: number;
}

// The product goes by tiles of 4×4 outputs, whose 16 sums stay in local variables: 8 loads then feed 16 multiply-adds.
const TILE = 4;
// Rows of a that are packed at once. A packed strip of b is used for all of them before the next one is packed.
const ROWS = 64;
// Outputs that `packWeight` puts side by side.
const GROUP = 16;

/**
 * Copies `count` lines (rows of a, columns of b) of k items into strips of 4 lines: line l, item p goes to ((l div 4)·k + p)·4 + l mod 4.
 * `across` is the step from line to line, `along` that from item to item. What is left over of the last strip stays as it was: those sums are never stored.
 */
function pack(packed: Float64Array, { items }: Matrix, start: number, across: number, along: number, count: number, k: number): void {
  for (let l = 0; l < count; l++) {
    const to = (l - (l % TILE)) * k + (l % TILE);
    const from = start + l * across;
    for (let p = 0; p < k; p++) packed[to + p * TILE] = items[from + p * along];
  }
}

/** The 16 sums Σ a[i,p]·b[p,j] of a strip of a (from `at`) and one of b. */
function multiplyTile(a: Float64Array, at: number, b: Float64Array, k: number, sums: Float64Array): void {
  let [s00, s01, s02, s03] = [0, 0, 0, 0];
  let [s10, s11, s12, s13] = [0, 0, 0, 0];
  let [s20, s21, s22, s23] = [0, 0, 0, 0];
  let [s30, s31, s32, s33] = [0, 0, 0, 0];
  for (let i = at, j = 0; j < 4 * k; i += 4, j += 4) {
    const b0 = b[j];
    const b1 = b[j + 1];
    const b2 = b[j + 2];
    const b3 = b[j + 3];
    const a0 = a[i];
    s00 += a0 * b0;
    s01 += a0 * b1;
    s02 += a0 * b2;
    s03 += a0 * b3;
    const a1 = a[i + 1];
    s10 += a1 * b0;
    s11 += a1 * b1;
    s12 += a1 * b2;
    s13 += a1 * b3;
    const a2 = a[i + 2];
    s20 += a2 * b0;
    s21 += a2 * b1;
    s22 += a2 * b2;
    s23 += a2 * b3;
    const a3 = a[i + 3];
    s30 += a3 * b0;
    s31 += a3 * b1;
    s32 += a3 * b2;
    s33 += a3 * b3;
  }
  sums.set([s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33]);
}

/** Calls `store` once with every (i, j, Σ_p a[i,p]·b[p,j]). */
function product(a: Matrix, b: Matrix, m: number, n: number, k: number, store: (i: number, j: number, sum: number) => void): void {
  if (m === 1) {
    // One row would not repay the packing.
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a.items[a.start + p * a.col] * b.items[b.start + p * b.row + j * b.col];
      store(0, j, sum);
    }
    return;
  }
  const aPacked = new Float64Array(Math.min(ROWS, Math.ceil(m / TILE) * TILE) * k);
  const bPacked = new Float64Array(TILE * k);
  const sums = new Float64Array(TILE * TILE);
  for (let i0 = 0; i0 < m; i0 += ROWS) {
    const rows = Math.min(ROWS, m - i0);
    pack(aPacked, a, a.start + i0 * a.row, a.row, a.col, rows, k);
    for (let j0 = 0; j0 < n; j0 += TILE) {
      const columns = Math.min(TILE, n - j0);
      pack(bPacked, b, b.start + j0 * b.col, b.col, b.row, columns, k);
      for (let i = 0; i < rows; i += TILE) {
        multiplyTile(aPacked, i * k, bPacked, k, sums);
        for (let r = 0; r < TILE && i + r < rows; r++) {
          for (let c = 0; c < columns; c++) store(i0 + i + r, j0 + c, sums[r * TILE + c]);
        }
      }
    }
  }
}

/** The nearest bfloat16 of each item. */
const rounded = (items: Float32Array): Float32Array => items.map((x) => bf16ToF32(f32ToBf16(x)));
/** What is done to the operands of a product before it. */
type Prepare = (items: Float32Array) => Float32Array;
const asTheyAre: Prepare = (items) => items;

type Products =
  | "gemm"
  | "gemmBf16"
  | "linear"
  | "linearBf16"
  | "linearInputGrad"
  | "linearInputGradBf16"
  | "linearWeightGrad"
  | "linearWeightGradBf16"
  | "packWeight"
  | "packWeightInPlace"
  | "embeddingPacked"
  | "linearPacked";

export function matmulKernels(at: Views): Pick<Kernels, Products> {
  function linearTo(
    prepare: Prepare,
    x: Operand,
    right: Matrix,
    bias: Operand | null,
    residual: Operand | null,
    out: Operand,
    slope: Operand | null,
    m: number,
    n: number,
    k: number,
    activation: number,
  ): void {
    const { f, df } = activationCurve(activation);
    const xs = at.f32(x, m * k);
    const add = bias === null ? null : at.f32(bias, n);
    const rest = residual === null ? null : at.f32(residual, m * n);
    const slopes = slope === null ? null : at.f32(slope, m * n);
    const to = at.f32(out, m * n);
    product({ items: prepare(xs), start: 0, row: k, col: 1 }, { ...right, items: prepare(right.items) }, m, n, k, (i, j, sum) => {
      const p = i * n + j;
      const z = add === null ? sum : sum + add[j];
      const y = f(z);
      if (slopes !== null) slopes[p] = df(z, y);
      to[p] = rest === null ? y : y + rest[p];
    });
  }

  const gemmWith =
    (prepare: Prepare): Kernels["gemm"] =>
    (a, aRow, aCol, aBatch, b, bRow, bCol, bBatch, c, cRow, cBatch, batch, m, n, k, alpha, accumulate) => {
      const as = prepare(at.f32(a, reach([batch, m, k], [aBatch, aRow, aCol])));
      const bs = prepare(at.f32(b, reach([batch, k, n], [bBatch, bRow, bCol])));
      const cs = at.f32(c, reach([batch, m, n], [cBatch, cRow, 1]));
      for (let z = 0; z < batch; z++) {
        product({ items: as, start: z * aBatch, row: aRow, col: aCol }, { items: bs, start: z * bBatch, row: bRow, col: bCol }, m, n, k, (i, j, sum) => {
          const p = z * cBatch + i * cRow + j;
          cs[p] = accumulate ? cs[p] + alpha * sum : alpha * sum;
        });
      }
    };

  const linearWith =
    (prepare: Prepare): Kernels["linear"] =>
    (x, weight, wRow, wCol, bias, residual, out, slope, m, n, k, activation) => {
      // The weight's item (output j, input p) is item (p, j) of the product's right side.
      const right = { items: at.f32(weight, reach([n, k], [wRow, wCol])), start: 0, row: wCol, col: wRow };
      linearTo(prepare, x, right, bias, residual, out, slope, m, n, k, activation);
    };

  const inputGradWith =
    (prepare: Prepare): Kernels["linearInputGrad"] =>
    (gy, weight, wRow, wCol, slope, gx, m, n, k, accumulate) => {
      const right = { items: prepare(at.f32(weight, reach([n, k], [wRow, wCol]))), start: 0, row: wRow, col: wCol };
      const factor = slope === null ? null : at.f32(slope, m * k);
      const to = at.f32(gx, m * k);
      product({ items: prepare(at.f32(gy, m * n)), start: 0, row: n, col: 1 }, right, m, k, n, (i, j, sum) => {
        const p = i * k + j;
        const g = factor === null ? sum : sum * factor[p];
        to[p] = accumulate ? to[p] + g : g;
      });
    };

  const weightGradWith =
    (prepare: Prepare): Kernels["linearWeightGrad"] =>
    (x, gy, gw, gb, m, n, k, transposed, accumulate) => {
      const [xs, gys, to] = [at.f32(x, m * k), at.f32(gy, m * n), at.f32(gw, n * k)];
      const left = { items: prepare(gys), start: 0, row: 1, col: n };
      product(left, { items: prepare(xs), start: 0, row: k, col: 1 }, n, k, m, (j, p, sum) => {
        const i = transposed ? p * n + j : j * k + p;
        to[i] = accumulate ? to[i] + sum : sum;
      });
      if (gb === null) return;
      const sums = at.f32(gb, n);
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let i = 0; i < m; i++) sum += gys[i * n + j];
        sums[j] = sum;
      }
    };

  return {
    gemm: gemmWith(asTheyAre),
    gemmBf16: gemmWith(rounded),
    linear: linearWith(asTheyAre),
    linearBf16: linearWith(rounded),
    linearInputGrad: inputGradWith(asTheyAre),
    linearInputGradBf16: inputGradWith(rounded),
    linearWeightGrad: weightGradWith(asTheyAre),
    linearWeightGradBf16: weightGradWith(rounded),

    packWeight(weight, wRow, wCol, out, n, k) {
      const w = at.f32(weight, reach([n, k], [wRow, wCol]));
      const to = at.f32(out, Math.ceil(n / GROUP) * GROUP * k);
      for (let i = 0; i < to.length; i++) {
        const j = Math.floor(i / (k * GROUP)) * GROUP + (i % GROUP);
        to[i] = j < n ? w[j * wRow + (Math.floor(i / GROUP) % k) * wCol] : 0;
      }
    },

    packWeightInPlace(weight, n, k) {
      if (n % GROUP !== 0) throw new ShapeError(`packWeightInPlace: the rows, expected whole groups of ${GROUP}, got ${n}`);
      const rows = at.f32(weight, n * k);
      const before = rows.slice();
      for (let i = 0; i < rows.length; i++) rows[i] = before[(Math.floor(i / (k * GROUP)) * GROUP + (i % GROUP)) * k + (Math.floor(i / GROUP) % k)] as number;
    },

    embeddingPacked(packed, ids, out, count, rows, dim) {
      const from = at.f32(packed, Math.ceil(rows / GROUP) * GROUP * dim);
      const id = at.i32(ids, count);
      const to = at.f32(out, count * dim);
      checkIndices("embeddingPacked", id, rows);
      for (let c = 0; c < count; c++) {
        const row = id[c] as number;
        for (let d = 0; d < dim; d++) to[c * dim + d] = from[(row - (row % GROUP)) * dim + d * GROUP + (row % GROUP)];
      }
    },

    linearPacked(x, packed, bias, residual, out, slope, m, n, k, activation) {
      const from = at.f32(packed, Math.ceil(n / GROUP) * GROUP * k);
      const items = new Float32Array(n * k);
      for (let j = 0; j < n; j++) {
        for (let p = 0; p < k; p++) items[j * k + p] = from[(j - (j % GROUP)) * k + p * GROUP + (j % GROUP)];
      }
      linearTo(asTheyAre, x, { items, start: 0, row: 1, col: k }, bias, residual, out, slope, m, n, k, activation);
    },
  };
}

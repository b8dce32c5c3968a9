/**
 * Block-quantised weights. A packed weight is the file's bytes as they are; every product reads its numbers from them. Activations are rounded to 8 bits as the
 * native kernels round them, so that both differ by the order of sums only.
 */
import { ShapeError } from "../../errors.ts";
import { type Kernels, type Operand, QUANTIZED, type QuantizedDType } from "../kernels.ts";
import { READ_BLOCK } from "../quantized-blocks.ts";
import { BLOCK_OF, blockBytes, packedBytes } from "../quantized-layout.ts";
import { activationCurve } from "./curves.ts";
import { checkIndices } from "./indexing.ts";
import type { Views } from "./memory.ts";

const { fround } = Math;
/** Items that share a scale in a row of activations. */
const BLOCK = 32;
/** Blocks whose largest size is below this are zeros. */
const LEAST = 1e-36;

/** Rounds to the nearest whole number, halves to even. */
function nearest(x: number): number {
  const down = Math.floor(x);
  const over = x - down;
  return over > 0.5 || (over === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

/** A block whose largest size is above so many times the root of its row's mean square has a second part of 8 bits: what rounding left over, in steps of a 254th. */
const OUTLIER = 6;
const FINE = 254;

/** A row of activations as products see it: whole numbers of 8 bits times the scale of their block, twice where the block stands out of its row. */
export function roundedActivations(row: Float32Array): Float64Array {
  const out = new Float64Array(row.length);
  const outlier = OUTLIER * Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / row.length);
  for (let at = 0; at < row.length; at += BLOCK) {
    const block = row.subarray(at, at + BLOCK);
    const largest = block.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    const finite = block.every(Number.isFinite);
    const [scale, inverse] = largest >= LEAST ? [fround(largest / 127), fround(127 / largest)] : [0, 0];
    const fine = largest > outlier;
    for (let i = 0; i < BLOCK; i++) {
      const q = nearest(fround(block[i] * inverse));
      const rest = fine ? nearest(fround(fround(block[i] - q * scale) * fround(inverse * FINE))) : 0;
      out[at + i] = finite ? q * scale + rest * fround(scale / FINE) : Number.NaN;
    }
  }
  return out;
}

type Quantized = "packQuantized" | "unpackQuantized" | "dequantizeRows" | "embeddingQuantized" | "linearQuantized" | "linearsQuantized";

function named(layout: number): QuantizedDType {
  const dtype = QUANTIZED[layout];
  if (dtype === undefined) throw new ShapeError(`reference kernel: unknown layout, expected 0 to ${QUANTIZED.length - 1}, got ${layout}`);
  return dtype;
}

export function quantizedKernels(at: Views): Pick<Kernels, Quantized> {
  /** The file's bytes of rows of a packed weight. */
  function bytesOf(packed: Operand, dtype: QuantizedDType, first: number, count: number, n: number, k: number): Uint8Array {
    if (!(first >= 0 && count >= 0 && first + count <= n)) throw new ShapeError(`rows, expected a range inside 0…${n}, got ${count} from ${first}`);
    const row = blockBytes("reference kernel", dtype, 1, k);
    return at.u8(packed, packedBytes(dtype, n, k)).subarray(first * row, (first + count) * row);
  }

  function numbersOf(packed: Operand, layout: number, first: number, count: number, n: number, k: number): Float32Array {
    const dtype = named(layout);
    const blocks = bytesOf(packed, dtype, first, count, n, k);
    const out = new Float32Array(count * k);
    const { items, bytes } = BLOCK_OF[dtype];
    for (let b = 0; b < blocks.length / bytes; b++) READ_BLOCK[dtype](blocks, b * bytes, out, b * items);
    return out;
  }

  const layer: Kernels["linearQuantized"] = (x, packed, layout, bias, residual, out, slope, m, n, k, activation) => {
    const { f, df } = activationCurve(activation);
    const w = numbersOf(packed, layout, 0, n, n, k);
    const [xs, to] = [at.f32(x, m * k), at.f32(out, m * n)];
    const add = bias === null ? null : at.f32(bias, n);
    const rest = residual === null ? null : at.f32(residual, m * n);
    const slopes = slope === null ? null : at.f32(slope, m * n);
    for (let i = 0; i < m; i++) {
      const row = roundedActivations(xs.subarray(i * k, (i + 1) * k));
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += row[p] * w[j * k + p];
        const z = add === null ? sum : sum + add[j];
        const y = f(z);
        if (slopes !== null) slopes[i * n + j] = df(z, y);
        to[i * n + j] = rest === null ? y : y + rest[i * n + j];
      }
    }
  };

  return {
    packQuantized(blocks, packed, layout, first, count, n, k) {
      const dtype = named(layout);
      bytesOf(packed, dtype, first, count, n, k).set(at.u8(blocks, blockBytes("packQuantized", dtype, count, k)));
    },

    unpackQuantized(packed, blocks, layout, first, count, n, k) {
      const bytes = bytesOf(packed, named(layout), first, count, n, k);
      at.u8(blocks, bytes.length).set(bytes);
    },

    dequantizeRows(packed, out, layout, first, count, n, k) {
      at.f32(out, count * k).set(numbersOf(packed, layout, first, count, n, k));
    },

    embeddingQuantized(packed, layout, ids, out, count, rows, dim) {
      const id = at.i32(ids, count);
      checkIndices("embeddingQuantized", id, rows);
      const to = at.f32(out, count * dim);
      for (let c = 0; c < count; c++) to.set(numbersOf(packed, layout, id[c], 1, rows, dim), c * dim);
    },

    linearQuantized: layer,

    linearsQuantized(x, packed, layouts, biases, outs, sizes, m, k) {
      for (const [i, weight] of packed.entries())
        layer(x, weight, layouts[i] as number, biases[i] ?? null, null, outs[i] as Operand, null, m, sizes[i] as number, k, 0);
    },
  };
}

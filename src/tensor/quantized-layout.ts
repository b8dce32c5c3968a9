/** What GGUF's block-quantised layouts are made of, and how a backend holds a matrix of one: `quantized.ts` makes tensors of them. */
import { ShapeError } from "../errors.ts";
import { type DType, QUANTIZED, type QuantizedDType } from "./kernels.ts";
import type { Shape } from "./shape.ts";

/** How a tensor is seen. */
interface Seen {
  readonly shape: Shape;
  readonly strides: Shape;
}

/** Items and bytes of a file's block. */
export const BLOCK_OF: Record<QuantizedDType, { readonly items: number; readonly bytes: number }> = {
  q8_0: { items: 32, bytes: 34 },
  q4_0: { items: 32, bytes: 18 },
  q4_1: { items: 32, bytes: 20 },
  q5_0: { items: 32, bytes: 22 },
  q5_1: { items: 32, bytes: 24 },
  q2_k: { items: 256, bytes: 84 },
  q3_k: { items: 256, bytes: 110 },
  q4_k: { items: 256, bytes: 144 },
  q5_k: { items: 256, bytes: 176 },
  q6_k: { items: 256, bytes: 210 },
  iq4_nl: { items: 32, bytes: 18 },
  iq4_xs: { items: 256, bytes: 136 },
  mxfp4: { items: 32, bytes: 17 },
};

export const isQuantized = (dtype: DType): dtype is QuantizedDType => dtype in BLOCK_OF;

const CODES = Object.fromEntries(QUANTIZED.map((name, i) => [name, i])) as Record<QuantizedDType, number>;
/** A layout's code in kernels. */
export const layoutOf = (dtype: DType): number => CODES[dtype as QuantizedDType];

/** Codes of five and six bits take eight when packed. */
const WIDE: readonly QuantizedDType[] = ["q8_0", "q5_0", "q5_1", "q5_k", "q6_k"];
/** Layouts that add a minimum, and the items that share a small scale where scales have scales. */
const MINIMUM: readonly QuantizedDType[] = ["q4_1", "q5_1", "q2_k", "q4_k", "q5_k"];
const SMALL: Partial<Record<QuantizedDType, number>> = { q2_k: 16, q3_k: 16, q4_k: 32, q5_k: 32, q6_k: 16, iq4_xs: 32 };

/** Rows that lie side by side in a packed weight. */
export const GROUP = 16;

/** Bytes of a packed weight of n rows of k items: groups of 16 rows, in each all codes, then the float16 scales, minima, small scales and small minima, filled up to 64. */
export function packedBytes(dtype: QuantizedDType, n: number, k: number): number {
  const parts = MINIMUM.includes(dtype) ? 2 : 1;
  const small = SMALL[dtype];
  const row = k * (WIDE.includes(dtype) ? 1 : 0.5) + parts * (2 * (k / BLOCK_OF[dtype].items) + (small === undefined ? 0 : k / small));
  return Math.ceil(n / GROUP) * Math.ceil((GROUP * row) / 64) * 64;
}

/** Outputs and inputs of a quantised matrix, or of each of several, whichever way it is seen: blocks run along the inputs. */
export function rowsAndItems(t: Seen): [n: number, k: number] {
  const [a, b] = t.shape.slice(-2) as [number, number];
  return liesAcross(t) ? [b, a] : [a, b];
}

/** True for the view (inputs, outputs) of a quantised matrix, or of each of several. */
export const liesAcross = ({ strides }: Seen): boolean => strides[strides.length - 2] === 1 && strides[strides.length - 1] !== 1;

/** How many matrices lie one behind the other, each packed for itself. */
export const matricesIn = ({ shape }: Pick<Seen, "shape">): number => (shape.length === 3 ? (shape[0] as number) : 1);

/** Bytes of n rows of k items in a file. @throws ShapeError where k is not whole blocks */
export function blockBytes(where: string, dtype: QuantizedDType, n: number, k: number): number {
  const { items, bytes } = BLOCK_OF[dtype];
  if (k % items !== 0)
    throw new ShapeError(
      `${where}: no whole blocks, expected rows of a multiple of ${items} items for ${dtype}, got ${k}. Choose a layout with smaller blocks`,
    );
  return n * (k / items) * bytes;
}

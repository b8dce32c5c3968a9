/** Shapes, strides and the broadcasting rule (NumPy's: align at the right; sizes are equal or one of them is 1). */
import { ShapeError } from "../errors.ts";

export type Shape = readonly number[];

/** The number of items of a shape; 1 for a scalar. */
export function sizeOf(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i] as number;
  return n;
}

/** Row-major strides, in items. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] as number;
  }
  return strides;
}

export function isContiguous(shape: Shape, strides: Shape): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const n = shape[i] as number;
    if (n !== 1 && strides[i] !== step) return false;
    step *= n;
  }
  return true;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function show(shape: Shape): string {
  return `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
}

/** The shape two shapes broadcast to. */
export function broadcast(op: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const x = i <= a.length ? (a[a.length - i] as number) : 1;
    const y = i <= b.length ? (b[b.length - i] as number) : 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new ShapeError(
        `${op}: shapes do not broadcast, expected equal sizes or 1 at dimension -${i}, got ${show(a)} and ${show(b)}. Reshape or unsqueeze one of them. ` +
          `Aligned at the right:\n${aligned(a, b)}`,
      );
    }
    out[rank - i] = x === 1 ? y : x;
  }
  return out;
}

/** Two shapes as broadcasting sees them, one above the other at the right; a third line marks what does not go together. */
function aligned(a: Shape, b: Shape): string {
  const rank = Math.max(a.length, b.length);
  const column = (i: number): [string, string, string] => {
    const [x, y] = [a[i - rank + a.length], b[i - rank + b.length]];
    return [String(x ?? ""), String(y ?? ""), x === undefined || y === undefined || x === y || x === 1 || y === 1 ? "" : "^"];
  };
  const columns = Array.from({ length: rank }, (_, i) => column(i));
  const widths = columns.map((cells) => Math.max(...cells.map((cell) => cell.length)));
  return [0, 1, 2].map((row) => `  ${columns.map((cells, i) => (cells[row] as string).padStart(widths[i] as number)).join("  ")}`.trimEnd()).join("\n");
}

/** Strides of a tensor seen as `target`: 0 where it is repeated. */
export function broadcastStrides(shape: Shape, strides: Shape, target: Shape): number[] {
  const lead = target.length - shape.length;
  const out = new Array<number>(target.length).fill(0);
  for (let i = 0; i < shape.length; i++) out[lead + i] = shape[i] === 1 && target[lead + i] !== 1 ? 0 : (strides[i] as number);
  return out;
}

/** A dimension counted from the front, from one that may be negative. */
export function dimension(op: string, dim: number, rank: number): number {
  const d = dim < 0 ? dim + rank : dim;
  if (!Number.isInteger(d) || d < 0 || d >= rank) {
    throw new ShapeError(`${op}: no such dimension, expected an integer from ${-rank} to ${rank - 1}, got ${dim}. The tensor has ${rank} dimensions`);
  }
  return d;
}

/** Checks a shape from outside: whole sizes, not negative, a product that fits. */
export function checkShape(op: string, shape: Shape): void {
  if (!Array.isArray(shape)) {
    const one = typeof shape === "number";
    const got = ArrayBuffer.isView(shape) ? `a ${shape.constructor.name} of ${shape.byteLength} bytes` : String(shape).slice(0, 80);
    throw new ShapeError(`${op}: bad shape, expected an array of sizes, got ${got}. ${one ? `One dimension is [${got}]` : "Write it as [2, 3]"}`);
  }
  for (const n of shape) {
    if (!Number.isInteger(n) || n < 0) throw new ShapeError(`${op}: bad shape, expected whole sizes of at least 0, got ${show(shape)}`);
  }
  if (sizeOf(shape) > 2 ** 40) throw new ShapeError(`${op}: shape too large, expected at most 2^40 items, got ${show(shape)}`);
}

/** One more than the highest item that a shape with these strides, none negative, reaches: what a strided operand needs. 0 for an empty shape. */
export function reach(shape: Shape, strides: Shape): number {
  if (shape.length !== strides.length) {
    throw new ShapeError(`reach: strides do not fit the shape, expected ${shape.length} strides, got ${strides.length}. There is one for each dimension`);
  }
  if (shape.includes(0)) return 0;
  return shape.reduce((last, n, d) => last + (n - 1) * (strides[d] as number), 1);
}

/** The product of all sizes but the last: how many rows there are. */
export function rowsIn(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length - 1; i++) n *= shape[i] as number;
  return n;
}

/** A shape with another size in one dimension, counted from the front. */
export function resized(shape: Shape, dim: number, n: number): number[] {
  const out = new Array<number>(shape.length);
  for (let i = 0; i < shape.length; i++) out[i] = i === dim ? n : (shape[i] as number);
  return out;
}

/** Splits a shape at a dimension: (product before, size, product after). */
export function around(shape: Shape, dim: number): [outer: number, n: number, inner: number] {
  let [outer, inner] = [1, 1];
  for (let i = 0; i < dim; i++) outer *= shape[i] as number;
  for (let i = dim + 1; i < shape.length; i++) inner *= shape[i] as number;
  return [outer, shape[dim] as number, inner];
}

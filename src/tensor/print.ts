/** A tensor as text: aligned columns, four digits, scientific where the range needs it, the middle of large tensors left out. */
import { checkOptions } from "../options.ts";
import { noGrad } from "./autograd.ts";
import { isFloat } from "./dtype.ts";
import { concat } from "./ops/joining.ts";
import { narrow } from "./ops/movement.ts";
import { scope } from "./scope.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

export interface PrintOptions {
  /** Digits after the point. Default 4. */
  precision?: number;
  /** Tensors of more items are summarised. Default 1000. */
  threshold?: number;
  /** Items shown at each end of a summarised dimension. Default 3. */
  edgeItems?: number;
  /** Characters a line. Default 80. */
  lineWidth?: number;
}

const BEGIN = "tensor(";

/**
 * The items in brackets, then dtype and shape, then `requiresGrad` for a leaf or the operation that made it:
 * `tensor([[ 1.0000, -0.5000]], f32(1, 2), gradFn=mul)`. A freed tensor says by what it was freed.
 */
export function print(t: Tensor, options: PrintOptions = {}): string {
  checkOptions("print", options, { precision: true, threshold: true, edgeItems: true, lineWidth: true });
  const { precision = 4, threshold = 1000, edgeItems = 3, lineWidth = 80 } = options;
  const kind = `${t.dtype}${show(t.shape)}`;
  const suffix = `${kind}${t.node !== null ? `, gradFn=${t.node.name}` : t.requiresGrad ? ", requiresGrad" : ""}`;
  if (t.isDisposed) return `${BEGIN}freed by ${t.freedBy}, ${kind})`;
  if (t.isQuantized) return `${BEGIN}…, ${suffix})`;
  if (t.size === 0) return `${BEGIN}[], ${suffix})`;
  const cut = t.size > threshold;
  const { data, shape } = scope(() =>
    noGrad(() => {
      const shown = cut
        ? t.shape.reduce((x, n, d) => (n > 2 * edgeItems ? concat([narrow(x, d, 0, edgeItems), narrow(x, d, n - edgeItems, edgeItems)], d) : x), t)
        : t;
      return { data: shown.dataSync(), shape: shown.shape };
    }),
  );
  const cells = t.dtype === "bool" ? Array.from(data, (x) => (x ? "true" : "false")) : isFloat(t.dtype) ? floats(data, precision) : Array.from(data, String);
  const width = cells.reduce((w, c) => Math.max(w, c.length), 0);
  const gap = shape.map((n, d) => cut && n < (t.shape[d] as number));
  const body =
    t.rank === 0
      ? (cells[0] as string)
      : rows(
          cells.map((c) => c.padStart(width)),
          shape,
          gap,
          edgeItems,
          0,
          0,
          lineWidth,
        );
  const last = body.length - body.lastIndexOf("\n") - 1 + (body.includes("\n") ? 0 : BEGIN.length);
  return `${BEGIN}${body},${last + suffix.length + 3 > lineWidth && t.rank > 0 ? `\n${" ".repeat(BEGIN.length)}` : " "}${suffix})`;
}

/** Numbers in one style for all: whole ones as `3.`, else with a fixed number of digits, or scientific when large and small meet. */
function floats(data: ArrayLike<number>, precision: number): string[] {
  let [smallest, largest, whole] = [Number.POSITIVE_INFINITY, 0, true];
  for (let i = 0; i < data.length; i++) {
    const x = Math.abs(data[i] as number);
    if (!Number.isFinite(x) || x === 0) continue;
    smallest = Math.min(smallest, x);
    largest = Math.max(largest, x);
    if (x !== Math.floor(x)) whole = false;
  }
  const scientific = largest > 0 && (largest / smallest > 1000 || largest > 1e8 || (!whole && smallest < 1e-4));
  const one = (x: number): string => {
    if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
    const sign = Object.is(x, -0) ? "-" : "";
    if (scientific) return sign + x.toExponential(precision).replace(/e([+-])(\d)$/, "e$10$2");
    return sign + (whole ? `${x.toFixed(0)}.` : x.toFixed(precision));
  };
  return Array.from(data, one);
}

/** The brackets of one dimension. `start` is the place of its first item among the cells. */
function rows(
  cells: readonly string[],
  shape: readonly number[],
  gap: readonly boolean[],
  edge: number,
  dim: number,
  start: number,
  lineWidth: number,
): string {
  const n = shape[dim] as number;
  const indent = " ".repeat(BEGIN.length + dim + 1);
  const inner = shape.slice(dim + 1).reduce((a, b) => a * b, 1);
  if (dim === shape.length - 1) {
    const items = Array.from(cells.slice(start, start + n));
    if (gap[dim]) items.splice(edge, 0, "...");
    const perLine = Math.max(1, Math.floor((lineWidth - indent.length) / ((cells[0] as string).length + 2)));
    const lines: string[] = [];
    for (let i = 0; i < items.length; i += perLine) lines.push(items.slice(i, i + perLine).join(", "));
    return `[${lines.join(`,\n${indent}`)}]`;
  }
  const parts = Array.from({ length: n }, (_, i) => rows(cells, shape, gap, edge, dim + 1, start + i * inner, lineWidth));
  if (gap[dim]) parts.splice(edge, 0, "...");
  // Matrices of a larger tensor stand apart by an empty line.
  return `[${parts.join(`,${"\n".repeat(shape.length - dim - 1)}${indent}`)}]`;
}

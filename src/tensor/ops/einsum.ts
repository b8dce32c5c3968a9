/** Sums of products in Einstein's notation, made of permute, matmul and sum; and the diagonal that a repeated letter asks for. */
import { ShapeError } from "../../errors.ts";
import type { Gradient } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE } from "../dtype.ts";
import { defineOp } from "../op.ts";
import { values } from "../samples.ts";
import { dimension, show, sizeOf } from "../shape.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { mul } from "./elementwise.ts";
import { matmul } from "./matmul.ts";
import { copyInto, expand, permute, reshape } from "./movement.ts";
import { sum } from "./reduce.ts";

/** The items with equal places in dimensions a and b, as a new last dimension; a view. */
export const diagonal = defineOp<[x: Tensor, a: number, b: number]>({
  name: "diagonal",
  shape: (x, a, b) => {
    const [i, j] = [dimension("diagonal", a, x.rank), dimension("diagonal", b, x.rank)];
    if (i === j) throw new ShapeError(`diagonal: expected two different dimensions, got ${a} twice`);
    return [...x.shape.filter((_, d) => d !== i && d !== j), Math.min(x.shape[i] as number, x.shape[j] as number)];
  },
  forward: (_, shape, x, a, b) => {
    const [i, j] = [dimension("diagonal", a, x.rank), dimension("diagonal", b, x.rank)];
    return x.view(shape, [...x.strides.filter((_s, d) => d !== i && d !== j), (x.strides[i] as number) + (x.strides[j] as number)], x.offset);
  },
  backward: (ctx, [x, a, b], g): Gradient[] => {
    const gx = ctx.out(x.shape);
    backend().fill(gx, CODE.f32, gx.size, 0);
    copyInto(g as Tensor, diagonal(gx, a, b));
    return [gx];
  },
  samples: () => [
    { name: "a matrix", args: () => [values([3, 4]), 0, 1], torch: "x0.diagonal()" },
    { name: "outer dimensions of three", args: () => [values([3, 2, 3]), 0, 2], torch: "x0.diagonal(0, 0, 2)" },
  ],
});

/** An operand on its way: a tensor and one label for each of its dimensions. */
interface Term {
  x: Tensor;
  labels: string[];
}

const ELLIPSIS = "...";

/** The labels of one part of the equation. `dots` is how many dimensions the ellipsis stands for; they are named by their place from the right. */
function labelsOf(equation: string, part: string, dots: number): string[] {
  const out: string[] = [];
  for (let i = 0; i < part.length; i++) {
    if (part.startsWith(ELLIPSIS, i)) {
      for (let d = dots; d > 0; d--) out.push(`.${d}`);
      i += 2;
    } else if (/[a-zA-Z]/.test(part[i] as string)) out.push(part[i] as string);
    else throw new ShapeError(`einsum: bad equation "${equation}", expected letters, commas, "..." and one "->", got "${part[i]}"`);
  }
  return out;
}

function parse(equation: string, xs: readonly Tensor[]): { terms: Term[]; output: string[] } {
  const bare = equation.replaceAll(" ", "");
  const sides = bare.split("->");
  const parts = (sides[0] as string).split(",");
  if (sides.length > 2) throw new ShapeError(`einsum: bad equation "${equation}", expected at most one "->", got ${sides.length - 1}`);
  if (parts.length !== xs.length) throw new ShapeError(`einsum: expected ${parts.length} tensors for "${equation}", got ${xs.length}`);
  for (const part of bare.split(/->|,/)) {
    if (part.split(ELLIPSIS).length > 2) throw new ShapeError(`einsum: bad equation "${equation}", expected at most one "..." in a part, got "${part}"`);
  }
  const terms = parts.map((part, i) => {
    const x = xs[i] as Tensor;
    const letters = part.replace(ELLIPSIS, "").length;
    const open = part.includes(ELLIPSIS);
    if (open ? x.rank < letters : x.rank !== letters) {
      throw new ShapeError(`einsum: expected ${open ? "at least " : ""}${letters} dimensions for "${part}" in "${equation}", got shape ${show(x.shape)}`);
    }
    return { x, labels: labelsOf(equation, part, x.rank - letters) };
  });
  const dots = Math.max(0, ...terms.map((t) => t.labels.filter((l) => l.startsWith(".")).length));
  const all = terms.flatMap((t) => t.labels);
  const implicit = [
    ...labelsOf(equation, ELLIPSIS, dots),
    ...[...new Set(all)].filter((l) => !l.startsWith(".") && all.indexOf(l) === all.lastIndexOf(l)).sort(),
  ];
  const output = sides[1] === undefined ? implicit : labelsOf(equation, sides[1], dots);
  for (const [i, l] of output.entries()) {
    if (!all.includes(l) || output.indexOf(l) !== i) {
      throw new ShapeError(`einsum: bad equation "${equation}", expected each letter of the result once and among the inputs, got "${l}"`);
    }
  }
  return { terms, output };
}

/** Repeated letters of one operand become one, by diagonals. */
function withoutRepeats(equation: string, { x, labels }: Term): Term {
  const twin = labels.findIndex((l, i) => labels.indexOf(l) !== i);
  if (twin < 0) return { x, labels };
  const label = labels[twin] as string;
  const first = labels.indexOf(label);
  if (x.shape[first] !== x.shape[twin])
    throw new ShapeError(`einsum: "${label}" has two sizes in "${equation}", expected one, got ${x.shape[first]} and ${x.shape[twin]}`);
  return withoutRepeats(equation, { x: diagonal(x, first, twin), labels: [...labels.filter((l) => l !== label), label] });
}

/** Sums away what nobody else needs. */
function sumUnless({ x, labels }: Term, needed: ReadonlySet<string>): Term {
  const dims = labels.flatMap((l, i) => (needed.has(l) ? [] : [i]));
  return dims.length === 0 ? { x, labels } : { x: sum(x, dims), labels: labels.filter((l) => needed.has(l)) };
}

/** Two operands into one: a batched matrix product over the letters that end here. */
function contract(a: Term, b: Term, needed: ReadonlySet<string>): Term {
  const sizes = new Map<string, number>();
  for (const t of [a, b]) for (const [i, l] of t.labels.entries()) sizes.set(l, Math.max(sizes.get(l) ?? 1, t.x.shape[i] as number));
  // A size of 0 stays 0, also beside a 1.
  for (const t of [a, b]) for (const [i, l] of t.labels.entries()) if (t.x.shape[i] === 0) sizes.set(l, 0);
  const both = a.labels.filter((l) => b.labels.includes(l));
  const batch = both.filter((l) => needed.has(l));
  const inner = both.filter((l) => !needed.has(l));
  const left = a.labels.filter((l) => !both.includes(l));
  const right = b.labels.filter((l) => !both.includes(l));
  const size = (ls: readonly string[]) => ls.map((l) => sizes.get(l) as number);
  const arranged = (t: Term, order: readonly string[]) =>
    expand(
      permute(
        t.x,
        order.map((l) => t.labels.indexOf(l)),
      ),
      size(order),
    );
  const x = arranged(a, [...batch, ...left, ...inner]);
  const y = arranged(b, [...batch, ...inner, ...right]);
  const labels = [...batch, ...left, ...right];
  if (inner.length === 0 && left.length === 0 && right.length === 0) return { x: mul(x, y), labels };
  const [n, m, k, p] = [batch, left, inner, right].map((ls) => sizeOf(size(ls))) as [number, number, number, number];
  return { x: reshape(matmul(reshape(x, [n, m, k]), reshape(y, [n, k, p])), size(labels)), labels };
}

/**
 * A sum of products: `einsum("bij,bjk->bik", x, y)`. Each letter names a dimension; letters missing on the right are summed. Without "->" the result
 * has the letters that occur once, in alphabetical order. A letter twice in one operand takes its diagonal, "..." stands for any further
 * dimensions, which broadcast; so do sizes of 1. Several operands are joined from left to right.
 * @throws ShapeError when the equation or the sizes do not fit.
 */
export function einsum(equation: string, ...xs: readonly Tensor[]): Tensor {
  for (const [i, x] of xs.entries()) checkTensor("einsum", x, i + 1);
  const { terms, output } = parse(equation, xs);
  const known = new Map<string, number>();
  for (const { x, labels } of terms) {
    for (const [i, l] of labels.entries()) {
      const [n, before] = [x.shape[i] as number, known.get(l)];
      if (before !== undefined && before !== n && before !== 1 && n !== 1) {
        throw new ShapeError(`einsum: "${l}" has two sizes in "${equation}", expected one (or 1), got ${before} and ${n}`);
      }
      if (before === undefined || before === 1) known.set(l, n);
    }
  }
  const rest = terms.map((t) => withoutRepeats(equation, t));
  let done = rest.shift() as Term;
  while (true) {
    // A letter that only this operand has left, and the result has not, is summed at once.
    const later = new Set([...output, ...rest.flatMap((t) => t.labels)]);
    done = sumUnless(done, later);
    const next = rest.shift();
    if (next === undefined) break;
    const needed = new Set([...output, ...rest.flatMap((t) => t.labels)]);
    done = contract(done, sumUnless(next, new Set([...needed, ...done.labels])), needed);
  }
  return permute(
    done.x,
    output.map((l) => done.labels.indexOf(l)),
  );
}

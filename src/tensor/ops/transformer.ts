/** The other parts of a transformer: embedding, rotary positions, gated activation. */
import { ShapeError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import { ACCUMULATED } from "../autograd.ts";
import { backend } from "../backend.ts";
import { CODE, isFloat } from "../dtype.ts";
import { ACTIVATIONS, QUANTIZED } from "../kernels.ts";
import { defineOp, type Watch } from "../op.ts";
import { packedTable } from "../packed-weights.ts";
import { layoutOf, liesAcross } from "../quantized-layout.ts";
import { integers, quantizedValues, values } from "../samples.ts";
import { sameShape, show } from "../shape.ts";
import { type Tensor, tensor, tensorFrom } from "../tensor.ts";
import { asRows } from "./attention.ts";
import { add, f32, geluTanh, mul, neg, silu } from "./elementwise.ts";
import { concat } from "./joining.ts";
import { narrow, packed, reshape } from "./movement.ts";

/** Rows of weight (rows, dim) named by ids (…), i32: (…, dim), f32. The gradient touches named rows only and needs no atomics. */
export const embedding = defineOp<[ids: Tensor, weight: Tensor]>({
  name: "embedding",
  tensors: 2,
  quantized: [1],
  shape: (ids, weight) => {
    if (ids.dtype !== "i32" || weight.rank !== 2 || !(isFloat(weight.dtype) || (weight.isQuantized && !liesAcross(weight)))) {
      throw new ShapeError(`embedding: expected i32 ids and a weight (rows, dim), got ${ids.dtype}${show(ids.shape)} and ${weight.dtype}${show(weight.shape)}`);
    }
    return [...ids.shape, weight.shape[1] as number];
  },
  forward: (ctx, shape, ids, weight) => {
    const [rows, dim] = weight.shape as [number, number];
    const i = packed(ids);
    const out = ctx.out(shape);
    if (weight.isQuantized) {
      backend().embeddingQuantized(weight, layoutOf(weight.dtype), i, out, i.size, rows, dim);
      return out;
    }
    ctx.save(i);
    const table = packedTable(weight);
    if (table !== null) {
      backend().embeddingPacked(table, i, out, i.size, rows, dim);
      return out;
    }
    const w = packed(weight);
    backend().embedding(w, CODE[w.dtype], i, out, i.size, rows, dim);
    return out;
  },
  backward: (ctx, [, weight], g) => {
    const [rows, dim] = weight.shape as [number, number];
    const into = ctx.gathered(1);
    const gw = into ?? ctx.out(weight.shape);
    if (into === null) backend().fill(gw, CODE.f32, gw.size, 0);
    backend().embeddingGrad(ctx.get(0), packed(g as Tensor), gw, ctx.get(0).size, rows, dim);
    return [null, into === null ? gw : ACCUMULATED];
  },
  samples: () => [
    { name: "repeated ids", args: () => [integers([3, 4], 0, 5), values([6, 7])], torch: "F.embedding(x0.long(), x1)" },
    ...QUANTIZED.map((dtype) => ({
      name: dtype,
      args: (): [Tensor, Tensor] => [integers([3, 4], 0, 35), quantizedValues([35, 256], dtype)],
    })),
  ],
});

/** How rotary positions are applied. */
export interface RopeOptions {
  /** Items of each head that turn; the rest passes. Default all. */
  rotary?: number;
  /** Pairs (2i, 2i+1) in place of (i, i + rotary/2). */
  interleaved?: boolean;
}

const ROPE_OPTIONS: KnownOptions<RopeOptions> = { rotary: true, interleaved: true };

/**
 * Rotary embedding (Su et al. 2021): x (…, rows, heads, dim), positions i32 (as many as rows in all), tables cos and sin (positions, rotary/2).
 */
const ropeOp = defineOp<[x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, options: RopeOptions]>({
  name: "rope",
  tensors: 4,
  shape: (x, c, s, positions, options) => {
    const dim = x.shape.at(-1) as number;
    const rotary = options.rotary ?? dim;
    if (x.rank < 3 || rotary > dim || rotary % 2 !== 0 || c.shape[1] !== rotary / 2 || !sameShape(c.shape, s.shape)) {
      throw new ShapeError(
        `rope: expected x (…, heads, dim) and tables (positions, ${rotary / 2}), got x ${show(x.shape)}, cos ${show(c.shape)}, sin ${show(s.shape)}`,
      );
    }
    if (positions.dtype !== "i32" || positions.size * (x.shape.at(-2) as number) * dim !== x.size) {
      throw new ShapeError(`rope: expected one i32 position for each row of x ${show(x.shape)}, got ${positions.dtype}${show(positions.shape)}`);
    }
    return x.shape;
  },
  forward: (ctx, shape, x, c, s, positions, options) => {
    const [heads, dim] = shape.slice(-2) as [number, number];
    const from = asRows(x);
    const at = packed(positions);
    const out = ctx.out(shape);
    backend().rope(from.x, from.row, out, heads * dim, c, s, at, at.size, heads, dim, options.rotary ?? dim, options.interleaved ? 1 : 0, 0);
    ctx.save(c, s, at);
    return out;
  },
  backward: (ctx, [x, , , , options], g) => {
    const [heads, dim] = x.shape.slice(-2) as [number, number];
    const from = asRows(g as Tensor);
    const gx = ctx.out(x.shape);
    backend().rope(
      from.x,
      from.row,
      gx,
      heads * dim,
      ctx.get(0),
      ctx.get(1),
      ctx.get(2),
      ctx.get(2).size,
      heads,
      dim,
      options.rotary ?? dim,
      options.interleaved ? 1 : 0,
      1,
    );
    return [gx, null, null, null];
  },
  composed: (x, c, s, positions, options) => {
    const [heads, dim] = x.shape.slice(-2) as [number, number];
    const rotary = options.rotary ?? dim;
    const rows = positions.size;
    const [cs, sn] = [c, s].map((t) => reshape(embedding(positions, t), [rows, 1, rotary / 2])) as [Tensor, Tensor];
    const flat = reshape(x, [rows, heads, dim]);
    const turned = narrow(flat, -1, 0, rotary);
    const half = rotary / 2;
    if (options.interleaved) {
      const pairs = reshape(turned, [rows, heads, half, 2]);
      const [a, b] = [reshape(narrow(pairs, -1, 0, 1), [rows, heads, half]), reshape(narrow(pairs, -1, 1, 1), [rows, heads, half])];
      const [p, q] = [add(mul(a, cs), neg(mul(b, sn))), add(mul(b, cs), mul(a, sn))].map((t) => reshape(t, [rows, heads, half, 1])) as [Tensor, Tensor];
      return reshape(concat([reshape(concat([p, q], -1), [rows, heads, rotary]), narrow(flat, -1, rotary, dim - rotary)], -1), x.shape);
    }
    const [a, b] = [narrow(turned, -1, 0, half), narrow(turned, -1, half, half)];
    return reshape(concat([add(mul(a, cs), neg(mul(b, sn))), add(mul(b, cs), mul(a, sn)), narrow(flat, -1, rotary, dim - rotary)], -1), x.shape);
  },
  samples: () => {
    const table = (n: number, half: number): [Tensor, Tensor] => {
      const angles = Array.from({ length: n * half }, (_, i) => Math.floor(i / half) * 10 ** (-(i % half) / half));
      return [tensorFrom(angles.map(Math.cos), [n, half]), tensorFrom(angles.map(Math.sin), [n, half])];
    };
    return [
      {
        name: "halves",
        args: () => [values([5, 2, 8]), ...table(9, 4), tensor(Int32Array.of(0, 3, 8, 1, 2)), {}],
        torch: "(lambda c, s, a, b: torch.cat([a * c - b * s, b * c + a * s], -1))(x1[x3.long()][:, None], x2[x3.long()][:, None], *x0.chunk(2, -1))",
      },
      {
        name: "partial, interleaved",
        args: () => [values([1, 3, 2, 8]), ...table(4, 2), tensor([Int32Array.of(0, 1, 3)]), { rotary: 4, interleaved: true }],
        torch:
          "(lambda c, s, a, b: torch.cat([torch.stack([a * c - b * s, b * c + a * s], -1).flatten(-2), x0[..., 4:]], -1))(x1[x3.long()][:, :, None], x2[x3.long()][:, :, None], x0[..., 0:4:2], x0[..., 1:4:2])",
      },
    ];
  },
});

/** Turns pairs of each head's items by an angle that grows with the position; see `RopeOptions`. */
export function rope(x: Tensor, cosTable: Tensor, sinTable: Tensor, positions: Tensor, options: RopeOptions = {}): Tensor {
  checkOptions("rope", options, ROPE_OPTIONS);
  return ropeOp(x, cosTable, sinTable, positions, options);
}

const gatedActivation = { silu, gelu_tanh: geluTanh } as const;
export type GatedActivation = keyof typeof gatedActivation;

const gatedOp = defineOp<[gate: Tensor, up: Tensor, activation: GatedActivation]>({
  name: "gated",
  tensors: 2,
  shape: (gate, up) => {
    if (!sameShape(gate.shape, up.shape)) throw new ShapeError(`gated: expected two tensors of one shape, got ${show(gate.shape)} and ${show(up.shape)}`);
    return gate.shape;
  },
  forward: (ctx, shape, gate, up, activation) => {
    const [a, b] = [f32(gate), f32(up)];
    const out = ctx.out(shape);
    backend().gated(ACTIVATIONS.indexOf(activation), a, b, out, out.size);
    ctx.save(a, b);
    return out;
  },
  backward: (ctx, [gate, , activation], g) => {
    const [ga, gb] = [ctx.out(gate.shape), ctx.out(gate.shape)];
    backend().gatedGrad(ACTIVATIONS.indexOf(activation), ctx.get(0), ctx.get(1), packed(g as Tensor), ga, gb, ga.size);
    return [ga, gb];
  },
  composed: composedGated,
  samples: () => [
    { name: "silu", args: () => [values([3, 20]), values([3, 20], { seed: 2 }), "silu"], torch: "F.silu(x0) * x1" },
    { name: "gelu_tanh", args: () => [values([7]), values([7], { seed: 2 }), "gelu_tanh"], torch: "F.gelu(x0, approximate='tanh') * x1" },
  ],
});

function composedGated(gate: Tensor, up: Tensor, activation: GatedActivation, see: Watch = (_, x) => x): Tensor {
  return mul(see("activation", gatedActivation[activation](gate), 0), up);
}

/** activation(gate)·up: the gated unit of SwiGLU and GeGLU (Shazeer 2020). `watch` sees "activation", which is activation(gate). */
export function gated(gate: Tensor, up: Tensor, activation: GatedActivation, watch?: Watch): Tensor {
  return watch ? composedGated(gate, up, activation, watch) : gatedOp(gate, up, activation);
}

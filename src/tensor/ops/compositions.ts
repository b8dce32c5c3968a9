/** Samples of the functions that are made of operations: the op contract runs these too, so that none goes untested. */
import type { Composition, Sample } from "../op.ts";
import { integers, quantizedValues, values } from "../samples.ts";
import { type Tensor, tensor } from "../tensor.ts";
import { einsum } from "./einsum.ts";
import { clamp, logicalAnd, logicalNot, logicalOr, logicalXor, maskedFill, softcapped } from "./elementwise.ts";
import { argsort, flip, gather, repeat, roll, scatterAdd, sort, topk } from "./indexing.ts";
import { stack } from "./joining.ts";
import { linears } from "./linear.ts";
import { mseLoss } from "./loss.ts";
import { matmul } from "./matmul.ts";
import { cast, detach, slice, squeeze, transpose, unsqueeze } from "./movement.ts";
import { tril, triu } from "./padding.ts";
import { argmax, logsumexp, mean, variance } from "./reduce.ts";
import { logSoftmax, softmax } from "./softmax.ts";

/** Curried, so that the samples are checked against the function's own arguments. */
function composition<Args extends readonly unknown[], Out extends Tensor | Tensor[]>(name: string, call: (...args: Args) => Out) {
  return (...samples: readonly Sample<Args>[]): Composition<never, Tensor | Tensor[]> =>
    ({ name, call, samples: () => samples }) as unknown as Composition<never, Tensor | Tensor[]>;
}

const mask = (seed: number): Tensor => cast(integers([3, 4], 0, 2, seed), "bool");
const x34 = (seed = 1): Tensor => values([3, 4], { seed });

/** By name of the exported function; a function of `ops/` that is neither here nor an operation fails the contract. */
export const compositions: readonly Composition<never, Tensor | Tensor[]>[] = [
  composition("transpose", transpose)({ name: "outer dimensions", args: () => [values([2, 3, 4]), 0, 2], torch: "x0.transpose(0, 2)" }),
  composition(
    "slice",
    slice,
  )({ name: "ranges and a place", args: () => [values([4, 3, 5]), [1, 3], null, -2] as [Tensor, [number, number], null, number], torch: "x0[1:3, :, -2]" }),
  composition("unsqueeze", unsqueeze)({ name: "at the end", args: () => [x34(), -1], torch: "x0.unsqueeze(-1)" }),
  composition("squeeze", squeeze)({ name: "all", args: () => [values([1, 3, 1])], torch: "x0.squeeze()" }),
  composition("stack", stack)({ name: "at the end", args: () => [[x34(), x34(2)], -1], torch: "torch.stack([x0, x1], -1)" }),
  composition("linears", (x: Tensor, weights: Tensor[], biases: Tensor[]) =>
    linears(
      x,
      weights.map((weight, i) => ({ weight, bias: biases[i] ?? null })),
    ),
  )(
    {
      name: "float weights, biases",
      args: () => [values([2, 3, 5]), [values([4, 5], { seed: 2 }), values([3, 5], { seed: 3 })], [values([4], { seed: 4 }), values([3], { seed: 5 })]],
    },
    {
      name: "block-quantised weights",
      args: () => [values([3, 64]), [quantizedValues([20, 64], "q4_1"), quantizedValues([9, 64], "q8_0")], [values([20], { seed: 4 })]],
      differences: false,
    },
  ),
  composition("detach", detach)({ name: "no gradient", args: () => [x34()], torch: "x0.detach()", differences: false }),
  composition("mean", mean)(
    { name: "all", args: () => [x34()], torch: "x0.mean()" },
    { name: "rows, kept", args: () => [x34(), -1, { keepDim: true }], torch: "x0.mean(-1, keepdim=True)" },
  ),
  composition("variance", variance)(
    { name: "all", args: () => [x34()], torch: "x0.var()" },
    { name: "rows, by n", args: () => [x34(), -1, { correction: 0 }], torch: "x0.var(-1, correction=0)" },
  ),
  composition("logsumexp, any dimension", logsumexp)(
    { name: "rows", args: () => [x34(), -1], torch: "x0.logsumexp(-1)" },
    { name: "large numbers", args: () => [values([2, 5], { low: -300, high: 300 }), 0], torch: "x0.logsumexp(0)", differences: false },
  ),
  composition("softmax, other dimension", softmax)({ name: "columns", args: () => [x34(), 0], torch: "x0.softmax(0)" }),
  composition("logSoftmax, other dimension", logSoftmax)({ name: "columns", args: () => [x34(), 0], torch: "x0.log_softmax(0)" }),
  composition("argmax of all", (x: Tensor) => argmax(x))({ name: "with NaN", args: () => [tensor([1, Number.NaN, 3])], torch: "x0.argmax()" }),
  composition(
    "maskedFill",
    maskedFill,
  )({ name: "minus infinity", args: () => [x34(), mask(3), Number.NEGATIVE_INFINITY], torch: "x0.masked_fill(x1, -math.inf)", differences: false }),
  composition("logicalNot", logicalNot)({ name: "bools", args: () => [mask(1)], torch: "~x0" }),
  composition("logicalAnd", logicalAnd)({ name: "bools", args: () => [mask(1), mask(2)], torch: "x0 & x1" }),
  composition("logicalOr", logicalOr)({ name: "bools", args: () => [mask(1), mask(2)], torch: "x0 | x1" }),
  composition("logicalXor", logicalXor)({ name: "bools", args: () => [mask(1), mask(2)], torch: "x0 ^ x1" }),
  composition(
    "softcapped",
    softcapped,
  )({ name: "below and beyond", args: () => [values([3, 4], { low: -4, high: 4 }), 1.5], torch: "1.5 * (x0 / 1.5).tanh()" }),
  composition("clamp", clamp)(
    { name: "both bounds", args: () => [x34(), -1, 0.7], torch: "x0.clamp(-1, 0.7)" },
    {
      name: "at the bounds",
      args: () => [tensor([-2, -1, 0, 0.5, 3, Number.NaN], { requiresGrad: true }), -1, 0.5],
      torch: "x0.clamp(-1, 0.5)",
      differences: false,
    },
  ),
  composition("mseLoss", mseLoss)({ name: "mean", args: () => [x34(), x34(2)], torch: "F.mse_loss(x0, x1)" }),
  composition("matmul of vectors", matmul)(
    { name: "vector, vector", args: () => [values([5]), values([5], { seed: 2 })], torch: "x0 @ x1" },
    { name: "matrix, vector", args: () => [x34(), values([4], { seed: 2 })], torch: "x0 @ x1" },
    { name: "vector, batch", args: () => [values([3]), values([2, 3, 4], { seed: 2 })], torch: "x0 @ x1" },
  ),
  composition(
    "gather from a corner",
    gather,
  )({ name: "fewer rows", args: () => [values([4, 5]), 1, integers([2, 3], 0, 5)], torch: "x0.gather(1, x1.long())" }),
  composition(
    "scatterAdd into a corner",
    scatterAdd,
  )({
    name: "fewer of each",
    args: () => [values([4, 5]), 1, integers([2, 3], 0, 5), values([3, 4], { seed: 2 })],
    torch: "x0.scatter_add(1, x1.long(), x2[:2, :3])",
  }),
  composition("sort, other dimension", (x: Tensor) => Object.values(sort(x, 0, { descending: true })))({
    name: "columns",
    args: () => [values([5, 3])],
    torch: "x0.sort(0, descending=True)",
  }),
  composition("argsort", argsort)({ name: "rows", args: () => [x34()], torch: "x0.argsort(-1)", differences: false }),
  composition("topk, smallest", (x: Tensor) => Object.values(topk(x, 2, 0, { largest: false })))({
    name: "columns",
    args: () => [values([5, 3])],
    torch: "x0.topk(2, 0, largest=False)",
  }),
  composition("tril", tril)(
    { name: "square", args: () => [values([4, 4])], torch: "x0.tril()" },
    { name: "wide, one more", args: () => [values([2, 3, 5]), 1], torch: "x0.tril(1)" },
    { name: "bools", args: () => [mask(4)], torch: "x0.tril()" },
  ),
  composition("triu", triu)({ name: "tall, one less", args: () => [values([5, 3]), -1], torch: "x0.triu(-1)" }),
  composition("flip", flip)({ name: "two dimensions", args: () => [values([2, 3, 4]), [0, -1]], torch: "x0.flip([0, -1])" }),
  composition("repeat", repeat)({ name: "a new dimension", args: () => [values([2, 3]), [2, 1, 3]], torch: "x0.repeat(2, 1, 3)" }),
  composition("roll", roll)({ name: "backwards", args: () => [values([2, 5]), -2, 1], torch: "x0.roll(-2, 1)" }),
  composition("einsum", einsum)(
    { name: "batched product", args: () => ["bij,bjk->bik", values([2, 3, 4]), values([2, 4, 5], { seed: 2 })], torch: "torch.einsum('bij,bjk->bik', x0, x1)" },
    { name: "implicit result", args: () => ["ba,ac", values([2, 3]), values([3, 4], { seed: 2 })], torch: "torch.einsum('ba,ac', x0, x1)" },
    { name: "diagonal", args: () => ["ii->i", values([4, 4])], torch: "torch.einsum('ii->i', x0)" },
    { name: "trace of each", args: () => ["bii->b", values([2, 3, 3])], torch: "torch.einsum('bii->b', x0)" },
    { name: "outer", args: () => ["i,j->ji", values([3]), values([4], { seed: 2 })], torch: "torch.einsum('i,j->ji', x0, x1)" },
    { name: "sum of all", args: () => ["ij->", values([3, 4], { low: -1.2 })], torch: "torch.einsum('ij->', x0)" },
    { name: "item by item", args: () => ["ij,ij->ij", x34(), x34(2)], torch: "torch.einsum('ij,ij->ij', x0, x1)" },
    {
      name: "three operands",
      args: () => ["bi,ijk,bk->bj", values([2, 3]), values([3, 4, 5], { seed: 2 }), values([2, 5], { seed: 3 })],
      torch: "torch.einsum('bi,ijk,bk->bj', x0, x1, x2)",
    },
    {
      name: "attention scores",
      args: () => ["bthd,bshd->bhts", values([2, 3, 2, 4]), values([2, 5, 2, 4], { seed: 2 })],
      torch: "torch.einsum('bthd,bshd->bhts', x0, x1)",
    },
    {
      name: "dots, broadcast",
      args: () => ["...ij,...jk->...ik", values([2, 1, 3, 4]), values([3, 4, 2], { seed: 2 })],
      torch: "torch.einsum('...ij,...jk->...ik', x0, x1)",
    },
    { name: "a size of 1", args: () => ["ij,jk->ik", values([3, 1]), values([4, 2], { seed: 2, low: -1 })], torch: "torch.einsum('ij,jk->ik', x0, x1)" },
  ),
];

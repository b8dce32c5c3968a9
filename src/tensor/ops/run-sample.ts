/** Runs one sample of an operation: what the op contract and the PyTorch fixture compare. */

import { type Backend, useBackend } from "../backend.ts";
import { backward } from "../backward.ts";
import { type Composition, operations, type Sample } from "../op.ts";
import { scope } from "../scope.ts";
import { Tensor, tensorFrom } from "../tensor.ts";
import { compositions } from "./compositions.ts";
import { add, mul } from "./elementwise.ts";
import { sum } from "./reduce.ts";

type Call = (...args: readonly unknown[]) => Tensor | Tensor[];

/** An operation or composition, as the tests see it. */
export interface Subject {
  readonly name: string;
  readonly call: Call;
  readonly composed?: Call;
  readonly differentiable: boolean;
  readonly samples: readonly Sample<readonly unknown[]>[];
}

/** Everything that the contract covers. */
export function subjects(): Subject[] {
  const anyOf = (c: Composition<never, Tensor | Tensor[]>) => c as unknown as Composition<readonly unknown[], Tensor | Tensor[]>;
  return [
    ...[...operations.values()].map((op) => ({
      name: op.name,
      call: op.call as unknown as Call,
      composed: op.composed as unknown as Call | undefined,
      differentiable: typeof op.backward === "function",
      samples: anyOf(op).samples(),
    })),
    ...compositions.map((c) => ({ name: c.name, call: anyOf(c).call, differentiable: true, samples: anyOf(c).samples() })),
  ];
}

/** The tensor arguments in order, those inside arrays too. */
export const tensorsOf = (args: readonly unknown[]): Tensor[] =>
  args.flatMap((a) => (a instanceof Tensor ? [a] : Array.isArray(a) && a[0] instanceof Tensor ? (a as Tensor[]) : []));

export const resultsOf = (out: Tensor | Tensor[]): Tensor[] => (Array.isArray(out) ? out : [out]);

/** A fixed weight for each item of a result, so that one number depends on all of them. */
export const weightOf = (i: number): number => Math.cos(1.7 * i + 0.4) + 0.2;

export interface Outcome {
  values: (Float32Array | Int32Array | Uint8Array)[];
  /** Of the inputs in order; null where an input is no leaf or wants none. */
  gradients: (Float32Array | null)[];
}

/** Results of a call, and the gradients of Σ weightOf(i)·result[i] over all differentiable results. */
export function run(call: Call, makeArgs: () => readonly unknown[], on: Backend): Outcome {
  useBackend(on);
  return scope(() => {
    const args = makeArgs();
    const inputs = tensorsOf(args);
    const results = resultsOf(call(...args));
    const differentiable = results.filter((r) => r.requiresGrad);
    if (differentiable.length > 0) {
      const weighted = differentiable.map((r) =>
        sum(
          mul(
            r,
            tensorFrom(
              Float32Array.from({ length: r.size }, (_, i) => weightOf(i)),
              r.shape,
            ),
          ),
        ),
      );
      backward(weighted.reduce((a, b) => add(a, b)));
    }
    return {
      values: results.map((r) => r.dataSync()),
      gradients: inputs.map((t) => (t.node === null && t.grad !== null ? (t.grad.dataSync() as Float32Array) : null)),
    };
  });
}

/** A tensor that goes into a sample, in a form that other programs read. */
export interface Input {
  /** x0, x1, … for the tensor arguments in order; a tensor inside an options object has its key. */
  name: string;
  dtype: string;
  shape: readonly number[];
  requiresGrad: boolean;
  /** Items in row-major order, base64. */
  data: string;
}

export function inputsOf(args: readonly unknown[]): Input[] {
  const input = (name: string, x: Tensor): Input => ({ name, dtype: x.dtype, shape: x.shape, requiresGrad: x.requiresGrad, data: base64(x.bytesSync()) });
  const named = args
    .flatMap((a) => (typeof a === "object" && a !== null && Object.getPrototypeOf(a) === Object.prototype ? Object.entries(a) : []))
    .filter((e): e is [string, Tensor] => e[1] instanceof Tensor);
  return [...tensorsOf(args).map((x, i) => input(`x${i}`, x)), ...named.map(([name, x]) => input(name, x))];
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return btoa(text);
}

/** A short fingerprint of a sample's inputs (FNV-1a, Fowler et al. 1991): tells when the fixture was made from others. */
export function digestOf(inputs: readonly Input[]): string {
  let h = 0x811c9dc5;
  for (const c of JSON.stringify(inputs)) h = Math.imul(h ^ (c.codePointAt(0) as number), 0x01000193) >>> 0;
  return h.toString(16).padStart(8, "0");
}

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { NonFiniteError } from "../errors.ts";
import { noGrad, scope, type Tensor, tensorFrom } from "../tensor/index.ts";
import { adam, adamw, clipGradNorm, constant, cosine, linear, type Optimizer, oneCycle, rmsprop, sgd, wsd } from "./index.ts";

interface Fixture {
  shapes: number[][];
  traces: Record<string, Record<string, number[]>>;
  clipped: Record<string, number[]>;
}
const fixture = JSON.parse(readFileSync(new URL("./optim.fixture.json", import.meta.url), "utf8")) as Fixture;

/** As in optim.fixture.py. */
const number = (a: number, b: number, c: number) => ((a * 7919 + b * 104729 + c * 15485863 + 12345) % 1009) / 1009 - 0.5;
const fill = (shape: number[], a: number, b: number, scale: number) =>
  Array.from({ length: shape.reduce((n, s) => n * s, 1) }, (_, i) => number(a, b, i) * scale);

const OPTIMIZERS: Record<string, (p: Tensor[], maxGradNorm?: number) => Optimizer> = {
  adamw: (p, maxGradNorm) => adamw(p, { lr: 0.01, betas: [0.9, 0.95], weightDecay: 0.1, ...(maxGradNorm ? { maxGradNorm } : {}) }),
  adam: (p) => adam(p, { lr: 0.01, betas: [0.8, 0.99], eps: 1e-7, weightDecay: 0.05 }),
  sgd: (p) => sgd(p, { lr: 0.05, weightDecay: 0.01 }),
  momentum: (p) => sgd(p, { lr: 0.02, momentum: 0.9, weightDecay: 0.01 }),
  nesterov: (p) => sgd(p, { lr: 0.02, momentum: 0.9, nesterov: true }),
  rmsprop: (p) => rmsprop(p, { lr: 0.01, alpha: 0.95, weightDecay: 0.02 }),
};

function newParameters(): Tensor[] {
  return fixture.shapes.map((shape, k) => tensorFrom(fill(shape, 1000 + k, 0, 2), shape, { dtype: "f32", requiresGrad: true }));
}

function setGradients(parameters: Tensor[], t: number): void {
  for (const [k, p] of parameters.entries()) {
    const [g, values] = [fill(fixture.shapes[k], k, t, 1), p.dataSync()];
    p.grad?.dispose();
    p.grad = tensorFrom(
      g.map((x, i) => x + 0.3 * values[i]),
      p.shape,
      { dtype: "f32" },
    );
  }
}

function worst(parameters: Tensor[], expected: number[]): number {
  const got = parameters.flatMap((p) => [...p.dataSync()]);
  const scale = Math.max(...expected.map(Math.abs));
  return Math.max(...got.map((x, i) => Math.abs(x - expected[i]) / scale));
}

describe("PyTorch's traces over 100 steps, to 1e-5", () => {
  const clipped = { name: "adamw, clipped", make: (p: Tensor[]) => OPTIMIZERS.adamw(p, 0.5), trace: fixture.clipped };
  const plain = Object.entries(OPTIMIZERS).map(([name, make]) => ({ name, make: (p: Tensor[]) => make(p), trace: fixture.traces[name] }));
  test.each([...plain, clipped])("$name", ({ make, trace }) => {
    const parameters = newParameters();
    const optimizer = make(parameters);
    for (let t = 1; t <= 100; t++) {
      setGradients(parameters, t);
      optimizer.step();
      if (trace[t] !== undefined) expect(worst(parameters, trace[t])).toBeLessThan(1e-5);
    }
    expect(optimizer.steps).toBe(100);
  });

  test("a state saved at step 50 goes on as if nothing had been", () => {
    const [one, two] = [newParameters(), newParameters()];
    const first = OPTIMIZERS.adamw(one);
    for (let t = 1; t <= 50; t++) {
      setGradients(one, t);
      first.step();
    }
    for (const [i, p] of two.entries()) p.write([...one[i].dataSync()].flat());
    const second = OPTIMIZERS.adamw(two);
    second.loadState(first.state());
    for (let t = 51; t <= 60; t++) {
      for (const list of [one, two]) setGradients(list, t);
      first.step();
      second.step();
    }
    expect(two.map((p) => [...p.dataSync()])).toEqual(one.map((p) => [...p.dataSync()]));
  });
});

describe("gradients", () => {
  test("clipGradNorm scales all of them together and gives the norm before", () => {
    const parameters = newParameters();
    setGradients(parameters, 1);
    const before = parameters.flatMap((p) => [...(p.grad as Tensor).dataSync()]);
    const norm = Math.hypot(...before);
    expect(clipGradNorm(parameters, 0.5)).toBeCloseTo(norm, 5);
    const after = parameters.flatMap((p) => [...(p.grad as Tensor).dataSync()]);
    expect(Math.hypot(...after)).toBeCloseTo(0.5, 5);
    expect(after[3] / before[3]).toBeCloseTo(0.5 / norm, 5);
  });

  test("one that is not finite is named, and nothing moves", () => {
    const p = tensorFrom([1, 2, 3], [3], { requiresGrad: true });
    const optimizer = adamw([{ parameters: [["layer.weight", p]] }], { lr: 0.1, maxGradNorm: 1 });
    p.grad = tensorFrom([0, Number.NaN, 0], [3]);
    expect(() => optimizer.step()).toThrow(NonFiniteError);
    expect(() => optimizer.step()).toThrow(/layer\.weight.*place 1/);
    expect([...p.dataSync()]).toEqual([1, 2, 3]);
    expect(optimizer.steps).toBe(0);
  });

  test("weight decay leaves out what has a group without it", () => {
    const [w, b] = [1, 1].map((x) => tensorFrom([x], [1], { requiresGrad: true }));
    const optimizer = sgd(
      [
        { parameters: [["w", w]], weightDecay: 0.5 },
        { parameters: [["b", b]], weightDecay: 0 },
      ],
      { lr: 1 },
    );
    for (const p of [w, b]) p.grad = tensorFrom([0], [1]);
    optimizer.step();
    expect([w.itemSync(), b.itemSync()]).toEqual([0.5, 1]);
    expect(() =>
      sgd(
        [
          {
            parameters: [
              ["w", w],
              ["w", b],
            ],
          },
        ],
        { lr: 1 },
      ),
    ).toThrow(/comes twice/);
  });

  test("saved activations notice that a step has changed the weight", () => {
    const w = tensorFrom([2, 3], [2], { requiresGrad: true });
    const loss = w.mul(w).sum();
    w.grad = tensorFrom([1, 1], [2]);
    sgd([w], { lr: 0.1 }).step();
    expect(() => loss.backward()).toThrow(/changed in place/);
    scope(() => noGrad(() => undefined));
  });
});

describe("schedules", () => {
  test("values at the corners", () => {
    const c = cosine({ steps: 110, warmup: 10, final: 0.1 });
    expect([c(0), c(9), c(10), c(60), c(110), c(500)].map((x) => Number(x.toFixed(6)))).toEqual([0.090909, 0.909091, 1, 0.55, 0.1, 0.1]);
    const l = linear({ steps: 100 });
    expect([l(0), l(25), l(100)]).toEqual([1, 0.75, 0]);
    const w = wsd({ steps: 100, warmup: 10, decay: 20 });
    expect([w(10), w(80), w(90), w(100)]).toEqual([1, 1, 0.5, 0]);
    const o = oneCycle({ steps: 100, warmup: 30 });
    expect([o(0), o(30), o(65), o(100)].map((x) => Number(x.toFixed(6)))).toEqual([0.04, 1, 0.5, 0]);
    expect(constant({ warmup: 1 })(0)).toBe(0.5);
    expect(() => wsd({ steps: 10, decay: 20 })).toThrow(/decay/);
    expect(() => cosine({ steps: 1.5 })).toThrow(/whole/);
  });
});

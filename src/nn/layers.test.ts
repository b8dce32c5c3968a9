import { inspect } from "node:util";
import { expect, test } from "vitest";
import { attention, linear, manualSeed, noGrad, ones, scope, type Tensor, tensorFrom, zeros } from "../tensor/index.ts";
import { quantizedValues } from "../tensor/samples.ts";
import {
  BatchNorm,
  Dropout,
  init,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  projections,
  RMSNorm,
  replaceParameter,
  Sequential,
  sinusoidalPositions,
} from "./index.ts";

const close = (t: Tensor | null, expected: readonly number[], digits = 5) => {
  const actual = [...(t as Tensor).dataSync()];
  expect(actual.length).toBe(expected.length);
  for (const [i, e] of expected.entries()) expect(actual[i], `item ${i}`).toBeCloseTo(e, digits);
};
const signal = (factor: number, shift: number, f: (x: number) => number) => Float32Array.from({ length: 12 }, (_, i) => f(i * factor + shift));

// torch.nn.BatchNorm1d(3) of PyTorch 2.15 in float64, on the same numbers: results, gradients of Σ cos(1.7·i + 0.4)·y, running statistics, results after eval().
const TORCH = {
  y: [0.6457744, -0.3783529, 0.1311024, -1.4826602, 0.9649443, 0.3359857, 2.3006597, 0.2841222, -3.5575346, -1.0637739, -0.0707136, 1.8904464],
  x: [0.9191666, 0.1275317, -0.9889205, 0.6218767, 0.1158317, -1.112861, -0.3896245, -0.2275136, 0.6368862, -1.1514188, -0.0158498, 1.4648953],
  weight: [-0.2021021, -1.6114969, 0.3926456],
  bias: [0.2444243, 1.1891814, -0.5508632],
  mean: [-0.0124193, 0.1470629, -0.2624021],
  variance: [1.1739395, 1.1315612, 1.1480405],
  evaluated: [0.6672755, -1.1386219, -4.1594068, -2.148478, 0.5255416, -3.8985999, 2.8565599, -0.3179048, -8.8548708, -1.5943241, -0.7574983, -1.9198434],
};

test.each([
  ["(N, dim)", [4, 3]],
  ["(B, T, dim)", [2, 2, 3]],
])("BatchNorm equals PyTorch's, training and evaluating, over %s", (_, shape) => {
  const norm = new BatchNorm(3);
  norm.weight.write(Float32Array.of(1.5, -0.5, 2));
  norm.bias.write(Float32Array.of(0.1, 0.2, -0.3));
  scope(() => {
    const data = signal(1.3, 0.2, Math.sin).map((v, i) => 2 * v + [0, 1, -3][i % 3]);
    const x = tensorFrom(data, shape, { requiresGrad: true });
    const y = norm.forward(x);
    close(y, TORCH.y);
    y.mul(tensorFrom(signal(1.7, 0.4, Math.cos), shape))
      .sum()
      .backward();
    close(x.grad, TORCH.x);
    close(norm.weight.grad, TORCH.weight);
    close(norm.bias.grad, TORCH.bias);
    close(norm.running_mean, TORCH.mean);
    close(norm.running_var, TORCH.variance);
    close(norm.eval().forward(x), TORCH.evaluated);
    // Evaluation leaves the averages alone.
    close(norm.running_mean, TORCH.mean);
    return undefined;
  });
  // The averages belong to the weights, and no optimiser moves them.
  expect([...norm.stateDict().keys()]).toEqual(["weight", "bias", "running_mean", "running_var"]);
  expect([...norm.namedParameters()].map(([name]) => name)).toEqual(["weight", "bias"]);
  norm.dispose();
});

test("a module takes over another's state whole, or not at all", () => {
  manualSeed(3);
  const [from, to] = [new Sequential(new LayerNorm(3), new BatchNorm(3)), new Sequential(new LayerNorm(3), new BatchNorm(3))];
  for (const [i, t] of [...from.stateDict().values()].entries()) t.write(Float32Array.of(i, -i, 0.5));
  expect(to.loadStateDict(from.stateDict())).toBe(to);
  expect([...to.stateDict()].map(([name, t]) => [name, [...t.dataSync()]])).toEqual([...from.stateDict()].map(([name, t]) => [name, [...t.dataSync()]]));
  const before = [...to.stateDict().values()].map((t) => [...t.dataSync()]);
  scope(() => {
    const state = new Map([...from.stateDict()].map(([name]) => [name, zeros([3])]));
    const names = [...state.keys()];
    const last = names.at(-1) as string;
    expect(() => to.loadStateDict(new Map([...state, [last, zeros([4])]]))).toThrow(`loadStateDict: expected ${last} of shape (3), got (4).`);
    expect(() => to.loadStateDict(new Map([...state, ["extra", zeros([3])]]))).toThrow("got none missing and extra unknown");
    state.delete(last);
    expect(() => to.loadStateDict(state)).toThrow(`got ${last} missing and none unknown`);
    return undefined;
  });
  expect([...to.stateDict().values()].map((t) => [...t.dataSync()])).toEqual(before);
  from.dispose();
  to.dispose();
});

test("BatchNorm says what it can't normalise", () => {
  const net = new Sequential(new LayerNorm(3), new BatchNorm(3));
  scope(() => {
    const row = (n: number) => tensorFrom(new Float32Array(n), [1, n]);
    expect(() => net.forward(row(3))).toThrow(/BatchNorm: expected at least 2 rows while training, got 1/);
    expect(() => new BatchNorm(3).forward(row(4))).toThrow(/BatchNorm: expected x \(…, 3\), got \(1, 4\)/);
    expect([...noGrad(() => net.eval().forward(row(3))).dataSync()]).toEqual([0, 0, 0]);
    return undefined;
  });
  net.dispose();
});

test("sinusoidal positions: the published formula, and a shift is a rotation", () => {
  scope(() => {
    const [count, dim] = [50, 8];
    const table = sinusoidalPositions(count, dim);
    expect(table.shape).toEqual([count, dim]);
    const data = table.dataSync();
    const at = (position: number, i: number) => data[position * dim + i];
    expect([...data.slice(0, dim)]).toEqual([0, 1, 0, 1, 0, 1, 0, 1]);
    expect(at(7, 2)).toBeCloseTo(Math.sin(7 / 10000 ** (2 / 8)), 6);
    expect(at(7, 5)).toBeCloseTo(Math.cos(7 / 10000 ** (4 / 8)), 6);
    // Products of two positions' rows depend on their distance alone (Vaswani et al. 2017, 3.5).
    const product = (a: number, b: number) => Array.from({ length: dim }, (_, i) => at(a, i) * at(b, i)).reduce((x, y) => x + y);
    for (const a of [3, 20, 41]) expect(product(a, a + 6)).toBeCloseTo(product(0, 6), 5);
    return undefined;
  });
});

test("MultiHeadAttention: causal over x itself, all of a memory", () => {
  const layer = new MultiHeadAttention(4, 2);
  scope(() =>
    noGrad(() => {
      const x = tensorFrom(signal(0.9, 0.1, Math.sin), [1, 3, 4]);
      const memory = tensorFrom(
        Float32Array.from({ length: 20 }, (_, i) => Math.cos(0.7 * i)),
        [1, 5, 4],
      );
      const by = (over: Tensor, causal: boolean) => {
        const heads = (y: Tensor) => y.reshape([1, y.shape[1] as number, 2, 2]);
        const y = attention(heads(layer.q_proj.forward(x)), heads(layer.k_proj.forward(over)), heads(layer.v_proj.forward(over)), { causal });
        return [...layer.out_proj.forward(y.reshape([1, 3, 4])).dataSync()];
      };
      close(layer.forward(x), by(x, true));
      close(layer.forward(x, { causal: false }), by(x, false));
      close(layer.forward(x, { memory }), by(memory, false));
      close(layer.forward(x, { memory, causal: true }), by(memory, true));
      expect(by(memory, true)).not.toEqual(by(memory, false));
      return undefined;
    }),
  );
  layer.dispose();
});

test("MultiHeadAttention says which sizes do not go together", () => {
  expect(() => new MultiHeadAttention(10, 3)).toThrow(/^MultiHeadAttention: expected dim to be a multiple of heads, got 10 and 3\./);
  expect(() => new MultiHeadAttention(12, 3, { kvHeads: 2 })).toThrow(/^MultiHeadAttention: expected heads to be a multiple of kvHeads, got 3 and 2\./);
  new MultiHeadAttention(10, 3, { headDim: 4 }).dispose();
});

test("Dropout drops a share p while training, scales the rest, and leaves evaluation alone", () => {
  manualSeed(3);
  const layer = new Dropout(0.25);
  scope(() => {
    const values = layer.forward(ones([100, 100])).dataSync();
    expect(new Set(values)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
    expect(values.filter((v) => v === 0).length / values.length).toBeCloseTo(0.25, 1);
    expect(
      new Set(
        layer
          .eval()
          .forward(ones([100]))
          .dataSync(),
      ),
    ).toEqual(new Set([1]));
    return undefined;
  });
});

// Standard deviations of a weight (200, 100) by the published formulas; a uniform's is its bound/√3.
test.each([
  ["xavierUniform", init.xavierUniform, Math.sqrt(2 / 300), Math.sqrt(6 / 300)],
  ["xavierNormal", init.xavierNormal, Math.sqrt(2 / 300), Number.POSITIVE_INFINITY],
  ["kaimingNormal", init.kaimingNormal, Math.sqrt(2 / 100), Number.POSITIVE_INFINITY],
])("%s has the published spread", (_, fill, std, bound) => {
  manualSeed(5);
  const values = scope(() => ({ data: fill(zeros([200, 100])).dataSync() })).data;
  const deviation = Math.sqrt([...values].reduce((sum, v) => sum + v * v, 0) / values.length);
  expect(deviation / std).toBeGreaterThan(0.97);
  expect(deviation / std).toBeLessThan(1.03);
  expect(values.every((v) => Math.abs(v) <= bound)).toBe(true);
});

test("a module shows its parts as a tree, equal ones of a list once", () => {
  class Net extends Module {
    norm = new BatchNorm(3);
    layers = [new Linear(3, 3), new Linear(3, 3), new Linear(3, 2, { bias: false })];
    head = new Linear(3, 2, { bias: false });
    rest = new Sequential(new Dropout(0.1), new Dropout(0.1));
    override forward(x: Tensor): Tensor {
      return x;
    }
  }
  const net = new Net();
  net.freeze("head.*");
  expect(String(net).split("\n")).toEqual([
    "Net(",
    "  norm: BatchNorm(weight: (3), bias: (3), running_mean: (3), running_var: (3))",
    "  layers.0 … layers.1: Linear(weight: (3, 3), bias: (3))",
    "  layers.2: Linear(weight: (2, 3))",
    "  head: Linear(weight: (2, 3) frozen)",
    "  rest: Sequential(",
    "    0 … 1: Dropout()",
    "  )",
    ")",
  ]);
  expect(inspect(net)).toBe(String(net));
});

test("RMSNorm begins as a gain of 1, by its weight or by 1 + weight", () => {
  // √(mean(x²) + 1) of 3, 4, 5 and 2 is √14.5.
  const expected = [3, 4, 5, 2].map((v) => v / Math.sqrt(14.5));
  scope(() => {
    const x = tensorFrom([3, 4, 5, 2], [1, 4]);
    const [plain, offset] = [new RMSNorm(4, { eps: 1 }), new RMSNorm(4, { eps: 1, unitOffset: true })];
    close(plain.forward(x), expected);
    close(offset.forward(x), expected);
    expect([...plain.weight.dataSync(), ...offset.weight.dataSync()]).toEqual([1, 1, 1, 1, 0, 0, 0, 0]);
    for (const norm of [plain, offset]) norm.weight.write(Float32Array.of(0, -1, 0.5, 1));
    close(
      plain.forward(x),
      [0, -1, 0.5, 1].map((w, i) => w * (expected[i] as number)),
    );
    close(
      offset.forward(x),
      [1, 0, 1.5, 2].map((g, i) => g * (expected[i] as number)),
    );
    for (const norm of [plain, offset]) norm.dispose();
    return undefined;
  });
});

test("projections give what forward of each layer gives: floats, block-quantised, watched, and a layer of another kind", () => {
  class Twice extends Linear {
    override forward(x: Tensor): Tensor {
      return super.forward(x).mul(2);
    }
  }
  class Pair extends Module {
    a = new Linear(64, 20);
    b = new Linear(64, 9);
    override forward(x: Tensor): Tensor[] {
      return projections(x, [this.a, this.b]);
    }
  }
  const pair = new Pair().eval();
  const x = tensorFrom(
    Float32Array.from({ length: 3 * 64 }, (_, i) => Math.sin(i)),
    [3, 64],
  );
  const bytes = (ts: readonly Tensor[]) => ts.map((t) => t.dataSync());
  const check = () => noGrad(() => scope(() => expect(bytes(pair.forward(x))).toEqual(bytes([pair.a.forward(x), pair.b.forward(x)]))));
  check();
  replaceParameter(pair, "a.weight", quantizedValues([20, 64], "q4_1"));
  check();
  replaceParameter(pair, "b.weight", quantizedValues([9, 64], "q8_0"));
  check();
  const seen: string[] = [];
  const unhook = pair.hook(/^[ab]$/, (t, name) => {
    seen.push(name);
    return (t as Tensor).mul(3);
  });
  noGrad(() =>
    scope(() => expect(bytes(pair.forward(x))).toEqual(bytes([linear(x, pair.a.weight, pair.a.bias).mul(3), linear(x, pair.b.weight, pair.b.bias).mul(3)]))),
  );
  expect(seen).toEqual(["a", "b"]);
  unhook();
  pair.b = new Twice(64, 9);
  replaceParameter(pair, "b.weight", quantizedValues([9, 64], "q8_0"));
  noGrad(() => scope(() => expect(bytes(pair.forward(x)).at(1)).toEqual(linear(x, pair.b.weight, pair.b.bias).mul(2).dataSync())));
  check();
});

import { expect, test } from "vitest";
import { ConfigError, ShapeError } from "../errors.ts";
import { groupedLinear, linear, manualSeed, randn, scope, softmax, type Tensor, tensor } from "../tensor/index.ts";
import { expertLoad, loadBalancingLoss, mixExperts, routerZLoss, routeTokens } from "./index.ts";

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, digits = 5) => {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(actual[i], `item ${i}`).toBeCloseTo(expected[i] as number, digits);
};

function toy() {
  manualSeed(5);
  const made = (shape: number[]) => randn(shape, { requiresGrad: true });
  return { x: made([7, 4]), router: made([5, 4]), weight: made([5, 4, 4]) };
}

/** Every expert for every token, weighed by what the routes say: what the sparse way must equal. */
function dense(x: Tensor, router: Tensor, weight: Tensor, topK: number, weights: "softmax" | "normalized"): Tensor {
  const logits = linear(x, router);
  const { experts } = routeTokens(logits, { topK, weights });
  const chosen = experts.dataSync();
  const mask = new Float32Array(7 * 5);
  for (let i = 0; i < 7 * topK; i++) mask[Math.floor(i / topK) * 5 + (chosen[i] as number)] = 1;
  const shares = softmax(logits).mul(tensor(mask).reshape([7, 5]));
  const weighed = weights === "softmax" ? shares : shares.div(shares.sum(1, { keepDim: true }));
  const all = Array.from({ length: 5 }, (_, e) => linear(x, weight.narrow(0, e, 1).reshape([4, 4])).mul(weighed.narrow(1, e, 1)));
  return all.slice(1).reduce((a, b) => a.add(b), all[0] as Tensor);
}

const sparse = (x: Tensor, router: Tensor, weight: Tensor, topK: number, weights: "softmax" | "normalized") =>
  mixExperts(x, routeTokens(linear(x, router), { topK, weights }), 5, (rows, counts) => groupedLinear(rows, weight, counts));

test.each(["softmax", "normalized"] as const)("%s weights: results and gradients are those of all experts with a mask", (weights) => {
  const { x, router, weight } = toy();
  const run = (make: typeof dense) =>
    scope(() => {
      const out = make(x, router, weight, 2, weights);
      out
        .mul(tensor(Float32Array.from({ length: 28 }, (_, i) => Math.cos(i))).reshape([7, 4]))
        .sum()
        .backward();
      const found = [out, x.grad, router.grad, weight.grad].map((t) => (t as Tensor).dataSync().slice());
      for (const t of [x, router, weight]) t.grad = null;
      return { found };
    }).found;
  const [expected, actual] = [run(dense), run(sparse)];
  for (const [i, values] of expected.entries()) close(actual[i] as Float32Array, values as Float32Array);
});

test("a token's result does not depend on the others", () => {
  const { x, router, weight } = toy();
  scope(() => {
    const all = sparse(x, router, weight, 2, "softmax").dataSync();
    for (let t = 0; t < 7; t++) expect(sparse(x.narrow(0, t, 1), router, weight, 2, "softmax").dataSync()).toEqual(all.slice(4 * t, 4 * t + 4));
    return undefined;
  });
});

test("a full expert answers no more tokens", () => {
  scope(() => {
    // All to expert 0 first, then to 1.
    const logits = tensor([
      [3, 2, 0],
      [3, 2, 0],
      [3, 2, 0],
      [3, 2, 0],
    ]);
    const routes = routeTokens(logits, { topK: 2, weights: "normalized" });
    const x = tensor([[1], [2], [3], [4]]);
    const answers = (capacity?: number) => {
      const seen: number[][] = [];
      const out = mixExperts(
        x,
        routes,
        3,
        (rows, counts) => {
          seen.push([...counts], [...rows.dataSync()]);
          return rows;
        },
        capacity === undefined ? {} : { capacity },
      );
      return { out: [...out.dataSync()], seen };
    };
    close(answers().out, [1, 2, 3, 4]);
    // 4 tokens · 2 / 3 experts · 0.75 = 2 tokens an expert.
    const { out, seen } = answers(0.75);
    expect(seen).toEqual([
      [2, 2, 0],
      [1, 2, 1, 2],
    ]);
    close(out, [1, 2, 0, 0]);
    return undefined;
  });
});

test("the losses, worked out by hand", () => {
  scope(() => {
    // Two tokens, two experts: probabilities (0.75, 0.25) and (0.5, 0.5), both to expert 0.
    const logits = tensor(
      [
        [Math.log(3), 0],
        [0, 0],
      ],
      { requiresGrad: true },
    );
    const routes = [routeTokens(logits, { topK: 1 })];
    expect(expertLoad(routes)).toEqual({ counts: Float64Array.of(2, 0), variation: 1 });
    const loss = loadBalancingLoss(routes);
    expect(loss.itemSync()).toBeCloseTo(2 * 1 * 0.625, 6);
    // d(2 · p₀ / 2)/dx₀ = p₀(1 − p₀) for each token.
    loss.backward();
    close((logits.grad as Tensor).dataSync(), [0.1875, -0.1875, 0.25, -0.25]);
    expect(routerZLoss(routes).itemSync()).toBeCloseTo((Math.log(4) ** 2 + Math.log(2) ** 2) / 2, 6);
    // Over two routers at once, as transformers has it: counts and probabilities are of all tokens.
    const even = routeTokens(
      tensor([
        [0, 1],
        [0, 1],
      ]),
      { topK: 1 },
    );
    const p = 1 / (1 + Math.E);
    expect(loadBalancingLoss([...routes, even]).itemSync()).toBeCloseTo(2 * (0.5 * ((0.75 + 0.5 + 2 * p) / 4) + 0.5 * ((0.25 + 0.5 + 2 * (1 - p)) / 4)), 6);
    return undefined;
  });
});

test("equal scores go to the expert with the smaller number", () => {
  expect([...routeTokens(tensor([[1, 2, 2, 2]]), { topK: 2 }).experts.dataSync()]).toEqual([1, 2]);
});

test("wrong calls are refused in words", () => {
  const logits = tensor([[1, 2]]);
  expect(() => routeTokens(logits, { topK: 3 })).toThrow(/expected topK from 1 to the 2 experts, got 3/);
  expect(() => routeTokens(logits, { topK: 0 })).toThrow(ConfigError);
  expect(() => routeTokens(tensor([1, 2]), { topK: 1 })).toThrow(ShapeError);
  expect(() => loadBalancingLoss([])).toThrow(/expected the routes of at least one router/);
  expect(() => groupedLinear(logits, tensor([[[1, 2]]]), Int32Array.of(2))).toThrow(/1 numbers of rows that add up to 1, got 1 that add up to 2/);
});

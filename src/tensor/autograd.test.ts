import { describe, expect, test } from "vitest";
import {
  embedding,
  enableGrad,
  gradEnabled,
  keep,
  layerNorm,
  linear,
  linearCrossEntropy,
  memory,
  mlp,
  noGrad,
  resetPeakMemory,
  rmsNorm,
  scope,
  type Tensor,
  tensor,
  where,
} from "./index.ts";
import { values } from "./samples.ts";

const gradient = (t: Tensor): number[] => [...(t.grad as Tensor).dataSync()];

describe("backward", () => {
  test("a leaf that is used twice sums both ways", () =>
    scope(() => {
      const x = tensor([3], { requiresGrad: true });
      x.mul(x).add(x).backward();
      expect(gradient(x)).toEqual([7]);
    }));

  test("diamonds: a result that is used several times passes on once, with the sum", () =>
    scope(() => {
      const x = tensor([2], { requiresGrad: true });
      const y = x.mul(3);
      const a = y.mul(2);
      y.add(a).add(y.mul(a)).backward(); // y + 2y + 2y², y = 3x
      expect(gradient(x)).toEqual([(3 + 4 * 6) * 3]);
    }));

  const w = () => values([6, 6], { seed: 2 });
  const ways: ((y: Tensor) => Tensor)[] = [
    (y) => linear(y, w()),
    (y) => linear(y, w(), null, { residual: y }),
    (y) => layerNorm(y),
    (y) => rmsNorm(y),
    (y) => mlp(y, { weight: w() }, { weight: w() }, { activation: "relu", residual: y }),
  ];

  test("rules that add to what has arrived for their input give the sum of the ways one by one", () =>
    scope(() => {
      const along = (picked: typeof ways): number[] => {
        const x = values([4, 6]);
        const y = x.mul(3);
        picked
          .reduce((sum, way) => sum.add(way(y).square()), y)
          .sum()
          .backward();
        return gradient(x);
      };
      const [together, alone, passed] = [along(ways), ways.map((way) => along([way])), along([])];
      const largest = Math.max(...together.map(Math.abs));
      for (const [i, g] of together.entries()) {
        const sum = alone.reduce((total, one) => total + (one[i] as number), 0) - (ways.length - 1) * (passed[i] as number);
        expect(Math.abs(g - sum) / largest).toBeLessThan(1e-6); // float32 in another order
      }
    }));

  test.each(ways.map((way, i) => [i, way] as const))("a rule that adds leaves a gradient alone that someone else holds: %i", (_, way) =>
    scope(() => {
      const y = values([4, 6]).mul(3);
      const below = way(y).square().sum();
      const passing = y.add(values([4, 6], { seed: 3 })); // hands its gradient on to y unchanged, before `below` adds to it
      let held: Tensor | null = null;
      passing.registerHook((g) => {
        held = keep(g.reshape([24]));
        return undefined;
      });
      below.add(passing.mul(2).sum()).backward();
      expect([...(held as unknown as Tensor).dataSync()]).toEqual(Array(24).fill(2));
      (held as unknown as Tensor).dispose();
      return undefined;
    }),
  );

  test("gradients gather over several passes until they are cleared", () =>
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      x.mul(2).sum().backward();
      x.mul(3).sum().backward();
      expect(gradient(x)).toEqual([5, 5]);
      x.grad = null;
      x.mul(3).sum().backward();
      expect(gradient(x)).toEqual([3, 3]);
    }));

  test("a gradient may be given for a result of several items, and is not changed", () =>
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      const g = tensor([10, 20]);
      x.mul(x).backward({ gradient: g });
      expect(gradient(x)).toEqual([20, 80]);
      const y = tensor([1, 2], { requiresGrad: true });
      y.add(0).backward({ gradient: g });
      y.add(0).backward({ gradient: g });
      expect([...g.dataSync()]).toEqual([10, 20]);
      expect(gradient(y)).toEqual([20, 40]);
    }));

  test("retainGraph allows another pass; without it a second is an error in words", () =>
    scope(() => {
      const x = tensor([2], { requiresGrad: true });
      const y = x.square();
      y.backward({ retainGraph: true });
      y.backward();
      expect(gradient(x)).toEqual([8]);
      expect(() => y.backward()).toThrow(
        "backward: the graph of square was freed by an earlier backward(). Run the forward pass again, or pass { retainGraph: true } the first time",
      );
      const h = x.exp();
      h.mul(2).backward();
      expect(() => h.mul(3).backward()).toThrow("the graph of exp was freed");
    }));

  test("what a rule has done with is gone before it needs more; a graph that is kept keeps it, and gives the same again", () =>
    scope(() => {
      const [x, w1, w2] = [values([64, 8]), values([512, 8], { seed: 2 }), values([8, 512], { seed: 3 })];
      for (const w of [w1, w2]) w.requiresGrad = true;
      const neurons = 4 * 64 * 512;
      const pass = (retainGraph: boolean) => {
        const y = mlp(x, { weight: w1 }, { weight: w2 }, { activation: "gelu" }).sum();
        const before = memory().liveBytes;
        resetPeakMemory();
        y.backward({ retainGraph });
        const peak = memory().peakBytes - before;
        if (retainGraph) y.backward();
        const gradients = [w1, w2].map(gradient);
        for (const w of [w1, w2]) w.grad = null;
        return { peak, gradients };
      };
      const [freed, kept] = [pass(false), pass(true)];
      expect(kept.peak).toBeGreaterThan(neurons);
      expect(freed.peak).toBeLessThan(kept.peak - 0.9 * neurons);
      expect(kept.gradients).toEqual(freed.gradients.map((g) => g.map((item) => 2 * item)));
    }));

  test("what can't be is said in words", () =>
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      expect(() => x.mul(2).backward()).toThrow("backward: expected a tensor with one item, or a gradient for it, got shape (2,)");
      expect(() => x.mul(2).backward({ gradient: tensor([1]) })).toThrow("expected a gradient of shape (2,), got (1,)");
      expect(() => tensor([1]).backward()).toThrow("expected a tensor with a graph, got one without");
      expect(() => noGrad(() => x.sum()).backward()).toThrow("outside noGrad?");
      expect(() => {
        x.mul(2).requiresGrad = true;
      }).toThrow("requiresGrad: expected a leaf, got a result of mul. Use detach() first");
      expect(() => tensor(Int32Array.of(1), { requiresGrad: true })).toThrow("expected a floating dtype, got i32");
    }));

  test("gradients of gradients are refused in words", () =>
    scope(() => {
      const x = tensor([1], { requiresGrad: true });
      const y = x.mul(2);
      y.registerHook(() => x.mul(3).backward() as undefined);
      expect(() => y.backward()).toThrow("gradients of gradients are not supported (first order only)");
      // The engine is whole again afterwards.
      x.mul(5).backward();
      expect(gradient(x)).toEqual([5]);
    }));

  test("an in-place write after the forward pass is noticed", () =>
    scope(() => {
      const w = tensor([1, 2], { requiresGrad: true });
      const loss = w.square().sum();
      w.write([5, 6]);
      expect(() => loss.backward()).toThrow("square: backward needs a tensor (2,) that was changed in place after the forward pass");
      // add saves nothing, so a write does not matter to it.
      const sum = w.add(1).sum();
      w.write([0, 0]);
      sum.backward();
      expect(gradient(w)).toEqual([1, 1]);
    }));

  test("saved tensors outlive the scope that made them", () =>
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      const y = scope(() => x.mul(2).exp());
      y.sum().backward();
      expect(gradient(x).map((v) => Math.round(v * 1e3) / 1e3)).toEqual([14.778, 109.196]);
    }));

  test("leaves of other dtypes get f32 gradients", () =>
    scope(() => {
      const w = tensor([1, 2], { dtype: "bf16", requiresGrad: true });
      w.mul(tensor([3, 4]))
        .sum()
        .backward();
      expect((w.grad as Tensor).dtype).toBe("f32");
      expect(gradient(w)).toEqual([3, 4]);
    }));
});

describe("gathering straight into .grad", () => {
  /** Two passes of a tied model (embedding and output share a weight) with a linear layer between; gradients summed by the engine or by hand. */
  function twice(accumulate: boolean): number[][] {
    return scope(() => {
      const [tied, w] = [values([7, 4]), values([4, 4], { seed: 2 })];
      const pass = (ids: Int32Array, targets: Int32Array) => linearCrossEntropy(linear(embedding(tensor(ids), tied), w), tied, tensor(targets)).backward();
      const batches = [
        [Int32Array.of(1, 2, 6, 1), Int32Array.of(0, 3, 5, 2)],
        [Int32Array.of(4, 4, 0, 2), Int32Array.of(1, 1, 6, 0)],
      ] as const;
      const sums = [tied, w].map((t) => new Float64Array(t.size));
      for (const [ids, targets] of batches) {
        pass(ids, targets);
        if (accumulate) continue;
        for (const [i, t] of [tied, w].entries()) {
          for (const [j, g] of gradient(t).entries()) (sums[i] as Float64Array)[j] = ((sums[i] as Float64Array)[j] as number) + g;
          t.grad = null;
        }
      }
      return accumulate ? [tied, w].map(gradient) : sums.map((s) => [...s]);
    });
  }

  test("equals the sum of separate passes, with a tied weight", () => {
    const [together, apart] = [twice(true), twice(false)];
    for (const [i, list] of together.entries()) for (const [j, g] of list.entries()) expect(g).toBeCloseTo((apart[i] as number[])[j] as number, 5);
  });

  test("changes the version of .grad, so that a graph that saved it notices", () =>
    scope(() => {
      const w = values([3, 2]);
      linear(tensor([[1, 2]]), w)
        .sum()
        .backward();
      const scale = tensor([2], { requiresGrad: true });
      const later = scale.mul((w.grad as Tensor).detach()).sum();
      linear(tensor([[1, 2]]), w)
        .sum()
        .backward();
      expect(() => later.backward()).toThrow("changed in place");
    }));
});

describe("noGrad", () => {
  test("records nothing inside, nests, and ends with an exception", () =>
    scope(() => {
      const x = tensor([1], { requiresGrad: true });
      noGrad(() => {
        expect(x.mul(2).requiresGrad).toBe(false);
        expect(enableGrad(() => x.mul(2).requiresGrad)).toBe(true);
        expect(gradEnabled()).toBe(false);
      });
      expect(() =>
        noGrad(() => {
          throw new Error("stop");
        }),
      ).toThrow("stop");
      expect(gradEnabled()).toBe(true);
    }));

  test("detach cuts the graph; where passes gradients to the chosen side", () =>
    scope(() => {
      const x = tensor([1, -2], { requiresGrad: true });
      const y = x.mul(x.detach());
      where(x.gt(0), y, 5).sum().backward();
      expect(gradient(x).map((g) => g + 0)).toEqual([1, 0]);
    }));
});

test("a kept result lives on with its graph", () => {
  const x = keep(tensor([2], { requiresGrad: true }));
  const y = scope(() => keep(x.square()));
  y.backward();
  expect(gradient(x)).toEqual([4]);
  for (const t of [x, y, x.grad as Tensor]) t.dispose();
});

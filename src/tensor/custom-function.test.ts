import { describe, expect, test } from "vitest";
import {
  checkpoint,
  customFunction,
  dropout,
  gelu,
  keep,
  linear,
  manualSeed,
  memory,
  noGrad,
  randn,
  resetPeakMemory,
  scope,
  streams,
  type Tensor,
  tensor,
} from "./index.ts";

const cube = customFunction({
  name: "cube",
  forward: (ctx, x) => {
    ctx.save(x as Tensor);
    return (x as Tensor).mul(x as Tensor).mul(x as Tensor);
  },
  backward: (ctx, g) => [(g as Tensor).mul((ctx.saved[0] as Tensor).square()).mul(3)],
});

describe("customFunction", () => {
  test("forward and backward", () =>
    scope(() => {
      const x = tensor([1, -2, 3], { requiresGrad: true });
      const y = cube(x);
      expect([...y.dataSync()]).toEqual([1, -8, 27]);
      y.sum().backward();
      expect([...(x.grad as Tensor).dataSync()]).toEqual([3, 12, 27]);
    }));

  test("several inputs and results; an unused result gets zeros, an unwanted gradient is null", () =>
    scope(() => {
      let seen: number[] = [];
      const sumAndDifference = customFunction<Tensor[]>({
        name: "sumAndDifference",
        forward: (_, a, b) => [(a as Tensor).add(b as Tensor), (a as Tensor).sub(b as Tensor)],
        backward: (ctx, gs, gd) => {
          seen = [...(gd as Tensor).dataSync()];
          return [(gs as Tensor).add(gd as Tensor), ctx.needsGradient(1) ? (gs as Tensor).sub(gd as Tensor) : null];
        },
      });
      const [a, b] = [tensor([1, 2], { requiresGrad: true }), tensor([3, 4])];
      const [s] = sumAndDifference(a, b) as [Tensor, Tensor];
      s.mul(5).sum().backward();
      expect(seen).toEqual([0, 0]);
      expect([...(a.grad as Tensor).dataSync()]).toEqual([5, 5]);
      expect(b.grad).toBeNull();
    }));

  test("returning an input is fine", () =>
    scope(() => {
      const twice = customFunction({ name: "reverseGradient", forward: (_, x) => x as Tensor, backward: (_, g) => [(g as Tensor).neg()] });
      const x = tensor([2], { requiresGrad: true });
      twice(x).mul(3).backward();
      expect((x.grad as Tensor).itemSync()).toBe(-3);
    }));

  test("no graph without requiresGrad or under noGrad", () =>
    scope(() => {
      expect(cube(tensor([1])).requiresGrad).toBe(false);
      expect(noGrad(() => cube(tensor([1], { requiresGrad: true }))).requiresGrad).toBe(false);
    }));

  test("a wrong number or shape of gradients is said in words", () =>
    scope(() => {
      const x = tensor([1, 2], { requiresGrad: true });
      const none = customFunction({ name: "none", forward: (_, y) => (y as Tensor).mul(2), backward: () => [] });
      expect(() => none(x).sum().backward()).toThrow("backward of none: expected 1 gradients, one an input, got 0");
      const small = customFunction({ name: "small", forward: (_, y) => (y as Tensor).mul(2), backward: () => [tensor([1])] });
      expect(() => small(x).sum().backward()).toThrow("backward of small: expected gradient 0 of shape (2,), got (1,)");
    }));
});

const bytes = (t: Tensor): string => Buffer.from(t.bytesSync()).toString("hex");

describe("checkpoint", () => {
  /** Three blocks with dropout over parameters in the closure; the bytes of the result and of every gradient, and the peak. */
  function train(checkpointed: boolean): { bytes: string[]; peak: number; position: number } {
    manualSeed(3);
    return scope(() => {
      const weights = [0, 1, 2].map(() => randn([32, 32], { requiresGrad: true, std: 0.3 }));
      const x = randn([64, 32], { requiresGrad: true });
      resetPeakMemory();
      const base = memory().liveBytes;
      const block = (w: Tensor) => (h: Tensor) => {
        let y = h;
        for (let i = 0; i < 6; i++) y = dropout(gelu(linear(y, w)), 0.2);
        return y.add(h);
      };
      let h = x;
      for (const w of weights) h = scope(() => (checkpointed ? checkpoint(block(w), h) : block(w)(h)));
      const loss = h.square().mean();
      loss.backward();
      return {
        bytes: [loss, x.grad as Tensor, ...weights.map((w) => w.grad as Tensor)].map(bytes),
        peak: memory().peakBytes - base,
        position: streams.dropout.position,
      };
    });
  }

  test("has the bytes of the plain run, dropout included, and a lower peak", () => {
    const plain = train(false);
    const saving = train(true);
    expect(saving.bytes).toEqual(plain.bytes);
    expect(saving.position).toBe(plain.position);
    expect(saving.peak).toBeLessThan(plain.peak * 0.6);
  });

  test("several inputs and results, some without a gradient", () =>
    scope(() => {
      const [a, b, mask] = [tensor([1, 2], { requiresGrad: true }), tensor([3, 4], { requiresGrad: true }), tensor([1, 0])];
      const [p, q] = checkpoint((x, y, m) => [(x as Tensor).mul(y as Tensor).mul(m as Tensor), (x as Tensor).add(y as Tensor)], a.mul(2), b, mask) as [
        Tensor,
        Tensor,
      ];
      p.sum().add(q.mul(10).sum()).backward();
      expect([...(a.grad as Tensor).dataSync()]).toEqual([26, 20]);
      expect([...(b.grad as Tensor).dataSync()]).toEqual([12, 10]);
    }));

  test("nested", () =>
    scope(() => {
      const x = tensor([0.5], { requiresGrad: true });
      checkpoint((y) => checkpoint((z) => (z as Tensor).exp(), (y as Tensor).square()), x).backward();
      expect((x.grad as Tensor).itemSync()).toBeCloseTo(Math.exp(0.25), 5);
    }));

  test("a tensor with a graph in the closure is an error in words", () =>
    scope(() => {
      const x = tensor([2], { requiresGrad: true });
      const outside = x.mul(3);
      const y = checkpoint((z) => (z as Tensor).mul(outside), x);
      expect(() => y.backward()).toThrow("checkpoint: its function uses a tensor with a graph from outside");
    }));

  test("memory returns to where it was, also after a hook and a throwing rule", () => {
    const x = keep(tensor([2], { requiresGrad: true }));
    const before = memory().liveBuffers;
    const remove = x.registerHook((g) => g.mul(2));
    scope(() => checkpoint((y) => (y as Tensor).exp().sin(), x).backward());
    expect((x.grad as Tensor).itemSync()).toBeCloseTo(2 * Math.exp(2) * Math.cos(Math.exp(2)), 4);
    x.grad?.dispose();
    x.grad = null;
    remove();
    expect(memory().liveBuffers).toBe(before);
    x.dispose();
  });
});

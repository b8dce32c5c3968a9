import { expect, test } from "vitest";
import { keep, noGrad, printGraph, registerHook, scope, type Tensor, tensor } from "./index.ts";

test("a leaf's hook sees the whole gradient once and may change it", () =>
  scope(() => {
    const x = tensor([1, 2], { requiresGrad: true });
    const seen: number[][] = [];
    const remove = registerHook(x, (g) => void seen.push([...g.dataSync()]));
    x.registerHook((g) => g.mul(10));
    x.mul(2).add(x.mul(3)).sum().backward();
    expect(seen).toEqual([[5, 5]]);
    expect([...(x.grad as Tensor).dataSync()]).toEqual([50, 50]);
    remove();
    x.mul(1).sum().backward();
    expect(seen.length).toBe(1);
    expect([...(x.grad as Tensor).dataSync()]).toEqual([60, 60]);
  }));

test("a result's hook changes what flows on", () =>
  scope(() => {
    const x = tensor([1, 2], { requiresGrad: true });
    const y = x.mul(3);
    const remove = y.registerHook((g) => g.mul(-1));
    y.registerHook((g) => g.add(1));
    y.sum().backward({ retainGraph: true });
    expect([...(x.grad as Tensor).dataSync()]).toEqual([0, 0]);
    remove();
    y.sum().backward();
    expect([...(x.grad as Tensor).dataSync()]).toEqual([6, 6]);
    expect(() => y.registerHook(() => undefined)).toThrow("the graph was freed");
  }));

test("a hook that keeps its own tensor does not share it with .grad", () => {
  const own = keep(tensor([7]));
  scope(() => {
    const x = tensor([1], { requiresGrad: true });
    x.registerHook(() => own);
    x.mul(1).backward();
    x.mul(1).backward();
    expect((x.grad as Tensor).itemSync()).toBe(14);
  });
  expect(own.itemSync()).toBe(7);
  own.dispose();
});

test("hooks that can't be are errors in words", () =>
  scope(() => {
    expect(() => tensor([1]).registerHook(() => undefined)).toThrow("registerHook: expected a tensor that takes part in a graph");
    const x = tensor([1, 2], { requiresGrad: true });
    x.registerHook(() => tensor([1]));
    expect(() => x.sum().backward()).toThrow("registerHook: expected a gradient of shape (2,) from the hook, got (1,)");
  }));

test("the graph as text", () =>
  scope(() => {
    const w = tensor(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      { requiresGrad: true },
    );
    const h = tensor([[1, 1]]).matmul(w);
    const loss = h.mul(h).sum();
    expect(printGraph(loss)).toBe(
      ["3  sum     f32()      ← 2", "2  mul     f32(1, 3)  ← 1, 1", "1  matmul  f32(1, 3)  ← ·, a", "a  leaf    f32(2, 3)", ""].join("\n"),
    );
    loss.backward();
    expect(printGraph(loss)).toContain("(freed)");
    expect(printGraph(w)).toBe("leaf f32(2, 3)\n");
    expect(printGraph(noGrad(() => w.mul(1)))).toBe("constant f32(2, 3)\n");
  }));

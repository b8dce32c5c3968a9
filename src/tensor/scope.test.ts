import { describe, expect, test } from "vitest";
import { GroundupError, UseAfterFreeError } from "../errors.ts";
import { keep, matmul, memory, noGrad, ones, scope, type Tensor, tensor, zeros } from "./index.ts";
import { enter, leave } from "./scope.ts";

const live = () => memory().liveBuffers;

describe("scope", () => {
  test("frees all but what it returns: alone, in arrays, objects, Maps and modules", () => {
    const before = live();
    const one = scope(() => {
      zeros([4]).add(1);
      return zeros([2]);
    });
    expect(live()).toBe(before + 1);
    const many = scope(() => {
      const t = [1, 2, 3, 4, 5].map((n) => tensor([n]));
      return {
        a: t[0] as Tensor,
        list: [t[1] as Tensor, { deep: t[2] as Tensor }],
        map: new Map([["k", t[3] as Tensor]]),
        module: { heldTensors: () => [t[4] as Tensor] },
      };
    });
    expect(live()).toBe(before + 6);
    for (const t of [one, many.a, many.list[0] as Tensor, (many.list[1] as { deep: Tensor }).deep, many.map.get("k") as Tensor, ...many.module.heldTensors()])
      t.dispose();
    expect(live()).toBe(before);
  });

  test("a view keeps its base's memory; the last handle gives it back", () => {
    const before = live();
    const part = scope(() => tensor([1, 2, 3, 4]).narrow(0, 1, 2));
    expect(live()).toBe(before + 1);
    expect([...part.dataSync()]).toEqual([2, 3]);
    part.dispose();
    part.dispose();
    expect(live()).toBe(before);
  });

  test("nested: the inner result belongs to the outer scope", () => {
    const before = live();
    let inner: Tensor | undefined;
    scope(() => {
      inner = scope(() => zeros([1]));
      expect(inner.isDisposed).toBe(false);
    });
    expect(inner?.isDisposed).toBe(true);
    expect(live()).toBe(before);
  });

  test("keep takes a tensor out of every scope", () => {
    const kept = scope(() => {
      scope(() => keep(zeros([3])));
      return keep(tensor([5]));
    });
    expect(kept.itemSync()).toBe(5);
    kept.dispose();
  });

  test("keep inside an inner scope leaves that scope what it has made", () => {
    const outer = scope(() => {
      const kept = zeros([1]);
      const made: Tensor[] = [];
      scope(() => {
        keep(kept);
        made.push(zeros([1]));
        return undefined;
      });
      expect(made[0]?.isDisposed).toBe(true);
      return [kept];
    });
    expect(outer[0]?.isDisposed).toBe(false);
    outer[0]?.dispose();
  });

  test("a result that can't be read ends its scope like any other exception", () => {
    const before = live();
    const result = {
      get x(): never {
        zeros([1]);
        throw new Error("not to be read");
      },
    };
    expect(() => scope(() => result)).toThrow("not to be read");
    expect(live()).toBe(before);
    const outside = zeros([1]);
    expect(outside.watched).toBe(true);
    outside.dispose();
  });

  test("a kept result is no longer on the stack of the scope around", () => {
    scope(() => {
      const mark = enter();
      for (let i = 0; i < 100; i++) keep(scope(() => zeros([1]))).dispose();
      expect(enter()).toBe(mark);
      leave(mark, "the test", undefined);
      leave(mark, "the test", undefined);
      return undefined;
    });
  });

  test("an exception frees everything", () => {
    const before = live();
    expect(() =>
      scope(() => {
        zeros([3]);
        throw new Error("stop");
      }),
    ).toThrow("stop");
    expect(() => scope(() => zeros([2, 3]).matmul(zeros([2, 3])))).toThrow("matmul: inner sizes differ");
    expect(live()).toBe(before);
  });

  test("using a freed tensor names the operation, the shape and what freed it", () => {
    let lost: Tensor = zeros([1]);
    scope(() => {
      lost.dispose();
      lost = zeros([2, 3]);
    });
    expect(() => lost.add(1)).toThrow(UseAfterFreeError);
    expect(() => lost.add(1)).toThrow(
      "add: tensor was freed, expected a live tensor, got f32(2, 3) freed by the end of its scope. Return it from the scope, or keep() it",
    );
    expect(() => lost.dataSync()).toThrow("data: tensor was freed");
    const x = zeros([1]);
    x.dispose();
    expect(() => zeros([1]).mul(x)).toThrow("freed by dispose()");
  });

  test("functions that return a Promise are refused, and what they made is freed", () => {
    const before = live();
    // @ts-expect-error a Promise is a type error too
    expect(() => scope(async () => zeros([1]))).toThrow(GroundupError);
    // @ts-expect-error a Promise is a type error too
    expect(() => noGrad(async () => 1)).toThrow("noGrad: expected a synchronous function, got one that returned a Promise");
    expect(live()).toBe(before);
  });

  test("using frees at the end of a block", () => {
    const before = live();
    {
      using t = zeros([5]);
      expect(t.size).toBe(5);
    }
    expect(live()).toBe(before);
  });
});

describe("a graph that nobody runs backward through", () => {
  const weight = keep(ones([64, 64], { requiresGrad: true }));

  test("is freed with the outermost scope", () => {
    const forward = () =>
      void scope(() => ({
        loss: scope(() => matmul(matmul(ones([64, 64]), weight).tanh(), weight))
          .sum()
          .itemSync(),
      }));
    forward();
    const before = memory().liveBytes;
    for (let i = 0; i < 20; i++) forward();
    expect(memory().liveBytes).toBe(before);
  });

  test("lives on where a result leaves the scope, or is kept", () => {
    let kept: Tensor | undefined;
    const loss = scope(() => {
      kept = keep(
        matmul(ones([64, 64]), weight)
          .tanh()
          .sum(),
      );
      return matmul(ones([64, 64]), weight)
        .tanh()
        .sum();
    });
    loss.backward();
    (kept as Tensor).backward();
    expect((weight.grad as Tensor).dataSync()[0]).toBeCloseTo(0, 5);
    for (const t of [loss, kept as Tensor]) t.dispose();
  });
});

import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test } from "vitest";
import { OutOfMemoryError, ShapeError } from "../errors.ts";
import {
  add,
  attention,
  crossEntropy,
  deferred,
  dropout,
  embedding,
  full,
  keep,
  layerNorm,
  linear,
  memory,
  noGrad,
  ones,
  resetPeakMemory,
  scope,
  setMemoryLimit,
  type Tensor,
  tensor,
  useBackend,
  zeros,
} from "./index.ts";
import { createReference } from "./reference/index.ts";
import { values } from "./samples.ts";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** Lets finalisers run: they need turns of the event loop. */
async function collect(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc();
    await setImmediate();
  }
}

/** A small transformer-like model and one training step on it. */
function model(): { parameters: Tensor[]; step: () => void } {
  const make = (shape: number[], seed: number) => keep(values(shape, { seed, low: -0.5, high: 0.5 }));
  const [table, qkv, proj, gain, bias] = [make([20, 16], 1), make([48, 16], 2), make([16, 16], 3), make([16], 4), make([16], 5)] as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const parameters = [table, qkv, proj, gain, bias];
  const ids = keep(tensor([Int32Array.from({ length: 12 }, (_, i) => (i * 7) % 20)]));
  const step = (): void => {
    const x = embedding(ids, table); // (1, T, C)
    const [q, k, v] = linear(layerNorm(x, gain, bias), qkv)
      .reshape([1, 12, 6, 8])
      .split([2, 2, 2], 2) as [Tensor, Tensor, Tensor];
    const y = dropout(linear(attention(q, k, v).reshape([1, 12, 16]), proj, null, { residual: x }), 0.1);
    crossEntropy(linear(y, table), ids).backward();
    noGrad(() => {
      for (const p of parameters) {
        p.addInPlace(p.grad as Tensor, -0.01);
        (p.grad as Tensor).dispose();
        p.grad = null;
      }
    });
  };
  return { parameters: [...parameters, ids], step };
}

describe("memory", () => {
  test("200 training steps in scopes leave not one byte", () => {
    const { parameters, step } = model();
    const at = (): number => memory().liveBytes;
    const before = at();
    let after10 = 0;
    for (let i = 1; i <= 200; i++) {
      scope(step);
      if (i === 10) after10 = at();
    }
    expect(at()).toBe(before);
    expect(after10).toBe(before);
    for (const p of parameters) p.dispose();
  });

  test("200 training steps without scopes return to the start once the collector has run", async () => {
    await collect();
    const { parameters, step } = model();
    const before = memory();
    for (let i = 1; i <= 200; i++) {
      step();
      if (i % 50 === 0) await collect();
    }
    // A busy machine may run the finalisers later than the collector: what stays after many rounds is a leak.
    for (let round = 0; round < 20 && memory().liveBuffers !== before.liveBuffers; round++) await collect();
    const after = memory();
    expect([after.liveBytes, after.liveBuffers]).toEqual([before.liveBytes, before.liveBuffers]);
    for (const p of parameters) p.dispose();
  });

  test("outside every scope, a graph that never runs backward is freed by the collector", async () => {
    await collect();
    const before = memory().liveBuffers;
    const x = keep(values([64, 64]));
    const build = () => {
      let y = x;
      for (let i = 0; i < 10; i++) y = y.exp().tanh();
    };
    build();
    expect(memory().liveBuffers).toBeGreaterThan(before + 1);
    await collect();
    expect(memory().liveBuffers).toBe(before + 1);
    x.dispose();
  });

  test("a graph that leaves its scope and never runs backward is freed by the collector", async () => {
    await collect();
    const before = memory().liveBuffers;
    const x = keep(values([64, 64]));
    const build = () => {
      scope(() => {
        let y = x;
        for (let i = 0; i < 10; i++) y = y.exp().tanh();
        return y;
      });
    };
    build();
    expect(memory().liveBuffers).toBeGreaterThan(before + 2);
    for (let round = 0; round < 20 && memory().liveBuffers !== before + 1; round++) await collect();
    expect(memory().liveBuffers).toBe(before + 1);
    x.dispose();
  });

  test("tensors made in a loop without operations or scopes are freed by the collector", async () => {
    await collect();
    const before = memory().liveBuffers;
    for (let i = 0; i < 1000; i++) zeros([16]);
    await collect();
    expect(memory().liveBuffers).toBe(before);
  });

  test("what was freed by hand is not freed again by the collector, wherever it was freed", async () => {
    await collect();
    const before = memory();
    (() => {
      const outside = Array.from({ length: 50 }, () => zeros([16]));
      scope(() => {
        for (const t of outside) t.dispose();
      });
      const returned = scope(() => zeros([16]).add(1));
      scope(() => returned.dispose());
    })();
    await collect();
    const after = memory();
    expect([after.liveBytes, after.liveBuffers]).toEqual([before.liveBytes, before.liveBuffers]);
    expect(scope(() => ({ x: [...zeros([3]).add(1).dataSync()] })).x).toEqual([1, 1, 1]);
  });

  test("a gradient that is dropped without dispose() is freed by the collector", async () => {
    const x = keep(values([8]));
    await collect();
    const before = memory().liveBuffers;
    for (let i = 0; i < 20; i++) {
      scope(() => x.square().sum().backward());
      x.grad = null;
    }
    await collect();
    expect(memory().liveBuffers).toBe(before);
    x.dispose();
  });

  test("owners are named and sorted; the peak can be started again", () =>
    scope(() => {
      const big = zeros([1000]);
      const small = big.narrow(0, 0, 10).exp();
      const { owners, peakBytes, liveBytes } = memory();
      const [full, exp] = ["full", "exp"].map((n) => owners.findIndex((o) => o.name === n)) as [number, number];
      expect(owners[exp]?.bytes).toBeGreaterThanOrEqual(40);
      expect(full).toBeLessThan(exp);
      expect(peakBytes).toBeGreaterThanOrEqual(liveBytes);
      scope(() => zeros([100000]));
      expect(memory().peakBytes).toBeGreaterThanOrEqual(400000);
      resetPeakMemory();
      expect(memory().peakBytes).toBe(memory().liveBytes);
      expect(small.size).toBe(10);
    }));
});

describe("the memory limit", () => {
  const former = memory().limitBytes;
  afterEach(() => setMemoryLimit(Number.isFinite(former) ? former : 2 ** 40));

  test("throws with the largest owners and the advice, and the engine goes on", () => {
    scope(() => {
      const x = tensor(new Float32Array(50_000));
      setMemoryLimit(memory().liveBytes + 1e6);
      const grow = () =>
        scope(() => {
          const list: Tensor[] = [];
          for (let i = 0; i < 100; i++) list.push(x.exp());
        });
      expect(grow).toThrow(OutOfMemoryError);
      expect(grow).toThrow(
        /allocate: the memory limit is reached, expected at most \d+\.\d MB live, got \d+\.\d MB and [\d.]+ kB more\. Largest owners: (exp|.*, exp) 1\.0 MB in 5 tensors/,
      );
      expect(grow).toThrow("wrap each step of a loop in scope(() => …)");
      expect(x.add(1).dataSync()[0]).toBe(1);
    });
  });

  test("stops a plain loop without scopes that never waits, with the advice, and what it held comes back", async () => {
    await collect();
    const { parameters, step } = model();
    const before = memory();
    setMemoryLimit(before.liveBytes + 4e6);
    const train = () => {
      for (let i = 0; i < 2000; i++) step();
    };
    // The collector can't free anything until this turn of the event loop ends.
    expect(train).toThrow(/^allocate: the memory limit is reached, .* wrap each step of a loop in scope\(\(\) => …\)/);
    expect(memory().liveBytes).toBeGreaterThan(before.liveBytes + 3e6);
    for (const p of parameters) {
      p.grad?.dispose();
      p.grad = null;
    }
    for (let round = 0; round < 20 && memory().liveBuffers !== before.liveBuffers; round++) await collect();
    expect(memory().liveBytes).toBe(before.liveBytes);
    step();
    for (const p of parameters) p.dispose();
  });
});

test("readInto fills an array of the tensor's size, and nothing else", () => {
  const x = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const room = new Float32Array(6);
  x.readInto(room);
  expect(room).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  x.narrow(0, 1, 1).readInto(room.subarray(0, 3));
  expect(room).toEqual(Float32Array.of(4, 5, 6, 4, 5, 6));
  expect(() => x.readInto(new Float32Array(5))).toThrow("readInto: expected a contiguous f32 tensor and an array of its size, got f32(2, 3) and room for 5");
  expect(() => x.transpose(0, 1).readInto(room)).toThrow(ShapeError);
  expect(() => tensor(Int32Array.of(1)).readInto(room)).toThrow(ShapeError);
});

test("small blocks that were kept for one backend go back to it when another takes over", () => {
  const [first, second] = [createReference(), createReference()];
  const former = useBackend(first);
  try {
    zeros([4]).dispose();
    expect(first.held().bytes).toBe(64);
    useBackend(second);
    zeros([4]).dispose();
    expect(first.held().bytes).toBe(0);
  } finally {
    useBackend(former);
  }
});

test("memory that was deferred gets its first values in the middle of a call that reads or writes a part of it", () => {
  const [a, b] = deferred(() => [ones([64, 64]), ones([3, 64, 24])]);
  expect([...add(values([64, 64]), a).dataSync()]).toEqual([...values([64, 64]).dataSync()].map((x) => Math.fround(x + 1)));
  noGrad(() => b.narrow(1, 32, 32).copyFrom(full([3, 32, 24], 2)));
  expect([0, 31 * 24, 32 * 24, 63 * 24, 64 * 24].map((at) => b.dataSync()[at])).toEqual([1, 1, 2, 2, 1]);
});

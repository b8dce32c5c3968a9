import { expect, test } from "vitest";
import { GPT2 } from "../models/index.ts";
import { Module, parameter } from "../nn/index.ts";
import { adamw, sgd } from "../optim/index.ts";
import { memory, ones, type Tensor, tensor } from "../tensor/index.ts";
import { findLearningRate } from "./find-learning-rate.ts";

/** ½·c·|x|²: gradient descent converges below a rate of 2/c and leaves above it. */
class Bowl extends Module {
  x = parameter(ones([8]));
  readonly curvature: number;

  constructor(curvature: number) {
    super();
    this.curvature = curvature;
  }

  override forward(): Tensor {
    return this.x
      .mul(this.x)
      .sum()
      .mul(this.curvature / 2);
  }
}

test.each([0.5, 50])("on a bowl of curvature %d it finds a rate that converges, and not a timid one", async (curvature) => {
  const bowl = new Bowl(curvature);
  const { suggestion, points } = await findLearningRate(
    bowl,
    () => sgd(bowl, { lr: 1 }),
    () => bowl.forward(),
    { from: 1e-5, to: 100, steps: 150 },
  );
  expect(suggestion).toBeLessThan(2 / curvature);
  expect(suggestion).toBeGreaterThan(0.02 / curvature);
  // It stops when the loss has left, and does not run on to rates that overflow.
  expect(points.length).toBeLessThan(150);
  expect(points.every(({ loss }) => Number.isFinite(loss))).toBe(true);
  expect([...bowl.x.dataSync()]).toEqual(new Array(8).fill(1));
  bowl.dispose();
});

test("a language model is left as it was, and so is memory", async () => {
  const model = new GPT2({ vocab_size: 20, n_positions: 16, n_embd: 16, n_layer: 1, n_head: 2, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 });
  const weights = () => [...model.stateDict().values()].map((t) => [...t.dataSync()]);
  const ids = tensor([Int32Array.from({ length: 16 }, (_, i) => (i * 3) % 20)]);
  const [before, live] = [weights(), memory().liveBytes];
  const { suggestion, points } = await findLearningRate(
    model,
    () => adamw(model, { lr: 1 }),
    () => model.forward({ inputIds: ids, labels: ids }).loss as Tensor,
    { steps: 60 },
  );
  expect(suggestion).toBeGreaterThan(1e-4);
  expect(suggestion).toBeLessThan(0.5);
  expect(points[0].rate).toBe(1e-6);
  expect(weights()).toEqual(before);
  expect(memory().liveBytes).toBe(live);
  model.dispose();
});

test("a range that is none, and a loss that never falls, are errors", async () => {
  const bowl = new Bowl(1);
  const make = () => sgd(bowl, { lr: 1 });
  await expect(findLearningRate(bowl, make, () => bowl.forward(), { from: 1, to: 0.1 })).rejects.toThrow(/bad range, expected 0 < from < to/);
  await expect(findLearningRate(bowl, make, () => bowl.forward(), { from: 10, to: 100 })).rejects.toThrow(/never fell.*Widen/);
  bowl.dispose();
});

test("a signal stops it between two steps, with the weights put back", async () => {
  const bowl = new Bowl(1);
  const controller = new AbortController();
  const lossOf = (step: number) => {
    if (step === 3) controller.abort();
    expect(step).toBeLessThan(4);
    return bowl.forward();
  };
  await expect(findLearningRate(bowl, () => sgd(bowl, { lr: 1 }), lossOf, { from: 1e-3, signal: controller.signal })).rejects.toThrow(/abort/i);
  expect([...bowl.x.dataSync()]).toEqual(new Array(8).fill(1));
  bowl.dispose();
});

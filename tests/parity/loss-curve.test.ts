/** 200 training steps of tiny models against PyTorch, from the same weights and batches (src/optim/optim.fixture.py), and the same in bf16. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createModel } from "../../src/models/index.ts";
import { adamw } from "../../src/optim/index.ts";
import { autocast, type Precision, scope, tensorFrom } from "../../src/tensor/index.ts";

const { curves } = JSON.parse(readFileSync(new URL("../../src/optim/optim.fixture.json", import.meta.url), "utf8")) as {
  curves: Record<string, { config: Record<string, unknown>; losses: number[] }>;
};
const number = (a: number, b: number, c: number) => ((a * 7919 + b * 104729 + c * 15485863 + 12345) % 1009) / 1009 - 0.5;
const [VOCABULARY, BATCH, LENGTH] = [48, 4, 24];

function idsOf(step: number): number[] {
  return Array.from({ length: BATCH * LENGTH }, (_, i) => {
    const [b, t] = [Math.floor(i / LENGTH), i % LENGTH];
    return (t + step) % 5 !== 0 ? (Math.trunc((number(step, b, 5) + 0.5) * VOCABULARY) + t * (1 + (b % 3))) % VOCABULARY : (step * 7 + b * 3 + t) % VOCABULARY;
  });
}

function train(type: string, precision: Precision): number[] {
  const { config, losses } = curves[type];
  const model = createModel({ model_type: type, ...config });
  for (const [k, [name, p]] of [...model.namedParameters()].entries()) {
    if (name.includes("norm") || name.includes("ln_")) p.write(new Float32Array(p.size).fill(name.endsWith("bias") ? 0 : 1));
    else p.write(Float32Array.from({ length: p.size }, (_, i) => (p.rank < 2 ? 0 : number(k, 77, i) * 0.3)));
  }
  const optimizer = adamw(model, { lr: 1e-3, betas: [0.9, 0.95], weightDecay: 0.1, maxGradNorm: 1 });
  const curve = losses.map((_, step) => {
    const loss = scope(() => {
      const ids = tensorFrom(Int32Array.from(idsOf(step)), [BATCH, LENGTH]);
      const out = autocast(precision, () => model.forward({ inputIds: ids, labels: ids }));
      out.loss?.backward();
      return out.loss?.itemSync() as number;
    });
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  optimizer.dispose();
  model.dispose();
  return curve;
}

const worst = (curve: readonly number[], of: readonly number[]): number => Math.max(...curve.map((loss, i) => Math.abs(loss - of[i])));

test.each(Object.keys(curves))("%s: every loss of 200 steps, to 2e-4", (type) => {
  expect(worst(train(type, "f32"), curves[type].losses), "worst difference").toBeLessThan(2e-4);
});

test.each(Object.keys(curves))("%s in bf16: the loss after 200 steps within 1 % of float32", (type) => {
  const { losses } = curves[type];
  const got = train(type, "bf16");
  // The mean of the last ten: single batches differ by more than this.
  const end = (curve: readonly number[]) => curve.slice(-10).reduce((a, b) => a + b) / 10;
  expect(Math.abs(end(got) / end(losses) - 1)).toBeLessThan(0.01);
  expect(end(losses)).toBeLessThan(losses[0] * 0.9);
  expect(worst(got, losses), "really in bf16").toBeGreaterThan(2e-4);
});

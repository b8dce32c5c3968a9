/** 200 training steps of tiny models against PyTorch, from the same weights and batches (src/optim/optim.fixture.py). */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createModel } from "../../src/models/index.ts";
import { adamw } from "../../src/optim/index.ts";
import { scope, tensorFrom } from "../../src/tensor/index.ts";

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

test.each(Object.keys(curves))("%s: every loss of 200 steps, to 2e-4", (type) => {
  const { config, losses } = curves[type];
  const model = createModel({ model_type: type, ...config });
  for (const [k, [name, p]] of [...model.namedParameters()].entries()) {
    if (name.includes("norm") || name.includes("ln_")) p.write(new Float32Array(p.size).fill(name.endsWith("bias") ? 0 : 1));
    else p.write(Float32Array.from({ length: p.size }, (_, i) => (p.rank < 2 ? 0 : number(k, 77, i) * 0.3)));
  }
  const optimizer = adamw(model, { lr: 1e-3, betas: [0.9, 0.95], weightDecay: 0.1, maxGradNorm: 1 });
  const got = losses.map((_, step) => {
    const loss = scope(() => {
      const ids = tensorFrom(Int32Array.from(idsOf(step)), [BATCH, LENGTH]);
      const out = model.forward({ inputIds: ids, labels: ids });
      out.loss?.backward();
      return out.loss?.itemSync() as number;
    });
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  const worst = Math.max(...got.map((loss, i) => Math.abs(loss - losses[i])));
  expect(worst, "worst difference").toBeLessThan(2e-4);
  model.dispose();
});

/** `groundup pretrain --find-lr`: the learning-rate range test on a recipe's own model, data and optimiser. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Batch } from "../data/index.ts";
import { autocast, scope, type Tensor } from "../tensor/index.ts";
import { findLearningRate, inputsOf, openPretraining, optimizerOf, type Recipe } from "../train/index.ts";
import type { Io } from "./command.ts";
import { packageVersion } from "./package-version.ts";
import { textChart } from "./text-chart.ts";
import { samplerOf } from "./training-view.ts";

const STEPS = 100;

export async function findLr(recipe: Recipe, io: Io): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), "groundup-find-lr-"));
  try {
    // The sampler makes no text here, but refuses prompts as it would in the run.
    const session = await openPretraining(recipe, { out: join(folder, "run"), signal: io.signal, sampler: samplerOf, version: packageVersion() });
    try {
      for (const note of session.notes) io.print(note);
      const { model, parts } = session;
      const { precision, gradient_accumulation_steps: perStep, learning_rate } = recipe.training;
      // The test itself runs in scopes, which take no promises: what it will read is read before.
      const steps: Batch[][] = [];
      for (let step = 0; step < STEPS; step++) {
        const batches: Batch[] = [];
        for (let i = 0; i < perStep; i++) batches.push(await parts.loader.next());
        steps.push(batches);
      }
      /** The loss of a whole step: all of its batches but the last give their gradients here, the last one's by the caller. */
      const lossOf = (step: number): Tensor => {
        const batches = steps[step];
        const targets = batches.reduce((n, batch) => n + batch.targetTokens, 0);
        const lossPart = (batch: Batch) => autocast(precision, () => model.forward(inputsOf(batch, targets)).loss as Tensor);
        let before = 0;
        for (const batch of batches.slice(0, -1)) {
          before += scope(() => {
            const loss = lossPart(batch);
            loss.backward();
            return loss.itemSync();
          });
        }
        return lossPart(batches.at(-1) as Batch).add(before);
      };
      io.print(`Learning rates from 1e-6 to 1 in at most ${STEPS} steps of ${recipe.training.optimizer}; each point is the smoothed loss after that step.\n`);
      model.train();
      const { suggestion, points } = await findLearningRate(model, () => optimizerOf(recipe, model), lossOf, { steps: STEPS, signal: io.signal });
      const at = points.map(({ rate, smoothed }) => ({ x: Math.log10(rate), y: smoothed }));
      for (const line of textChart(at, { mark: Math.log10(suggestion), labelX: (x) => `1e${Math.round(x)}` })) io.print(`  ${line}`);
      io.print(
        `\nThe loss falls fastest at ${suggestion.toPrecision(2)} (▲). Try: --set training.learning_rate=${suggestion.toPrecision(2)} (the recipe has ${learning_rate}).`,
      );
      io.print("Nothing was kept. Leave out --find-lr to train.");
      return { suggestion, points };
    } finally {
      await session.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** `groundup pretrain --dry-run`: the first batch as the model will see it, the plan, and one real step on the clock. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Batch, IGNORE } from "../data/index.ts";
import { byteSize, duration, grouped } from "../quantities.ts";
import { memory, resetPeakMemory } from "../tensor/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { accumulateGradients, measureMachine, openPretraining, planTraining, type Recipe } from "../train/index.ts";
import type { Io } from "./command.ts";
import { packageVersion } from "./package-version.ts";
import { planLines } from "./plan.ts";
import { machineLine, samplerOf } from "./training-view.ts";

const ROWS = 2;
const TOKENS = 48;

export async function dryRun(recipe: Recipe, io: Io): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), "groundup-dry-run-"));
  const machine = measureMachine(recipe.training.precision);
  try {
    // The sampler makes no text here, but refuses prompts as it would in the run.
    const session = await openPretraining(recipe, { out: join(folder, "run"), signal: io.signal, sampler: samplerOf, version: packageVersion() });
    try {
      for (const note of session.notes) io.print(note);
      const { model, parts, data } = session;
      const batches: Batch[] = [];
      for (let i = 0; i < recipe.training.gradient_accumulation_steps; i++) batches.push(await parts.loader.next());
      const [first] = batches;
      io.print(
        `First batch: ${first.rows} rows of ${first.context} tokens, ${first.targetTokens} of ${first.targets.length} targets count. [brackets]: not counted in the loss.\n`,
      );
      for (let row = 0; row < Math.min(ROWS, first.rows); row++) io.print(`  row ${row}  ${showRow(first, row, data.tokenizer)}`);

      const plan = planTraining(model, recipe, machine, { trainTokens: data.counts.train.tokens, validationTokens: data.counts.validation.tokens });
      io.print();
      for (const line of planLines(plan, recipe)) io.print(line);

      const times: number[] = [];
      let loss = 0;
      for (let i = 0; i < 3; i++) {
        if (i === 1) resetPeakMemory();
        const began = performance.now();
        loss = accumulateGradients(model, batches, recipe.training.precision).loss;
        parts.optimizer.step();
        parts.optimizer.zeroGrad();
        times.push((performance.now() - began) / 1000);
      }
      // The first one also fills caches and pools.
      const seconds = Math.min(...times.slice(1));
      const measured = memory().peakBytes;
      io.print();
      io.print(
        `One real step   ${(seconds * 1000).toFixed(0)} ms on ${machineLine()}: ${grouped(Math.round(plan.tokensPerStep / seconds))} tokens/s, all ${recipe.training.max_steps} steps in ${duration(seconds * recipe.training.max_steps)}`,
      );
      io.print(
        `Measured        ${byteSize(measured)} of tensors at the peak (planned ${byteSize(plan.memory.peak)}); loss ${loss.toFixed(3)} after ${times.length} steps on this batch`,
      );
      io.print("\nNothing was kept. Leave out --dry-run to train.");
      return { plan, stepSeconds: seconds, measuredPeakBytes: measured, firstBatch: { inputIds: [...first.inputIds], targets: [...first.targets] } };
    } finally {
      await session.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The tokens of a row, cut apart; those whose prediction does not count stand in brackets. */
function showRow({ context, inputIds, targets }: Batch, row: number, tokenizer: Tokenizer): string {
  const shown = Math.min(TOKENS, context);
  const parts = Array.from({ length: shown }, (_, i) => {
    const text = tokenizer.decode([inputIds[row * context + i]]).replaceAll("\n", "↵");
    return targets[row * context + i] === IGNORE ? `[${text}]` : text;
  });
  return `${parts.join("│")}${shown < context ? "│…" : ""}`;
}

/** `groundup pretrain`: trains a model from text as a recipe says. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { duration, grouped } from "../quantities.ts";
import { backend } from "../tensor/index.ts";
import { measureMachine, planTraining, type Recipe, recipeSchema } from "../train/index.ts";
import { defineCommand, type Io } from "./command.ts";
import { commandName } from "./command-name.ts";
import { UsageError } from "./failure.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine, openSession, showEnd, watchTraining } from "./training-view.ts";

export const command = defineCommand({
  about:
    "Trains a language model from raw text: tokenizer, shards, model, report, as the recipe says. Ctrl-C saves and stops; --resume goes on from the last checkpoint, bit for bit.",
  arguments: [{ name: "RECIPE", description: "a YAML file, the name of a bundled recipe, or with --resume a run's folder" }],
  options: z.object({
    set: z
      .array(z.string().meta({ placeholder: "key=value" }))
      .default([])
      .describe("replaces a key of the recipe, such as data.path=my.txt"),
    out: z.string().min(1).optional().describe("folder of the run (default: runs/<run.name>)").meta({ placeholder: "FOLDER" }),
    resume: z.boolean().default(false).describe("go on with the run in that folder"),
    dryRun: z.boolean().default(false).describe("show the first batch, the plan and one timed step, then stop"),
    findLr: z.boolean().default(false).describe("try learning rates from 1e-6 to 1 in 100 steps, show the losses and suggest one, then stop"),
  }),
  recipe: recipeSchema,
  saves: true,
  examples: [
    "groundup pretrain recipes/quickstart.yaml --set data.path=my.txt --out runs/mine",
    "groundup pretrain recipes/characters.yaml --dry-run",
    "groundup pretrain recipes/characters.yaml --find-lr",
    "groundup pretrain runs/mine --resume",
  ],
  async run([name], options, io) {
    const isRun = existsSync(name as string) && statSync(name as string).isDirectory() && existsSync(join(name as string, "config.yaml"));
    const recipe = await readRecipe(recipeSchema, isRun ? join(name as string, "config.yaml") : (name as string), options.set);
    const out = options.out ?? (isRun ? (name as string) : join("runs", recipe.run.name));
    const modes = [options.dryRun ? "--dry-run" : "", options.findLr ? "--find-lr" : "", options.resume ? "--resume" : ""].filter((flag) => flag !== "");
    if (modes.length > 1)
      throw new UsageError(
        `groundup pretrain: ${modes.join(" and ")} do not go together, expected one of them, got ${modes.length}. Leave the others out: a dry run and a range test start anew.`,
      );
    if (options.findLr) {
      const { findLr } = await import("./find-lr.ts");
      return findLr(recipe, io);
    }
    if (options.dryRun) {
      const { dryRun } = await import("./dry-run.ts");
      return dryRun(recipe, io);
    }
    return pretrain(recipe, { out, resume: options.resume }, io);
  },
});

export async function pretrain(recipe: Recipe, options: { out: string; resume: boolean }, io: Io): Promise<object> {
  const { out, resume } = options;
  const session = await openSession(recipe, { out, resume }, io);
  try {
    const { manifest, data, state } = session;
    for (const note of session.notes) io.print(note);
    const { bytes, tokens } = manifest;
    const [read, each] =
      bytes.train === null || bytes.validation === null
        ? ["", ""]
        : [`${grouped(bytes.train + bytes.validation)} bytes → `, `, ${(bytes.train / tokens.train).toFixed(2)} bytes each`];
    io.print(`Text      ${read}${grouped(tokens.train)} training and ${grouped(tokens.validation)} validation tokens`);
    io.print(`Tokens    ${grouped(data.tokenizer.vocabSize)} in the vocabulary${each}`);
    io.print(`Model     ${recipe.model.model_type}, ${grouped(manifest.parameters)} parameters, context ${recipe.training.context_length}`);
    io.print(`Machine   ${machineLine()}`);
    const left = recipe.training.max_steps - state.step;
    if (backend().name === "reference" && left > 0) {
      const text = { trainTokens: data.counts.train.tokens, validationTokens: data.counts.validation.tokens };
      const { seconds } = planTraining(session.model, recipe, measureMachine(recipe.training.precision), text);
      io.print(
        `Warning   ${grouped(left)} steps take about ${duration((seconds * left) / recipe.training.max_steps)} without the native library; "${commandName()} doctor" says why it is absent`,
      );
    }
    if (state.step > 0) io.print(`Resumed   at step ${state.step} of ${recipe.training.max_steps}`);
    io.print();
    const outcome = await watchTraining(session, io);
    const { end, validation, checkpoint } = outcome;
    showEnd(session, outcome, io);
    return { run: out, step: end.step, why: end.why, validation, best: end.best, checkpoint };
  } finally {
    await session.close();
  }
}

/** `groundup pretrain`: trains a model from text as a recipe says. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { duration, grouped } from "../quantities.ts";
import { backend } from "../tensor/index.ts";
import { measurePeakFlops, openPretraining, planTraining, type Recipe, recipeSchema } from "../train/index.ts";
import { defineCommand, type Io } from "./command.ts";
import { commandName } from "./command-name.ts";
import { UsageError } from "./failure.ts";
import { packageVersion } from "./package-version.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine, samplerOf, watchTraining } from "./training-view.ts";

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
  }),
  recipe: recipeSchema,
  saves: true,
  examples: [
    "groundup pretrain recipes/quickstart.yaml --set data.path=my.txt --out runs/mine",
    "groundup pretrain recipes/characters.yaml --dry-run",
    "groundup pretrain runs/mine --resume",
  ],
  async run([name], options, io) {
    const isRun = existsSync(name as string) && statSync(name as string).isDirectory() && existsSync(join(name as string, "config.yaml"));
    const recipe = await readRecipe(recipeSchema, isRun ? join(name as string, "config.yaml") : (name as string), options.set);
    const out = options.out ?? (isRun ? (name as string) : join("runs", recipe.run.name));
    if (options.dryRun && options.resume)
      throw new UsageError(
        "groundup pretrain: --dry-run and --resume do not go together, expected one of them, got both. Leave --resume out: a dry run starts anew.",
      );
    if (options.dryRun) {
      const { dryRun } = await import("./dry-run.ts");
      return dryRun(recipe, io);
    }
    return pretrain(recipe, { out, resume: options.resume }, io);
  },
});

export async function pretrain(recipe: Recipe, options: { out: string; resume: boolean }, io: Io): Promise<object> {
  const { out, resume } = options;
  const session = await openPretraining(recipe, { out, resume, signal: io.signal, sampler: samplerOf, version: packageVersion() });
  try {
    const { manifest, data, state } = session;
    for (const note of session.notes) io.print(note);
    io.print(
      `Text      ${grouped(manifest.bytes.train + manifest.bytes.validation)} bytes → ${grouped(manifest.tokens.train)} training and ${grouped(manifest.tokens.validation)} validation tokens`,
    );
    io.print(`Tokens    ${grouped(data.tokenizer.vocabSize)} in the vocabulary, ${(manifest.bytes.train / manifest.tokens.train).toFixed(2)} bytes each`);
    io.print(`Model     ${recipe.model.model_type}, ${grouped(manifest.parameters)} parameters, context ${recipe.training.context}`);
    io.print(`Machine   ${machineLine()}`);
    const left = recipe.training.steps - state.step;
    if (backend().name === "reference" && left > 0) {
      const { seconds } = planTraining(session.model, recipe, measurePeakFlops(recipe.training.precision));
      io.print(
        `Warning   ${grouped(left)} steps take at least ${duration((seconds * left) / recipe.training.steps)} without the native library; "${commandName()} doctor" says why it is absent`,
      );
    }
    if (state.step > 0) io.print(`Resumed   at step ${state.step} of ${recipe.training.steps}`);
    io.print();
    const { end, validation, checkpoint } = await watchTraining(session, io);
    const why = { done: "Done", "no-progress": `Stopped: ${recipe.eval.patience} evaluations without a better loss`, stopped: "Stopped" }[end.why];
    io.print(`\n${why} at step ${end.step}. Run folder: ${out}`);
    io.print(`Report: ${session.run.at("report.html")}`);
    if (end.why === "stopped") io.print(`Go on with: ${commandName()} pretrain ${out} --resume`);
    return { run: out, step: end.step, why: end.why, validation, best: end.best, checkpoint };
  } finally {
    await session.close();
  }
}

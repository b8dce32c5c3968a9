/** `groundup plan`: what a recipe costs, by formula, before anything runs. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { openDocuments } from "../data/index.ts";
import { describeModel } from "../models/index.ts";
import { byteSize, duration, grouped, metric } from "../quantities.ts";
import { memory } from "../tensor/index.ts";
import { loadTokenizer } from "../tokenizers/index.ts";
import {
  emulationNote,
  measurePeakFlops,
  modelConfig,
  type Plan,
  planTraining,
  type Recipe,
  recipeSchema,
  resolveDataPaths,
  waysToFit,
} from "../train/index.ts";
import { defineCommand } from "./command.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine } from "./training-view.ts";

export const command = defineCommand({
  about: "Says what a recipe needs before anything runs: parameters, memory, arithmetic, and the time on this machine (whose speed it measures for a moment).",
  arguments: [{ name: "RECIPE", description: "a YAML file, the name of a bundled recipe, or a run's folder" }],
  options: z.object({
    set: z
      .array(z.string().meta({ placeholder: "key=value" }))
      .default([])
      .describe("replaces a key of the recipe"),
  }),
  recipe: recipeSchema,
  examples: ["groundup plan recipes/quickstart.yaml", "groundup plan quickstart --set training.batch_size=32 --json"],
  async run([name], options, io) {
    const config = join(name as string, "config.yaml");
    const recipe = await readRecipe(recipeSchema, existsSync(config) ? config : (name as string), options.set);
    const model = describeModel(modelConfig(recipe, await vocabularyOf(recipe)), `${name}: model`);
    const peakFlops = measurePeakFlops(recipe.training.precision);
    const plan = planTraining(model, recipe, peakFlops);
    for (const line of planLines(plan, recipe)) io.print(line);
    io.print(`Machine         ${machineLine()}, ${metric(peakFlops, "FLOP/s")} in large ${recipe.training.precision} products just now`);
    const emulated = emulationNote(recipe);
    if (emulated !== null) io.print(emulated);
    const { limitBytes } = memory();
    const fits = plan.memory.peak <= limitBytes;
    const ways = fits ? [] : waysToFit(model, recipe, limitBytes);
    if (!fits) {
      io.print(`\nIt will not fit: tensors may take ${byteSize(limitBytes)} on this machine. What would help, each for itself:`);
      for (const way of ways) io.print(`  ${way}`);
    }
    return { ...plan, peakFlops, limitBytes, fits, waysToFit: ways };
  },
});

/** A plan for people. */
export function planLines(plan: Plan, { training }: Recipe): string[] {
  const { weights, gradients, optimizer, activations, peak, process } = plan.memory;
  return [
    `Model           ${grouped(plan.parameters)} parameters, ${byteSize(weights)}; a checkpoint takes ${byteSize(plan.checkpointBytes)}`,
    `Steps           ${grouped(training.max_steps)} of ${grouped(plan.tokensPerStep)} tokens, ${grouped(plan.tokens)} in all`,
    `Memory          ${byteSize(peak)} of tensors at the peak (weights ${byteSize(weights)}, gradients ${byteSize(gradients)}, optimiser ${byteSize(optimizer)}, activations ${byteSize(activations)}); about ${byteSize(process)} for the process`,
    `Arithmetic      ${metric(plan.flops, "FLOP")}`,
    `Time            about ${duration(plan.seconds)} on this machine when it is idle`,
  ];
}

/** The tokenizer's size without training it. */
async function vocabularyOf(recipe: Recipe): Promise<number> {
  const { type, vocab_size, path, end_of_text } = recipe.tokenizer;
  switch (type) {
    case "bpe":
      return vocab_size;
    case "bytes":
      return 256 + (end_of_text === false ? 0 : 1);
    case "file":
      return (await loadTokenizer(path as string)).vocabSize;
    case "characters": {
      const characters = new Set<string>();
      for await (const { text } of await openDocuments(resolveDataPaths(recipe))) for (const character of text) characters.add(character);
      return characters.size + (end_of_text === true ? 1 : 0);
    }
  }
}

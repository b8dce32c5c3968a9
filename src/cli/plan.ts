/** `groundup plan`: what a recipe costs, by formula, before anything runs. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { describeModel } from "../models/index.ts";
import { byteSize, duration, grouped, metric } from "../quantities.ts";
import { memory } from "../tensor/index.ts";
import { emulationNote, measureMachine, modelConfig, type Plan, planText, planTraining, type Recipe, recipeSchema, waysToFit } from "../train/index.ts";
import { defineCommand } from "./command.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine } from "./training-view.ts";

export const command = defineCommand({
  about:
    "Says what a recipe needs before anything runs: parameters, memory part by part, arithmetic, and the time on this machine (whose speed it measures for a moment).",
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
    const machine = measureMachine(recipe.training.precision);
    const text = await planText(recipe);
    const model = describeModel(modelConfig(recipe, text.vocabulary), `${name}: model`);
    const plan = planTraining(model, recipe, machine, text);
    for (const line of planLines(plan, recipe)) io.print(line);
    io.print(`Machine         ${machineLine()}, ${metric(machine.flops, "FLOP/s")} in large ${recipe.training.precision} products just now`);
    const emulated = emulationNote(recipe);
    if (emulated !== null) io.print(emulated);
    const { limitBytes } = memory();
    const fits = plan.memory.peak <= limitBytes;
    const ways = fits ? [] : waysToFit(model, recipe, limitBytes);
    if (!fits) {
      io.print(`\nIt will not fit: tensors may take ${byteSize(limitBytes)} on this machine. What would help, each for itself:`);
      for (const way of ways) io.print(`  ${way}`);
    }
    return { ...plan, peakFlops: machine.flops, limitBytes, fits, waysToFit: ways };
  },
});

/** A plan for people. */
export function planLines(plan: Plan, { training }: Recipe): string[] {
  const { peak, process, parts } = plan.memory;
  const longer = Object.entries(plan.times).flatMap(([what, seconds]) => (seconds < 0.5 ? [] : [`${what} ${duration(seconds)}`]));
  const row = (name: string, size: number) => `  ${name.padEnd(36)} ${byteSize(size).padStart(9)}`;
  return [
    `Model           ${grouped(plan.parameters)} parameters; a checkpoint takes ${byteSize(plan.checkpointBytes)}`,
    `Steps           ${grouped(training.max_steps)} of ${grouped(plan.tokensPerStep)} tokens, ${grouped(plan.tokens)} in all`,
    `Arithmetic      ${metric(plan.flops, "FLOP")}`,
    `Time            about ${duration(plan.seconds)} on this machine when it is idle${longer.length > 1 ? `: ${longer.join(", ")}` : ""}`,
    `Memory          ${byteSize(process)} for the process at its peak, about; tensors hold at most ${byteSize(peak)} of it at one time`,
    ...parts.filter((part) => part.bytes > 0).map((part) => row(part.name, part.bytes)),
    row("together", process),
  ];
}

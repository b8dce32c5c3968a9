/** `groundup plan` (thin). */
import * as z from "zod";
import { recipeSchema } from "../train/index.ts";
import { defineCommand } from "./command.ts";
import { readRecipe } from "./recipe-file.ts";

export const command = defineCommand({
  about: "Says what a recipe will cost.",
  arguments: [{ name: "RECIPE", description: "a YAML file or the name of a bundled recipe" }],
  options: z.object({
    set: z
      .array(z.string().meta({ placeholder: "key=value" }))
      .default([])
      .describe("replaces a key of the recipe"),
  }),
  recipe: recipeSchema,
  examples: ["groundup plan recipes/quickstart.yaml"],
  run: ([name], options) => readRecipe(recipeSchema, name as string, options.set),
});

/** Thin: replaced soon. */
import type { Recipe } from "../train/index.ts";
import type { Io } from "./command.ts";
export async function dryRun(recipe: Recipe, io: Io): Promise<object> {
  io.print(JSON.stringify(recipe.training));
  return recipe;
}

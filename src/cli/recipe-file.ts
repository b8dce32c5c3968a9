/** Reads the recipe that a command names: a file, or the name of one that groundup brings along. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type * as z from "zod";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import { parseRecipe } from "../formats/recipe.ts";

const BUNDLED = fileURLToPath(new URL("../../recipes/", import.meta.url));

/**
 * Reads and checks a recipe.
 *
 * @param name a path, or a bundled recipe's name without `.yaml`
 * @param settings `key=value` each, from `--set`
 * @throws ConfigError when there is no such file, or listing all problems in it
 */
export async function readRecipe<S extends z.ZodType>(schema: S, name: string, settings: readonly string[] = []): Promise<z.output<S>> {
  const path = findRecipe(name);
  return parseRecipe(schema, await readFile(path, "utf8"), path, settings);
}

/** The names of the recipes that groundup brings along. */
function bundledRecipes(): string[] {
  if (!existsSync(BUNDLED)) return [];
  const files = readdirSync(BUNDLED, { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(".yaml"))
    .map((file) => file.replaceAll("\\", "/").replace(/\.yaml$/, ""))
    .sort();
}

function findRecipe(name: string): string {
  if (existsSync(name)) {
    const stat = statSync(name);
    if (stat.isFile()) return name;
    const [got, advice] = stat.isDirectory() ? ["a folder without", "Name a file in it."] : ["a device or pipe", "Save what it gives to a file first."];
    throw new ConfigError(`${name}: not a recipe or a run, expected a YAML file or a folder with config.yaml, got ${got}. ${advice}`);
  }
  const names = bundledRecipes();
  const plain = name.replace(/^recipes\//, "").replace(/\.ya?ml$/, "");
  if (names.includes(plain)) return `${BUNDLED}${plain}.yaml`;
  const beside = existsSync(dirname(name)) ? readdirSync(dirname(name)).filter((file) => /\.ya?ml$/.test(file)) : [];
  throw new ConfigError(
    `${name}: no such recipe, expected a YAML file or one of ${names.join(", ")}, got neither.${didYouMean(plain, names) || didYouMean(basename(name), beside)} Correct the path.`,
  );
}

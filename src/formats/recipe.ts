/**
 * Recipes: YAML files that say what a run does. One schema checks the file, whatever is set on the command line and what a
 * program passes, and every problem is reported at once.
 *
 * Format: YAML 1.2, https://yaml.org/spec/1.2.2/
 */
import { LineCounter, parseDocument } from "yaml";
import type * as z from "zod";
import { ConfigError } from "../errors.ts";
import { parseConfig } from "./hf-config.ts";

const MAX_RECIPE_CHARACTERS = 1 << 20;

type Tree = Record<string, unknown>;

/**
 * Parses a recipe's text and checks it. Use strict object schemas, so that unknown keys are found.
 *
 * @param where what errors call the text, usually the file's path
 * @param settings `key=value` each, with a dotted key (`data.path=my.txt`) and a YAML value; they replace what the file says
 * @throws ConfigError that lists all problems
 */
export function parseRecipe<S extends z.ZodType>(schema: S, text: string, where: string, settings: readonly string[] = []): z.output<S> {
  return parseConfig(schema, withSettings(parseYaml(text, where), settings, where), where);
}

function parseYaml(text: string, where: string): Tree {
  if (text.length > MAX_RECIPE_CHARACTERS) {
    throw new ConfigError(
      `${where}: too long for a recipe, expected at most ${MAX_RECIPE_CHARACTERS} characters, got ${text.length}. Check that this is the right file.`,
    );
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => {
      const { line, col } = lines.linePos(error.pos[0]);
      return `line ${line}, column ${col}: ${error.message}`;
    });
    throw new ConfigError(
      `${where}: this is not valid YAML, expected keys and values, got ${problems.length} ${problems.length === 1 ? "problem" : "problems"}:\n  ${problems.join("\n  ")}\nCorrect the file there.`,
    );
  }
  let value: unknown;
  try {
    // Aliases are counted, so that a few bytes can't unfold into gigabytes.
    value = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    throw new ConfigError(`${where}: aliases that unfold too far, expected at most 100 uses of an anchor, got more. Write the values out.`, { cause });
  }
  if (typeof value === "object" && !Array.isArray(value)) return value as Tree;
  throw new ConfigError(
    `${where}: not a recipe, expected keys and values such as "model: …", got ${JSON.stringify(value)?.slice(0, 60)}. Check that this is the right file.`,
  );
}

/** The tree with each `key=value` set in it. */
function withSettings(tree: Tree, settings: readonly string[], where: string): Tree {
  const problems: string[] = [];
  const result = structuredClone(tree);
  for (const setting of settings) {
    const equals = setting.indexOf("=");
    const path = setting.slice(0, equals).split(".");
    if (equals <= 0 || path.some((part) => part === "" || part === "__proto__")) {
      problems.push(`--set ${setting}: expected key=value with a dotted key, such as data.path=my.txt. Write it so.`);
      continue;
    }
    const value = parseDocument(setting.slice(equals + 1));
    if (value.errors.length > 0) {
      problems.push(`--set ${setting}: the value is not valid YAML. Put it in quotes.`);
      continue;
    }
    let place: Tree = result;
    for (const [i, part] of path.slice(0, -1).entries()) {
      const inner = (Object.hasOwn(place, part) ? place[part] : undefined) ?? {};
      if (typeof inner !== "object") {
        problems.push(`--set ${setting}: ${path.slice(0, i + 1).join(".")} is ${JSON.stringify(inner)}, expected keys inside it. Set that key itself.`);
        break;
      }
      place[part] = inner;
      place = inner as Tree;
    }
    place[path.at(-1) as string] = value.toJS({ maxAliasCount: 0 });
  }
  if (problems.length > 0) throw new ConfigError(`${where}: ${problems.join("\n  ")}`);
  return result;
}

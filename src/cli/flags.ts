/** Command-line flags from a zod object schema: one schema gives the types, the flags, the help and the checks. */
import { type Command as CommanderCommand, Option } from "commander";
import * as z from "zod";

/** The part of JSON Schema that flags are made from. */
interface Field {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Field[];
  items?: Field;
  /** From `.meta({ placeholder: "FILE" })`: what the help calls the value. */
  placeholder?: string;
}

/** `maxNewTokens` → `--max-new-tokens`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function fieldsOf(schema: z.ZodObject): [key: string, field: Field, required: boolean][] {
  const json = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as { properties?: Record<string, Field>; required?: string[] };
  return Object.entries(json.properties ?? {}).map(([key, field]) => [key, field, json.required?.includes(key) ?? false]);
}

const typesOf = (field: Field): (string | undefined)[] => (field.anyOf === undefined ? [field.type] : field.anyOf.flatMap(typesOf));

/** Text from the command line as the schema's own kind of value; what does not convert stays text, and the schema's check names it. */
function convert(text: string, field: Field): unknown {
  const types = typesOf(field);
  if ((types.includes("number") || types.includes("integer")) && text.trim() !== "" && !Number.isNaN(Number(text))) return Number(text);
  if (types.includes("boolean") && (text === "true" || text === "false")) return text === "true";
  return text;
}

function choicesOf(field: Field): unknown[] {
  return field.enum ?? (field.const !== undefined ? [field.const] : (field.anyOf ?? []).flatMap(choicesOf));
}

function placeholderOf(field: Field): string {
  if (field.placeholder !== undefined) return field.placeholder;
  const types = typesOf(field);
  const choices = choicesOf(field);
  if (choices.length > 0 && choices.length <= 6) return choices.join("|") + (types.includes("number") || types.includes("integer") ? "|n" : "");
  return types.includes("number") || types.includes("integer") ? "n" : "text";
}

/** Adds an option for each key of `schema`. Lists are given by repeating the flag. */
export function addFlags(command: CommanderCommand, schema: z.ZodObject): void {
  for (const [key, field, required] of fieldsOf(schema)) {
    const flag = flagOf(key);
    const notes = required
      ? " (required)"
      : field.default !== undefined && typeof field.default !== "boolean" && !isEmptyList(field.default)
        ? ` (default: ${showDefault(field.default)})`
        : "";
    const text = (field.description ?? "") + notes;
    if (field.type === "boolean") {
      const negated = flag.replace(/^--/, "--no-");
      command.addOption(new Option(flag, text).hideHelp(field.default === true));
      command.addOption(new Option(negated, field.default === true ? text : "").hideHelp(field.default !== true));
    } else if (field.type === "array") {
      const item = field.items ?? {};
      const option = new Option(`${flag} <${field.placeholder ?? placeholderOf(item)}>`, `${text} (may be repeated)`);
      command.addOption(option.argParser((value: string, before: unknown[] | undefined) => [...(before ?? []), convert(value, item)]));
    } else {
      command.addOption(new Option(`${flag} <${placeholderOf(field)}>`, text).argParser((value: string) => convert(value, field)));
    }
  }
}

/** What is wrong with the flags of a command line beyond their values: one given twice, one that swallows the next, a value where none belongs. */
export function misusedFlags(schema: z.ZodObject, argv: readonly string[]): string[] {
  const kinds = new Map<string, "switch" | "once" | "list">();
  for (const [key, { type }] of fieldsOf(schema)) {
    kinds.set(flagOf(key), type === "boolean" ? "switch" : type === "array" ? "list" : "once");
    if (type === "boolean") kinds.set(flagOf(key).replace(/^--/, "--no-"), "switch");
  }
  const problems: string[] = [];
  const before = new Map<string, string>();
  for (let i = 0; i < argv.length && argv[i] !== "--"; i++) {
    const [flag, joined] = argv[i].split(/=(.*)/s);
    const kind = kinds.get(flag);
    if (kind === undefined) continue;
    if (kind === "switch") {
      if (joined === undefined) continue;
      const other = flag.startsWith("--no-") ? flag.replace("--no-", "--") : flag.replace("--", "--no-");
      problems.push(`${flag} takes no value, expected it alone, got "${joined}". Write ${flag} or ${other}.`);
      continue;
    }
    const value = joined ?? argv[++i];
    if (value === undefined) continue;
    if (joined === undefined && kinds.has(value.split("=")[0]))
      problems.push(`${flag} lacks its value, expected one behind it, got the flag ${value}. Write ${flag}=${value} if that is the value.`);
    const earlier = before.get(flag);
    if (kind === "once" && earlier !== undefined && earlier !== value)
      problems.push(`${flag} is given twice, expected once, got "${earlier}" and "${value}". Leave one out.`);
    before.set(flag, value);
  }
  return problems;
}

/** What is said of flags that a command needs and that were not given: what each is, and a command line that has it. */
export function missingFlags(schema: z.ZodObject, given: readonly string[], examples: readonly string[]): { flag: string; problem: string }[] {
  return fieldsOf(schema)
    .filter(([key, , required]) => required && !given.includes(flagOf(key)))
    .map(([key, field]) => {
      const flag = flagOf(key);
      const example = examples.find((line) => line.split(" ").includes(flag));
      const advice = example === undefined ? "Add it." : `Add it, as in: ${example}`;
      return { flag, problem: `${flag} is missing, expected ${flag} ${placeholderOf(field)} (${field.description}), got nothing. ${advice}` };
    });
}

/** An empty list is what a flag that may be repeated stands for when it is not given, and tells nobody anything. */
const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0;

function showDefault(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The same schema with the keys as a person types them, so that its problems speak of `--flags`. */
export function flagSchema(schema: z.ZodObject): z.ZodObject {
  return z.strictObject(Object.fromEntries(Object.entries(schema.shape).map(([key, field]) => [flagOf(key), field])));
}

/** One line for each key of a recipe schema (`model.n_layer  layers (default: 4)`), for a command's help. */
export function recipeKeys(schema: z.ZodType): string[] {
  const lines: [string, string][] = [];
  const walk = (field: Field & { properties?: Record<string, Field>; required?: string[] }, path: string, required: boolean) => {
    if (field.properties !== undefined) {
      for (const [key, inner] of Object.entries(field.properties)) walk(inner, path === "" ? key : `${path}.${key}`, field.required?.includes(key) ?? false);
      return;
    }
    const choices = choicesOf(field);
    const notes = [
      choices.length > 0 ? choices.join(" | ") : "",
      required ? "required" : field.default === undefined ? "" : `default: ${showDefault(field.default)}`,
    ];
    const inBrackets = notes.filter((note) => note !== "").join("; ");
    lines.push([path, [field.description ?? "", inBrackets === "" ? "" : `(${inBrackets})`].filter((part) => part !== "").join(" ")]);
  };
  walk(z.toJSONSchema(schema, { io: "input", unrepresentable: "any", reused: "inline" }) as Field, "", false);
  const width = Math.min(32, Math.max(0, ...lines.map(([key]) => key.length)));
  return lines.map(([key, text]) => `  ${key.padEnd(width)}  ${text}`.trimEnd());
}

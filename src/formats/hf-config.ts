/**
 * Reading configurations: a JSON object from outside becomes a checked value, or one error that lists every problem
 * with its dotted path and, where a name is nearly right, what was probably meant.
 */
import type * as z from "zod";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import { isJsonObject, type Json, parseJson } from "./json.ts";
import { type Folder, readText } from "./source.ts";

// Real configs have a few kilobytes; some list thousands of class labels.
const MAX_CONFIG_BYTES = 16 << 20;

type JsonObject = { [key: string]: Json };

/**
 * Which keys a model's `config.json` may have, as a table: each key in the spelling that is written, with the other
 * spellings that are read.
 */
export interface ConfigKeys {
  /** Key → other spellings, older or newer. A dotted spelling reaches into an object: `rope_parameters.rope_theta`. */
  keys: Record<string, readonly string[]>;
  /** Keys that are known and have no effect on this model, besides `COMMON_KEYS`. */
  ignored?: readonly string[];
}

/**
 * Keys that Hugging Face transformers writes into any model's config and that change nothing about the arithmetic:
 * where it came from, class labels, and the generation defaults that older versions kept there.
 */
export const COMMON_KEYS: readonly string[] = (
  "_name_or_path _commit_hash _attn_implementation _attn_implementation_autoset architectures auto_map model_type transformers_version " +
  "torch_dtype dtype use_cache output_attentions output_hidden_states output_past return_dict use_return_dict torchscript " +
  "gradient_checkpointing use_bfloat16 is_decoder is_encoder_decoder add_cross_attention cross_attention_hidden_size " +
  "chunk_size_feed_forward pruned_heads problem_type finetuning_task id2label label2id num_labels task_specific_params prefix " +
  "tokenizer_class bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id forced_bos_token_id forced_eos_token_id " +
  "bad_words_ids begin_suppress_tokens suppress_tokens max_length min_length max_new_tokens do_sample early_stopping num_beams " +
  "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size " +
  "encoder_no_repeat_ngram_size num_return_sequences output_scores return_dict_in_generate remove_invalid_values " +
  "exponential_decay_length_penalty tf_legacy_loss tie_encoder_decoder unsloth_version unsloth_fixed pretraining_tp"
).split(" ");

/** Reads and parses `config.json` of a model folder (or another file of that kind), without checking its keys. */
export async function readConfigJson(folder: Folder, file = "config.json"): Promise<JsonObject> {
  const source = await folder.open(file);
  const text = await readText(source, MAX_CONFIG_BYTES).finally(() => source.close());
  return parseConfigText(text, source.name);
}

/**
 * Parses the text of a config. Python's `Infinity` and `NaN` are let in, because transformers writes them.
 *
 * @throws FormatError with line and column; ConfigError when it is not an object
 */
export function parseConfigText(text: string, where: string): JsonObject {
  const json = parseJson(text, where, { maxDepth: 32, pythonNumbers: true });
  if (isJsonObject(json)) return json;
  throw new ConfigError(`${where}: bad config, expected an object { … }, got ${describe(json)}. Check that this is the right file.`);
}

/** The text of a config.json. @param floats keys whose whole numbers are written with a point, 30 as 30.0: Python tells them apart, and some readers refuse the others */
export function configText(config: object, floats: readonly string[]): string {
  const text = JSON.stringify(config, null, 2);
  const whole = new RegExp(`^( +"(?:${floats.join("|")})": -?\\d+)(?=,?$)`, "gm");
  return `${floats.length === 0 ? text : text.replace(whole, "$1.0")}\n`;
}

/**
 * Brings every spelling in `json` to the table's own, and checks the names.
 *
 * @returns an object with the table's keys (those present) and nothing else
 * @throws ConfigError listing all keys that are unknown (with a suggestion) or come in two spellings with different values
 */
export function normaliseKeys(json: JsonObject, table: ConfigKeys, where: string): JsonObject {
  const { values, problems } = collectKeys(json, table);
  if (problems.length > 0) throw new ConfigError(listProblems(where, problems));
  return values;
}

function collectKeys(json: JsonObject, table: ConfigKeys): { values: JsonObject; problems: string[] } {
  const problems: string[] = [];
  const values: JsonObject = Object.create(null);
  const spellings = Object.entries(table.keys).flatMap(([key, others]) => [key, ...others]);
  const known = new Set([...spellings.map((name) => name.split(".")[0]), ...(table.ignored ?? []), ...COMMON_KEYS]);
  for (const [key, others] of Object.entries(table.keys)) {
    const found = [key, ...others].map((name) => [name, lookUp(json, name)] as const).filter(([, value]) => value !== undefined);
    if (found.length === 0) continue;
    const [first, value] = found[0] as [string, Json];
    for (const [name, other] of found.slice(1)) {
      if (!sameJson(value, other as Json)) {
        problems.push(
          `${first} and ${name} are two names of one setting and contradict each other, expected equal values, got ${describe(value)} and ${describe(other)}. Remove the wrong one.`,
        );
      }
    }
    values[key] = value;
  }
  for (const key of Object.keys(json)) {
    if (!known.has(key)) {
      problems.push(`${key} is unknown, expected a key of this model, got ${describe(json[key])}.${didYouMean(key, spellings)} Correct or remove it.`);
    }
  }
  return { values, problems };
}

/**
 * Checks a value against a zod schema.
 *
 * @param where the file's path, or what else the user calls it
 * @returns the parsed value, defaults filled in
 * @throws ConfigError that lists all problems at once
 */
export function parseConfig<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new ConfigError(listProblems(where, issueLines(result.error.issues, schema, value)), { cause: result.error });
}

/** `normaliseKeys`, then `parseConfig`: what a model file calls on its `config.json`. */
export function parseModelConfig<S extends z.ZodType>(schema: S, table: ConfigKeys, json: JsonObject, where: string): z.output<S> {
  // A wrong name and a wrong value are reported together.
  const { values, problems } = collectKeys(json, table);
  const result = schema.safeParse(values);
  if (result.success && problems.length === 0) return result.data;
  if (!result.success) problems.push(...issueLines(result.error.issues, schema, values));
  throw new ConfigError(listProblems(where, problems));
}

function listProblems(where: string, problems: string[]): string {
  return `${where}: ${problems.length === 1 ? "1 problem" : `${problems.length} problems`}\n${problems.map((line) => `  ${line}`).join("\n")}`;
}

function lookUp(json: JsonObject, name: string): Json | undefined {
  let value: Json | undefined = json;
  for (const part of name.split(".")) {
    if (!isJsonObject(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

function sameJson(a: Json, b: Json): boolean {
  if (Object.is(a, b) || typeof a !== "object" || typeof b !== "object" || a === null || b === null) return Object.is(a, b);
  const [left, right] = [Object.entries(a), b as JsonObject];
  return (
    Array.isArray(a) === Array.isArray(b) &&
    left.length === Object.keys(b).length &&
    left.every(([key, value]) => Object.hasOwn(right, key) && sameJson(value, right[key]))
  );
}

/** A value in a few words, for "got …". */
function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

type Issues = readonly z.core.$ZodIssue[];

function issueLines(issues: Issues, schema: z.ZodType, root: unknown): string[] {
  return issues.flatMap((issue) => issueLine(issue, schema, root));
}

/** One zod issue as lines `path: what, expected, got. What to do.` */
function issueLine(issue: z.core.$ZodIssue, schema: z.ZodType, root: unknown): string[] {
  const path = issue.path.map(String);
  const at = (parts: string[]) => (parts.length === 0 ? "the whole config" : parts.join("."));
  const got = valueAt(root, issue.path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => {
        const fields = fieldsAt(schema, path);
        const candidates = [...fields.keys()];
        const meant = candidates.find((name) => aliasesOf(fields.get(name)).includes(key));
        const list = candidates.length <= 12 ? ` (${candidates.join(", ")})` : "";
        return `${at([...path, key])} is unknown, expected one of the ${candidates.length} known keys${list}, got ${describe(valueAt(got, [key]))}.${didYouMean(meant ?? key, candidates)} Correct or remove it.`;
      });
    case "invalid_value": {
      const expected = issue.values.map((value) => describe(value)).join(", ");
      const hint = typeof got === "string" ? didYouMean(got, issue.values.map(String)) : "";
      return [
        `${at(path)} is ${got === undefined ? "missing" : "not one of its values"}, expected ${expected}, got ${describe(got)}.${hint || (got === undefined ? " Add it." : " Choose one of them.")}`,
      ];
    }
    case "invalid_type":
      if (got === undefined) return [`${at(path)} is missing, expected ${typeName(issue.expected)}, got nothing. Add it.`];
      if (issue.expected === "number" && typeof got === "number") return [`${at(path)} is not finite, expected a finite number, got ${got}. Correct it.`];
      return [`${at(path)} has the wrong type, expected ${typeName(issue.expected)}, got ${describe(got)}. Correct it.`];
    case "too_small": {
      const [small, unit] = sizeOf(issue.origin, issue.minimum) ?? ["small", ""];
      return [
        `${at(path)} is too ${small}, expected ${issue.inclusive === false ? "more than" : "at least"} ${issue.minimum}${unit}, got ${describe(got)}. Correct it.`,
      ];
    }
    case "too_big": {
      const [, unit] = sizeOf(issue.origin, issue.maximum) ?? ["", ""];
      return [
        `${at(path)} is too ${unit === "" ? "large" : "long"}, expected ${issue.inclusive === false ? "less than" : "at most"} ${issue.maximum}${unit}, got ${describe(got)}. Correct it.`,
      ];
    }
    case "invalid_union": {
      // Of the ways that a value may take, the one that it nearly fits says most.
      const nearest = issue.errors.toSorted((a, b) => b.reduce((n, e) => Math.max(n, e.path.length), 0) - a.reduce((n, e) => Math.max(n, e.path.length), 0))[0];
      if (nearest?.some((inner) => inner.path.length > 0)) {
        return issueLines(
          nearest.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] })),
          schema,
          root,
        );
      }
      const expected = [...new Set(issue.errors.flat().map((inner) => (inner.code === "invalid_type" ? typeName(inner.expected) : inner.message)))];
      return [
        `${at(path)} is ${got === undefined ? "missing" : "none of what it may be"}, expected ${expected.join(" or ") || "one of its forms"}, got ${describe(got)}. Correct it.`,
      ];
    }
    default:
      // Refinements bring a sentence of their own, some with what they got.
      return [`${at(path)}: ${issue.message}${/[.!?]$/.test(issue.message) ? "" : "."}${/, got /.test(issue.message) ? "" : ` Got ${describe(got)}.`}`];
  }
}

const typeName = (type: string): string => (type === "int" ? "a whole number" : type);

/** What is counted of a value that has a length; undefined for numbers. */
function sizeOf(origin: string, limit: number | bigint): [short: string, unit: string] | undefined {
  const unit = { string: " character", array: " item" }[origin];
  return unit === undefined ? undefined : ["short", Number(limit) === 1 ? unit : `${unit}s`];
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) value = value === null || typeof value !== "object" ? undefined : (value as Record<PropertyKey, unknown>)[part];
  return value;
}

/** From `.meta({ aliases: [...] })`: the names that other programs have for a key. They are not read, only answered. */
const aliasesOf = (field: z.ZodType | undefined): unknown[] => (field?.meta()?.aliases as unknown[] | undefined) ?? [];

/** The keys that a schema knows at a path, for suggestions. Looks through optional, default, pipes and unions. */
function fieldsAt(schema: z.ZodType, path: readonly string[]): Map<string, z.ZodType> {
  const def = (schema as unknown as { _zod: { def: Record<string, unknown> } })._zod.def;
  const go = (inner: unknown, rest = path) => (inner === undefined ? new Map<string, z.ZodType>() : fieldsAt(inner as z.ZodType, rest));
  switch (def.type) {
    case "object": {
      const shape = def.shape as Record<string, z.ZodType>;
      return path.length === 0 ? new Map(Object.entries(shape)) : go(Object.hasOwn(shape, path[0]) ? shape[path[0]] : undefined, path.slice(1));
    }
    case "array":
      return go(def.element, path.slice(1));
    case "record":
      return path.length === 0 ? new Map() : go(def.valueType, path.slice(1));
    case "union":
      return new Map((def.options as unknown[]).flatMap((option) => [...go(option)]));
    case "intersection":
      return new Map([...go(def.left), ...go(def.right)]);
    case "pipe":
      return go(def.in);
    case "lazy":
      return go((def.getter as () => unknown)());
    default:
      return go(def.innerType);
  }
}

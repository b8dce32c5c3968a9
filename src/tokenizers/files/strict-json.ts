/** Reading JSON from outside field by field: every error names the file, the path in it, what was expected and what is there. */
import { FormatError } from "../../errors.ts";
import { parseJson } from "../../formats/json.ts";

export type JsonObject = { readonly [key: string]: unknown };

/** Where in which file: `tokenizer.json: model.vocab`. */
export class Place {
  readonly file: string;
  readonly path: string;

  constructor(file: string, path = "") {
    this.file = file;
    this.path = path;
  }

  at(key: string | number): Place {
    const step = typeof key === "number" ? `[${key}]` : this.path === "" ? key : `.${key}`;
    return new Place(this.file, this.path + step);
  }

  /** Throws a FormatError for this place. */
  fail(what: string, expected: string, got: unknown, advice = "Correct the file, or get it again from its source."): never {
    const where = this.path === "" ? this.file : `${this.file}, ${this.path}`;
    throw new FormatError(`${where}: ${what}, expected ${expected}, got ${describe(got)}. ${advice}`);
  }
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return `an object with keys ${Object.keys(value).slice(0, 5).join(", ")}`;
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Parses JSON text; a syntax error becomes a FormatError with line and column. */
export function parseJsonText(text: string, file: string): unknown {
  try {
    // Several times as fast as parseJson on files of ten megabytes, but it does not say where it stopped.
    return JSON.parse(text);
  } catch {
    return parseJson(text, file);
  }
}

export function asObject(value: unknown, place: Place): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) place.fail("wrong type", "an object", value);
  return value as JsonObject;
}

export function asArray(value: unknown, place: Place): readonly unknown[] {
  if (!Array.isArray(value)) place.fail("wrong type", "an array", value);
  return value;
}

export function asString(value: unknown, place: Place): string {
  if (typeof value !== "string") place.fail("wrong type", "a string", value);
  return value;
}

export function asBoolean(value: unknown, place: Place): boolean {
  if (typeof value !== "boolean") place.fail("wrong type", "true or false", value);
  return value;
}

/** The largest id a tokenizer may use: far above every real vocabulary, small enough for tables. */
export const LARGEST_ID = 2 ** 24 - 1;

export function asId(value: unknown, place: Place): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > LARGEST_ID) {
    place.fail("bad id", `a whole number from 0 to ${LARGEST_ID}`, value);
  }
  return value;
}

/** An object's field, by own key only. */
export function field(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** A boolean that may be missing or null. */
export function optionalBoolean(object: JsonObject, key: string, fallback: boolean, place: Place): boolean {
  const value = field(object, key);
  return value === undefined || value === null ? fallback : asBoolean(value, place.at(key));
}

/** Refuses keys that are not known: they could change what the file means. */
export function onlyKeys(object: JsonObject, known: readonly string[], place: Place): void {
  for (const key of Object.keys(object)) {
    if (!known.includes(key)) {
      place.fail(`unknown key "${key}"`, `only ${known.join(", ")}`, object[key], "This file needs a newer groundup, or the key is a mistake.");
    }
  }
}

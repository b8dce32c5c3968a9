/**
 * A strict JSON reader for files from outside. Unlike `JSON.parse` it refuses duplicate keys (two readers could disagree
 * about which one counts), bounds the depth, refuses integers that a double can't hold and says where an error is.
 *
 * Source: RFC 8259. `Infinity`, `-Infinity` and `NaN` are not JSON, but Python's `json` writes them into configs
 * (a Mamba-2 `time_step_limit` is `[0.0, Infinity]`), so they can be let in.
 */
import { FormatError } from "../errors.ts";
import { checkOptions } from "../options.ts";

/** What JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** How strictly JSON is read. */
export interface JsonOptions {
  /** Deepest nesting of arrays and objects; default 64. */
  maxDepth?: number;
  /** Accept Python's `Infinity`, `-Infinity` and `NaN`. */
  pythonNumbers?: boolean;
  /** The text is one line of a file of lines, and `where` says which: errors then give the column alone. */
  oneLine?: boolean;
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const PYTHON_NUMBER = /-?Infinity|NaN/y;
// Everything a string may hold between two escapes or up to its closing quote.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what the grammar forbids.
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES: Record<string, string> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/**
 * Parses JSON text. Objects come back without a prototype, so that a key such as `__proto__` is only a key.
 *
 * @param where what errors call the text, usually the file's path
 * @throws FormatError with line and column
 */
export function parseJson(text: string, where: string, options: JsonOptions = {}): Json {
  checkOptions("parseJson", options, { maxDepth: true, pythonNumbers: true, oneLine: true });
  const maxDepth = options.maxDepth ?? 64;
  let at = 0;

  function fail(what: string, expected: string, place = at, length = 16): never {
    const before = text.slice(0, place).split("\n");
    const ended = place >= text.length;
    const found = ended ? `the end of the ${options.oneLine ? "line" : "file"}` : JSON.stringify(text.slice(place, place + length));
    const advice = options.oneLine ? "Correct it." : ended ? "The file is cut off; fetch or copy it again." : "Correct the file at this place.";
    throw new FormatError(
      `${where}${options.oneLine ? "" : `, line ${before.length}`}, column ${(before.at(-1)?.length ?? 0) + 1}: ${what}, expected ${expected}, got ${found}. ${advice}`,
    );
  }

  function skipSpace(): void {
    for (;;) {
      const code = text.charCodeAt(at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      at++;
    }
  }

  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  }

  function parseString(): string {
    at++;
    let value = "";
    for (;;) {
      value += match(PLAIN);
      const next = text[at];
      if (next === '"') {
        at++;
        return value;
      }
      if (next !== "\\") fail("bad string", next === undefined ? 'a closing "' : "no bare control character");
      const letter = text[at + 1];
      if (letter === "u") {
        const digits = text.slice(at + 2, at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) fail("bad escape", "\\u and four hexadecimal digits");
        value += String.fromCharCode(Number.parseInt(digits, 16));
        at += 6;
      } else {
        if (letter === undefined || !Object.hasOwn(ESCAPES, letter)) fail("bad escape", 'one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\u');
        value += ESCAPES[letter];
        at += 2;
      }
    }
  }

  function parseNumber(): number {
    const start = at;
    const digits = match(NUMBER);
    if (digits !== undefined) {
      const value = Number(digits);
      if (!Number.isFinite(value)) fail("number too large", "a finite number", start);
      if (Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?[0-9]+$/.test(digits)) {
        fail("integer too large", "at most 9007199254740991 in size", start, Math.min(digits.length, 40));
      }
      return value;
    }
    const special = options.pythonNumbers ? match(PYTHON_NUMBER) : undefined;
    if (special === undefined) fail("not JSON", "a value", start);
    return Number(special);
  }

  function parseArray(depth: number): Json[] {
    const items: Json[] = [];
    at++;
    skipSpace();
    if (text[at] === "]") {
      at++;
      return items;
    }
    for (;;) {
      items.push(parseValue(depth + 1));
      skipSpace();
      if (text[at] === "]") {
        at++;
        return items;
      }
      if (text[at] !== ",") fail("bad array", "a comma or ]");
      at++;
    }
  }

  function parseObject(depth: number): { [key: string]: Json } {
    const object: { [key: string]: Json } = Object.create(null);
    at++;
    skipSpace();
    if (text[at] === "}") {
      at++;
      return object;
    }
    for (;;) {
      skipSpace();
      const start = at;
      if (text[at] !== '"') fail("bad object", 'a key in "double quotes"');
      const key = parseString();
      if (key in object) fail(`duplicate key ${JSON.stringify(key)}`, "each key once", start);
      skipSpace();
      if (text[at] !== ":") fail("bad object", "a colon after the key");
      at++;
      object[key] = parseValue(depth + 1);
      skipSpace();
      if (text[at] === "}") {
        at++;
        return object;
      }
      if (text[at] !== ",") fail("bad object", "a comma or }");
      at++;
    }
  }

  function parseValue(depth: number): Json {
    skipSpace();
    const first = text[at];
    if (first === '"') return parseString();
    if (first === "{" || first === "[") {
      if (depth >= maxDepth) fail("nested too deep", `at most ${maxDepth} levels`);
      return first === "{" ? parseObject(depth) : parseArray(depth);
    }
    for (const [word, value] of [
      ["true", true],
      ["false", false],
      ["null", null],
    ] as const) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return value;
      }
    }
    return parseNumber();
  }

  const value = parseValue(0);
  skipSpace();
  if (at < text.length) fail("text after the value", "nothing more");
  return value;
}

/** Whether a JSON value is an object, neither array nor null. */
export function isJsonObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

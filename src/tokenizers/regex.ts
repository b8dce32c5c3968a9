import { FormatError } from "../errors.ts";
import type { Place } from "./strict-json.ts";

export interface Regex {
  /** Places of what matches, from left to right, none over another, in UTF-16 units. */
  matches(text: string): Iterable<readonly [start: number, end: number]>;
}

/** Literal text only. */
export function compileRegex(source: string, where: Place): Regex {
  if (source === "" || /[\\^$.|?*+()[\]{}]/.test(source)) {
    throw new FormatError(`${where.file}, ${where.path}: unsupported expression, expected literal text, got ${JSON.stringify(source)}. Use literal text.`);
  }
  return {
    *matches(text) {
      for (let at = text.indexOf(source); at >= 0; at = text.indexOf(source, at + source.length)) yield [at, at + source.length];
    },
  };
}

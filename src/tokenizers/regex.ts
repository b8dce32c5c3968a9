/** Stands in for the regex engine: literal text, and one character, blank class or class of listed characters with `+` or `{2,}`. */
import type { Place } from "./strict-json.ts";

export interface Regex {
  matches(text: string): Iterable<readonly [start: number, end: number]>;
}

export function compileRegex(source: string, where: Place): Regex {
  const space = "[\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
  const simple = /^\^?(?:[^\\^$.|?*+()[\]{}]+|(?:\\s|[^\\^$.|?*+()[\]{}]|\[[^\\^$.|?*+()[\]{}-]+\])(?:\+|\{2,\})?)?$/;
  if (!simple.test(source)) where.fail("unknown expression", "literal text or a repeated character", source);
  const expression = new RegExp(source.replace("\\s", space), "gu");
  return {
    *matches(text) {
      for (const match of text.matchAll(expression)) yield [match.index, match.index + match[0].length];
    },
  };
}

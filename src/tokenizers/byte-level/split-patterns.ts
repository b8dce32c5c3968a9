/**
 * The published regular expressions that cut text into words before byte pairs are merged. Each is known by name, by the
 * spellings it has in files, by the number of its hand-written scanner in the native part (crates/text/src/pattern.rs), and as
 * a JavaScript expression, which is the readable twin.
 *
 * JavaScript's own `\p{L}` follows the engine's Unicode version and its `\s` differs from Unicode's White_Space, so the
 * expressions are built from the classes of Unicode 16.0 (unicode16.ts), which are those of tiktoken and Hugging Face.
 */
import { DataError } from "../../errors.ts";
import { classOf } from "../normalizers/code-points.ts";
import { UNICODE_16 } from "../regex/unicode16.ts";

/** How text is cut. `whole`: not at all. */
export type PatternName = "gpt2" | "cl100k" | "cl100k-tiktoken" | "qwen2" | "o200k" | "whole";

export interface SplitPattern {
  readonly name: PatternName;
  /** The scanner's number in the native part. */
  readonly code: number;
  /** Spellings in files; the first is the one that is written. */
  readonly spellings: readonly string[];
  /** The JavaScript twin (global, unicode); null for `whole`. */
  readonly expression: () => RegExp | null;
}

/** Ranges of a class in the form that stands between `[` and `]`. */
const classBody = (...names: (keyof typeof UNICODE_16)[]): string => names.map((name) => classOf(UNICODE_16[name])).join("");

interface Classes {
  L: string;
  N: string;
  S: string;
  upper: string;
  lower: string;
}

let classes: Classes | undefined;

function getClasses(): Classes {
  classes ??= {
    L: classBody("Lu", "Ll", "Lt", "Lm", "Lo"),
    N: classBody("N"),
    S: "\\u{9}-\\u{d} \\u{85}\\u{a0}\\u{1680}\\u{2000}-\\u{200a}\\u{2028}\\u{2029}\\u{202f}\\u{205f}\\u{3000}",
    upper: classBody("Lu", "Lt", "Lm", "Lo", "M"),
    lower: classBody("Ll", "Lm", "Lo", "M"),
  };
  return classes;
}

function lazy(build: (c: Classes) => string): () => RegExp {
  let expression: RegExp | undefined;
  return () => {
    expression ??= new RegExp(build(getClasses()), "gu");
    return expression;
  };
}

// U+017F, the long s, is an "s" to a case-insensitive match.
const ANY_CASE = "'(?:[sStTmMdD\\u{17f}]|[rR][eE]|[vV][eE]|[lL][lL])";

const cl100k = (digits: string, tail: boolean) =>
  lazy(
    ({ L, N, S }) =>
      `${ANY_CASE}|[^\\r\\n${L}${N}]?[${L}]+|[${N}]${digits}| ?[^${S}${L}${N}]+[\\r\\n]*` +
      `${tail ? `|[${S}]+$` : ""}|[${S}]*[\\r\\n]+|[${S}]+(?![^${S}])|[${S}]+`,
  );

const CL100K_CASES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const CL100K_REST = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const O200K_UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const O200K_LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const O200K =
  `[^\\r\\n\\p{L}\\p{N}]?${O200K_UPPER}*${O200K_LOWER}+${CL100K_CASES}?|[^\\r\\n\\p{L}\\p{N}]?${O200K_UPPER}+${O200K_LOWER}*${CL100K_CASES}?` +
  "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

export const SPLIT_PATTERNS: readonly SplitPattern[] = [
  {
    name: "gpt2",
    code: 0,
    spellings: [
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
      "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    ],
    expression: lazy(({ L, N, S }) => `'(?:[stmd]|re|ve|ll)| ?[${L}]+| ?[${N}]+| ?[^${S}${L}${N}]+|[${S}]+(?![^${S}])|[${S}]+`),
  },
  {
    name: "cl100k",
    code: 1,
    spellings: [`${CL100K_CASES}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${CL100K_REST}`],
    expression: cl100k("{1,3}", false),
  },
  {
    name: "cl100k-tiktoken",
    code: 2,
    // tiktoken's own spelling (`\p{N}{1,3}+`, `\s++$`) means something else to Hugging Face's engine, Oniguruma, where `{1,3}+` repeats
    // and `$` ends a line; so it is neither written nor read in tokenizer.json.
    spellings: [`${CL100K_CASES}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+\\z|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`],
    expression: cl100k("{1,3}", true),
  },
  {
    name: "qwen2",
    code: 3,
    spellings: [`${CL100K_CASES}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${CL100K_REST}`],
    expression: cl100k("", false),
  },
  {
    name: "o200k",
    code: 4,
    spellings: [O200K],
    expression: lazy(
      ({ L, N, S, upper, lower }) =>
        `[^\\r\\n${L}${N}]?[${upper}]*[${lower}]+(?:${ANY_CASE})?|[^\\r\\n${L}${N}]?[${upper}]+[${lower}]*(?:${ANY_CASE})?` +
        `|[${N}]{1,3}| ?[^${S}${L}${N}]+[\\r\\n/]*|[${S}]*[\\r\\n]+|[${S}]+(?![^${S}])|[${S}]+`,
    ),
  },
  { name: "whole", code: 5, spellings: [], expression: () => null },
];

/** The pattern with this name. */
export function splitPattern(name: PatternName): SplitPattern {
  return SPLIT_PATTERNS.find((pattern) => pattern.name === name) as SplitPattern;
}

/**
 * The words of `text`. Every character belongs to exactly one.
 *
 * @throws DataError when one word has millions of characters: a JavaScript expression gives up there (the native scanners do not)
 */
export function splitWords(pattern: SplitPattern, text: string): string[] {
  if (text === "") return [];
  const expression = pattern.expression();
  if (expression === null) return [text];
  try {
    return text.match(expression) ?? [];
  } catch (cause) {
    throw new DataError(
      `tokenizer: the text can't be split by JavaScript, expected words of fewer than a million characters, got text of ${text.length} characters ` +
        `(${(cause as Error).message}). Build the native part, or cut the text.`,
      { cause },
    );
  }
}

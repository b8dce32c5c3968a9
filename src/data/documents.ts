/** Documents: the unit that is split, counted, shuffled and never attended across. */
import * as z from "zod";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError, DataError } from "../errors.ts";

/** One text with its origin. */
export interface Document {
  text: string;
  /** The file it came from. */
  source: string;
  /** Its place among the documents of that file, from 0. */
  index: number;
  /** Invalid byte sequences that became U+FFFD since the document before. */
  replaced?: number;
}

/**
 * How text files are cut into documents: the whole file, each line, at blank lines, or at a separator such as
 * `<|endoftext|>` (any string that begins with `<`; the line breaks beside it belong to it).
 */
export type DocumentMode = "file" | "line" | "blank-line" | `<${string}`;

const NAMED_MODES = ["file", "line", "blank-line"];

/** A `DocumentMode` in recipes and flags. */
export const documentModeSchema = z
  .string()
  .superRefine((mode, ctx) => {
    if (!isMode(mode)) ctx.addIssue({ code: "custom", message: unknownMode(mode) });
  })
  .default("file")
  .describe('what a document is in text files: file, line, blank-line, or a separator such as "<|endoftext|>"');

const isMode = (mode: string): mode is DocumentMode => NAMED_MODES.includes(mode) || (mode.length > 1 && mode.startsWith("<"));

const unknownMode = (mode: string): string =>
  `unknown way of cutting, expected "file", "line", "blank-line" or a separator that begins with "<", got ${JSON.stringify(mode)}.${didYouMean(mode, NAMED_MODES)} Correct it.`;

/** Longer documents are cut into several at a line's end, so that memory stays bounded. */
export const MAX_DOCUMENT_CHARACTERS = 1 << 24;

interface Separator {
  /** Finds the next separator at or after a place. */
  find(text: string, from: number): { start: number; end: number } | undefined;
  /** From where to search again when more text has come: a separator may lie across the seam. */
  resume(text: string): number;
}

function literal(separator: string): Separator {
  return {
    find(text, from) {
      const start = text.indexOf(separator, from);
      return start < 0 ? undefined : { start, end: start + separator.length };
    },
    resume: (text) => Math.max(0, text.length - separator.length + 1),
  };
}

const BLANK_LINES = /\n(?:[ \t\r]*\n)+/g;
const blankLine: Separator = {
  find(text, from) {
    BLANK_LINES.lastIndex = from;
    const match = BLANK_LINES.exec(text);
    return match === null ? undefined : { start: match.index, end: match.index + match[0].length };
  },
  resume(text) {
    let at = text.length;
    while (at > 0 && " \t\r\n".includes(text[at - 1])) at--;
    return at;
  },
};

function separatorFor(mode: DocumentMode): Separator | undefined {
  if (mode === "file") return undefined;
  if (mode === "line") return literal("\n");
  if (mode === "blank-line") return blankLine;
  if (isMode(mode)) return literal(mode);
  throw new ConfigError(`document: ${unknownMode(mode)}`);
}

/**
 * Where to cut a text that is too long: behind a single line break between two visible characters, near the end. There
 * the patterns of the known byte-level tokenizers break too, so the token ids stay what they were.
 */
function placeToCut(text: string, limit: number): number {
  for (let at = limit; at > limit / 2; at--) {
    if (text.charCodeAt(at - 1) === 10 && /\S/.test(text[at]) && /\S/.test(text[at - 2])) return at;
  }
  // One endless line: cut anywhere but inside a surrogate pair.
  const unit = text.charCodeAt(limit);
  return unit >= 0xdc00 && unit <= 0xdfff ? limit - 1 : limit;
}

/** The line breaks beside a separator belong to it. */
function trimDocument(text: string, mode: DocumentMode): string {
  if (mode === "file") return text;
  if (mode === "line") return text.replace(/\r$/, "");
  if (mode === "blank-line") return text.replace(/^(?:[ \t\r]*\n)+/, "").trimEnd();
  return text.replace(/^\r?\n/, "").replace(/\r?\n$/, "");
}

/**
 * Cuts streamed text into documents. Those without a visible character are left out.
 *
 * @param onCut called when a document was longer than `maxCharacters` and was cut into several
 */
export async function* splitIntoDocuments(
  chunks: AsyncIterable<string>,
  mode: DocumentMode,
  maxCharacters = MAX_DOCUMENT_CHARACTERS,
  onCut?: () => void,
): AsyncGenerator<string> {
  const separator = separatorFor(mode);
  const trim = (text: string) => trimDocument(text, mode);
  // A separator may begin just within the limit: wait for all of it, so that the result doesn't depend on the chunks.
  const slack = separator === undefined ? 0 : mode.length;
  let rest = "";
  let from = 0;
  const visible = (text: string) => /\S/.test(text);
  for await (const chunk of chunks) {
    rest += chunk;
    let begin = 0;
    for (;;) {
      const found = separator?.find(rest, from);
      // A run of blank lines that touches the end may go on in the next chunk.
      const complete = found !== undefined && !(mode === "blank-line" && found.end === rest.length);
      if (complete && found.start - begin <= maxCharacters) {
        const text = trim(rest.slice(begin, found.start));
        if (visible(text)) yield text;
        begin = found.end;
        from = begin;
      } else if (rest.length - begin > maxCharacters + slack) {
        const text = rest.slice(begin, begin + maxCharacters + 1);
        const cut = placeToCut(text, maxCharacters);
        if (visible(text)) yield text.slice(0, cut);
        begin += cut;
        from = Math.max(from, begin);
        onCut?.();
      } else {
        break;
      }
    }
    rest = rest.slice(begin);
    from = separator === undefined ? 0 : Math.max(0, Math.min(separator.resume(rest), rest.length));
  }
  const last = trim(rest);
  if (visible(last)) yield last;
}

/**
 * The text of one JSONL line.
 *
 * @throws DataError with file and line when it is not an object with a string in `field`
 */
export function documentOfJsonLine(line: string, field: string, where: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError(`${where}: not JSON, expected an object on each line, got ${JSON.stringify(line.slice(0, 40))}. Correct the line.`, { cause });
  }
  const object = typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  const text = object !== undefined && Object.hasOwn(object, field) ? object[field] : undefined;
  if (typeof text === "string") return text;
  const keys = Object.keys(object ?? {});
  const got = text !== undefined ? JSON.stringify(text).slice(0, 40) : keys.length > 0 ? `the keys ${keys.slice(0, 12).join(", ")}` : line.slice(0, 40);
  throw new DataError(
    `${where}: no text, expected an object with a string in ${JSON.stringify(field)}, got ${got}.` +
      `${text === undefined ? didYouMean(field, keys) : ""} Name the key that holds the text (data.text_field in a recipe, --field).`,
  );
}

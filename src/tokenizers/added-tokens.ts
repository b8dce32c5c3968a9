/** Added and special tokens: found in text before anything else looks at it, and only where that is asked for. */

/** A token that is matched as a whole. Field names as in tokenizer.json. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Special tokens steer the model; text becomes one only when the caller allows it. */
  readonly special: boolean;
  /** Matched only where no letter, digit or underscore stands next to it. */
  readonly singleWord: boolean;
  /** Takes the white space before it along. */
  readonly lstrip: boolean;
  /** Takes the white space after it along. */
  readonly rstrip: boolean;
  /** Matched in normalised text rather than in the raw one. */
  readonly normalized: boolean;
}

/** A stretch of text between matches, or a match. Places are UTF-16 units of the text that was searched. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly token?: AddedToken;
}

// What `\w` is to Rust's regex package, which Hugging Face tokenizers asks (Unicode TS 18, annex C).
const WORD = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const WORD_BEFORE = new RegExp(`${WORD}$`, "u");
const WORD_BEHIND = new RegExp(`^${WORD}`, "u");
const SPACE_BEFORE = /\p{White_Space}/u;

/** Text as an expression that finds it. */
export const escapeForRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&").replaceAll("-", "\\x2d");

/**
 * Cuts `text` at the tokens, the leftmost first and of those the longest.
 *
 * @param mark a character that says, inside of a spelling or behind one of a single character, that it is no token's
 * @returns all of `text` in order, without empty stretches
 */
export function cutAtTokens(text: string, tokens: readonly AddedToken[], mark: string | null = null): Segment[] {
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  // The first alternative that fits wins, so the longest come first.
  const contents = [...byContent.keys()].filter((c) => c !== "").sort((a, b) => b.length - a.length);
  if (contents.length === 0) return text === "" ? [] : [{ start: 0, end: text.length }];
  const single = (c: string): boolean => c.length === String.fromCodePoint(c.codePointAt(0) as number).length;
  const expression = new RegExp(contents.map((c) => escapeForRegExp(c) + (mark !== null && single(c) ? `(?!${mark})` : "")).join("|"), "g");
  const segments: Segment[] = [];
  let from = 0;
  for (const match of text.matchAll(expression)) {
    const token = byContent.get(match[0]) as AddedToken;
    let start = match.index;
    let end = start + match[0].length;
    if (start < from || (token.singleWord && (WORD_BEFORE.test(text.slice(Math.max(0, start - 2), start)) || WORD_BEHIND.test(text.slice(end, end + 2)))))
      continue;
    if (token.lstrip) while (start > from && SPACE_BEFORE.test(text[start - 1])) start--;
    if (token.rstrip) while (end < text.length && SPACE_BEFORE.test(text[end])) end++;
    if (start > from) segments.push({ start: from, end: start });
    segments.push({ start, end, token });
    from = end;
  }
  if (from < text.length) segments.push({ start: from, end: text.length });
  return segments;
}

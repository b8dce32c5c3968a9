/**
 * Text of a user never turns into control tokens, whatever a template makes of it.
 *
 * A template's result is one text, in which a control token that the template wrote and one that a message spells look the same. So before rendering, a mark (a
 * private-use character that is nowhere else) goes into every spelling of a special token inside of the messages, behind its first character. A spelling with a
 * mark in it is no token's, whatever is cut off, joined or trimmed around it, and before the text becomes ids the marks are taken out again. Marks stand only where
 * they are needed, so that templates which look into messages (`'</think>' in content`) see what they expect, and harmless text is not touched at all.
 *
 * Whole spellings are not all. Two messages may be put together, or something may be cut out of one (`content.replace("/no_think", "")` makes `<|im_end|>` of
 * `<|im_/no_thinkend|>`). So marks also go into a spelling's beginning at the end of a text and before a spelling's end at the beginning of one, and, where that does not
 * change what the template does, behind every character that a special token begins with.
 *
 * What is left to the template: `<|` + role + `|>` makes a control token of a role, as such templates mean it. Roles are the program's, and those that nobody knows
 * are marked.
 */
import { escapeForRegExp } from "../added-tokens.ts";

/** Roles that programs give; a template may know more. */
const ROLES = new Set(["system", "developer", "user", "assistant", "tool", "function"]);

/** How much is marked: spellings and their halves, or also whatever may begin one. */
export type Caution = "spellings" | "beginnings";

/** What marks texts for one tokenizer and template. */
export interface Shield {
  /** The character that marks. */
  readonly mark: string;
  /** The value with marks in its texts. */
  guard<T>(value: T, caution: Caution): T;
  /** Without the marks. */
  bare(text: string): string;
}

/**
 * @param spellings of the special tokens
 * @param ordinary spellings of added tokens that any text may contain: they stay whole
 * @param source of the template
 * @param mark a character that is in none of the texts
 */
export function createShield(spellings: readonly string[], ordinary: readonly string[], source: string, mark: string): Shield {
  const tokens = spellings.filter((spelling) => spelling !== "");
  const whole = tokens.length === 0 ? null : new RegExp(`(?=${alternatives(tokens)})`, "gu");
  const firsts = new Set(tokens.map((token) => String.fromCodePoint(token.codePointAt(0) as number)));
  const begins = new Set(tokens.flatMap((token) => partsOf(token, (at) => token.slice(0, at))));
  const ends = new Set(tokens.flatMap((token) => partsOf(token, (at) => token.slice(at))));
  const longest = Math.max(0, ...tokens.map((token) => token.length));
  const literals = literalsOf(source);
  const known = [...literals, ...ordinary].filter((literal) => literal.length > 1 && [...firsts].some((first) => literal.includes(first)));
  const anyLiteral = known.length === 0 ? null : new RegExp(`(?=(${alternatives(known)}))`, "gu");

  /** Places before which a mark goes. */
  function placesIn(text: string, caution: Caution): Set<number> {
    const places = new Set<number>();
    const behindFirst = (at: number): number => at + ((text.codePointAt(at) as number) > 0xffff ? 2 : 1);
    if (caution === "beginnings") {
      for (let at = 0; at < text.length; ) {
        const character = String.fromCodePoint(text.codePointAt(at) as number);
        at += character.length;
        if (firsts.has(character)) places.add(at);
      }
      // What the template may look for stays whole.
      if (places.size > 0 && anyLiteral !== null)
        for (const match of text.matchAll(anyLiteral)) for (let i = 1; i < match[1].length; i++) places.delete(match.index + i);
    }
    if (whole !== null) for (const match of text.matchAll(whole)) places.add(behindFirst(match.index));
    // Templates trim, so blanks around do not count.
    const end = text.trimEnd().length;
    const start = text.length - text.trimStart().length;
    for (let n = 1; n < longest && n <= end - start; n++) {
      if (begins.has(text.slice(end - n, end))) places.add(behindFirst(end - n));
      if (ends.has(text.slice(start, start + n))) places.add(start);
    }
    return places;
  }

  function marked(text: string, caution: Caution): string {
    const places = [...placesIn(text, caution)].sort((a, b) => a - b);
    return places.map((place, i) => text.slice(places[i - 1] ?? 0, place) + mark).join("") + text.slice(places.at(-1) ?? 0);
  }

  function guard(value: unknown, caution: Caution, key: string): unknown {
    if (typeof value === "string") {
      if (key !== "role") return marked(value, caution);
      if (ROLES.has(value) || literals.includes(value)) return value;
      return (caution === "beginnings" ? mark : "") + marked(value, caution);
    }
    if (Array.isArray(value)) return value.map((item) => guard(item, caution, ""));
    if (typeof value !== "object" || value === null) return value;
    // Of names only those are touched that spell a token: templates ask for the others.
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [whole?.test(name) ? marked(name, caution) : name, guard(item, caution, name)]));
  }

  return {
    mark,
    guard: <T>(value: T, caution: Caution) => guard(value, caution, "") as T,
    bare: (text) => text.replaceAll(mark, ""),
  };
}

/** The first private-use character that is in none of the texts. */
export function unusedCharacter(...texts: readonly string[]): string | null {
  for (let code = 0xe000; code <= 0xf8ff; code++) {
    const character = String.fromCharCode(code);
    if (!texts.some((text) => text.includes(character))) return character;
  }
  return null;
}

/** One expression for any of the texts, the longest first. */
const alternatives = (texts: readonly string[]): string =>
  [...new Set(texts)]
    .sort((a, b) => b.length - a.length)
    .map(escapeForRegExp)
    .join("|");

/** What `part` gives at each place inside of a text. */
const partsOf = (text: string, part: (at: number) => string): string[] => Array.from({ length: text.length - 1 }, (_, i) => part(i + 1));

/** The texts in quotes within a template's tags. Where quotes are not what they seem, something else is found, which only costs a guess. */
function literalsOf(source: string): string[] {
  const found: string[] = [];
  for (const [tag] of source.matchAll(/\{[{%][\s\S]*?[%}]\}/g))
    for (const [literal] of tag.matchAll(/'(?:\\[\s\S]|[^'\\])*'|"(?:\\[\s\S]|[^"\\])*"/g))
      found.push(literal.slice(1, -1).replace(/\\(n|t|[\s\S])/g, (_, letter) => (letter === "n" ? "\n" : letter === "t" ? "\t" : letter)));
  return found;
}

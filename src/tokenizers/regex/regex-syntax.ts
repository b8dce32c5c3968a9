/**
 * Reads a regular expression in Oniguruma's own syntax, which is that of tokenizer.json (Hugging Face tokenizers compile it with Oniguruma),
 * as far as finding whole matches goes: groups capture nothing, and what needs captures is refused.
 *
 * What differs from JavaScript: `^` and `$` are about lines, `(?m)` lets the dot match line breaks, `{n,m}+` repeats a repeat, `{n}?` is an optional
 * repeat, `{,m}` counts from 0, `[a[b]&&c]` nests and intersects, a `(?i)` in the middle holds to the end of its group, alternatives included.
 */

import type { Place } from "../files/strict-json.ts";
import { casePairs, caseVariants, findLongFold, longFoldPoints } from "./case-variants.ts";
import { CharacterSet, findUnicodeClass, unicodeClass } from "./character-set.ts";

export type Assertion = "textStart" | "textEnd" | "lastLineEnd" | "lineStart" | "lineEnd" | "wordBoundary" | "noWordBoundary";

export type Node =
  | { type: "set"; set: CharacterSet /** Of a literal: the character as it is written. */; literal?: string }
  | { type: "sequence"; items: Node[] }
  | { type: "choice"; items: Node[] }
  | { type: "repeat"; item: Node; min: number; max: number; mode: "greedy" | "lazy" | "possessive" }
  | { type: "look"; behind: boolean; negative: boolean; item: Node }
  | { type: "atomic"; item: Node }
  | { type: "assertion"; kind: Assertion };

interface Options {
  ignoreCase: boolean;
  dotAll: boolean;
  extended: boolean;
}

/** Deeper nesting is a mistake or an attack, not an expression. */
const DEEPEST = 200;
/** Oniguruma's limit of a repeat. */
const MOST_REPEATS = 100_000;
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = { t: "\t", n: "\n", r: "\r", f: "\f", v: "\v", a: "\x07", e: "\x1b" };
const ESCAPED_SETS: Readonly<Record<string, string>> = { d: "digit", s: "space", w: "word", h: "xdigit" };
/** The word characters outside of brackets have six more than those of `[\w]` in Oniguruma: ² ³ ¹ ¼ ½ ¾. */
export const outerWord = (): CharacterSet => unicodeClass("word").union(CharacterSet.ofText("²³¹¼½¾"));
const EXPECTED = "an expression of Oniguruma that needs no captures";

export function parseRegex(source: string, where: Place): Node {
  return new Parser(source, where).parse();
}

class Parser {
  private at = 0;
  private depth = 0;
  private readonly source: string;
  private readonly where: Place;

  constructor(source: string, where: Place) {
    this.source = source;
    this.where = where;
  }

  parse(): Node {
    const node = this.choice({ ignoreCase: false, dotAll: false, extended: false });
    if (this.at < this.source.length) this.fail("unmatched close parenthesis");
    return node;
  }

  private fail(what: string, at = this.at): never {
    const got = at < this.source.length ? this.source.slice(at, at + 20) : "the end";
    return this.where.fail(`regular expression, character ${at + 1}: ${what}`, EXPECTED, got, "Correct the expression, or use a tokenizer without it.");
  }

  private take(text: string): boolean {
    if (!this.source.startsWith(text, this.at)) return false;
    this.at += text.length;
    return true;
  }

  /** The next match of a sticky expression, which is taken. */
  private takeMatch(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.at;
    const match = expression.exec(this.source);
    if (match !== null) this.at += match[0].length;
    return match;
  }

  private character(): string {
    const character = String.fromCodePoint(this.source.codePointAt(this.at) as number);
    this.at += character.length;
    return character;
  }

  private choice(options: Options): Node {
    if (++this.depth > DEEPEST) this.fail(`groups deeper than ${DEEPEST}`);
    const items = [this.sequence(options)];
    while (this.take("|")) items.push(this.sequence(options));
    this.depth--;
    return items.length === 1 ? items[0] : { type: "choice", items };
  }

  private sequence(options: Options): Node {
    const items: Node[] = [];
    while (this.at < this.source.length && !"|)".includes(this.source[this.at])) {
      if (options.extended && this.takeMatch(/\s+|#[^\n]*/y) !== null) continue;
      if (this.takeMatch(/\(\?#(?:\\.|[^)\\])*\)/sy) !== null) continue;
      const start = this.at;
      const node = this.atom(options);
      items.push(this.repeats(node, start, options));
    }
    if (options.ignoreCase) this.refuseLongFolds(items);
    return items.length === 1 ? items[0] : { type: "sequence", items };
  }

  /** "ss" is "ß" to a case-insensitive Oniguruma; this engine has no such pairs. */
  private refuseLongFolds(items: readonly Node[]): void {
    const spell = (item: Node): string =>
      item.type === "set" && item.literal !== undefined ? item.literal : item.type === "sequence" ? item.items.map(spell).join("") : "\n";
    const fold = findLongFold(items.map(spell).join(""));
    if (fold !== undefined) this.fail(`"${fold}" without regard to case, where one character is also several,`);
  }

  private atom(options: Options): Node {
    const start = this.at;
    if (this.take("(")) return this.group(options, start);
    if (this.take("[")) return { type: "set", set: this.bracket(options, start) };
    if (this.take(".")) return { type: "set", set: options.dotAll ? unicodeClass("any") : CharacterSet.ofText("\n").negate() };
    if (this.take("^")) return { type: "assertion", kind: "lineStart" };
    if (this.take("$")) return { type: "assertion", kind: "lineEnd" };
    if ("*+?".includes(this.source[start]) || /^\{(?:\d+,?\d*|,\d+)\}/.test(this.source.slice(start, start + 20))) this.fail("nothing to repeat");
    if (this.take("\\")) return this.escape(options, start);
    return this.literal(this.character(), options);
  }

  private literal(character: string, options: Options): Node {
    if (!options.ignoreCase) return { type: "set", set: CharacterSet.ofText(character), literal: character };
    return { type: "set", set: CharacterSet.ofText(caseVariants(character)), literal: character };
  }

  private repeats(node: Node, start: number, options: Options): Node {
    let result = node;
    for (;;) {
      if (options.extended) while (this.takeMatch(/\s+|#[^\n]*/y) !== null);
      const match = this.takeMatch(/[*+?]|\{(\d*)(,?)(\d*)\}/y);
      if (match === null) return result;
      let [min, max] = match[0] === "*" ? [0, Infinity] : match[0] === "+" ? [1, Infinity] : [0, 1];
      let mode: "greedy" | "lazy" | "possessive" = "greedy";
      const interval = match[0].startsWith("{");
      if (interval) {
        if (match[1] === "" && match[3] === "") {
          // Oniguruma reads `{}` and `{,}` as text.
          this.at -= match[0].length;
          return result;
        }
        min = Number(match[1]);
        max = match[2] === "" ? min : match[3] === "" ? Infinity : Number(match[3]);
        if (min > MOST_REPEATS || (max > MOST_REPEATS && max !== Infinity)) this.fail(`repeated more than ${MOST_REPEATS} times`, start);
        if (min > max) [min, max, mode] = [max, min, "possessive"];
      }
      if (result.type === "assertion" || result.type === "look") this.fail("a repeated assertion", start);
      if (mode === "greedy" && !(interval && match[2] === "") && this.take("?")) mode = "lazy";
      else if (!interval && this.take("+")) mode = "possessive";
      result = { type: "repeat", item: result, min, max, mode };
    }
  }

  private group(options: Options, start: number): Node {
    const closed = (node: Node): Node => {
      if (!this.take(")")) this.fail("a group without end", start);
      return node;
    };
    if (!this.take("?")) {
      if (this.source[this.at] === "*") this.fail("a callout", start);
      // A sequence of its own, for a capturing group may be repeated whatever it holds.
      return { type: "sequence", items: [closed(this.choice(options))] };
    }
    if (this.take(":")) return closed(this.choice(options));
    if (this.take(">")) return closed({ type: "atomic", item: this.choice(options) });
    const look = this.takeMatch(/<?[=!]/y);
    if (look !== null) {
      const behind = look[0].startsWith("<");
      return closed({ type: "look", behind, negative: look[0].endsWith("!"), item: this.choice(options) });
    }
    if (this.takeMatch(/<[\p{L}_][\p{L}\p{N}_]*>/uy) !== null) return closed(this.choice(options));
    const flags = this.takeMatch(/([imx]*)(?:-([imx]*))?([:)])/y);
    if (flags === null) return this.fail(`"${this.source.slice(start, start + 4)}", a group that is not supported,`, start);
    const changed = { ...options };
    const set = (letters: string, value: boolean) => {
      if (letters.includes("i")) changed.ignoreCase = value;
      if (letters.includes("m")) changed.dotAll = value;
      if (letters.includes("x")) changed.extended = value;
    };
    set(flags[1], true);
    set(flags[2] ?? "", false);
    // `(?i)` opens a group that ends with the one around it.
    return flags[3] === ":" ? closed(this.choice(changed)) : this.choice(changed);
  }

  /** What `\` begins, outside of brackets. */
  private escape(options: Options, start: number): Node {
    const assertions: Readonly<Record<string, Assertion>> = {
      A: "textStart",
      z: "textEnd",
      Z: "lastLineEnd",
      b: "wordBoundary",
      B: "noWordBoundary",
    };
    const next = this.source[this.at] ?? "";
    if (Object.hasOwn(assertions, next)) {
      this.at++;
      return { type: "assertion", kind: assertions[next] };
    }
    const set = this.escapedSet(start, false);
    return set === undefined ? this.literal(this.escapedCharacter(start), options) : { type: "set", set };
  }

  /** `\d`, `\P{Lu}` and their like behind the backslash. */
  private escapedSet(start: number, inBrackets: boolean): CharacterSet | undefined {
    const next = this.source[this.at] ?? "";
    const small = next.toLowerCase();
    if (Object.hasOwn(ESCAPED_SETS, small)) {
      this.at++;
      const set = small === "w" && !inBrackets ? outerWord() : unicodeClass(ESCAPED_SETS[small]);
      return small === next ? set : set.negate();
    }
    const property = this.takeMatch(/([pP])\{(\^?)([^}]*)\}/y);
    if (property === null) return undefined;
    const set = !inBrackets && property[3].toLowerCase() === "word" ? outerWord() : findUnicodeClass(property[3]);
    if (set === undefined) this.fail(`class "${property[3].slice(0, 40)}", which is not known,`, start);
    return (property[1] === "P") === (property[2] === "^") ? set : set.negate();
  }

  private escapedCharacter(start: number): string {
    const hexadecimal = this.takeMatch(/x\{([0-9a-fA-F]{1,8})\}|u([0-9a-fA-F]{4})|x([0-7][0-9a-fA-F])/y);
    if (hexadecimal !== null) {
      const point = Number.parseInt(hexadecimal[1] ?? hexadecimal[2] ?? hexadecimal[3], 16);
      if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) this.fail("no Unicode character", start);
      return String.fromCodePoint(point);
    }
    const octal = this.takeMatch(/0[0-7]{0,2}/y);
    if (octal !== null) return String.fromCodePoint(Number.parseInt(octal[0], 8));
    if (this.at >= this.source.length) this.fail("a backslash at the end", start);
    const character = this.character();
    if (Object.hasOwn(SIMPLE_ESCAPES, character)) return SIMPLE_ESCAPES[character];
    if (/[A-Za-z0-9]/.test(character)) this.fail(`"\\${character}", which is not supported,`, start);
    return character;
  }

  /** What stands behind `[`, up to and with its `]`. */
  private bracket(options: Options, start: number): CharacterSet {
    if (++this.depth > DEEPEST) this.fail(`brackets deeper than ${DEEPEST}`);
    const negated = this.take("^");
    let all: CharacterSet | undefined;
    let sets: CharacterSet[] = [];
    let pairs: [number, number][] = [];
    const join = () => {
      let set = CharacterSet.of(pairs).union(...sets);
      // The classes of properties inside of brackets do follow `(?i)`.
      if (options.ignoreCase) set = this.anyCase(set, negated, start);
      all = all === undefined ? set : all.intersect(set);
      sets = [];
      pairs = [];
    };
    for (let first = true; ; first = false) {
      if (this.at >= this.source.length) this.fail("brackets without end", start);
      if (this.source[this.at] === "]" && !(first && this.source.includes("]", this.at + 1))) break;
      if (this.take("&&")) {
        join();
        continue;
      }
      const set = this.bracketSet(options);
      if (set !== undefined) {
        sets.push(set);
        if (this.source[this.at] === "-" && this.source[this.at + 1] !== "]") this.fail("a class at the start of a range");
        continue;
      }
      const low = this.bracketCharacter();
      let high = low;
      if (this.source[this.at] === "-" && !["]", undefined].includes(this.source[this.at + 1]) && !this.source.startsWith("&&", this.at + 1)) {
        this.at++;
        const at = this.at;
        if (this.bracketSet(options) !== undefined) this.fail("a class at the end of a range", at);
        high = this.bracketCharacter();
        if (high < low) this.fail("a range that ends before it begins", at);
      }
      pairs.push([low, high + 1]);
    }
    this.at++;
    this.depth--;
    join();
    const set = all as unknown as CharacterSet;
    return negated ? set.negate() : set;
  }

  /** A class inside of brackets: nested, of POSIX, or escaped. */
  private bracketSet(options: Options): CharacterSet | undefined {
    const start = this.at;
    const posix = this.takeMatch(/\[:(\^?)([a-z]+):\]/y);
    if (posix !== null) {
      const known = ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"];
      if (!known.includes(posix[2])) this.fail(`class "${posix[2]}", which is not known,`, start);
      return posix[1] === "" ? unicodeClass(posix[2]) : unicodeClass(posix[2]).negate();
    }
    if (this.take("[")) return this.bracket(options, start);
    if (this.source[this.at] !== "\\") return undefined;
    this.at++;
    const set = this.escapedSet(start, true);
    if (set === undefined) this.at = start;
    return set;
  }

  private bracketCharacter(): number {
    const start = this.at;
    if (!this.take("\\")) return this.character().codePointAt(0) as number;
    if (this.take("b")) return 8;
    return this.escapedCharacter(start).codePointAt(0) as number;
  }

  private anyCase(set: CharacterSet, negated: boolean, start: number): CharacterSet {
    const more: [number, number][] = [];
    for (const [variant, of] of casePairs()) if (set.has(of)) more.push([variant, variant + 1]);
    if (!negated && [...longFoldPoints()].some((point) => set.has(point))) {
      this.fail("brackets without regard to case that hold a character which is also several", start);
    }
    return set.union(CharacterSet.of(more));
  }
}

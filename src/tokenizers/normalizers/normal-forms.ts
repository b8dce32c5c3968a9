/**
 * NFC, NFD, NFKC and NFKD with places: which old character each new one stands for, by the rules of Hugging Face's normalizers. JavaScript's `normalize` gives
 * no places, and knows characters that theirs (Unicode 9.0) leaves as they are.
 *
 * The algorithms are those of Unicode Standard Annex 15 and of chapter 3.11 and 3.12 of the standard (ordering, composition, Hangul).
 */
import type { Change } from "./aligned-text.ts";
import { classOf, pointsOf, valuesOf } from "./code-points.ts";
import { CANONICAL, COMBINING_CLASSES, COMPATIBILITY } from "./normalizer-tables.ts";

export type NormalForm = "NFC" | "NFD" | "NFKC" | "NFKD";

/** What a form does: characters come apart (canonically, or compatibly as well), and find together again in two of the forms. */
interface Form {
  /** A character that this finds may be changed, or change others; a text without one is in the form. */
  readonly affected: RegExp;
  /** The characters it comes apart into, as code points; only those that come apart. */
  readonly parts: ReadonlyMap<number, readonly number[]>;
  readonly composes: boolean;
}

/** Characters on their way are numbers: combining class << 22 | new << 21 | code point, where new is 1 for all but the first part of an old character. */
const CLASS_SHIFT = 22;
const NEW = 1 << 21;
const POINT = NEW - 1;

const HANGUL = { first: 0xac00, last: 0xd7a3, lead: 0x1100, leads: 19, vowel: 0x1161, vowels: 21, tail: 0x11a7, tails: 28 };

let classes: ReadonlyMap<number, number> | undefined;
let pairs: ReadonlyMap<number, number> | undefined;
const forms = new Map<NormalForm, Form>();

const classOfPoint = (point: number): number => (point < 0x300 ? 0 : ((classes ??= valuesOf(COMBINING_CLASSES)).get(point) ?? 0));
const pairKey = (first: number, second: number): number => first * 2 ** 21 + second;
const pointsIn = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0) as number);

/** All pairs of characters (but Hangul's) that make one character: what a canonical decomposition ends with, and what comes before it. */
function buildPairs(): Map<number, number> {
  const found = new Map<number, number>();
  for (const point of pointsOf(CANONICAL)) {
    const character = String.fromCodePoint(point);
    if ((point >= HANGUL.first && point <= HANGUL.last) || character.normalize("NFC") !== character) continue;
    const parts = pointsIn(character.normalize("NFD"));
    const [first] = pointsIn(String.fromCodePoint(...parts.slice(0, -1)).normalize("NFC"));
    found.set(pairKey(first, parts[parts.length - 1]), point);
  }
  return found;
}

function composed(first: number, second: number): number | undefined {
  const { lead, leads, vowel, vowels, tail, tails } = HANGUL;
  if (first >= lead && first < lead + leads && second >= vowel && second < vowel + vowels) {
    return HANGUL.first + ((first - lead) * vowels + second - vowel) * tails;
  }
  const isOpen = first >= HANGUL.first && first <= HANGUL.last && (first - HANGUL.first) % tails === 0;
  if (isOpen && second > tail && second < tail + tails) return first + second - tail;
  return (pairs ??= buildPairs()).get(pairKey(first, second));
}

function formOf(name: NormalForm): Form {
  let form = forms.get(name);
  if (form === undefined) {
    form = buildForm(name);
    forms.set(name, form);
  }
  return form;
}

function buildForm(name: NormalForm): Form {
  const composes = name === "NFC" || name === "NFKC";
  const parts = new Map<number, readonly number[]>();
  const decomposition = name.startsWith("NFK") ? "NFKD" : "NFD";
  let affected = "";
  for (const table of decomposition === "NFKD" ? [CANONICAL, COMPATIBILITY] : [CANONICAL]) {
    for (const point of pointsOf(table)) {
      const character = String.fromCodePoint(point);
      parts.set(point, pointsIn(character.normalize(decomposition)));
      if (composes && character.normalize(name) !== character) affected += `\\u{${point.toString(16)}}`;
    }
    if (!composes) affected += classOf(table);
  }
  for (const point of (classes ??= valuesOf(COMBINING_CLASSES)).keys()) affected += `\\u{${point.toString(16)}}`;
  if (composes) {
    affected += "\\u{1161}-\\u{1175}\\u{11a8}-\\u{11c2}";
    for (const key of (pairs ??= buildPairs()).keys()) affected += `\\u{${(key % 2 ** 21).toString(16)}}`;
  }
  return { affected: new RegExp(`[${affected}]`, "u"), parts, composes };
}

/** Whether the text is in the form for certain (where not, it may be all the same). */
export function isNormal(text: string, name: NormalForm): boolean {
  return !formOf(name).affected.test(text);
}

/** The characters of the text in this form. */
export function normalForm(text: string, name: NormalForm): Iterable<Change> {
  const form = formOf(name);
  const parts = inOrder(decomposed(text, form.parts));
  return form.composes ? compose(parts) : asChanges(parts);
}

function* decomposed(text: string, parts: Form["parts"]): Generator<number> {
  for (const character of text) {
    const point = character.codePointAt(0) as number;
    const own = parts.get(point);
    if (own === undefined) yield (classOfPoint(point) << CLASS_SHIFT) | point;
    else for (let i = 0; i < own.length; i++) yield (classOfPoint(own[i]) << CLASS_SHIFT) | (i > 0 ? NEW : 0) | own[i];
  }
}

/** Marks in a row in the order of their classes; those of one class stay as they stand. */
function* inOrder(characters: Iterable<number>): Generator<number> {
  let marks: number[] = [];
  const byClass = (a: number, b: number): number => (a >> CLASS_SHIFT) - (b >> CLASS_SHIFT);
  for (const character of characters) {
    if (character >> CLASS_SHIFT !== 0) {
      marks.push(character);
      continue;
    }
    if (marks.length > 0) {
      yield* marks.sort(byClass);
      marks = [];
    }
    yield character;
  }
  yield* marks.sort(byClass);
}

const changeOf = (point: number, change: number): Change => [String.fromCodePoint(point), change];

function* asChanges(characters: Iterable<number>): Generator<Change> {
  for (const character of characters) yield changeOf(character & POINT, (character & NEW) === 0 ? 0 : 1);
}

/**
 * Composes marks with the character of class 0 before them. A mark is kept from it by an uncomposed one between them of its own class or a higher. A character
 * of two that were each one before stands for the first, and the other is gone.
 */
function* compose(characters: Iterable<number>): Generator<Change> {
  let base = -1;
  let baseChange = 0;
  let between: number[] = [];
  let highest = -1;
  for (const character of characters) {
    const [point, change, own] = [character & POINT, (character & NEW) === 0 ? 0 : 1, character >> CLASS_SHIFT];
    const one = base >= 0 && highest < own ? composed(base, point) : undefined;
    if (one !== undefined) {
      base = one;
      baseChange += change - 1;
    } else if (own !== 0 && base >= 0) {
      between.push(character);
      highest = own;
    } else if (own !== 0) {
      yield changeOf(point, change);
    } else {
      if (base >= 0) yield changeOf(base, baseChange);
      yield* asChanges(between);
      [base, baseChange, between, highest] = [point, change, [], -1];
    }
  }
  if (base >= 0) yield changeOf(base, baseChange);
  yield* asChanges(between);
}

/**
 * Sets of code points as sorted, disjoint ranges, and the Unicode classes that regular expressions and tokenizer parts name.
 *
 * A class that decides the ids of a published tokenizer comes from the committed table of Unicode 16.0 (unicode16.ts), never from the
 * JavaScript engine, whose Unicode version is another on each machine.
 */
import { UNICODE_16 } from "./unicode16.ts";

/** One more than the last code point. */
export const CODE_POINTS = 0x110000;

export class CharacterSet {
  /** Start and end (exclusive) of each range, ascending. */
  readonly ranges: readonly number[];
  private readonly latin = new Uint8Array(256);

  constructor(ranges: readonly number[]) {
    this.ranges = ranges;
    for (let i = 0; i < ranges.length && ranges[i] < 256; i += 2) this.latin.fill(1, ranges[i], Math.min(256, ranges[i + 1]));
  }

  /** From ranges in any order, which may overlap. */
  static of(pairs: readonly (readonly [start: number, end: number])[]): CharacterSet {
    const sorted = pairs.filter(([start, end]) => start < end).sort((a, b) => a[0] - b[0]);
    const ranges: number[] = [];
    for (const [start, end] of sorted) {
      if (ranges.length > 0 && start <= ranges[ranges.length - 1]) ranges[ranges.length - 1] = Math.max(end, ranges[ranges.length - 1]);
      else ranges.push(start, end);
    }
    return new CharacterSet(ranges);
  }

  static ofText(text: string): CharacterSet {
    return CharacterSet.of(Array.from(text, (c) => [c.codePointAt(0) as number, (c.codePointAt(0) as number) + 1]));
  }

  has(point: number): boolean {
    if (point < 256) return this.latin[point] === 1;
    const { ranges } = this;
    let low = 0;
    let high = ranges.length;
    // The number of bounds at or below the point is odd inside a range.
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle] <= point) low = middle + 1;
      else high = middle;
    }
    return (low & 1) === 1;
  }

  union(...others: CharacterSet[]): CharacterSet {
    return CharacterSet.of([this, ...others].flatMap((set) => set.pairs()));
  }

  negate(): CharacterSet {
    const bounds = [...this.ranges];
    if (bounds[0] === 0) bounds.shift();
    else bounds.unshift(0);
    if (bounds[bounds.length - 1] === CODE_POINTS) bounds.pop();
    else bounds.push(CODE_POINTS);
    return new CharacterSet(bounds);
  }

  intersect(other: CharacterSet): CharacterSet {
    return this.negate().union(other.negate()).negate();
  }

  minus(...others: CharacterSet[]): CharacterSet {
    return this.negate()
      .union(...others)
      .negate();
  }

  pairs(): [start: number, end: number][] {
    const pairs: [number, number][] = [];
    for (let i = 0; i < this.ranges.length; i += 2) pairs.push([this.ranges[i], this.ranges[i + 1]]);
    return pairs;
  }
}

const known = new Map<string, CharacterSet>();

function remember(name: string, build: () => CharacterSet): CharacterSet {
  let set = known.get(name);
  if (set === undefined) {
    set = build();
    known.set(name, set);
  }
  return set;
}

/** A class of the committed table. */
export function tableSet(name: keyof typeof UNICODE_16): CharacterSet {
  return remember(`table ${name}`, () => {
    const numbers = UNICODE_16[name].split(" ").map((word) => Number.parseInt(word, 36));
    const ranges: number[] = [];
    let at = 0;
    for (let i = 0; i < numbers.length; i += 2) {
      ranges.push(at + numbers[i], at + numbers[i] + numbers[i + 1]);
      at = ranges[ranges.length - 1];
    }
    return new CharacterSet(ranges);
  });
}

/** Characters that JavaScript's own `\p{…}` has: only for classes that no published tokenizer asks. */
function engineSet(property: string): CharacterSet {
  return remember(`engine ${property}`, () => {
    const expression = new RegExp(`\\p{${property}}`, "u");
    const pairs: [number, number][] = [];
    for (let point = 0; point < CODE_POINTS; point++) if (expression.test(String.fromCodePoint(point))) pairs.push([point, point + 1]);
    return CharacterSet.of(pairs);
  });
}

const tables = (...names: (keyof typeof UNICODE_16)[]): CharacterSet => tableSet(names[0]).union(...names.slice(1).map(tableSet));
const points = (...pairs: [number, number][]): CharacterSet => CharacterSet.of(pairs);

/** White_Space, in Oniguruma's `\s` and in Rust's `char::is_whitespace`. */
export const WHITE_SPACE = points(
  [9, 14],
  [0x20, 0x21],
  [0x85, 0x86],
  [0xa0, 0xa1],
  [0x1680, 0x1681],
  [0x2000, 0x200b],
  [0x2028, 0x202a],
  [0x202f, 0x2030],
  [0x205f, 0x2060],
  [0x3000, 0x3001],
);

/** Long names of general categories, as Oniguruma compares names: small letters without blanks, `_` and `-`. */
const LONG_NAMES: Readonly<Record<string, string>> = {
  other: "c",
  control: "cc",
  format: "cf",
  unassigned: "cn",
  privateuse: "co",
  surrogate: "cs",
  letter: "l",
  casedletter: "lc",
  lowercaseletter: "ll",
  modifierletter: "lm",
  otherletter: "lo",
  titlecaseletter: "lt",
  uppercaseletter: "lu",
  mark: "m",
  combiningmark: "m",
  spacingmark: "mc",
  enclosingmark: "me",
  nonspacingmark: "mn",
  number: "n",
  decimalnumber: "nd",
  letternumber: "nl",
  othernumber: "no",
  punctuation: "p",
  connectorpunctuation: "pc",
  dashpunctuation: "pd",
  closepunctuation: "pe",
  finalpunctuation: "pf",
  initialpunctuation: "pi",
  otherpunctuation: "po",
  openpunctuation: "ps",
  symbol: "s",
  currencysymbol: "sc",
  modifiersymbol: "sk",
  mathsymbol: "sm",
  othersymbol: "so",
  separator: "z",
  lineseparator: "zl",
  paragraphseparator: "zp",
  spaceseparator: "zs",
  whitespace: "space",
  alphabetic: "alpha",
  uppercase: "upper",
  lowercase: "lower",
};

const CLASSES: Readonly<Record<string, () => CharacterSet>> = {
  any: () => points([0, CODE_POINTS]),
  assigned: () => unicodeClass("cn").negate(),
  c: () => tables("Cf").union(unicodeClass("cc"), unicodeClass("cn"), unicodeClass("co"), unicodeClass("cs")),
  cc: () => points([0, 0x20], [0x7f, 0xa0]),
  cn: () =>
    unicodeClass("l")
      .union(tables("M", "N", "P", "Cf"), ...["s", "z", "cc", "co", "cs"].map(unicodeClass))
      .negate(),
  co: () => points([0xe000, 0xf900], [0xf0000, 0xffffe], [0x100000, 0x10fffe]),
  cs: () => points([0xd800, 0xe000]),
  l: () => tables("Lu", "Ll", "Lt", "Lm", "Lo"),
  lc: () => tables("Lu", "Ll", "Lt"),
  mc: () => tableSet("M").minus(tables("Mn", "Me")),
  no: () => tableSet("N").minus(tables("Nd", "Nl")),
  po: () => tableSet("P").minus(tables("Pc", "Pd", "Ps", "Pe", "Pi", "Pf")),
  s: () => tables("Sm", "Sc", "Sk", "So"),
  z: () => unicodeClass("zs").union(points([0x2028, 0x202a])),
  zl: () => points([0x2028, 0x2029]),
  zp: () => points([0x2029, 0x202a]),
  zs: () => WHITE_SPACE.minus(points([9, 14], [0x85, 0x86], [0x2028, 0x202a])),
  // The names of POSIX brackets, as Oniguruma's Unicode encodings have them.
  alnum: () => unicodeClass("alpha").union(tableSet("Nd")),
  alpha: () => engineSet("Alphabetic"),
  ascii: () => points([0, 0x80]),
  blank: () => unicodeClass("zs").union(points([9, 10])),
  cntrl: () => unicodeClass("cc"),
  digit: () => tableSet("Nd"),
  graph: () => WHITE_SPACE.union(...["cc", "cn", "cs"].map(unicodeClass)).negate(),
  lower: () => engineSet("Lowercase"),
  print: () => unicodeClass("graph").union(unicodeClass("zs")),
  punct: () => tables("P", "Sm", "Sc", "Sk", "So"),
  space: () => WHITE_SPACE,
  upper: () => engineSet("Uppercase"),
  word: () => unicodeClass("l").union(tables("M", "Nd", "Pc", "WordMore")),
  xdigit: () => points([0x30, 0x3a], [0x41, 0x47], [0x61, 0x67]),
};

const TABLE_NAMES = new Map(
  (Object.keys(UNICODE_16) as (keyof typeof UNICODE_16)[]).filter((name) => !/More$|^Hf/.test(name)).map((name) => [name.toLowerCase(), name]),
);

/** The class that a regular expression or a POSIX bracket calls so: a general category, a script, or one of POSIX's. */
export function findUnicodeClass(name: string): CharacterSet | undefined {
  const plain = name.replace(/[ _-]/g, "").toLowerCase();
  const key = Object.hasOwn(LONG_NAMES, plain) ? LONG_NAMES[plain] : plain;
  const table = TABLE_NAMES.get(key);
  if (table !== undefined) return tableSet(table);
  return Object.hasOwn(CLASSES, key) ? remember(key, CLASSES[key]) : undefined;
}

/** The class of this name, which exists. */
export function unicodeClass(name: string): CharacterSet {
  return findUnicodeClass(name) as CharacterSet;
}

/**
 * Which characters are one letter without regard to case, by Unicode's simple case folding ("s", "S" and the long "ſ"; not "i" and "ı"), and
 * which are one letter with several ("ß" and "ss"). Published expressions fold only ASCII letters, so the engine's own case tables do.
 */
import { CODE_POINTS } from "./character-set.ts";

interface Tables {
  /** Every pair of different characters that are one letter. */
  pairs: readonly (readonly [point: number, other: number])[];
  /** For each character of such a group, all of it. */
  groups: ReadonlyMap<string, string>;
  /** For each character that is one letter with several, these in small letters. */
  long: ReadonlyMap<number, string>;
}

let tables: Tables | undefined;

function build(): Tables {
  const byKey = new Map<string, string[]>();
  const long = new Map<number, string>();
  for (let point = 0; point < CODE_POINTS; point++) {
    const character = String.fromCodePoint(point);
    const upper = character.toUpperCase();
    const lower = character.toLowerCase();
    if (upper === character && lower === character) continue;
    const full = lower.toUpperCase().toLowerCase();
    if ([...full].length > 1) long.set(point, full);
    const single = [...upper].length === 1 ? upper.toLowerCase() : lower;
    const key = [...single].length === 1 && new RegExp(`^\\u{${point.toString(16)}}$`, "iu").test(single) ? single : character;
    byKey.set(key, [...(byKey.get(key) ?? (key === character ? [] : [key])), character]);
  }
  const groups = new Map<string, string>();
  const pairs: [number, number][] = [];
  for (const members of byKey.values()) {
    const group = [...new Set(members)];
    for (const a of group) {
      groups.set(a, group.join(""));
      for (const b of group) if (a !== b) pairs.push([a.codePointAt(0) as number, b.codePointAt(0) as number]);
    }
  }
  return { pairs, groups, long };
}

function get(): Tables {
  tables ??= build();
  return tables;
}

/** All characters that are `character` without regard to case, itself among them. */
export function caseVariants(character: string): string {
  return get().groups.get(character) ?? character;
}

/** Pairs of different characters that are the same without regard to case, each in both orders. */
export function casePairs(): readonly (readonly [point: number, other: number])[] {
  return get().pairs;
}

/** The code points of characters that are the same as several others together without regard to case. */
export function longFoldPoints(): Iterable<number> {
  return get().long.keys();
}

/** What in `text` is one other character without regard to case. */
export function findLongFold(text: string): string | undefined {
  const small = text.toUpperCase().toLowerCase();
  for (const fold of get().long.values()) if (small.includes(fold)) return fold;
  return undefined;
}

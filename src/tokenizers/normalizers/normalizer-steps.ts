/** What each normalizer does, with places and without. Hugging Face tokenizers, `tokenizers/src/normalizers`; BERT's is google-research/bert's `BasicTokenizer`. */

import { bytesToAlphabet } from "../byte-level/byte-alphabet.ts";
import type { Regex } from "../regex/regex.ts";
import type { AlignedText, Change } from "./aligned-text.ts";
import type { Charsmap } from "./charsmap.ts";
import { classOf } from "./code-points.ts";
import { isNormal, type NormalForm, normalForm } from "./normal-forms.ts";
import { BERT_ACCENTS, BERT_REMOVED, MARKS, NEW_LOWERCASE } from "./normalizer-tables.ts";
import { charsmapChanges, replaceByCharsmap } from "./precompiled.ts";

/** What runs a normalizer: both make the same text. */
export interface Runner {
  change(text: AlignedText): void;
  text(text: string): string;
}

/** Each character that `affected` (a class, global) finds becomes `content`. */
function characters(affected: RegExp, content: (character: string) => string): Runner {
  return {
    change: (text) => text.replaceCharacters(affected, content),
    text: (text) => text.replace(affected, (character) => content(character)),
  };
}

export function sequence(inner: readonly Runner[]): Runner {
  return {
    change: (text) => {
      for (const runner of inner) runner.change(text);
    },
    text: (text) => inner.reduce((sofar, runner) => runner.text(sofar), text),
  };
}

export function normalForms(form: NormalForm): Runner {
  return {
    change: (text) => {
      if (!isNormal(text.text, form)) text.transform(normalForm(text.text, form));
    },
    text: (text) => {
      if (isNormal(text, form)) return text;
      let made = "";
      for (const [character] of normalForm(text, form)) made += character;
      return made;
    },
  };
}

export function stripAccents(): Runner {
  return characters(new RegExp(`[${classOf(MARKS)}]`, "gu"), () => "");
}

/** The bytes of the text in UTF-8, each as a character of the byte alphabet. */
export function byteLevel(): Runner {
  const encoder = new TextEncoder();
  const inAlphabet = (text: string): string => bytesToAlphabet(encoder.encode(text));
  return { change: characters(/[^!-~]/gu, inAlphabet).change, text: inAlphabet };
}

/** What SentencePiece's rules for translation take for nothing, and for a blank. */
export function nmt(): Runner {
  const removed = "\\u{1}-\\u{8}\\u{b}\\u{e}-\\u{1f}\\u{7f}\\u{8f}\\u{9f}";
  const blanks = "\\u{9}\\u{a}\\u{c}\\u{d}\\u{1680}\\u{200b}-\\u{200f}\\u{2028}\\u{2029}\\u{2581}\\u{feff}\\u{fffd}";
  const isBlank = new RegExp(`[${blanks}]`, "u");
  return characters(new RegExp(`[${removed}${blanks}]`, "gu"), (character) => (isBlank.test(character) ? " " : ""));
}

/** Each character for itself: a final sigma is a sigma. */
export function lowercase(): Runner {
  const newer = new Map<string, string>();
  for (const [upper, count, lower] of NEW_LOWERCASE) {
    for (let i = 0; i < count; i++) newer.set(String.fromCodePoint(upper + i), String.fromCodePoint(lower + i));
  }
  const someNewer = new RegExp(`[${[...newer.keys()].join("")}]`, "gu");
  const some = characters(/[A-Z\u{80}-\u{10ffff}]/gu, (character) => newer.get(character) ?? character.toLowerCase());
  return {
    change: some.change,
    text: (text) => {
      const older = text.replace(someNewer, (character) => newer.get(character) as string);
      return older
        .split("Σ")
        .map((part) => part.toLowerCase())
        .join("σ");
    },
  };
}

/** Unicode's White_Space. */
const SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

export function strip(left: boolean, right: boolean): Runner {
  const inner = (text: string): [start: number, end: number] => {
    let [start, end] = [0, text.length];
    while (left && start < end && SPACE.test(text[start])) start++;
    while (right && start < end && SPACE.test(text[end - 1])) end--;
    return [start, end];
  };
  return { change: (text) => text.keep(...inner(text.text)), text: (text) => text.slice(...inner(text)) };
}

/** What finds a pattern in a text. */
type Matcher = Pick<Regex, "matches">;

/** Finds a text; an empty one before each character and behind the last. */
export function literal(pattern: string): Matcher {
  return {
    *matches(text) {
      if (pattern === "") {
        let at = 0;
        for (const character of text) {
          yield [at, at];
          at += character.length;
        }
        yield [at, at];
      } else {
        for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + pattern.length)) yield [at, at + pattern.length];
      }
    },
  };
}

export function replace(pattern: Matcher, content: string): Runner {
  const matches = (text: string): Iterable<readonly [start: number, end: number]> => (text === "" ? [] : pattern.matches(text));
  return {
    change: (text) => text.replaceMatches(matches(text.text), content),
    text: (text) => {
      const pieces: string[] = [];
      let done = 0;
      for (const [start, end] of matches(text)) {
        pieces.push(text.slice(done, start), content);
        done = end;
      }
      return done === 0 && pieces.length === 0 ? text : pieces.join("") + text.slice(done);
    },
  };
}

/** Text before a text that is not empty. It stands where the first character stands. */
export function prepend(before: string): Runner {
  return {
    change: (text) => {
      if (text.text === "") return;
      const first = String.fromCodePoint(text.text.codePointAt(0) as number);
      const changes: Change[] = Array.from(before + first, (character, i) => [character, i === 0 && before !== "" ? 0 : 1]);
      text.transform(changes, 0, 0, first.length);
    },
    text: (text) => (text === "" ? "" : before + text),
  };
}

export function precompiled(map: Charsmap): Runner {
  return {
    change: (text) => text.transform(charsmapChanges(map, text.text)),
    text: (text) => replaceByCharsmap(map, text),
  };
}

/** Blanks around what BERT takes for Chinese: the blocks of CJK ideographs that it knew, which leave some out. */
const CHINESE =
  /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/gu;

export function bert(spec: { clean_text: boolean; handle_chinese_chars: boolean; strip_accents: boolean | null; lowercase: boolean }): Runner {
  const steps: Runner[] = [];
  if (spec.clean_text) {
    const blanks = "\\u{9}\\u{a}\\u{d}\\u{a0}\\u{1680}\\u{2000}-\\u{200a}\\u{2028}\\u{2029}\\u{202f}\\u{205f}\\u{3000}";
    const isBlank = new RegExp(`[${blanks}]`, "u");
    steps.push(characters(new RegExp(`[${classOf(BERT_REMOVED)}${blanks}]`, "gu"), (character) => (isBlank.test(character) ? " " : "")));
  }
  if (spec.handle_chinese_chars) steps.push(characters(CHINESE, (character) => ` ${character} `));
  if (spec.strip_accents ?? spec.lowercase)
    steps.push(
      normalForms("NFD"),
      characters(new RegExp(`[${classOf(BERT_ACCENTS)}]`, "gu"), () => ""),
    );
  if (spec.lowercase) steps.push(lowercase());
  return sequence(steps);
}

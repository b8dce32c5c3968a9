/** The regular expressions find what Oniguruma finds (regex.fixture.py), refuse what they can't, and never take more than linear time. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { codePointPlaces } from "../../../tests/code-points.ts";
import { FormatError } from "../../errors.ts";
import { SPLIT_PATTERNS, splitWords } from "../byte-level/split-patterns.ts";
import { Place } from "../files/strict-json.ts";
import { compileRegex } from "./regex.ts";

interface Fixture {
  cases: [source: string, ...finds: [text: string, pieces: number[], matches: number[]][]][];
  classes: [name: string, count: number, checksum: number][];
}
const fixture = JSON.parse(readFileSync(new URL("regex.fixture.json", import.meta.url), "utf8")) as Fixture;
const where = new Place("tokenizer.json", "pattern");

function find(source: string, text: string): [pieces: number[], matches: number[]] {
  const points = codePointPlaces(text);
  const pieces: number[] = [];
  const matches: number[] = [];
  let last = 0;
  for (const [start, end] of compileRegex(source, where).matches(text)) {
    if (start > last) pieces.push(points[last], points[start]);
    if (end > start) {
      pieces.push(points[start], points[end]);
      matches.push(points[start], points[end]);
    }
    last = end;
  }
  if (last < text.length) pieces.push(points[last], points[text.length]);
  return [pieces, matches];
}

describe("compileRegex", () => {
  it("finds what Oniguruma finds", () => {
    for (const [source, ...finds] of fixture.cases) {
      for (const [text, pieces, matches] of finds) expect([source, text, ...find(source, text)]).toEqual([source, text, pieces, matches]);
    }
    expect(fixture.cases.length).toBeGreaterThan(450);
  });

  it("has Oniguruma's classes, to the character", () => {
    const all: string[] = [];
    for (let point = 0; point < 0x110000; point++) if (point < 0xd800 || point >= 0xe000) all.push(String.fromCodePoint(point));
    const text = all.join("");
    for (const [name, count, checksum] of fixture.classes) {
      let held = 0;
      let sum = 0;
      for (const [start] of compileRegex(name, where).matches(text)) {
        held++;
        sum = (sum * 31 + (text.codePointAt(start) as number)) % 1000003;
      }
      expect([name, held, sum]).toEqual([name, count, checksum]);
    }
  }, 60_000);

  it("cuts the words of the hand-written patterns", () => {
    const texts = fixture.cases.flatMap(([, ...finds]) => finds.map(([text]) => text));
    for (const pattern of SPLIT_PATTERNS) {
      for (const source of pattern.spellings) {
        const regex = compileRegex(source, where);
        for (const text of texts) expect(Array.from(regex.matches(text), ([start, end]) => text.slice(start, end))).toEqual(splitWords(pattern, text));
      }
    }
  });

  it("reads brackets of a million characters", () => {
    expect([...compileRegex(`[${"ab".repeat(500_000)}]+`, where).matches("xabx")]).toEqual([[1, 3]]);
  });

  it("takes a lone surrogate as one character", () => {
    expect([...compileRegex(".", where).matches("\ud83dx\ude00😀")]).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
      [3, 5],
    ]);
  });

  it("refuses what it does not know by name and place", () => {
    const cases: [source: string, message: RegExp][] = [
      ["(a)\\1", /character 4: "\\1", which is not supported/],
      ["a(?<!b+)", /look-behind of many widths/],
      ["\\p{Klingon}", /character 1: class "Klingon"/],
      ["[[:foo:]]", /class "foo"/],
      ["ab(c", /character 3: a group without end.*got "\(c"/],
      ["ab)", /character 3: unmatched close parenthesis/],
      ["[a-", /character 1: brackets without end/],
      ["[z-a]", /a range that ends before it begins/],
      ["[\\d-z]", /a class at the start of a range/],
      ["[a-\\d]", /a class at the end of a range/],
      ["*a", /character 1: nothing to repeat/],
      ["a|+", /character 3: nothing to repeat/],
      ["(?=a)*", /a repeated assertion/],
      ["a{100001}", /repeated more than 100000 times/],
      ["(?:a{1000}){1000}", /too large a regular expression/],
      ["(?:(?:(?:){100000}){100000}){100000}", /too large a regular expression/],
      ["(?:".repeat(300) + ")".repeat(300), /groups deeper than 200/],
      [`${"[".repeat(300)}a${"]".repeat(300)}`, /brackets deeper than 200/],
      ["(?s)a", /"\(\?s\)", a group that is not supported/],
      ["(?~a)", /a group that is not supported/],
      ["(*FAIL)", /a callout/],
      ["\\K", /"\\K", which is not supported/],
      ["\\xe9", /"\\x", which is not supported/],
      ["\\ud800", /no Unicode character/],
      ["a\\", /a backslash at the end/],
      ["(?i)stress", /"ss" without regard to case/],
      ["(?i)ß", /"ss" without regard to case/],
      ["(?i)[ß-ÿ]", /hold a character which is also several/],
    ];
    for (const [source, message] of cases) {
      expect(() => compileRegex(source, where), source).toThrow(FormatError);
      expect(() => compileRegex(source, where), source).toThrow(message);
    }
  });

  it("takes time linear in the text", () => {
    const letters = "a".repeat(200_000);
    const hostile = ["(a*)*b", "(?:a|a)*b", "(?:a|aa)+b|a", "(?>a*)b", "a++b", "(?=a*b)a", "(?!a*b)a", "(?:(?:a*)*)*b|a", ".*?.*?.*?b", "(?<=a(?:a|a)a)b"];
    const start = performance.now();
    for (const source of hostile) {
      const found = [...compileRegex(source, where).matches(letters)].length;
      expect([source, found]).toEqual([source, source.endsWith("|a") || source === "(?!a*b)a" ? letters.length : 0]);
    }
    // A second or so; quadratic time would be hours.
    expect(performance.now() - start).toBeLessThan(60_000);
  }, 120_000);
});

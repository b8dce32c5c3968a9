/** Pre-tokenizers cut as those of Hugging Face tokenizers (pre-tokenizers.fixture.py), are read strictly, and take linear time. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { codePointPlaces } from "../../../tests/code-points.ts";
import { FormatError } from "../../errors.ts";
import { Place } from "../files/strict-json.ts";
import { AlignedText } from "../normalizers/aligned-text.ts";
import { type PreTokenizerSpec, preTokenize, readPreTokenizer } from "./pre-tokenizers.ts";

interface Fixture {
  specs: unknown[];
  texts: string[];
  cases: [spec: number, text: number, pieces: [text: string, start: number, end: number][], characters: number[]][];
}
const fixture = JSON.parse(readFileSync(new URL("pre-tokenizers.fixture.json", import.meta.url), "utf8")) as Fixture;
const where = new Place("tokenizer.json", "pre_tokenizer");
const read = (value: unknown) => readPreTokenizer(value, where) as PreTokenizerSpec;

describe("preTokenize", () => {
  it("gives the pieces and places of Hugging Face tokenizers", () => {
    for (const [s, t, pieces, characters] of fixture.cases) {
      const text = fixture.texts[t];
      const points = codePointPlaces(text);
      const found = preTokenize(read(fixture.specs[s]), new AlignedText(text));
      const place = (piece: AlignedText, start: number, end: number) => piece.place(start, end).map((unit) => points[unit]);
      const each = found.flatMap((piece) => {
        let at = 0;
        return Array.from(piece.text).flatMap((character) => {
          at += character.length;
          return place(piece, at - character.length, at);
        });
      });
      const whole = found.map((piece) => [piece.text, ...place(piece, 0, piece.text.length)]);
      expect([fixture.specs[s], text, whole, each]).toEqual([fixture.specs[s], text, pieces, characters]);
    }
    expect(fixture.cases.length).toBeGreaterThan(1000);
  });

  it("prepends for the scheme first where the input begins, and only there", () => {
    const spec = read({ type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true });
    const texts = (text: AlignedText) => preTokenize(spec, text).map((piece) => piece.text);
    expect(texts(new AlignedText("a b"))).toEqual(["▁a", "▁b"]);
    expect(texts(new AlignedText("a b", 4))).toEqual(["a", "▁b"]);
  });

  it("is no pre-tokenizer without one", () => {
    expect(preTokenize(null, new AlignedText("a b")).map((piece) => piece.text)).toEqual(["a b"]);
    expect(preTokenize(null, new AlignedText(""))).toEqual([]);
  });

  it("takes time linear in the text", () => {
    const start = performance.now();
    for (const spec of fixture.specs) {
      for (const letter of ["a", " ", "!"]) preTokenize(read(spec), new AlignedText(letter.repeat(50_000)));
    }
    expect(performance.now() - start).toBeLessThan(60_000);
  }, 120_000);
});

describe("readPreTokenizer", () => {
  it("gives back what it reads", () => {
    for (const spec of fixture.specs) expect(read(spec)).toEqual(spec);
    expect(readPreTokenizer(null, where)).toBeNull();
    expect(readPreTokenizer(undefined, where)).toBeNull();
  });

  it("fills in the defaults of Hugging Face tokenizers", () => {
    expect(read({ type: "ByteLevel", add_prefix_space: true, trim_offsets: false })).toEqual({
      type: "ByteLevel",
      add_prefix_space: true,
      trim_offsets: false,
      use_regex: true,
    });
    const metaspace = { type: "Metaspace", replacement: "_", prepend_scheme: "always", split: true };
    expect(read({ type: "Metaspace", replacement: "_", add_prefix_space: true, str_rep: "_" })).toEqual(metaspace);
    expect(read({ type: "Metaspace", replacement: "_", add_prefix_space: null, split: null })).toEqual(metaspace);
    expect(read({ type: "Metaspace", replacement: "_", add_prefix_space: false, prepend_scheme: "never" })).toEqual({ ...metaspace, prepend_scheme: "never" });
    expect(read({ type: "Punctuation" })).toEqual({ type: "Punctuation", behavior: "Isolated" });
    expect(read({ type: "FixedLength" })).toEqual({ type: "FixedLength", length: 5 });
  });

  it("refuses what it does not know by name and place", () => {
    const split = { type: "Split", pattern: { String: "a" }, behavior: "Removed", invert: false };
    let deep: unknown = { type: "Whitespace" };
    for (let i = 0; i < 9; i++) deep = { type: "Sequence", pretokenizers: [deep] };
    const cases: [value: unknown, message: RegExp][] = [
      ["Whitespace", /pre_tokenizer: wrong type, expected an object/],
      [{ type: "Surprise" }, /pre_tokenizer\.type: unknown type.*got "Surprise"/],
      [{ type: "Whitespace", surprise: 1 }, /unknown key "surprise"/],
      [{ type: "ByteLevel", trim_offsets: true }, /add_prefix_space: wrong type, expected true or false, got nothing/],
      [{ type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: null }, /use_regex: wrong type/],
      [{ type: "Metaspace" }, /replacement: wrong type/],
      [{ type: "Metaspace", replacement: "__" }, /replacement: wrong length, expected one character/],
      [{ type: "Metaspace", replacement: "_", prepend_scheme: "sometimes" }, /prepend_scheme: unknown prepend_scheme/],
      [{ type: "Metaspace", replacement: "_", add_prefix_space: false }, /prepend_scheme: differs from add_prefix_space/],
      [{ type: "Digits" }, /individual_digits: wrong type/],
      [{ type: "Punctuation", behavior: "removed" }, /behavior: unknown behavior/],
      [{ type: "CharDelimiterSplit", delimiter: "" }, /delimiter: wrong length/],
      [{ type: "FixedLength", length: 0 }, /length: bad length/],
      [{ ...split, invert: undefined }, /invert: wrong type/],
      [{ ...split, pattern: "a" }, /pattern: wrong type/],
      [{ ...split, pattern: {} }, /pattern: bad pattern/],
      [{ ...split, pattern: { Regexp: "a" } }, /pattern: unknown key "Regexp"/],
      [{ ...split, pattern: { Regex: "a(" } }, /pattern\.Regex: regular expression, character 2: a group without end/],
      [{ type: "Sequence" }, /pretokenizers: wrong type, expected an array/],
      [{ type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: 1 }] }, /pretokenizers\[0\]\.individual_digits/],
      [{ type: "Sequence", pretokenizers: [null] }, /pretokenizers\[0\]: wrong type/],
      [deep, /sequences too deep, expected at most 8/],
    ];
    for (const [value, message] of cases) {
      expect(() => read(value), JSON.stringify(value)).toThrow(FormatError);
      expect(() => read(value), JSON.stringify(value)).toThrow(message);
    }
  });
});

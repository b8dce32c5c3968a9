/** Normalizers against Hugging Face's: texts and places exactly; and files that are damaged. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../errors.ts";
import { Place } from "../files/strict-json.ts";
import { AlignedText } from "./aligned-text.ts";
import { type NormalizerSpec, normalize, normalizeString, readNormalizer } from "./normalizers.ts";

type Result = readonly [text: string, places: readonly number[]];

/** Texts after each normalizer; null where a text is unchanged. */
const fixture = JSON.parse(readFileSync(new URL("normalizers.fixture.json", import.meta.url), "utf8")) as {
  texts: string[];
  cases: { normalizer: unknown; results: (Result | null)[] }[];
};

const place = new Place("tokenizer.json", "normalizer");
const read = (value: unknown): NormalizerSpec => readNormalizer(value, place) as NormalizerSpec;

/** The text and start and end of each character's place. */
function resultOf(text: AlignedText): Result {
  const places: number[] = [];
  let at = 0;
  for (const character of text.text) {
    places.push(...text.place(at, at + character.length));
    at += character.length;
  }
  return [text.text, places];
}

const nameOf = (value: unknown): string => JSON.stringify(value).replace(/"precompiled_charsmap":"[^"]+"/g, "…");
const charsmap = fixture.cases.map((one) => one.normalizer as { type: string; precompiled_charsmap: string }).find((one) => one.type === "Precompiled");

describe("normalizers do what Hugging Face's do", () => {
  it.each(fixture.cases.map((one) => [nameOf(one.normalizer), one] as const))("%s", (_name, { normalizer, results }) => {
    const spec = read(normalizer);
    expect(spec).toEqual(normalizer);
    for (const [i, text] of fixture.texts.entries()) {
      const wanted = results[i] ?? resultOf(new AlignedText(text));
      const aligned = new AlignedText(text);
      normalize(spec, aligned);
      expect([text, ...resultOf(aligned)]).toEqual([text, ...wanted]);
      expect([text, normalizeString(spec, text)]).toEqual([text, wanted[0]]);
    }
  });

  it("places in a part of a text are those in the whole", () => {
    const whole = new AlignedText("ab  CÉ😀");
    const part = whole.slice(2, 8);
    normalize(
      read({ type: "Sequence", normalizers: [{ type: "Strip", strip_left: true, strip_right: false }, { type: "NFD" }, { type: "Prepend", prepend: "" }] }),
      part,
    );
    // The empty prefix gives the first character the place before the part, as Hugging Face's does.
    expect(resultOf(part)).toEqual(["CE\u0301😀", [2, 2, 5, 6, 5, 6, 6, 8]]);
    expect(resultOf(part.slice(1, 3))).toEqual(["E\u0301", [5, 6, 5, 6]]);
    normalize(read({ type: "Lowercase" }), whole);
    const end = whole.slice(4, 6);
    expect(resultOf(end)).toEqual(["cé", [4, 5, 5, 6]]);
    normalize(read({ type: "Prepend", prepend: "" }), end);
    expect(resultOf(end)).toEqual(["cé", [4, 4, 5, 6]]);
  });

  it("half a surrogate pair stays, and is U+FFFD as bytes", () => {
    for (const type of ["NFC", "NFKD", "Lowercase", "StripAccents", "Nmt"]) expect(normalizeString(read({ type }), "a\ud800b")).toBe("a\ud800b");
    expect(normalizeString(read({ type: "ByteLevel" }), "\udc00")).toBe(normalizeString(read({ type: "ByteLevel" }), "\ufffd"));
  });

  it("a cluster is found whole wherever a stretch of the segmenter ends", () => {
    // 0x41 and a selector of two units: together the cluster begins with the key "A", and all of it becomes "a".
    for (let before = 250; before < 260; before++) {
      const row = "א".repeat(before);
      expect(normalizeString(read(charsmap), `${row}A\u{e0100}`)).toBe(`${row}a`);
    }
  });

  it("long rows take linear time", () => {
    const length = 400_000;
    const rows = ["a", " ", "\u0301\u0327", "🇩"].map((row) => row.repeat(length / row.length));
    const simple = ["NFC", "NFKD", "StripAccents", "Nmt", "Strip", "Precompiled", "Replace", "Prepend"];
    const specs = fixture.cases.map((one) => read(one.normalizer)).filter((spec) => simple.includes(spec.type));
    const slow: string[] = [];
    for (const spec of specs) {
      for (const row of rows) {
        const before = performance.now();
        const aligned = new AlignedText(row);
        normalize(spec, aligned);
        // A few tenths of a second; many seconds where rows are gone through again and again.
        if (performance.now() - before > 5_000) slow.push(`${nameOf(spec)} ${row.slice(0, 2)}`);
        expect(normalizeString(spec, row) === aligned.text).toBe(true);
      }
    }
    expect(slow).toEqual([]);
  }, 120_000);
});

describe("readNormalizer refuses", () => {
  const nested = (depth: number): unknown => (depth === 0 ? { type: "NFC" } : { type: "Sequence", normalizers: [nested(depth - 1)] });
  it.each([
    ["an unknown type", { type: "Bert" }, 'normalizer.type: unknown normalizer, expected NFC, NFD.*got "Bert"'],
    ["a type from Object", { type: "constructor" }, "unknown normalizer"],
    ["no type", { strip_left: true, strip_right: true }, "normalizer.type: wrong type, expected a string, got nothing"],
    ["an unknown key", { type: "NFC", form: 1 }, 'unknown key "form"'],
    ["a missing key", { type: "Strip", strip_left: true }, "normalizer.strip_right: wrong type, expected true or false, got nothing"],
    ["a pattern of two kinds", { type: "Replace", pattern: { String: "a", Regex: "a" }, content: "" }, "normalizer.pattern: unclear pattern"],
    ["a pattern of none", { type: "Replace", pattern: {}, content: "" }, "unclear pattern"],
    [
      "a bad strip_accents",
      { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: 1, lowercase: true },
      "strip_accents: wrong type",
    ],
    ["nothing in a sequence", { type: "Sequence", normalizers: [null] }, String.raw`normalizer.normalizers\[0\]: wrong type, expected an object, got null`],
    ["sequences nested too deep", nested(9), "sequences nested too deep"],
  ])("%s", (_name, value, message) => {
    expect(() => readNormalizer(value, place)).toThrow(FormatError);
    expect(() => readNormalizer(value, place)).toThrow(new RegExp(message));
  });

  it("and takes what may be missing", () => {
    expect(readNormalizer(null, place)).toBeNull();
    expect(read({ type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, lowercase: true })).toHaveProperty("strip_accents", null);
    expect(read(nested(8))).toEqual(nested(8));
  });
});

describe("a damaged charsmap", () => {
  const good = Buffer.from(charsmap?.precompiled_charsmap ?? "", "base64");
  const trieBytes = good.readUInt32LE(0);
  const readMap = (bytes: Uint8Array): unknown => read({ type: "Precompiled", precompiled_charsmap: Buffer.from(bytes).toString("base64") });
  const unit = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(good);
    bytes.writeUInt32LE(value >>> 0, 4 + 4 * at);
    return bytes;
  };

  it.each([
    ["nothing", "", "not base64"],
    ["not base64", "????", "not base64"],
    ["base64 of a bad length", "abcde", "not base64"],
    ["too short", Buffer.from([1, 2]).toString("base64"), "bad size of the trie"],
    ["cut off in the trie", good.subarray(0, trieBytes).toString("base64"), "bad size of the trie"],
    ["cut off in the replacements", good.subarray(0, 4 + trieBytes).toString("base64"), "bad size of the trie"],
    ["a trie of nothing", Buffer.from([0, 0, 0, 0, 65]).toString("base64"), "bad size"],
    ["replacements that are not UTF-8", Buffer.concat([good, Buffer.from([0xff])]).toString("base64"), "expected UTF-8"],
  ])("%s", (_name, precompiled_charsmap, message) => {
    expect(() => read({ type: "Precompiled", precompiled_charsmap })).toThrow(FormatError);
    expect(() => read({ type: "Precompiled", precompiled_charsmap })).toThrow(new RegExp(`normalizer.precompiled_charsmap: .*${message}`));
  });

  it("children outside the trie", () => {
    expect(() => readMap(unit(0, (2 ** 21 - 1) << 10))).toThrow(/unit 0: children outside the trie, expected a place below/);
  });

  it("a replacement that begins inside a character", () => {
    const leaves = Array.from({ length: trieBytes / 4 }, (_, i) => [i, good.readUInt32LE(4 + 4 * i)]).filter(([, value]) => value >= 2 ** 31);
    const wide = leaves.find(([, value]) => good[4 + trieBytes + value - 2 ** 31] >= 0xc0) ?? [0, 0];
    expect(() => readMap(unit(wide[0], wide[1] + 1))).toThrow(/unit [0-9]+: bad place of a replacement, expected the start of a character/);
  });

  it("a node below itself", () => {
    // Unit 0's children begin at 256; that for byte 0 has children that begin at 256 as well.
    const trie = new Uint32Array(512);
    trie[0] = 256 << 10;
    trie[257] = (1 << 10) | 1;
    const bytes = Buffer.alloc(4 + 4 * trie.length + 1);
    bytes.writeUInt32LE(4 * trie.length, 0);
    for (const [i, value] of trie.entries()) bytes.writeUInt32LE(value, 4 + 4 * i);
    expect(() => readMap(bytes)).toThrow(/a cycle in the trie, expected branches that end/);
  });

  it("any four bytes may be wrong: an error of the file or a text, never a hang", () => {
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let refused = 0;
    for (let i = 0; i < 500; i++) {
      const bytes = unit(random(trieBytes / 4), random(2 ** 32) >>> random(20));
      let spec: NormalizerSpec;
      try {
        spec = readMap(bytes) as NormalizerSpec;
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
        refused++;
        continue;
      }
      for (const text of fixture.texts) expect(typeof normalizeString(spec, text)).toBe("string");
    }
    expect(refused).toBeGreaterThan(0);
    expect(refused).toBeLessThan(500);
  });
});

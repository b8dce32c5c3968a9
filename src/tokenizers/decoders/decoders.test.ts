/** Decoded text equals Hugging Face's, whole and as a stream; wrong files are refused. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../errors.ts";
import { Place } from "../files/strict-json.ts";
import { createTokenStream } from "./decoder-stream.ts";
import { decodeTokens, readDecoder, writeDecoder } from "./decoders.ts";

type Case = { decoder: unknown; rows: (readonly [tokens: string[], text: string | null])[] };
const cases = JSON.parse(readFileSync(new URL("../fixtures/decoders.json", import.meta.url), "utf8")) as Case[];
const place = new Place("tokenizer.json").at("decoder");

describe.each(cases.map((entry) => ({ ...entry, name: JSON.stringify(entry.decoder) })))("$name", ({ decoder, rows }) => {
  const spec = readDecoder(decoder, place);

  it("gives the text of Hugging Face tokenizers", () => {
    // Where the package panics (null) any text will do.
    for (const [tokens, text] of rows) expect(decodeTokens(spec, tokens), JSON.stringify(tokens)).toBe(text ?? decodeTokens(spec, tokens));
  });

  it("gives it in parts as tokens come", () => {
    for (const [tokens, text] of rows) {
      const stream = createTokenStream(spec);
      expect(tokens.map((token) => stream.push(token)).join("") + stream.end(), JSON.stringify(tokens)).toBe(text ?? decodeTokens(spec, tokens));
    }
  });

  it("is written as it was read", () => expect(JSON.parse(JSON.stringify(writeDecoder(spec)))).toEqual(decoder));
});

describe("a stream", () => {
  const pushes = (decoder: unknown, tokens: string[]): string[] => {
    const stream = createTokenStream(readDecoder(decoder, place));
    return [...tokens.map((token) => stream.push(token)), stream.end()];
  };
  const llama = {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  };

  it("keeps back no more than may change", () => {
    expect(pushes(llama, ["▁", "▁the", "<0xE8>", "<0xAA>", "<0x9E>", "▁sea"])).toEqual(["", " the", "", "", "", "語 sea", ""]);
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
    expect(pushes(byteLevel, ["Ġthe", "è", "ª", "ŀ", "ðŁ"])).toEqual([" the", "", "", "語", "", "\ufffd"]);
    expect(pushes({ type: "BPEDecoder", suffix: "</w>" }, ["a</w>", "b</w>"])).toEqual(["", "a ", "b"]);
    expect(pushes({ type: "Strip", content: "x", start: 0, stop: 2 }, ["axxx"])).toEqual(["ax", ""]);
    const fused = [{ type: "Fuse" }, { type: "Strip", content: "x", start: 1, stop: 2 }, { type: "Replace", pattern: { String: "ab" }, content: "-" }];
    expect(pushes({ type: "Sequence", decoders: fused }, ["x", "xa", "bxx", "x", "c", "x"])).toEqual(["", "x", "-", "x", "xxc", "", ""]);
  });

  it("is as fast as the text is long", () => {
    const stream = createTokenStream(readDecoder(llama, place));
    let length = 0;
    for (let i = 0; i < 300_000; i++) length += stream.push(i % 3 === 0 ? "<0x41>" : "▁the").length;
    expect(length + stream.end().length).toBe(300_000 / 3 + 800_000);
  });
});

describe("wrong files", () => {
  const nested = (depth: number): unknown => (depth === 0 ? { type: "Fuse" } : { type: "Sequence", decoders: [nested(depth - 1)] });
  const wrong: [string, unknown, RegExp][] = [
    ["unknown type", { type: "Other" }, /decoder\.type: unknown decoder, expected ByteLevel, WordPiece, .* or Sequence, got "Other"/],
    ["a name of every object", { type: "toString" }, /unknown decoder/],
    ["no type", { suffix: "</w>" }, /decoder\.type: wrong type, expected a string, got nothing/],
    ["no object", "Fuse", /decoder: wrong type/],
    ["unknown key", { type: "Fuse", x: 1 }, /unknown key "x"/],
    ["missing key", { type: "WordPiece", prefix: "##" }, /decoder\.cleanup: wrong type, expected true or false, got nothing/],
    ["long content", { type: "Strip", content: "ab", start: 0, stop: 0 }, /content: wrong length, expected one character, got "ab"/],
    ["negative start", { type: "Strip", content: "a", start: -1, stop: 0 }, /start: bad number/],
    ["two patterns", { type: "Replace", pattern: { String: "a", Regex: "b" }, content: "" }, /pattern: bad pattern/],
    ["contradiction", { type: "Metaspace", replacement: "▁", add_prefix_space: false, prepend_scheme: "always" }, /add_prefix_space: contradiction/],
    ["unknown scheme", { type: "Metaspace", replacement: "▁", prepend_scheme: "last" }, /prepend_scheme: unknown word, expected always or first or never/],
    ["inside a sequence", { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "X" }] }, /decoder\.decoders\[1\]\.type: unknown decoder/],
    ["too deep", nested(9), /sequences nested too deep, expected at most 8 levels/],
  ];
  it.each(wrong)("%s", (_, value, message) => {
    expect(() => readDecoder(value, place)).toThrow(FormatError);
    expect(() => readDecoder(value, place)).toThrow(message);
  });

  it("what may be missing is missing", () => {
    expect(readDecoder(nested(8), place)).toEqual(nested(8));
    expect(readDecoder({ type: "Metaspace", replacement: "▁", str_rep: "▁", add_prefix_space: true }, place)).toMatchObject({
      prepend_scheme: "always",
      split: true,
    });
    expect(readDecoder({ type: "ByteLevel", add_prefix_space: true, trim_offsets: true }, place)).toMatchObject({ use_regex: true });
  });
});

/** Tokenizer files that are cut off, wrong or hostile end in a typed error that says where; nothing crashes or hangs. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, FormatError } from "../../errors.ts";
import { createTokenizer, readTiktoken, readTokenizerJson, writeTokenizerJson } from "../index.ts";
import { tokenizerFiles } from "./save.ts";
import { readVocabAndMerges } from "./vocab-merges.ts";

const reference = JSON.parse(readFileSync(new URL("../fixtures/reference.json", import.meta.url), "utf8")) as {
  trained: { file: string }[];
  ranks: { file: string }[];
};
const good = reference.trained[2].file;
const ranks = reference.ranks[0].file;

// biome-ignore lint/suspicious/noExplicitAny: the tests put wrong things into every place of the document.
type Document = any;
function changed(change: (document: Document) => void): string {
  const document: Document = JSON.parse(good);
  change(document);
  return JSON.stringify(document);
}

describe("tokenizer.json", () => {
  const cases: [string, (document: Document) => void, RegExp][] = [
    ["unknown model", (d) => (d.model.type = "Trigram"), /model\.type: unknown model.*"Trigram"/],
    ["another model's keys", (d) => (d.model.type = "Unigram"), /model: unknown key "dropout", expected only type, unk_id, vocab/],
    ["unknown normalizer", (d) => (d.normalizer = { type: "Postcompiled" }), /normalizer\.type.*"Postcompiled"/],
    ["normalizer without its table", (d) => (d.normalizer = { type: "Precompiled" }), /normalizer\.precompiled_charsmap: wrong type/],
    ["unknown pre_tokenizer", (d) => (d.pre_tokenizer = { type: "Pataspace" }), /pre_tokenizer\.type.*"Pataspace"/],
    ["split pattern that can't be run", (d) => (d.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a)\\1"), /pretokenizers\[0\]\.pattern\.Regex/],
    ["unknown post_processor", (d) => (d.post_processor = { type: "X" }), /post_processor\.type/],
    ["unknown decoder", (d) => (d.decoder = { type: "WordPeace" }), /decoder\.type: unknown decoder, expected .*WordPiece.*, got "WordPeace"/],
    ["decoder without its prefix", (d) => (d.decoder = { type: "WordPiece" }), /decoder\.prefix: wrong type, expected a string, got nothing/],
    ["unknown key", (d) => (d.model.surprise = 1), /model: unknown key "surprise"/],
    ["unknown top key", (d) => (d.surprise = 1), /unknown key "surprise"/],
    ["version", (d) => (d.version = "2.0"), /version: unknown version.*"2\.0"/],
    ["absurd id", (d) => (d.model.vocab.zzz = 16_000_000), /absurd id.*16000000/],
    ["negative id", (d) => (d.model.vocab.zzz = -1), /bad id.*-1/],
    ["fractional id", (d) => (d.model.vocab.zzz = 1.5), /bad id.*1\.5/],
    ["id as text", (d) => (d.model.vocab.zzz = "7"), /bad id/],
    ["id twice", (d) => (d.model.vocab.zzz = 300), /id 300 given twice/],
    ["outside the byte alphabet", (d) => (d.model.vocab["語"] = 500), /outside the byte alphabet/],
    ["merge of an unknown token", (d) => d.model.merges.push(["zz", "q"]), /merges\[\d+\]: merge of an unknown token.*"zz"/],
    ["merge without a result", (d) => d.model.merges.push(["!", "!"]), /merge without a result.*"!!"/],
    ["merge of three", (d) => d.model.merges.push(["a", "b", "c"]), /bad merge/],
    ["merges missing", (d) => delete d.model.merges, /model\.merges: wrong type, expected an array, got nothing/],
    ["byte fallback", (d) => (d.model.byte_fallback = "yes"), /model\.byte_fallback: wrong type, expected true or false/],
    ["dropout", (d) => (d.model.dropout = 1.1), /model\.dropout: bad dropout, expected a number from 0 to 1, got 1\.1/],
    ["suffix", (d) => (d.model.end_of_word_suffix = 3), /model\.end_of_word_suffix: wrong type, expected a string, got 3/],
    ["added token twice", (d) => d.added_tokens.push(d.added_tokens[0]), /given twice/],
    ["added token with another id", (d) => (d.added_tokens[0].id = 5), /two ids|two tokens/],
    ["empty added token", (d) => (d.added_tokens[0].content = ""), /empty token/],
    [
      "template with a foreign id",
      (d) =>
        (d.post_processor = {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
          pair: [],
          special_tokens: { "<s>": { id: "<s>", ids: [90_000], tokens: ["<s>"] } },
        }),
      /id without a token.*90000/,
    ],
  ];
  for (const [name, change, message] of cases) {
    it(name, () => {
      const read = () => readTokenizerJson(changed(change), "here/tokenizer.json");
      expect(read).toThrow(FormatError);
      expect(read).toThrow(message);
      expect(read).toThrow(/^here\/tokenizer\.json/);
    });
  }

  it("deep nesting", () => {
    const nested = `${'{"type":"Sequence","normalizers":['.repeat(5000)}{"type":"NFC"}${"]}".repeat(5000)}`;
    const file = changed((d) => (d.normalizer = "HERE")).replace('"HERE"', nested);
    expect(() => readTokenizerJson(file, "f")).toThrow(/nested too deep/);
  });

  it("cut off anywhere", () => {
    for (let i = 0; i < 60; i++) {
      const cut = good.trimEnd().slice(0, Math.floor((i / 60) * (good.trimEnd().length - 1)));
      expect(() => readTokenizerJson(cut, "f")).toThrow(FormatError);
    }
    expect(() => readTokenizerJson('{\n  "version": "1.0",\n  "mod', "here/tokenizer.json")).toThrow(
      'here/tokenizer.json, line 3, column 7: bad string, expected a closing ", got the end of the file. The file is cut off',
    );
  });

  it("names that objects have by themselves are only tokens", () => {
    const file = good.replace('"vocab":{', '"vocab":{"__proto__":500,"constructor":501,');
    expect(file).not.toBe(good);
    const tokenizer = createTokenizer(readTokenizerJson(file, "f"));
    expect(tokenizer.tokenToId("constructor")).toBe(501);
    expect(tokenizer.idToToken(500)).toBe("__proto__");
    expect(writeTokenizerJson(tokenizer.spec)).toContain('"__proto__":500');
  });
});

describe("rank files", () => {
  const cases: [string, string, RegExp][] = [
    ["empty", "", /no tokens/],
    ["not base64", "!!!! 0\n", /line 1: bad line/],
    ["no rank", "YQ==\n", /line 1: bad line/],
    ["negative rank", "YQ== -1\n", /line 1: bad line/],
    ["absurd rank", "YQ== 99999999\n", /line 1: absurd rank/],
    ["rank twice", "YQ== 0\nYg== 0\n", /line 2: rank 0 given twice/],
    ["token twice", "YQ== 0\nYQ== 1\n", /line 2: token given twice/],
  ];
  for (const [name, text, message] of cases) {
    it(name, () => expect(() => readTiktoken(text, "f", { pattern: "gpt2" })).toThrow(message));
  }

  it("wants a pattern, and ids for special tokens that are free", () => {
    expect(() => readTiktoken(ranks, "mine.tiktoken")).toThrow(ConfigError);
    expect(() => readTiktoken(ranks, "f", { pattern: "gpt2", specialTokens: { "<s>": 5 } })).toThrow(/id 5 is taken/);
  });
});

it("vocab.json and merges.txt that do not fit together", () => {
  const files = tokenizerFiles(readTokenizerJson(reference.trained[0].file, "f"));
  const read = (vocab: string, merges: string) => () => readVocabAndMerges({ text: vocab, file: "vocab.json" }, { text: merges, file: "merges.txt" });
  expect(read(String(files["vocab.json"]), "#version: 0.2\nzz q\n")).toThrow(/merges\.txt.*unknown token/);
  expect(read(String(files["vocab.json"]), "a b c\n")).toThrow(/bad merge/);
  expect(read("[]", "")).toThrow(/vocab\.json.*an object/);
  expect(read(String(files["vocab.json"]).slice(0, 100), "")).toThrow(/cut off/);
});

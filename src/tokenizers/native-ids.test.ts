/** The native part gives the ids of the TypeScript twin: whole tokenizers, and any mix of parts, on texts made to break them. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { whereNative } from "../../tests/where-native.ts";
import { DataError } from "../errors.ts";
import { createTokenizer, readTokenizerJson, type TokenizerSpec } from "./index.ts";
import { sentencePieceTokenizer } from "./sentencepiece/sentencepiece-tokenizer.ts";

const read = (name: string) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
const whole: { texts: string[]; tokenizers: Record<string, { file: string }> } = read("pipeline-tokenizer.fixture.json");
const models: Record<string, { type: string; vocab: Record<string, number> }> = read("fixtures/small-models.json");
const pieces: { models: { name: string; model: string }[] } = read("sentencepiece/sentencepiece.fixture.json");
const normalizers: string[] = read("fixtures/reference.json").trained.map(({ file }: { file: string }) => file);

const PARTS =
  `the|whale| |  |\n|\t|a|The|WHALE|s|ing|1|12345|½|é|e\u0301|\u0301|\u0323|Å|ﬁ|ß|İ|Σ|ς|語|株式会社|가|각|\u1100\u1161\u11a8|हिन्दी|مرحبا|שלום|привет|ё|🙂|👨\u200d👩\u200d👧|🇩🇪` +
  "|▁|▁▁|<s>|<unk>|</s>|[CLS]|[MASK]|<x>|<0x41>|<|.|,|...|'s|''|``|--|_|~|\0|\x01|\x7f|\u00a0|\u3000|\u200b|\u200d|\ufeff|\ufffd|\u0378|\u{10d50}|\u{1f130}|\u2028|\r\n|\u0600|\ud800|①|ｶﾞ|͏|่";
const parts = PARTS.split("|").map((part) => part || "|");

/** Strings of parts, the same on every run. */
function texts(count: number, longest: number): string[] {
  let state = 7;
  const next = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  return Array.from({ length: count }, () => Array.from({ length: next(longest) }, () => parts[next(parts.length)]).join(""));
}

function same(spec: TokenizerSpec, strings: readonly string[], engine: "native" | "reference" = "native"): void {
  const native = createTokenizer(spec);
  const twin = createTokenizer(spec, "reference");
  expect([native.engine, twin.engine]).toEqual([engine, "reference"]);
  for (const allowSpecial of [false, true]) {
    const found = native.encodeAll(strings, { allowSpecial });
    const wanted = strings.map((text) => twin.encode(text, { allowSpecial }).ids);
    const wrong = strings.findIndex((_, i) => String(found.ids.subarray(found.starts[i], found.starts[i + 1])) !== String(wanted[i]));
    if (wrong >= 0)
      expect([JSON.stringify(strings[wrong]), ...found.ids.subarray(found.starts[wrong], found.starts[wrong + 1])]).toEqual([0, ...wanted[wrong]]);
    // By one thread, as counts, and in one text.
    expect(native.encodeAll(strings, { allowSpecial, threads: 1 }).ids).toEqual(found.ids);
    expect(strings.slice(0, 20).map((text) => native.count(text, { allowSpecial }))).toEqual(wanted.slice(0, 20).map((ids) => ids.length));
  }
  const joined = strings.join("a ");
  expect(native.encode(joined).ids).toEqual(twin.encode(joined).ids);
  native.dispose();
}

const all = [...texts(600, 12), ...texts(40, 80), ...whole.texts];

whereNative("the native part of tokenizers", () => {
  describe.each(Object.entries(whole.tokenizers))("%s", (name, { file }) => {
    const spec = readTokenizerJson(file, "tokenizer.json");

    it("is the twin's, id for id", () => {
      // A regular expression of its own runs in TypeScript.
      same(spec, all, name === "clip" ? "reference" : "native");
    });

    it("has the twin's tokens, places and masks, made when they are read", () => {
      const [native, twin] = [createTokenizer(spec), createTokenizer(spec, "reference")];
      for (const text of whole.texts) {
        const { ids, tokens, offsets, typeIds, attentionMask, specialTokensMask, overflowing } = twin.encode(text, { allowSpecial: true });
        expect({ ...native.encode(text, { allowSpecial: true }) }).toEqual({ ids, tokens, offsets, typeIds, attentionMask, specialTokensMask, overflowing });
        expect(native.encode(text, { pair: "the sea" }).ids).toEqual(twin.encode(text, { pair: "the sea" }).ids);
      }
    });
  });

  describe("SentencePiece models", () => {
    it.each(pieces.models)("$name", ({ name, model }) => {
      const spec = sentencePieceTokenizer(Buffer.from(model, "base64"), name);
      const { kind } = (spec.model as { sentencePiece: { kind: string } }).sentencePiece;
      same(spec, all, kind === "unigram" || kind === "bpe" ? "native" : "reference");
    });
  });

  it("byte-level BPE with normalizers, added tokens and templates", () => {
    for (const file of normalizers) same(readTokenizerJson(file, "tokenizer.json"), all);
  });

  const NORMALIZERS: Record<string, unknown>[] = [
    ...["NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents"].map((type) => ({ type })),
    { type: "Strip", strip_left: true, strip_right: false },
    { type: "Strip", strip_left: false, strip_right: true },
    { type: "Replace", pattern: { String: "s" }, content: "the  " },
    { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
    { type: "Replace", pattern: { Regex: "\\s+" }, content: "▁" },
    { type: "Prepend", prepend: "▁" },
    { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    { type: "BertNormalizer", clean_text: false, handle_chinese_chars: false, strip_accents: true, lowercase: false },
  ];
  const METASPACES = ["always", "first", "never"].map((prepend_scheme) => ({ type: "Metaspace", replacement: "▁", prepend_scheme, split: true }));
  const CUTS: (Record<string, unknown> | null)[] = [
    null,
    ...["BertPreTokenizer", "Whitespace", "WhitespaceSplit"].map((type) => ({ type })),
    ...METASPACES,
    { ...METASPACES[0], split: false },
    { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, METASPACES[0]] },
    { type: "Digits", individual_digits: true },
    { type: "Digits", individual_digits: false },
    ...["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"].map((behavior) => ({ type: "Punctuation", behavior })),
    { type: "Split", pattern: { String: " " }, behavior: "MergedWithNext", invert: false },
    { type: "Split", pattern: { String: "the" }, behavior: "Removed", invert: true },
    { type: "CharDelimiterSplit", delimiter: "s" },
    { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, { type: "Punctuation", behavior: "Isolated" }, { type: "Whitespace" }] },
  ];
  const ADDED = [
    { id: 900, content: "<x>", special: true, single_word: false, lstrip: true, rstrip: true, normalized: false },
    { id: 901, content: "the", special: false, single_word: true, lstrip: false, rstrip: false, normalized: false },
    { id: 902, content: "Whale", special: false, single_word: false, lstrip: false, rstrip: false, normalized: true },
  ];

  describe.each(Object.entries(models))("any mix of parts before the model %s", (_, model) => {
    const strings = [...texts(50, 14), "a".repeat(300), "語".repeat(120)];
    const file = (normalizer: unknown, pre_tokenizer: unknown, added_tokens: unknown[]): string =>
      JSON.stringify({ version: "1.0", truncation: null, padding: null, added_tokens, normalizer, pre_tokenizer, post_processor: null, decoder: null, model });

    it.each(CUTS.map((cut) => [JSON.stringify(cut), cut]))("%s", (_, cut) => {
      const first = JSON.stringify(cut).includes('"first"');
      for (const [i, normalizer] of [null, ...NORMALIZERS].entries()) {
        const sequence = normalizer === null ? null : { type: "Sequence", normalizers: [normalizer, NORMALIZERS[(i * 4 + 2) % 7]] };
        const steps = i % 2 === 0 ? normalizer : sequence;
        const spec = readTokenizerJson(file(steps, cut, i % 3 === 0 ? ADDED : []), "tokenizer.json");
        // What stands first can't be told once a normalizer has moved it.
        if (!first) same(spec, strings);
        else expect(["native", "reference"]).toContain(createTokenizer(spec).engine);
        if (first && createTokenizer(spec).engine === "native") same(spec, strings);
      }
    });
  });

  it("text that no token stands for is refused in the twin's words", () => {
    const model = { type: "WordLevel", vocab: { the: 0 }, unk_token: "[UNK]" };
    const file = { version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: { type: "Whitespace" }, model };
    const tokenizer = createTokenizer(readTokenizerJson(JSON.stringify({ ...file, post_processor: null, decoder: null }), "tokenizer.json"));
    expect([tokenizer.engine, ...tokenizer.encode("the the").ids]).toEqual(["native", 0, 0]);
    for (const call of [() => tokenizer.encode("the sea"), () => tokenizer.count("sea"), () => tokenizer.encodeAll(["the", "sea"])]) {
      expect(call).toThrow(DataError);
      expect(call).toThrow(/WordLevel.tokenize: word outside the vocabulary/);
    }
  });

  it("text of one letter takes linear time", () => {
    const long = ["a", " ", "語", "\u0301", "▁", "é "].map((part) => part.repeat(300_000 / part.length));
    const tokenizers = Object.values(whole.tokenizers).map(({ file }) => createTokenizer(readTokenizerJson(file, "tokenizer.json")));
    for (const tokenizer of tokenizers.filter(({ engine }) => engine === "native")) {
      const start = performance.now();
      tokenizer.encodeAll(long);
      expect(performance.now() - start).toBeLessThan(20_000);
    }
  });
});

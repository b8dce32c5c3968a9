/** Tokenizers inside GGUF files: the same ids as the tokenizers that they were made from. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../errors.ts";
import type { GgufValue } from "../../formats/gguf/read.ts";
import { createTokenizer, readTokenizerJson, type Tokenizer, tokenizerFiles, trainBpe } from "../index.ts";
import { readSentencePiece } from "../sentencepiece/model-file.ts";
import { createSentencePiece } from "../sentencepiece/sentencepiece.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import { ggufTokenizerMetadata } from "./gguf-tokenizer-write.ts";

const hf = JSON.parse(readFileSync(new URL("../pipeline-tokenizer.fixture.json", import.meta.url), "utf8")) as {
  texts: string[];
  tokenizers: Record<string, { file: string; bare: number[][] }>;
};
const sentencePieces = JSON.parse(readFileSync(new URL("../sentencepiece/sentencepiece.fixture.json", import.meta.url), "utf8")) as {
  models: { name: string; model: string; bos: number }[];
};

const strings = (value: string[]): GgufValue => ({ kind: "array", of: "string", value });
const numbers = (value: number[]): GgufValue => ({ kind: "array", of: "i32", value: Int32Array.from(value) });
const floats = (value: Float32Array): GgufValue => ({ kind: "array", of: "f32", value });
const text = (value: string): GgufValue => ({ kind: "string", value });
const flag = (value: boolean): GgufValue => ({ kind: "bool", value });
const count = (value: number): GgufValue => ({ kind: "u32", value });

function open(fields: Record<string, GgufValue>): Tokenizer {
  return createTokenizer(ggufTokenizer(new Map(Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, value])), "m.gguf"));
}

/** As llama.cpp's converter writes a byte-level BPE. */
function byteLevelFields(file: string, pre: string): Record<string, GgufValue> {
  const spec = readTokenizerJson(file, "f");
  const { vocab, merges } = JSON.parse(file).model as { vocab: Record<string, number>; merges: [string, string][] };
  const special = new Set(spec.addedTokens.map(({ id }) => id));
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  for (const { id, content } of spec.addedTokens) tokens[id] = content;
  return {
    model: text("gpt2"),
    pre: text(pre),
    tokens: strings(tokens),
    token_type: numbers(tokens.map((_, id) => (special.has(id) ? 3 : 1))),
    merges: strings(merges.map((pair) => pair.join(" "))),
  };
}

describe("byte-level BPE", () => {
  test("smollm: digits one by one, then GPT-2's words", () => {
    const { file, bare } = hf.tokenizers.smollm;
    const tokenizer = open(byteLevelFields(file, "smollm"));
    for (const [i, line] of hf.texts.entries()) expect([...tokenizer.encode(line, { allowSpecial: true, addSpecialTokens: false }).ids], line).toEqual(bare[i]);
  });

  test.each(["gpt2", "cl100k", "qwen2", "o200k"] as const)("%s has the fast engine's ids", (pattern) => {
    const pre = { gpt2: "gpt-2", cl100k: "llama-bpe", qwen2: "qwen2", o200k: "gpt-4o" }[pattern];
    const trained = trainBpe(hf.texts.join("\n"), { vocabSize: 320, pattern, specialTokens: ["<|end|>"] });
    const { model } = trained.spec;
    if (model.kind !== "bpe" || model.merges === null) throw new Error("trainBpe gives a byte-level BPE");
    const tokens = Array.from({ length: trained.vocabSize }, (_, id) => trained.idToToken(id) as string);
    const merges: string[] = [];
    for (let i = 0; i < model.merges.length; i += 2) merges.push(`${tokens[model.merges[i]]} ${tokens[model.merges[i + 1]]}`);
    const fields = {
      model: text("gpt2"),
      pre: text(pre),
      tokens: strings(tokens),
      token_type: numbers(tokens.map((t) => (t === "<|end|>" ? 3 : 1))),
      merges: strings(merges),
    };
    const plain = open({ ...fields, add_bos_token: flag(false) });
    const begun = open({ ...fields, add_bos_token: flag(true), bos_token_id: count(trained.specialTokens.get("<|end|>") as number) });
    for (const line of hf.texts) {
      const { ids } = trained.encode(line, { allowSpecial: true });
      // Of Llama 3 a whole word may be a token that no merges lead to; in a trained vocabulary there are none such.
      expect([...plain.encode(line, { allowSpecial: true }).ids], line).toEqual([...ids]);
      expect([...begun.encode(line, { allowSpecial: true }).ids], line).toEqual([0, ...ids]);
      expect(plain.decode(ids)).toBe(trained.decode(ids));
    }
  });
});

describe("SentencePiece", () => {
  test("spaces that are a piece of the user's own, as Gemma has them", () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    // llama.cpp looks for such pieces in the text, so a file has them with spaces; "▁two" would win as a merge.
    const tokens = ["<unk>", "<bos>", "  ", "   ", "\n\n", ...bytes, "▁", "t", "w", "o", "tw", "two", "▁two", "a"];
    const fields = {
      model: text("llama"),
      tokens: strings(tokens),
      scores: floats(Float32Array.from(tokens, (_, id) => (id < 5 ? -1000 : -id))),
      token_type: numbers(tokens.map((token, id) => (token === "<unk>" ? 2 : token === "<bos>" ? 3 : id < 5 ? 4 : id < 261 ? 6 : 1))),
      bos_token_id: count(1),
      add_bos_token: flag(true),
      add_space_prefix: flag(false),
    };
    const id = (token: string): number => tokens.indexOf(token);
    const spec = ggufTokenizer(new Map(Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, value])), "m.gguf");
    const json = createTokenizer(readTokenizerJson(tokenizerFiles(spec)["tokenizer.json"] as string, "f"));
    for (const tokenizer of [createTokenizer(spec), createTokenizer(spec, "reference"), json]) {
      const found = (line: string) => [...tokenizer.encode(line, { addSpecialTokens: false }).ids];
      expect(found("  two")).toEqual([id("  "), id("two")]);
      expect(found("a   two two")).toEqual([id("a"), id("   "), id("two"), id("▁two")]);
      expect(found("a\n\na a")).toEqual([id("a"), id("\n\n"), id("a"), id("▁"), id("a")]);
      expect(tokenizer.decode(found("a  two"))).toBe("a  two");
    }
    const written = ggufTokenizerMetadata(spec, { vocabulary: tokens.length });
    expect(written["tokenizer.ggml.tokens"]).toEqual(fields.tokens);
  });

  test.each([
    ["bpe, bytes", "llama"],
    ["unigram, bytes", "t5"],
  ])("%s: the library's ids, and what stands around a text", (name, model) => {
    const found = sentencePieces.models.find((made) => made.name === name) as (typeof sentencePieces.models)[number];
    const spec = readSentencePiece(Uint8Array.from(Buffer.from(found.model, "base64")), "s.model");
    const own = createSentencePiece(spec);
    const { charsmap, addDummyPrefix, removeExtraWhitespaces } = spec.normalizer;
    const fields = {
      model: text(model),
      tokens: strings([...spec.pieces]),
      scores: floats(spec.scores),
      token_type: numbers([...spec.types]),
      bos_token_id: count(own.bosId as number),
      eos_token_id: count(own.eosId as number),
      add_space_prefix: flag(addDummyPrefix),
      remove_extra_whitespaces: flag(removeExtraWhitespaces),
      ...(charsmap === null ? {} : { precompiled_charsmap: { kind: "array", of: "u8", value: charsmap } as const }),
    };
    const tokenizer = open(fields);
    for (const line of hf.texts) {
      const ids = [...own.encode(line).ids];
      expect([...tokenizer.encode(line).ids], line).toEqual(model === "llama" ? [own.bosId, ...ids] : [...ids, own.eosId]);
      expect(tokenizer.decode(ids), line).toBe(own.decode(ids));
      expect([...tokenizer.encode(line, { pair: "b" }).typeIds].at(-2)).toBe(1);
    }
    expect([...open({ ...fields, add_bos_token: flag(false), add_eos_token: flag(false) }).encode("the whale").ids]).toEqual([...own.encode("the whale").ids]);
    expect([...tokenizer.encode("<s>", { addSpecialTokens: false }).ids]).not.toContain(own.bosId);
    expect([...tokenizer.encode("<s>", { addSpecialTokens: false, allowSpecial: true }).ids]).toEqual([own.bosId]);
  });
});

test("BERT's WordPiece, whose continuations lost their ##", () => {
  const { file, bare } = hf.tokenizers.bert;
  const { vocab } = JSON.parse(file).model as { vocab: Record<string, number> };
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  const control = (token: string) => /^\[.*\]$/.test(token) && token.length > 2;
  const tokenizer = open({
    model: text("bert"),
    tokens: strings(tokens.map((token) => (control(token) ? token : token.startsWith("##") ? token.slice(2) : `\u2581${token}`))),
    token_type: numbers(tokens.map((token) => (control(token) ? 3 : 1))),
    unknown_token_id: count(vocab["[UNK]"]),
    cls_token_id: count(vocab["[CLS]"]),
    seperator_token_id: count(vocab["[SEP]"]),
  });
  for (const [i, line] of hf.texts.entries()) {
    // The file's longest word has 40 characters, llama.cpp's 100.
    if (line.length > 100) continue;
    expect([...tokenizer.encode(line, { allowSpecial: true, addSpecialTokens: false }).ids], line).toEqual(bare[i]);
    expect([...tokenizer.encode(line, { allowSpecial: true }).ids]).toEqual([vocab["[CLS]"], ...bare[i], vocab["[SEP]"]]);
  }
});

const BPE = { model: text("gpt2"), tokens: strings(["a", "b", "ab"]), merges: strings(["a b"]) };
test.each<[string, Record<string, GgufValue>, RegExp]>([
  ["no tokenizer", {}, /m\.gguf: no tokenizer in this file/],
  [
    "another kind",
    { model: text("rwkv") },
    /"tokenizer\.ggml\.model": a kind of tokenizer that is not supported \(yet\), expected gpt2, llama, t5 or bert, got "rwkv"/,
  ],
  ["no tokens", { model: text("gpt2") }, /"tokenizer\.ggml\.tokens": not there, expected a list of texts, got nothing/],
  [
    "another cut",
    { ...BPE, pre: text("chameleon") },
    /"tokenizer\.ggml\.pre": a way of cutting text that is not supported \(yet\), expected one of gpt-2, .*, got "chameleon"/,
  ],
  ["a merge of nothing", { ...BPE, merges: strings(["a c"]) }, /tokenizer\.ggml\.merges\[0\]: merge of an unknown token.*"c"/],
  ["types of other tokens", { ...BPE, token_type: numbers([1]) }, /token_type": wrong length, expected 3, one for each token, got 1/],
  [
    "a beginning outside",
    { ...BPE, add_bos_token: flag(true), bos_token_id: count(9) },
    /bos_token_id": id outside the vocabulary, expected less than 3, got 9/,
  ],
  ["no scores", { model: text("llama"), tokens: strings(["a"]) }, /scores": not there, expected 1 numbers, got nothing/],
])("refused: %s", (_, fields, message) => {
  expect(() => open(fields)).toThrow(FormatError);
  expect(() => open(fields)).toThrow(message);
});

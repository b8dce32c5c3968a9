/** Tokenizers written into GGUF's metadata and read again: the same ids. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../errors.ts";
import type { GgufValue } from "../../formats/gguf/read.ts";
import { byteTokenizer, charTokenizer, createTokenizer, readTokenizerJson, type Tokenizer, tokenizerFiles, trainBpe } from "../index.ts";
import { asPipeline } from "../sentencepiece/as-pipeline.ts";
import { sentencePieceTokenizer } from "../sentencepiece/sentencepiece-tokenizer.ts";
import type { BpeModel, SentencePieceModel, TokenizerSpec } from "../tokenizer-spec.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import { ggufTokenizerMetadata } from "./gguf-tokenizer-write.ts";

const hf = JSON.parse(readFileSync(new URL("../pipeline-tokenizer.fixture.json", import.meta.url), "utf8")) as {
  texts: string[];
  tokenizers: Record<string, { file: string; bare: number[][] }>;
};
const sentencePieces = JSON.parse(readFileSync(new URL("../sentencepiece/sentencepiece.fixture.json", import.meta.url), "utf8")) as {
  models: { name: string; model: string }[];
};
const ofPieces = (name: string): TokenizerSpec =>
  sentencePieceTokenizer(Uint8Array.from(Buffer.from(sentencePieces.models.find((model) => model.name === name)?.model as string, "base64")), "s.model");

const written = (spec: TokenizerSpec, options: Partial<Parameters<typeof ggufTokenizerMetadata>[1]> = {}): Record<string, GgufValue> =>
  ggufTokenizerMetadata(spec, { vocabulary: 2000, ...options });
const reopened = (spec: TokenizerSpec): Tokenizer => createTokenizer(ggufTokenizer(new Map(Object.entries(written(spec))), "m.gguf"));

function spaced(spec: TokenizerSpec): TokenizerSpec {
  return { ...spec, model: { ...(spec.model as BpeModel), addPrefixSpace: true } };
}

describe("the same ids", () => {
  test.each(["smollm", "llama", "bert"])("%s of Hugging Face", (name) => {
    const { file, bare } = hf.tokenizers[name];
    const spec = readTokenizerJson(file, "tokenizer.json");
    const [own, again] = [createTokenizer(spec), reopened(spec)];
    for (const [i, line] of hf.texts.entries()) {
      if (name === "bert" && line.length > 100) continue;
      expect([...again.encode(line, { addSpecialTokens: false, allowSpecial: true }).ids], line).toEqual(bare[i]);
      expect([...again.encode(line).ids], line).toEqual([...own.encode(line).ids]);
    }
  });

  test.each(["gpt2", "cl100k", "qwen2", "o200k"] as const)("a BPE trained with the words of %s", (pattern) => {
    const trained = trainBpe(hf.texts.join("\n"), { vocabSize: 320, pattern, specialTokens: ["<|end|>"] });
    const again = reopened(trained.spec);
    for (const line of hf.texts)
      expect([...again.encode(line, { allowSpecial: true }).ids], line).toEqual([...trained.encode(line, { allowSpecial: true }).ids]);
    expect(again.specialTokens).toEqual(trained.specialTokens);
    // Placeholders are no tokens.
    expect(again.vocabSize).toBe(trained.vocabSize);
  });

  test.each(["bpe, bytes", "unigram"])("SentencePiece, %s", (name) => {
    const spec = ofPieces(name);
    const [own, again] = [createTokenizer(spec), reopened(spec)];
    for (const line of hf.texts) expect([...again.encode(line).ids], line).toEqual([...own.encode(line).ids]);
  });

  test("what stands around a text, and the ids that a model names", () => {
    const trained = trainBpe("a bright cold day ".repeat(9), { vocabSize: 270, specialTokens: ["<s>", "</s>"] });
    const template = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: Object.fromEntries(["<s>", "</s>"].map((id, i) => [id, { id, ids: [i], tokens: [id] }])),
    };
    const json = JSON.parse(tokenizerFiles(trained.spec)["tokenizer.json"] as string);
    const spec = readTokenizerJson(JSON.stringify({ ...json, post_processor: template }), "tokenizer.json");
    expect([...reopened(spec).encode("bright").ids]).toEqual([...createTokenizer(spec).encode("bright").ids]);
    const fields = written(spec, { eos: [1, 7], padding: 0, chatTemplate: "{{ x }}" });
    const value = (key: string) => fields[`tokenizer.${key}`]?.value;
    expect([value("ggml.bos_token_id"), value("ggml.eos_token_id"), value("ggml.eot_token_id"), value("ggml.padding_token_id")]).toEqual([0, 1, 7, 0]);
    expect([value("ggml.add_bos_token"), value("ggml.add_eos_token"), value("chat_template")]).toEqual([true, true, "{{ x }}"]);
  });
});

describe("SentencePiece models as tokenizer.json", () => {
  test.each(["bpe, bytes", "unigram, bytes", "unigram"])("%s: the same ids and text", (name) => {
    const spec = ofPieces(name);
    const own = createTokenizer(spec);
    const json = tokenizerFiles({ ...spec, model: { ...(spec.model as SentencePieceModel), file: null } })["tokenizer.json"] as string;
    const again = createTokenizer(readTokenizerJson(json, "tokenizer.json"));
    for (const line of hf.texts) {
      const { ids } = own.encode(line);
      expect([...again.encode(line).ids], line).toEqual([...ids]);
      // The library spells the unknown piece in its own way.
      if (!ids.includes(0)) expect(again.decode(ids), line).toBe(own.decode(ids));
    }
  });

  test("their own template", () => {
    const spec = ofPieces("bpe, bytes");
    const model = { ...(spec.model as SentencePieceModel), bos: true, eos: true };
    const [own, again] = [createTokenizer({ ...spec, model }), createTokenizer(asPipeline(model))];
    expect([...again.encode("the whale").ids]).toEqual([...own.encode("the whale").ids]);
  });
});

test.each<[string, () => TokenizerSpec, RegExp]>([
  ["characters", () => charTokenizer("abc").spec, /a vocabulary of characters, expected BPE, WordPiece or Unigram, got single characters/],
  ["a space before every text", () => spaced(trainBpe("a b c", { vocabSize: 260 }).spec), /a space before every text, expected none, got add_prefix_space/],
  [
    "RoBERTa's",
    () => readTokenizerJson(hf.tokenizers.roberta.file, "f"),
    /a way of cutting text without a name, .*got \{"type":"ByteLevel","add_prefix_space":true/,
  ],
  ["CLIP's", () => readTokenizerJson(hf.tokenizers.clip.file, "f"), /a normalizer, expected none in a byte-level BPE/],
  [
    "a Unigram model without its table",
    () => readTokenizerJson(hf.tokenizers.t5.file, "f"),
    /a Unigram model, expected Precompiled and ▁ for spaces, got Nmt, NFKC, Replace/,
  ],
  ["Unigram with bytes", () => ofPieces("unigram, bytes"), /unigram with byte fallback, expected an unknown token in place of bytes, got byte_fallback/],
  ["BPE without bytes", () => ofPieces("bpe"), /bpe without byte fallback, expected tokens for all bytes, got none/],
  ["spaces behind words", () => ofPieces("bpe, bytes, suffix"), /a kind of SentencePiece, expected bpe or unigram, spaces in front, got spaces behind/],
  ["bytes uncut", () => byteTokenizer().spec, /a way of cutting text without a name, .*got "whole"/],
])("refused: %s", (_, spec, message) => {
  expect(() => written(spec())).toThrow(ConfigError);
  expect(() => written(spec())).toThrow(message);
});

test("more tokens than the model has rows are refused", () => {
  expect(() => ggufTokenizerMetadata(trainBpe("a b c", { vocabSize: 260 }).spec, { vocabulary: 200 })).toThrow(
    /more tokens than rows, expected at most 200, got 25\d/,
  );
});

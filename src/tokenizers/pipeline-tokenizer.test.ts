/** Whole tokenizers of the kinds that models use, against Hugging Face tokenizers: ids, tokens, places, types, pairs, decoded text. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { DataError } from "../errors.ts";
import { createTokenizer, readTokenizerJson, writeTokenizerJson } from "./index.ts";

interface Expected {
  ids: number[];
  offsets: [number, number][];
  typeIds: number[];
  specialTokensMask: number[];
}
const fixture = JSON.parse(readFileSync(new URL("pipeline-tokenizer.fixture.json", import.meta.url), "utf8")) as {
  texts: string[];
  pairs: [string, string][];
  tokenizers: Record<string, { file: string; texts: (Expected & { tokens: string[]; decoded: string })[]; bare: number[][]; pairs: Expected[] }>;
};

/** Hugging Face counts code points. */
function inUnits(text: string, [start, end]: readonly [number, number]): [number, number] {
  const units = [0];
  for (const character of text) units.push((units.at(-1) as number) + character.length);
  return [units[start], units[end]];
}

/** A tokenizer of the fixture with more added tokens, and other changes. */
function changed(name: string, added: object[], change: (file: { pre_tokenizer: Record<string, unknown> }) => void = () => {}) {
  const file = JSON.parse(fixture.tokenizers[name].file);
  for (const token of added) file.added_tokens.push({ single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...token });
  change(file);
  return createTokenizer(readTokenizerJson(JSON.stringify(file), "tokenizer.json"));
}

// What Hugging Face tokenizers 0.23.3 gives.
test("added tokens: in normalised text as they are spelled there, and in the raw text", () => {
  const tokenizer = changed("bert", [
    { id: 500, content: "WhÀle", normalized: true },
    { id: 501, content: "Ship" },
    { id: 502, content: "s\u0308ea", normalized: true, single_word: true },
  ]);
  const { ids, offsets } = tokenizer.encode("the whÀle and the WHALE, Whàle", { addSpecialTokens: false });
  expect([...ids]).toEqual([107, 500, 120, 107, 500, 11, 500]);
  expect(offsets[4]).toEqual([18, 23]);
  expect([...tokenizer.encode("Ship ship", { addSpecialTokens: false }).ids]).toEqual([501, 245]);
  expect([...tokenizer.encode("the sea, seas; SEA", { addSpecialTokens: false }).ids]).toEqual([107, 502, 11, 345, 68, 25, 502]);
});

test("only what stands at the very beginning counts as the first", () => {
  const tokenizer = changed("t5", [{ id: 400, content: "<x>" }], (file) => {
    file.pre_tokenizer.prepend_scheme = "first";
  });
  const tokens = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).tokens;
  expect(tokens("a<x>b")).toEqual(["▁a", "<x>", "b"]);
  expect(tokens("<x>b")).toEqual(["<x>", "b"]);
  expect(tokens(" a<x> b")).toEqual(["▁a", "<x>", "▁b"]);
});

describe.each(Object.entries(fixture.tokenizers))("%s", (_, { file, texts, bare, pairs }) => {
  const tokenizer = createTokenizer(readTokenizerJson(file, "tokenizer.json"));

  test("texts", () => {
    for (const [i, text] of fixture.texts.entries()) {
      const made = tokenizer.encode(text, { allowSpecial: true });
      const { ids, tokens, offsets, typeIds, specialTokensMask, decoded } = texts[i];
      expect([...made.ids], text).toEqual(ids);
      // Hugging Face gives an added token with the blanks that it took along; we give it as files spell it.
      expect(made.tokens, text).toEqual(tokens.map((token) => (token === " <mask>" ? "<mask>" : token)));
      expect(made.offsets, text).toEqual(offsets.map((place) => inUnits(text, place)));
      expect([...made.typeIds], text).toEqual(typeIds);
      expect([...made.attentionMask]).toEqual(ids.map(() => 1));
      // Hugging Face marks what the template added; we also mark special tokens that were allowed in the text.
      for (const [at, added] of specialTokensMask.entries()) if (added === 1) expect(made.specialTokensMask[at], text).toBe(1);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true }), text).toBe(decoded);
      expect([...tokenizer.encode(text, { allowSpecial: true, addSpecialTokens: false }).ids], text).toEqual(bare[i]);
      expect(tokenizer.count(text, { allowSpecial: true }), text).toBe(ids.length);
    }
  });

  test("the ids of many texts", () => {
    const { ids, starts } = tokenizer.encodeAll(fixture.texts, { allowSpecial: true });
    expect([...ids]).toEqual(texts.flatMap((expected) => expected.ids));
    expect(starts.at(-1)).toBe(ids.length);
  });

  test("a stream gives the text", () => {
    for (const { ids, decoded } of texts) {
      const stream = tokenizer.decodeStream({ skipSpecialTokens: true });
      expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(decoded);
    }
  });

  test("pairs", () => {
    for (const [i, [text, pair]] of fixture.pairs.entries()) {
      const made = tokenizer.encode(text, { pair, allowSpecial: true });
      const { ids, typeIds } = pairs[i];
      expect([...made.ids], text).toEqual(ids);
      expect([...made.typeIds], text).toEqual(typeIds);
    }
  });

  test("written and read again: the same", () => {
    const again = createTokenizer(readTokenizerJson(writeTokenizerJson(tokenizer.spec), "again.json"));
    for (const [i, text] of fixture.texts.entries()) expect([...again.encode(text, { allowSpecial: true }).ids], text).toEqual(texts[i].ids);
    const parts = (json: string) => {
      const { model, ...rest } = JSON.parse(json);
      return { ...rest, merges: model.merges, vocab: model.vocab };
    };
    expect(parts(writeTokenizerJson(again.spec))).toEqual(parts(writeTokenizerJson(tokenizer.spec)));
  });

  test("text from a user becomes no special token", () => {
    // The unknown token, and bytes that stand for characters outside the vocabulary, are what such text may well become.
    const ordinary = new Set(["<unk>", "[UNK]", "<|end|>"]);
    for (const [name, id] of tokenizer.specialTokens) {
      if (ordinary.has(name) || /^<0x..>$/.test(name)) continue;
      expect([...tokenizer.encode(`a ${name} b`, { addSpecialTokens: false }).ids], name).not.toContain(id);
      expect([...tokenizer.encode(`a ${name} b`, { addSpecialTokens: false, allowSpecial: [name] }).ids], name).toContain(id);
    }
    expect(() => tokenizer.encode("a", { allowSpecial: ["<nothing>"] })).toThrow(DataError);
    expect(() => tokenizer.decode([tokenizer.vocabSize])).toThrow(DataError);
  });
});

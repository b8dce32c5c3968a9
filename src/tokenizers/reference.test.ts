/** Both engines against Hugging Face tokenizers and tiktoken (fixtures/make_fixtures.py). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadNative } from "../tensor/native-binding.ts";
import type { Engine } from "./byte-level/native-text.ts";
import { type PatternName, splitPattern, splitWords } from "./byte-level/split-patterns.ts";
import { tokenizerFiles } from "./files/save.ts";
import { createTokenizer, loadTokenizer, memoryFiles, readTiktoken, readTokenizerJson, trainBpe, writeTokenizerJson } from "./index.ts";

interface Reference {
  text: string;
  torture: string[];
  fuzz: string[];
  words: Record<PatternName, string[][]>;
  trained: {
    pattern: PatternName;
    vocabSize: number;
    minFrequency: number;
    specialTokens: string[];
    file: string;
    ids: number[][];
    idsWithSpecial: number[][];
  }[];
  ranks: { pattern: PatternName; file: string; ids: number[][] }[];
}
const reference = JSON.parse(readFileSync(new URL("fixtures/reference.json", import.meta.url), "utf8")) as Reference;
const engines: Engine[] = loadNative().binding === null ? ["reference"] : ["native", "reference"];

describe("split patterns", () => {
  for (const [name, lists] of Object.entries(reference.words) as [PatternName, string[][]][]) {
    it(`${name} cuts as the regular expression does`, () => {
      const texts = [...reference.torture, ...reference.fuzz];
      for (const [i, text] of texts.entries()) expect(splitWords(splitPattern(name), text), JSON.stringify(text)).toEqual(lists[i]);
    });
  }
});

for (const engine of engines) {
  describe(`${engine} engine`, () => {
    it("cuts as the regular expressions do", () => {
      // With every byte its own token, a vocabulary of the words themselves shows where they are cut.
      for (const [pattern, lists] of Object.entries(reference.words) as [PatternName, string[][]][]) {
        const texts = [...reference.torture, ...reference.fuzz];
        const words = [...new Set(lists.flat())].filter((word) => new TextEncoder().encode(word).length > 1);
        const bytes = Array.from({ length: 256 }, (_, byte) => `${Buffer.from([byte]).toString("base64")} ${byte}\n`);
        const lines = words.map((word, i) => `${Buffer.from(word).toString("base64")} ${256 + i}\n`);
        const tokenizer = createTokenizer(readTiktoken([...bytes, ...lines].join(""), "words", { pattern }), engine);
        for (const [i, text] of texts.entries()) {
          const got = Array.from(tokenizer.encode(text).ids);
          const expected = lists[i].map((word) => (Buffer.from(word).length === 1 ? Buffer.from(word)[0] : 256 + words.indexOf(word)));
          expect(got, `${pattern} ${JSON.stringify(text)}`).toEqual(expected);
        }
      }
    });

    for (const [i, trained] of reference.trained.entries()) {
      it(`trains what BpeTrainer trains: ${trained.pattern}, ${trained.vocabSize}, ${trained.specialTokens.length} special`, () => {
        const { pattern, vocabSize, minFrequency, specialTokens } = trained;
        const tokenizer = trainBpe(reference.text, { pattern, vocabSize, minFrequency, specialTokens, engine });
        const ours = JSON.parse(writeTokenizerJson(tokenizer.spec));
        const theirs = JSON.parse(trained.file);
        expect(ours.model.merges).toEqual(theirs.model.merges);
        expect(ours.model.vocab).toEqual(theirs.model.vocab);
      });

      it(`encodes as tokenizer.json says (${i}), saved and read again too`, async () => {
        const first = createTokenizer(readTokenizerJson(trained.file, "tokenizer.json"), engine);
        const again = await loadTokenizer(memoryFiles({ "tokenizer.json": writeTokenizerJson(first.spec) }), { engine });
        for (const tokenizer of [first, again]) {
          for (const [k, text] of reference.torture.entries()) {
            expect(Array.from(tokenizer.encode(text).ids), JSON.stringify(text)).toEqual(trained.ids[k]);
            const open = tokenizer.encode(text, { allowSpecial: true });
            expect(Array.from(open.ids), JSON.stringify(text)).toEqual(trained.idsWithSpecial[k]);
            expect(tokenizer.count(text)).toBe(trained.ids[k].length);
            expect(tokenizer.decode(open.ids)).toBe(text);
            expect(open.offsets.map(([start, end]) => text.slice(start, end)).length).toBe(open.ids.length);
          }
        }
      });
    }

    for (const ranks of reference.ranks) {
      it(`encodes by ranks as tiktoken: ${ranks.pattern}`, async () => {
        const first = await loadTokenizer(memoryFiles({ r: ranks.file }), { file: "r", pattern: ranks.pattern, engine });
        const again = await loadTokenizer(memoryFiles({ "tokenizer.json": tokenizerFiles(first.spec)["tokenizer.json"] }), { engine });
        for (const tokenizer of [first, again]) {
          for (const [k, text] of reference.torture.entries()) {
            expect(Array.from(tokenizer.encode(text).ids), JSON.stringify(text)).toEqual(ranks.ids[k]);
          }
        }
      });
    }
  });
}

it("reads vocab.json with merges.txt", async () => {
  const [trained] = reference.trained;
  const spec = readTokenizerJson(trained.file, "tokenizer.json");
  const { "vocab.json": vocab, "merges.txt": merges } = tokenizerFiles(spec);
  const tokenizer = await loadTokenizer(memoryFiles({ "vocab.json": vocab, "merges.txt": merges }));
  expect(Array.from(tokenizer.encode(reference.torture[8]).ids)).toEqual(trained.ids[8]);
});

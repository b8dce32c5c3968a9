import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { charTokenizer, createTokenizer, readTokenizerJson, trainBpe, trainUnigram, trainWordPiece } from "./index.ts";
import { traceEncoding } from "./trace.ts";

const TEXT = "the whale, the white whale and the sea; thé ｗhale's seas 1851";

it("follows the merges of byte-level BPE, whose last state is the tokens", () => {
  const tokenizer = trainBpe("a whale a whale the whale ".repeat(9), { vocabSize: 256 + 6 });
  const { words } = traceEncoding(tokenizer.spec, "a whales");
  expect(words.map(({ text }) => text)).toEqual(["a", " whales"]);
  const made = words[1].merges;
  expect(made[0]).toEqual(["Ġ", "w", "h", "a", "l", "e", "s"]);
  for (const [i, state] of made.entries()) expect([state.join(""), state.length]).toEqual(["Ġwhales", 7 - i]);
  expect(made.at(-1)).toEqual(words[1].tokens.map(({ token }) => token));
  expect(words.flatMap(({ tokens }) => tokens.map(({ id }) => id))).toEqual([...tokenizer.encode("a whales").ids]);
});

it("ends at the ids of encode, for every kind of model", async () => {
  const files = JSON.parse(readFileSync(new URL("pipeline-tokenizer.fixture.json", import.meta.url), "utf8")) as {
    tokenizers: Record<string, { file: string }>;
  };
  const made = [
    trainBpe(TEXT.repeat(20), { vocabSize: 300, pattern: "cl100k" }),
    await trainWordPiece(TEXT.repeat(20), { vocabSize: 90 }),
    await trainUnigram(TEXT.repeat(20), { vocabSize: 60 }),
    charTokenizer(TEXT),
    ...Object.values(files.tokenizers).map(({ file }) => createTokenizer(readTokenizerJson(file, "tokenizer.json"))),
  ];
  for (const tokenizer of made) {
    const { words } = traceEncoding(tokenizer.spec, TEXT);
    expect(words.flatMap(({ tokens }) => tokens.map(({ id }) => id))).toEqual([...tokenizer.encode(TEXT, { addSpecialTokens: false }).ids]);
    for (const { merges, tokens } of words)
      if (merges.length > 0 && !tokens.some(({ token }) => /unk|0x|<\|end/i.test(token))) expect(merges.at(-1)).toEqual(tokens.map(({ token }) => token));
  }
  expect(traceEncoding(made[1].spec, "The WHALE").normalized).toBe("the whale");
});

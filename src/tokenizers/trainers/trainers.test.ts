import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError } from "../../errors.ts";
import { readTokenizerJson, trainUnigram, trainWordPiece, writeTokenizerJson } from "../index.ts";
import { createTokenizer } from "../tokenizer.ts";
import { seedPieces } from "./seed-pieces.ts";

const fixture = JSON.parse(readFileSync(new URL("trainers.fixture.json", import.meta.url), "utf8")) as {
  wordpiece: { vocabSize: number; minFrequency: number; limitAlphabet: number; tokens: string[] }[];
  unigram: { text: "book" | "declaration"; vocabSize: number; heldOutTokens: number }[];
};
const lines = gunzipSync(readFileSync(new URL("../../../data/moby-dick.jsonl.gz", import.meta.url)))
  .toString("utf8")
  .split("\n")
  .filter((document) => document !== "")
  .flatMap((document) => (JSON.parse(document) as { text: string }).text.split("\n"))
  .slice(0, 6000);
const cut = Math.floor((lines.length * 9) / 10);
const [train, held] = [lines.slice(0, cut), lines.slice(cut)];
const declaration = gunzipSync(readFileSync(new URL("../../../tests/fixtures/texts/human-rights.txt.gz", import.meta.url)))
  .toString("utf8")
  .trimEnd()
  .split("\n");
const texts = {
  book: [train, held],
  declaration: [declaration.filter((_, i) => i % 10 !== 9), declaration.filter((_, i) => i % 10 === 9)],
};

describe("trainWordPiece", () => {
  it.each(fixture.wordpiece)(
    "$vocabSize tokens, pairs seen $minFrequency times, $limitAlphabet letters: Hugging Face's vocabulary",
    async ({ tokens, ...options }) => {
      const tokenizer = await trainWordPiece(train, options);
      expect(tokenizer.spec.model.tokens).toEqual(tokens);
    },
  );

  it("is saved and opened again, with [CLS] and [SEP] around a text", async () => {
    const tokenizer = await trainWordPiece("a whale, a whale, a WHALE", { vocabSize: 30 });
    const again = createTokenizer(readTokenizerJson(writeTokenizerJson(tokenizer.spec), "tokenizer.json"));
    for (const t of [tokenizer, again]) {
      expect(t.encode("A whale").tokens).toEqual(["[CLS]", "a", "whale", "[SEP]"]);
      expect(t.encode("wha?").tokens).toEqual(["[CLS]", "wh", "##a", "[UNK]", "[SEP]"]);
    }
  });

  it("keeps letters that the text lacks, and case where it is asked to", async () => {
    const tokenizer = await trainWordPiece("Aa Aa", { vocabSize: 12, lowercase: false, initialAlphabet: ["z"], specialTokens: ["[UNK]"] });
    expect(tokenizer.spec.model.tokens).toEqual(["[UNK]", "A", "a", "z", "##a", "Aa"]);
  });
});

describe("trainUnigram", () => {
  it.each(fixture.unigram)(
    "$text, $vocabSize tokens: a text outside the training is as long as with SentencePiece's",
    async ({ text, vocabSize, heldOutTokens }) => {
      const [learned, other] = texts[text];
      const tokenizer = await trainUnigram(learned, { vocabSize });
      expect(tokenizer.vocabSize).toBe(vocabSize);
      const ratio = other.reduce((sum, line) => sum + tokenizer.count(line), 0) / heldOutTokens;
      expect(ratio).toBeLessThan(1.005);
      expect(ratio).toBeGreaterThan(0.995);
    },
  );

  it("gives the same tokenizer again, and one that is saved and opened", async () => {
    const options = { vocabSize: 200, byteFallback: false };
    const [first, second] = [await trainUnigram(train.slice(0, 500), options), await trainUnigram(train.slice(0, 500), options)];
    const file = writeTokenizerJson(first.spec);
    expect(writeTokenizerJson(second.spec)).toBe(file);
    const again = createTokenizer(readTokenizerJson(file, "tokenizer.json"));
    expect([...again.encode(held[3]).ids]).toEqual([...first.encode(held[3]).ids]);
    expect(again.decode(again.encode("Call me Ishmael.").ids)).toBe("Call me Ishmael.");
  });

  it("spells what it never saw in bytes, where it is asked to", async () => {
    const [plain, bytes] = [
      await trainUnigram(train.slice(0, 200), { vocabSize: 120 }),
      await trainUnigram(train.slice(0, 200), { vocabSize: 380, byteFallback: true }),
    ];
    expect(plain.encode("é", { addSpecialTokens: false }).tokens.at(-1)).toBe("é");
    expect(plain.encode("é").ids.at(-1)).toBe(0);
    expect(bytes.encode("é").tokens.slice(-2)).toEqual(["<0xC3>", "<0xA9>"]);
    expect(bytes.decode(bytes.encode("a 鯨 é").ids)).toBe("a 鯨 é");
  });

  it("makes no pieces of two scripts, of blanks inside, or longer than asked", async () => {
    const tokens = async (maxPieceLength: number) => {
      const { spec } = await trainUnigram("ab1 abя abcdef abcdef ".repeat(99), { vocabSize: 40, maxPieceLength });
      return spec.model.tokens.slice(3) as string[];
    };
    const [short, long] = [await tokens(4), await tokens(16)];
    for (const token of [...short, ...long]) expect(token).toMatch(/^▁?([a-z]*|1|я)$/);
    expect(long).toContain("▁abcdef");
    expect(Math.max(...short.map((token) => token.length))).toBeLessThanOrEqual(4);
  });

  it("leaves the rarest letters out", async () => {
    const tokenizer = await trainUnigram(`${"ab abc ".repeat(499)}q`, { vocabSize: 12, characterCoverage: 0.99 });
    expect(new Set(tokenizer.spec.model.tokens)).toEqual(new Set(["<unk>", "<s>", "</s>", "▁ab", "▁", "a", "b", "c"]));
    expect(tokenizer.encode("q").ids).toContain(0);
  });
});

describe("seedPieces", () => {
  const corpus = (words: Record<string, number>) => {
    const list = Object.keys(words).map((word) => Int32Array.from(word, (c) => c.charCodeAt(0)));
    const starts = new Int32Array(list.length + 1);
    for (const [i, word] of list.entries()) starts[i + 1] = starts[i] + word.length;
    return { characters: Int32Array.from(list.flatMap((word) => [...word])), starts, counts: Float64Array.from(Object.values(words)) };
  };
  /** b and c are of one kind, d and e, and so on. */
  const kindOf = (character: number) => character >> 1;
  /** A third of each word ends its text. */
  const lastOf = (words: Record<string, number>) => Float64Array.from(Object.values(words), (count) => Math.floor(count / 3));
  const found = (words: Record<string, number>, longest = 16) =>
    Object.fromEntries(
      seedPieces(corpus(words), lastOf(words), { longest, most: 100, valid: (piece) => piece.every((c) => c >= 0), kindOf }).map(({ characters, cover }) => [
        String.fromCharCode(...characters),
        cover,
      ]),
    );

  it("counts substrings over all words that different kinds of characters follow", () => {
    for (const [words, longest] of [
      [{ whale: 3, whales: 2, ale: 5 }, 16],
      [{ banana: 1, nan: 4, naan: 1 }, 16],
      [{ aaaa: 7, aab: 2, aac: 1 }, 3],
    ] as const)
      expect(found(words, longest)).toEqual(naive(words, longest));
    // One of three words ends its text: "ale" is followed by s, a blank and an end; b and c are of one kind, c and d are not.
    expect(found({ whale: 3, whales: 1 })).toEqual({ whale: 20, hale: 16, ale: 12, le: 8 });
    expect(found({ xyb: 2, xyc: 2 })).toEqual({});
    expect(found({ xyc: 2, xyd: 1 })).toEqual({ xy: 6 });
  });

  /** Every substring with its count and the kinds of what follows it. */
  function naive(words: Record<string, number>, longest: number): Record<string, number> {
    const seen = new Map<string, { count: number; next: Set<number | string> }>();
    const last = lastOf(words);
    for (const [at, [word, count]] of Object.entries(words).entries()) {
      const behind = [...(last[at] > 0 ? ["end"] : []), ...(last[at] < count ? ["blank"] : [])];
      for (let i = 0; i < word.length; i++) {
        for (let j = i + 2; j <= Math.min(word.length, i + longest); j++) {
          const entry = seen.get(word.slice(i, j)) ?? { count: 0, next: new Set() };
          entry.count += count;
          for (const next of j < word.length ? [kindOf(word.charCodeAt(j))] : behind) entry.next.add(next);
          seen.set(word.slice(i, j), entry);
        }
      }
    }
    const kept = [...seen].filter(([, { next }]) => next.size > 1);
    return Object.fromEntries(kept.map(([piece, { count }]) => [piece, count * piece.length]));
  }
});

const wrong: [string, () => Promise<unknown>, typeof ConfigError | typeof DataError, RegExp][] = [
  ["no text", () => trainWordPiece([], { vocabSize: 100 }), DataError, /trainWordPiece: no text/],
  ["only blanks", () => trainUnigram("  \n ", { vocabSize: 100 }), DataError, /trainUnigram: no text/],
  ["fewer tokens than letters", () => trainWordPiece("abc", { vocabSize: 6 }), DataError, /expected at least 10 tokens, got 6/],
  ["fewer pieces than letters", () => trainUnigram("abc", { vocabSize: 6 }), DataError, /expected at least 4 and the special tokens, got room for 3 pieces/],
  ["no unknown token", () => trainUnigram("abc", { vocabSize: 60, specialTokens: ["<s>"] }), ConfigError, /expected "<unk>" among specialTokens/],
  ["an unknown option", () => trainUnigram("abc", { vocabsize: 60 } as never), ConfigError, /vocabSize/],
  ["half a letter", () => trainWordPiece("abc", { vocabSize: 60, initialAlphabet: ["ab"] }), ConfigError, /bad initialAlphabet/],
  ["a share above 1", () => trainUnigram("abc", { vocabSize: 60, characterCoverage: 2 }), ConfigError, /bad characterCoverage/],
];
it.each(wrong)("%s is refused in words", async (_, run, error, message) => {
  await expect(run()).rejects.toThrow(error);
  await expect(run()).rejects.toThrow(message);
});

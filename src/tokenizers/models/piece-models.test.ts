/** Ids, tokens and places of the models equal Hugging Face's; hostile text takes no longer than its length asks for; wrong files are refused. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, FormatError } from "../../errors.ts";
import { Place } from "../files/strict-json.ts";
import { createPieceModel, readPieceModel, writePieceModel } from "./piece-models.ts";

type Row = readonly [text: string, tokens: readonly (readonly [id: number, token: string, start: number, end: number])[] | null];
// biome-ignore lint/suspicious/noExplicitAny: the tests put wrong things into every place of the document.
type Json = any;
const cases = JSON.parse(readFileSync(new URL("../fixtures/piece-models.json", import.meta.url), "utf8")) as { name: string; model: Json; rows: Row[] }[];
const place = new Place("tokenizer.json").at("model");
const modelOf = (name: string): Json => structuredClone(cases.find((entry) => entry.name === name)?.model);

describe.each(cases)("$name", ({ model, rows }) => {
  it("equals Hugging Face tokenizers", () => {
    const piece = createPieceModel(readPieceModel(model, place));
    for (const [text, expected] of rows) {
      if (expected === null) expect(() => piece.tokenize(text), text).toThrow(DataError);
      else
        expect(
          piece.tokenize(text).map((token) => [token.id, token.token, ...token.place]),
          text,
        ).toEqual(expected);
    }
  });

  it("is written as it was read", () => {
    const written = JSON.parse(JSON.stringify(writePieceModel(readPieceModel(model, place))));
    const pairs = (merges: Json): Json => merges?.filter((m: Json) => m !== "#version: 0.2").map((m: Json) => (typeof m === "string" ? m.split(" ") : m));
    expect({ ...written, merges: pairs(written.merges) }).toEqual({ ...model, merges: pairs(model.merges) });
  });

  it("looks tokens up both ways", () => {
    const piece = createPieceModel(readPieceModel(model, place));
    for (const id of [0, 7, piece.size - 1]) expect(piece.tokenToId(piece.idToToken(id) as string)).toBe(id);
    expect(piece.idToToken(piece.size)).toBeUndefined();
    expect(piece.tokenToId("no such token")).toBeUndefined();
  });
});

describe("files without a type", () => {
  it.each(["byte fallback", "WordPiece", "WordLevel", "Unigram"])("are known by their keys: %s", (name) => {
    const { type, ...rest } = modelOf(name);
    expect(readPieceModel(rest, place).type).toBe(type);
  });
});

describe("dropout", () => {
  const spec = readPieceModel({ ...modelOf("suffix"), dropout: 0.5 }, place);
  const ids = (random?: () => number, text = "whales"): number[] =>
    createPieceModel(spec, random)
      .tokenize(text)
      .map((token) => token.id);

  it("is refused without a source of random numbers", () => {
    expect(() => ids()).toThrow(ConfigError);
    expect(ids(undefined, "")).toEqual([]);
  });

  it("passes merges over by the numbers it is given", () => {
    const whole = createPieceModel({ ...spec, dropout: null } as typeof spec);
    expect(ids(() => 0.5)).toEqual(whole.tokenize("whales").map((token) => token.id));
    expect(ids(() => 0)).toHaveLength("whales".length);
    let calls = 0;
    // The best merge is passed over once and taken after the next one.
    const once = ids(() => (calls++ === 0 ? 0 : 1));
    expect(once.length).toBeLessThan("whales".length);
  });
});

describe("hostile text", () => {
  const long = "a".repeat(400_000);
  it.each(["byte fallback", "suffix, unknown fused", "Unigram, ties", "WordPiece"])("of one letter is cut in time: %s", (name) => {
    const model = modelOf(name);
    if (model.type === "WordPiece") model.max_input_chars_per_word = 1e9;
    const tokens = createPieceModel(readPieceModel(model, place)).tokenize(long);
    expect(tokens.at(-1)?.place[1]).toBe(long.length);
  });

  it("outside the vocabulary is one unknown token", () => {
    const tokens = createPieceModel(readPieceModel(modelOf("Unigram, ties"), place)).tokenize("語".repeat(100_001));
    expect(tokens).toHaveLength(50_001);
    expect(createPieceModel(readPieceModel(modelOf("suffix, unknown fused"), place)).tokenize("語".repeat(200_000))).toHaveLength(1);
  });
});

describe("wrong files", () => {
  const wrong: [string, string, (model: Json) => void, RegExp][] = [
    ["unknown type", "suffix", (m) => (m.type = "Other"), /tokenizer\.json, model\.type: unknown model, expected BPE, .*, got "Other"/],
    ["no type and no key", "suffix", (m) => ["type", "vocab", "merges"].map((key) => delete m[key]), /unknown model/],
    ["unknown key", "suffix", (m) => (m.surprise = 1), /model: unknown key "surprise"/],
    ["unknown key", "WordPiece", (m) => (m.fuse_unk = true), /unknown key "fuse_unk"/],
    ["unknown key", "WordLevel", (m) => (m.merges = []), /unknown key "merges"/],
    ["unknown key", "Unigram", (m) => (m.unk_token = "x"), /unknown key "unk_token"/],
    ["dropout above 1", "suffix", (m) => (m.dropout = 1.5), /dropout: bad dropout, expected a number from 0 to 1, got 1\.5/],
    ["merge without a result", "suffix", (m) => m.merges.push(["a", "<unk>"]), /merge without a result/],
    ["merge without its mark", "prefix", (m) => m.merges.push(["a", "b"]), /merge of a token without its mark, expected one that begins with "##", got "b"/],
    ["merge of three", "merges as lines", (m) => m.merges.push("a b c"), /bad merge/],
    ["lines and pairs", "merges as lines", (m) => m.merges.push(["a", "b"]), /wrong type, expected a string/],
    ["no merges", "suffix", (m) => delete m.merges, /merges: wrong type, expected an array, got nothing/],
    ["fuse_unk as text", "suffix", (m) => (m.fuse_unk = "yes"), /fuse_unk: wrong type/],
    ["id twice", "WordLevel", (m) => (m.vocab.zz = 3), /id 3 given twice/],
    ["no unk_token", "WordPiece", (m) => delete m.unk_token, /unk_token: wrong type, expected a string, got nothing/],
    ["negative length", "WordPiece", (m) => (m.max_input_chars_per_word = -1), /max_input_chars_per_word: bad number/],
    ["no vocabulary", "WordLevel", (m) => delete m.vocab, /vocab: wrong type/],
    ["unk_id outside", "Unigram", (m) => (m.unk_id = m.vocab.length), /unk_id: id without a token/],
    ["score as text", "Unigram", (m) => (m.vocab[3][1] = "-1"), /vocab\[3\]\[1\]: bad number/],
    ["score without end", "Unigram", (m) => (m.vocab[3][1] = Number.POSITIVE_INFINITY), /bad number/],
    ["token without a score", "Unigram", (m) => (m.vocab[3] = ["a"]), /vocab\[3\]: bad token/],
    ["byte_fallback null", "Unigram", (m) => (m.byte_fallback = null), /byte_fallback: wrong type/],
  ];
  it.each(wrong)("%s (%s)", (_, name, change, message) => {
    const model = modelOf(name);
    change(model);
    expect(() => readPieceModel(model, place)).toThrow(FormatError);
    expect(() => readPieceModel(model, place)).toThrow(message);
  });
});

/** Equality with the library sentencepiece, by the fixture beside this file. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError } from "../../errors.ts";
import { createTokenizer } from "../tokenizer.ts";
import { decodeBytes } from "./decode.ts";
import { readSentencePiece } from "./model-file.ts";
import { createSentencePiece } from "./sentencepiece.ts";
import { sentencePieceTokenizer } from "./sentencepiece-tokenizer.ts";

interface Fixture {
  texts: string[];
  models: {
    name: string;
    model: string;
    size: number;
    unk: number;
    bos: number;
    eos: number;
    pad: number;
    encoded: [ids: number[], pieces: string[], places: number[], decoded: string][];
    decoded: [ids: number[], text: string][];
  }[];
}

const fixture = JSON.parse(readFileSync(new URL("sentencepiece.fixture.json", import.meta.url), "utf8")) as Fixture;
const open = (name: string) => {
  const found = fixture.models.find((model) => model.name === name);
  return createSentencePiece(readSentencePiece(Buffer.from(found?.model ?? "", "base64"), name));
};

describe.each(fixture.models)("$name", (theirs) => {
  const ours = createSentencePiece(readSentencePiece(Buffer.from(theirs.model, "base64"), theirs.name));

  it.each(fixture.texts.map((text, i) => [JSON.stringify(text), i]))("ids, pieces, places and text of %s", (_, i) => {
    const [ids, pieces, places, decoded] = theirs.encoded[i];
    const encoding = ours.encode(fixture.texts[i]);
    expect(encoding.pieces).toEqual(pieces);
    expect(Array.from(encoding.ids)).toEqual(ids);
    expect(encoding.places.flat()).toEqual(places);
    expect(ours.decode(encoding.ids)).toBe(decoded);
  });

  it("decodes any ids", () => {
    for (const [ids, text] of theirs.decoded) expect(ours.decode(ids), String(ids)).toBe(text);
  });

  it("looks pieces up", () => {
    expect(ours.size).toBe(theirs.size);
    const { unkId, bosId, eosId, padId } = ours;
    expect([unkId, bosId, eosId, padId]).toEqual([theirs.unk, theirs.bos, theirs.eos, theirs.pad].map((id) => (id < 0 ? null : id)));
    for (let id = 0; id < ours.size; id++) expect(ours.tokenToId(ours.idToToken(id) as string)).toBe(id);
    expect(ours.tokenToId("no such piece")).toBe(undefined);
    expect(ours.idToToken(ours.size)).toBe(undefined);
  });

  it("takes time in proportion to the text", () => {
    // Quadratic steps over so many characters would take minutes.
    for (const text of ["a", " ", "e\u0301", "whale Ahab's "].map((part) => part.repeat(200_000 / part.length))) {
      const { ids, places } = ours.encode(text);
      expect(ids.length).toBe(places.length);
      ours.decode(ids);
    }
  });
});

it("bos and eos stand around the text where they are asked for", () => {
  const sp = open("bpe");
  const plain = sp.encode("Call me");
  expect(Array.from(plain.ids)).not.toContain(sp.bosId);
  const around = sp.encode("Call me", { bos: true, eos: true });
  expect(Array.from(around.ids)).toEqual([sp.bosId, ...plain.ids, sp.eosId]);
  expect(around.pieces).toEqual(["<s>", ...plain.pieces, "</s>"]);
  expect(around.places).toEqual([[0, 0], ...plain.places, [7, 7]]);
  expect(sp.decode(around.ids)).toBe(sp.decode(plain.ids));
  expect(() => open("word").encode("", { eos: true })).toThrow(
    new DataError('encode: no piece for eos, expected a control piece "</s>", got a vocabulary without one. Leave eos out.'),
  );
  expect(() => sp.encode("", { addBos: true } as object)).toThrow(ConfigError);
});

it("lone surrogates are U+FFFD, in their own places", () => {
  const sp = open("bpe, bytes");
  const broken = sp.encode("a\ud83db\ude42");
  const whole = sp.encode("a\ufffdb\ufffd");
  expect(broken).toEqual(whole);
  expect(open("bpe").encode("\ud83d").pieces).toEqual(["\u2581", "\ufffd"]);
});

it("as a tokenizer, each byte of a character has the whole character's place", () => {
  const model = fixture.models.find(({ name }) => name === "bpe, bytes")?.model ?? "";
  const tokenizer = createTokenizer(sentencePieceTokenizer(Buffer.from(model, "base64"), "bpe, bytes"));
  const { tokens, offsets } = tokenizer.encode("\u{1d7d9}鯨\u{10ffff}");
  const bytes = offsets.filter((_, i) => tokens[i].startsWith("<0x"));
  expect(bytes).toEqual([...Array(4).fill([0, 2]), ...Array(3).fill([2, 3]), ...Array(4).fill([3, 5])]);
});

it("ids outside the vocabulary are refused", () => {
  expect(() => open("bpe").decode([3, 260])).toThrow(/id 260 at place 1 is outside the vocabulary/);
  expect(() => open("bpe").decode([1.5])).toThrow(DataError);
});

it("every byte that is no part of a character is a U+FFFD of its own", () => {
  const cases: [number[], string][] = [
    [[0x41, 0xc3, 0xa9, 0xe8, 0xaa, 0x9e, 0xf0, 0x9f, 0x99, 0x82, 0xef, 0xbb, 0xbf], "Aé語🙂\ufeff"],
    [[0xe8, 0xaa], "\ufffd\ufffd"],
    [[0xf0, 0x9f, 0x99, 0x41], "\ufffd\ufffd\ufffdA"],
    [[0xc0, 0x80, 0xe0, 0x9f, 0xbf, 0xf0, 0x8f, 0xbf, 0xbf], "\ufffd".repeat(9)],
    [[0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80, 0xf8, 0x80], "\ufffd".repeat(9)],
    [[0xed, 0x9f, 0xbf, 0xee, 0x80, 0x80, 0xf4, 0x8f, 0xbf, 0xbf], "\ud7ff\ue000\u{10ffff}"],
  ];
  for (const [bytes, text] of cases) expect(decodeBytes(bytes)).toBe(text);
});

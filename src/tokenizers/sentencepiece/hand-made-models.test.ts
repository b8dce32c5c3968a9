/**
 * Models made by hand: what no training gives, and files that are cut off, contradict themselves or are hostile, which end in a FormatError that says where.
 */
import { readFileSync } from "node:fs";
import { expect, it, test } from "vitest";
import { FormatError } from "../../errors.ts";
import { readSentencePiece } from "./model-file.ts";
import { createSentencePiece } from "./sentencepiece.ts";

const fixture = JSON.parse(readFileSync(new URL("sentencepiece.fixture.json", import.meta.url), "utf8")) as { models: { name: string; model: string }[] };
const models = fixture.models.map(({ model }) => new Uint8Array(Buffer.from(model, "base64")));

type Bytes = readonly number[];
const text = (string: string): Bytes => [...new TextEncoder().encode(string)];
const varint = (value: number): Bytes => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
const number = (field: number, value: number): Bytes => [...varint(field * 8), ...varint(value)];
const bytes = (field: number, content: Bytes): Bytes => [...varint(field * 8 + 2), ...varint(content.length), ...content];
const float = (field: number, value: number): Bytes => [...varint(field * 8 + 5), ...new Uint8Array(Float32Array.of(value).buffer)];
const piece = (spelling: string, type = 1, score = -1): Bytes => bytes(1, [...bytes(1, text(spelling)), ...float(2, score), ...number(3, type)]);
const UNK = piece("<unk>", 2);
const GOOD = [...UNK, ...piece("a"), ...piece("b")];
const trainer = (...content: Bytes): Bytes => bytes(2, content);
const charsmap = (content: Bytes): Bytes => bytes(3, bytes(2, content));

/** A trie of one block: `units` by their place, the others are no one's children. */
function trie(units: Record<number, number>, replacements: Bytes = [...text("x"), 0]): Bytes {
  const block = new Uint32Array(256).fill(0x8000_0000);
  for (const [at, unit] of Object.entries(units)) block[Number(at)] = unit;
  return [...new Uint8Array(Uint32Array.of(1024).buffer), ...new Uint8Array(block.buffer), ...replacements];
}
/** A unit that byte `label` leads to, with its children at `at ^ offset`. */
const unit = (label: number, offset: number, endsKey = false): number => label + offset * 1024 + (endsKey ? 256 : 0);
/** "a" is replaced by what stands at `value`: the root's children are at 1 ^ byte, those of "a" (0x60) at 0x60 ^ 2. */
const replaceA = (value: number): Record<number, number> => ({ 0: unit(0, 1), 96: unit(0x61, 2, true), 98: 0x8000_0000 + value });

const cases: [string, Bytes, RegExp][] = [
  ["nothing", [], /^m\.model: no unknown piece, expected one piece of type UNKNOWN, got "0 pieces without one"/],
  ["JSON", text('{"model": {}}'), /^m\.model: .*field|cut off/],
  ["a length past the end", [0x0a, 0x7f, 0x0a], /^m\.model: cut off before byte 2 of 3, expected 127 more bytes, got 1\. The file is cut off/],
  ["a length of 2^63", [0x0a, ...Array(8).fill(0xff), 0x7f], /cut off before byte 10 of 10, expected 9223372036854776000 more bytes/],
  ["a number without end", [0x0a, ...Array(12).fill(0xff)], /bad number before byte 11 of 13, expected at most 10 bytes/],
  ["a number that is cut off", [0x0a, 0x80], /cut off before byte 2 of 2, expected the rest of a number/],
  ["field 0", [0x02, 0x00], /bad field number before byte 1 of 2, expected one from 1 to 536870911, got 0/],
  ["a group", [...GOOD, 0x63, 0x64], /bad wire type of field 12 .* got "the start of a group"/],
  ["pieces as numbers", number(1, 7), /wrong type of field 1 .* expected bytes with their length, got "a varint"/],
  ["a score as a number", [...UNK, ...bytes(1, [...bytes(1, text("a")), ...number(2, 1)])], /pieces\[1\]: wrong type of field 2 .* expected 4 bytes/],
  ["a score that is cut off", [...UNK, ...bytes(1, [...bytes(1, text("a")), 0x15, 0, 0])], /pieces\[1\]: cut off .* expected 4 more bytes, got 2/],
  ["a piece in bad UTF-8", [...UNK, ...bytes(1, bytes(1, [0x61, 0xff]))], /pieces\[1\]: bad text .* expected UTF-8, got "61 ff"/],
  ["an empty piece", [...GOOD, ...piece("")], /pieces\[3\]: empty piece/],
  ["a long piece", [...GOOD, ...piece("a".repeat(8000))], /pieces\[3\]: an absurdly long piece, expected at most 7999 characters, got 8000/],
  ["NUL in a piece", [...GOOD, ...piece("a\0")], /pieces\[3\]: NUL in a piece/],
  ["a piece twice", [...GOOD, ...piece("a", 5)], /pieces\[3\]: piece given twice, expected it only as id 1, got "a"/],
  ["two names alike", [...GOOD, ...piece("<s>", 3), ...piece("<s>", 3)], /pieces\[4\]: piece given twice/],
  ["a score of NaN", [...GOOD, ...piece("c", 1, Number.NaN)], /pieces\[3\]: bad score, expected a finite number, got NaN/],
  ["type 7", [...GOOD, ...piece("c", 7)], /pieces\[3\]: unknown type of piece, expected 1 to 6, got 7/],
  ["two unknown pieces", [...GOOD, ...piece("?", 2)], /pieces\[3\]: a second unknown piece, expected only id 0/],
  ["no unknown piece", piece("a"), /no unknown piece/],
  ["nothing to cut into", [...UNK, ...piece("<s>", 3)], /nothing that text could be cut into/],
  ["a byte without fallback", [...GOOD, ...piece("<0x00>", 6)], /pieces\[3\]: a byte piece without byte fallback/],
  ["a bad byte", [...GOOD, ...piece("<0x0g>", 6), ...trainer(...number(35, 1))], /pieces\[3\]: bad byte piece/],
  ["too few bytes", [...GOOD, ...piece("<0x00>", 6), ...trainer(...number(35, 1))], /byte fallback without its bytes, expected 256 byte pieces, got 1/],
  ["model 5", [...GOOD, ...trainer(...number(3, 5))], /trainer_spec\.model_type: unknown model, .* got 5/],
  ["a name as a number", [...GOOD, ...trainer(...number(46, 5))], /trainer_spec: wrong type of field 46/],
  ["a charsmap of 3 bytes", [...GOOD, ...charsmap([1, 2, 3])], /normalizer_spec\.precompiled_charsmap: bad size of the trie/],
  ["a trie past the end", [...GOOD, ...charsmap([0, 0, 0, 0x80, 0])], /bad size of the trie, .* got 2147483648/],
  ["a trie of half a block", [...GOOD, ...charsmap([0, 2, 0, 0, ...Array(600).fill(0)])], /bad size of the trie, expected a multiple of 1024 .* got 512/],
  ["a trie without replacements", [...GOOD, ...charsmap(trie(replaceA(0), []))], /bad size of the trie/],
  ["a replacement without end", [...GOOD, ...charsmap(trie(replaceA(0), text("x")))], /a replacement without its end/],
  ["replacements in bad UTF-8", [...GOOD, ...charsmap(trie(replaceA(0), [0xff, 0]))], /bad replacements, expected UTF-8/],
  ["a replacement of 1,001 bytes", [...GOOD, ...charsmap(trie(replaceA(0), [...Array(1001).fill(0x61), 0]))], /an absurd replacement/],
  ["a replacement outside", [...GOOD, ...charsmap(trie(replaceA(2)))], /charsmap\.unit 96: bad place of a replacement, .* got 2/],
  ["a replacement within a character", [...GOOD, ...charsmap(trie(replaceA(1), [...text("é"), 0]))], /unit 96: bad place of a replacement/],
  ["a key without a replacement", [...GOOD, ...charsmap(trie({ ...replaceA(0), 98: 0x62 }))], /unit 98: no place of a replacement/],
  ["children outside the trie", [...GOOD, ...charsmap(trie({ 0: unit(0, 256) }))], /unit 0: children outside the trie, expected a place below 256, got 256/],
  ["a trie that is its own branch", [...GOOD, ...charsmap(trie({ 0: unit(0, 1), 96: unit(0x61, 1), 1: unit(0, 1) }))], /a cycle in the trie/],
  ["a bad denormalizer", [...GOOD, ...bytes(5, bytes(2, [1]))], /denormalizer_spec\.precompiled_charsmap: bad size/],
];

it.each(cases)("refuses %s", (_, file, message) => {
  const read = () => readSentencePiece(Uint8Array.from(file), "m.model");
  expect(read).toThrow(FormatError);
  expect(read).toThrow(message);
});

test("the file that the others were made of is read", () => {
  const sp = createSentencePiece(readSentencePiece(Uint8Array.from([...GOOD, ...charsmap(trie(replaceA(0)))]), "m.model"));
  expect(sp.normalize("abà")).toBe("\u2581xbà");
});

test("fields that are not known are skipped, a message that comes again is merged", () => {
  const unknown = [...number(200, 1), ...bytes(201, [1, 2]), ...float(202, 1), ...varint(203 * 8 + 1), ...Array(8).fill(0)];
  const spec = readSentencePiece(Uint8Array.from([...unknown, ...GOOD, ...trainer(...number(3, 2), ...unknown), ...trainer(...number(24, 1))]), "m.model");
  expect([spec.kind, spec.treatWhitespaceAsSuffix, spec.pieces]).toEqual(["bpe", true, ["<unk>", "a", "b"]]);
});

test("a NUL beside the byte pieces is never used, and no unknown piece is needed there", () => {
  const all = Array.from({ length: 256 }, (_, byte) => piece(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 6)).flat();
  const sp = createSentencePiece(readSentencePiece(Uint8Array.from([...all, ...piece("\0"), ...piece("a"), ...trainer(...number(35, 1))]), "m.model"));
  expect(sp.unkId).toBe(null);
  expect(sp.encode("a\0é").pieces).toEqual(["<0xE2>", "<0x96>", "<0x81>", "a", "<0x00>", "<0xC3>", "<0xA9>"]);
});

/** A model without a dummy prefix. */
const make = (kind: number, ...pieces: Bytes) =>
  createSentencePiece(readSentencePiece(Uint8Array.from([...UNK, ...pieces, ...trainer(...number(3, kind)), ...bytes(3, number(3, 0))]), "m.model"));
const [UNIGRAM, BPE, WORD, CHAR] = [1, 2, 3, 4];

test("a user-defined symbol stays whole whatever its score", () => {
  const pieces = [...piece("a", 1, -1), ...piece("b", 1, -1), ...piece("abc", 1, -0.5), ...piece("ab", 4, -100)];
  expect(make(UNIGRAM, ...piece("a"), ...piece("b"), ...piece("ab", 4, -100)).encode("bab").pieces).toEqual(["b", "ab"]);
  expect(make(BPE, ...pieces).encode("abca").pieces).toEqual(["ab", "c", "a"]);
  expect(make(CHAR, ...pieces).encode("abca").pieces).toEqual(["ab", "c", "a"]);
});

test("of equal merges the leftmost goes first", () => {
  expect(make(BPE, ...piece("a"), ...piece("aa")).encode("aaa").pieces).toEqual(["aa", "a"]);
});

test("unused pieces are never given", () => {
  const pieces = [...piece("a", 1, -9), ...piece("b", 5, -1), ...piece("ab", 5, -1)];
  for (const kind of [UNIGRAM, BPE, CHAR]) expect(Array.from(make(kind, ...pieces).encode("aba").ids), `${kind}`).toEqual([1, 0, 1]);
  expect(Array.from(make(WORD, ...pieces).encode("ab a").ids)).toEqual([0]);
});

test("names are not spellings", () => {
  const pieces = [...piece("a"), ...piece("<", 3), ...piece("<s>", 3)];
  for (const kind of [UNIGRAM, BPE, WORD, CHAR]) expect(Array.from(make(kind, ...pieces).encode("<").ids)).toEqual([0]);
  expect(Array.from(make(WORD, ...pieces).encode("<s>").ids)).toEqual([0]);
});

test("the scores of a long text do not drown in their sum", () => {
  // As float32, sums of 1e7 and more are whole numbers: the fifth by which "aa" is worse would be lost.
  const { ids } = make(UNIGRAM, ...piece("a", 1, -1000), ...piece("aa", 1, -2000.2)).encode("a".repeat(100_000));
  expect(ids.length).toBe(100_000);
});

/** Reads and uses a file; anything but a result or a FormatError is thrown on. */
function tryOut(file: Uint8Array): void {
  try {
    const sp = createSentencePiece(readSentencePiece(file, "m.model"));
    sp.decode(sp.encode("the Ahab's whale 語🙂 ﬁ\u3000\u3000\0").ids);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
}

test("files cut off anywhere", () => {
  const step = models[0].length / 500;
  for (const model of models) for (let end = 0; end < model.length; end += Math.ceil(step * 10)) tryOut(model.subarray(0, end));
});

test("files with bytes changed anywhere", () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
    return (seed >>> 8) % below;
  };
  for (let i = 0; i < 800; i++) {
    const file = models[i % models.length].slice();
    for (let k = random(4); k >= 0; k--) file[random(file.length)] = random(256);
    tryOut(file);
  }
});

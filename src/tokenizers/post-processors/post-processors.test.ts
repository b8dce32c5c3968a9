/** Post-processing, truncation and padding equal Hugging Face's; wrong files and impossible wishes are refused. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, FormatError } from "../../errors.ts";
import type { Offset } from "../encoding.ts";
import { Place } from "../files/strict-json.ts";
import type { Encoded } from "./encoded.ts";
import { padBatch, readPadding, writePadding } from "./padding.ts";
import { countAdded, postProcess, readPostProcessor, writePostProcessor } from "./post-processors.ts";
import { readTruncation, truncate, writeTruncation } from "./truncation.ts";

type Columns = [number[], string[], Offset[], number[], (number | null)[], number[], number[], (number | null)[], Columns[]];
type Case = {
  processor: unknown;
  truncation: unknown;
  padding: unknown;
  special: boolean;
  rows: [first: number, second: number | null, found: Columns | string][];
};
const fixture = JSON.parse(readFileSync(new URL("../fixtures/post-processors.json", import.meta.url), "utf8")) as { texts: Columns[]; cases: Case[] };
const place = new Place("tokenizer.json");

function fromColumns([ids, tokens, places, typeIds, words, specialMask, attentionMask, sequences, rest]: Columns): Encoded {
  return { ids, tokens, places, typeIds, words, specialMask, attentionMask, sequences, overflowing: rest.map(fromColumns) };
}

function toColumns(text: Encoded, named: boolean): Columns {
  const { ids, tokens, places, typeIds, words, specialMask, attentionMask, sequences, overflowing } = text;
  const rest = overflowing.map((part) => toColumns(part, named));
  return [ids, tokens, places, typeIds, words, specialMask, attentionMask, named ? sequences : sequences.map(() => null), rest];
}

const texts = fixture.texts.map(fromColumns);

describe.each(fixture.cases.map((entry) => ({ ...entry, name: JSON.stringify([entry.processor, entry.truncation, entry.padding, entry.special]) })))(
  "$name",
  (entry) => {
    const processor = readPostProcessor(entry.processor, place);
    const truncation = readTruncation(entry.truncation, place);
    const padding = readPadding(entry.padding, place);

    it("equals Hugging Face tokenizers", () => {
      for (const [first, second, found] of entry.rows) {
        const run = (): Encoded => {
          const given = second === null ? ([texts[first]] as const) : ([texts[first], texts[second]] as const);
          const added = entry.special ? countAdded(processor, second !== null) : 0;
          const whole = postProcess(processor, truncation === null ? given : truncate<typeof given>(given, truncation, added), entry.special);
          return padding === null ? whole : padBatch([whole], padding)[0];
        };
        const name = `${first}, ${second}`;
        if (typeof found === "string") expect(run, name).toThrow({ stride: /expected a stride/, Second: /expected a pair/, short: /too short/ }[found]);
        else expect(toColumns(run(), entry.processor !== null), name).toEqual(found);
      }
    });

    it("is written as it was read", () => {
      expect(JSON.parse(JSON.stringify([writePostProcessor(processor), writeTruncation(truncation), writePadding(padding)]))).toEqual([
        entry.processor,
        entry.truncation,
        entry.padding,
      ]);
    });
  },
);

describe("what can't be", () => {
  const bert = { type: "BertProcessing", sep: ["[SEP]", 1], cls: ["[CLS]", 2] };
  const truncation = { direction: "Right", max_length: 3, strategy: "LongestFirst", stride: 0 } as const;
  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "s", type_id: 0 } }],
    pair: [],
    special_tokens: { s: { id: "s", ids: [1], tokens: ["s"] } },
  };

  it("is a maximum that special tokens alone go beyond", () => {
    expect(() => truncate([texts[2]], truncation, 4)).toThrow(ConfigError);
    const [cut] = truncate([texts[2]], truncation, 3);
    expect([cut.ids, cut.overflowing]).toEqual([[], [texts[2]]]);
  });

  it("is a template behind one that made three texts of one", () => {
    const three = { ...template, single: [...template.single, { Sequence: { id: "A", type_id: 0 } }, ...template.single] };
    const spec = readPostProcessor({ type: "Sequence", processors: [three, three] }, place);
    expect(() => postProcess(spec, [texts[2]], true)).toThrow(DataError);
  });

  const nested = (depth: number): unknown => (depth === 0 ? bert : { type: "Sequence", processors: [nested(depth - 1)] });
  const wrong: [string, () => unknown, RegExp][] = [
    ["unknown type", () => readPostProcessor({ type: "Other" }, place), /type: unknown post_processor, expected ByteLevel, .* or Sequence, got "Other"/],
    ["unknown key", () => readPostProcessor({ ...bert, x: 1 }, place), /unknown key "x"/],
    ["id as text", () => readPostProcessor({ ...bert, sep: ["[SEP]", "1"] }, place), /sep\[1\]: bad id/],
    ["token alone", () => readPostProcessor({ ...bert, sep: ["[SEP]"] }, place), /sep: bad token/],
    ["Roberta without its options", () => readPostProcessor({ ...bert, type: "RobertaProcessing" }, place), /trim_offsets: wrong type/],
    ["special token without ids", () => readPostProcessor({ ...template, special_tokens: {} }, place), /single\[0\]: unknown special token/],
    [
      "more ids than tokens",
      () => readPostProcessor({ ...template, special_tokens: { s: { id: "s", ids: [1, 2], tokens: ["s"] } } }, place),
      /special_tokens\.s: ids without tokens/,
    ],
    [
      "second text of one",
      () => readPostProcessor({ ...template, single: [{ Sequence: { id: "B", type_id: 0 } }] }, place),
      /second text in a template for one/,
    ],
    ["third text", () => readPostProcessor({ ...template, single: [{ Sequence: { id: "C", type_id: 0 } }] }, place), /id: unknown word, expected A or B/],
    ["piece of two kinds", () => readPostProcessor({ ...template, single: [{ ...template.single[0], Sequence: {} }] }, place), /bad piece of a template/],
    ["too deep", () => readPostProcessor(nested(9), place), /nested too deep/],
    ["strategy", () => readTruncation({ ...truncation, strategy: "All" }, place), /strategy: unknown word, expected LongestFirst or/],
    ["max_length", () => readTruncation({ ...truncation, max_length: 1.5 }, place), /max_length: bad number/],
    ["padding's strategy", () => readPadding({ strategy: "Longest" }, place), /strategy: wrong type, expected an object, got "Longest"/],
    ["padding's length", () => readPadding({ strategy: { Fixed: -1 } }, place), /strategy\.Fixed: bad number/],
  ];
  it.each(wrong)("is read: %s", (_, read, message) => {
    expect(read).toThrow(FormatError);
    expect(read).toThrow(message);
  });
});

describe("padding", () => {
  it("makes a batch as long as its longest text", () => {
    const spec = readPadding({ strategy: "BatchLongest", direction: "Left", pad_id: 5, pad_type_id: 1, pad_token: "-" }, place);
    const [short, long] = padBatch([texts[0], texts[4]], spec as NonNullable<typeof spec>);
    expect(short.ids).toEqual(texts[4].ids.map(() => 5));
    expect(short.attentionMask).toEqual(texts[4].ids.map(() => 0));
    expect(long).toEqual(texts[4]);
  });
});

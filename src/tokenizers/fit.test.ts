/** Batches that are cut and padded equal Hugging Face's, by both engines; options that can't be are refused in words. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, FormatError } from "../errors.ts";
import {
  byteTokenizer,
  createTokenizer,
  type EncodeOptions,
  type Encoding,
  loadTokenizer,
  memoryFiles,
  readTokenizerJson,
  type Tokenizer,
  WHOLE,
} from "./index.ts";
import { specialToken, type TokenizerSpec } from "./tokenizer-spec.ts";

type Part = [ids: number[], offsets: [number, number][], mask: number[]];
type Columns = [ids: number[], offsets: [number, number][], typeIds: number[], mask: number[], special: number[], overflowing: Part[]];
interface Asked {
  tokenizer: string;
  truncation: { max_length?: number; stride?: number; strategy?: "only_first"; direction?: "left" };
  padding: { length?: number; direction?: "left"; pad_to_multiple_of?: number; pad_type_id?: number };
  special: boolean;
  pairs: boolean;
  found: Columns[] | string;
}
interface Fixture {
  processors: Record<string, unknown>;
  texts: string[];
  seconds: string[];
  pads: Record<string, [token: string, id: number]>;
  asked: Asked[];
  inFile: { tokenizer: string; truncation: unknown; padding: unknown; pairs: boolean; found: Columns[] | string }[];
  folders: {
    blocks: object | null;
    config: object;
    call: { padding?: true | "max_length"; truncation?: true; max_length?: number; pad_to_multiple_of?: number };
    found: [ids: number[][], types: number[][], mask: number[][]];
  }[];
}
const read = (name: string) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
const fixture: Fixture = read("fit.fixture.json");
const whole: Record<string, { file: string }> = read("pipeline-tokenizer.fixture.json").tokenizers;
const trained = JSON.parse(read("fixtures/reference.json").trained[1].file);
const { texts, seconds } = fixture;

/** The tokenizer.json that the fixture was made with. */
const fileOf = (name: string): Record<string, unknown> =>
  Object.hasOwn(fixture.processors, name) ? { ...trained, post_processor: fixture.processors[name] } : JSON.parse(whole[name].file);
const specOf = (name: string, more: object = {}): TokenizerSpec => readTokenizerJson(JSON.stringify({ ...fileOf(name), ...more }), "tokenizer.json");

const toColumns = (made: Encoding): Columns => [
  [...made.ids],
  made.offsets.map(([start, end]) => [start, end]),
  [...made.typeIds],
  [...made.attentionMask],
  [...made.specialTokensMask],
  made.overflowing.map(({ ids, offsets, attentionMask }) => [[...ids], offsets.map(([start, end]) => [start, end]), [...attentionMask]]),
];

/** As we see what Hugging Face found: it marks what was put around a text, we also mark special tokens of the vocabulary in it (`<unk>`). */
function seen({ spec }: Tokenizer, [ids, offsets, typeIds, mask, special, overflowing]: Columns): Columns {
  const known = new Set(spec.addedTokens.filter((token) => token.special).map(({ id }) => id));
  return [ids, offsets, typeIds, mask, special.map((mark, i) => (known.has(ids[i]) ? 1 : mark)), overflowing];
}

/** A batch, text by text where nothing depends on the batch, its ids and its counts. */
function same(tokenizer: Tokenizer, options: EncodeOptions, pairs: boolean, found: Columns[] | string, toLongest: boolean): void {
  const wanted = pairs ? { ...options, pair: seconds } : options;
  if (typeof found === "string") {
    expect(() => tokenizer.encodeBatch(texts, wanted)).toThrow({ stride: /expected a stride/, short: /too short/ }[found]);
    return;
  }
  const made = tokenizer.encodeBatch(texts, wanted);
  expect(made.map(toColumns)).toEqual(found.map((each) => seen(tokenizer, each)));
  for (const { tokens, ids } of made) expect(tokens).toHaveLength(ids.length);
  const { ids, starts } = tokenizer.encodeAll(texts, wanted);
  expect([...starts].slice(1).map((end, i) => [...ids.subarray(starts[i], end)])).toEqual(found.map(([each]) => each));
  if (toLongest) return;
  for (const [i, text] of texts.entries()) {
    const alone = pairs ? { ...options, pair: seconds[i] } : options;
    expect(toColumns(tokenizer.encode(text, alone))).toEqual(seen(tokenizer, found[i]));
    expect(tokenizer.count(text, alone)).toBe(found[i][0].length);
  }
}

const optionsOf = ({ tokenizer, truncation, padding, special }: Asked): EncodeOptions => {
  const [padToken, padId] = fixture.pads[tokenizer];
  const { max_length: maxLength, ...cut } = truncation;
  const { pad_to_multiple_of, pad_type_id, ...pad } = padding;
  const numbers = {
    ...(pad_to_multiple_of === undefined ? {} : { padToMultipleOf: pad_to_multiple_of }),
    ...(pad_type_id === undefined ? {} : { padTypeId: pad_type_id }),
  };
  return {
    addSpecialTokens: special,
    truncation: maxLength === undefined ? false : { maxLength, ...cut },
    padding: Object.keys(padding).length === 0 ? false : { ...pad, ...numbers, padToken, padId },
  };
};

describe.each(["auto", "reference"] as const)("engine %s", (engine) => {
  it.each(fixture.asked.map((asked) => ({ ...asked, name: JSON.stringify([asked.tokenizer, asked.truncation, asked.padding, asked.special, asked.pairs]) })))(
    "as tokenizers was asked to: $name",
    (asked) => {
      const options = optionsOf(asked);
      const padded = typeof options.padding === "object" ? options.padding : {};
      // Hugging Face tokenizers pads beyond the maximum; here that is refused.
      const tooFar = padded.padToMultipleOf !== undefined && (asked.truncation.max_length ?? 0) % padded.padToMultipleOf !== 0;
      const tokenizer = createTokenizer(specOf(asked.tokenizer), engine);
      if (tooFar) expect(() => tokenizer.encodeBatch(texts, options)).toThrow(/a multiple of padToMultipleOf, 8, got 8?/);
      else same(tokenizer, options, asked.pairs, asked.found, padded.padToken !== undefined && padded.length === undefined);
    },
  );

  it.each(fixture.inFile.map((each) => ({ ...each, name: `${each.tokenizer}${each.pairs ? ", pairs" : ""}` })))(
    "as a tokenizer.json says, without being asked: $name",
    ({ tokenizer: name, truncation, padding, pairs, found }) => {
      const tokenizer = createTokenizer(specOf(name, { truncation, padding }), engine);
      same(tokenizer, {}, pairs, found, true);
      // Asked for all of a text, its file does not matter.
      const plain = createTokenizer(specOf(name), engine);
      expect(toColumns(tokenizer.encode(texts[0], WHOLE))).toEqual(toColumns(plain.encode(texts[0])));
      expect(tokenizer.count(texts[0], WHOLE)).toBe(plain.count(texts[0]));
    },
  );

  it.each(fixture.folders.map((each) => ({ ...each, name: JSON.stringify([each.config, each.call]) })))(
    "as transformers with a tokenizer_config.json: $name",
    async ({ blocks, config, call, found }) => {
      const files = { "tokenizer.json": JSON.stringify({ ...fileOf("bert"), ...blocks }), "tokenizer_config.json": JSON.stringify(config) };
      const tokenizer = await loadTokenizer(memoryFiles(files), { engine });
      const { pad_to_multiple_of: padToMultipleOf, max_length: maxLength, padding = false } = call;
      const made = tokenizer.encodeBatch(texts, {
        ...(maxLength === undefined ? {} : { maxLength }),
        // What transformers does when it is told nothing; a lone maximum cuts.
        ...(call.truncation !== undefined || maxLength === undefined || padding !== false ? { truncation: call.truncation ?? false } : {}),
        padding: padToMultipleOf === undefined ? padding : { padToMultipleOf },
      });
      expect([made.map(({ ids }) => [...ids]), made.map(({ typeIds }) => [...typeIds]), made.map(({ attentionMask }) => [...attentionMask])]).toEqual(found);
    },
  );
});

describe("what was asked for", () => {
  const spec = specOf("bert");
  const bert = createTokenizer(spec);
  const bytes = byteTokenizer({ specialTokens: ["<pad>"] });

  it("is a maximum beside truncation, beside padding, or alone", () => {
    const padding = { padToken: "[PAD]", strategy: "max_length" } as const;
    expect(bert.encode("the whale and the sea", { maxLength: 4 }).ids).toHaveLength(4);
    expect(bert.encode("the", { maxLength: 9, padding }).ids).toHaveLength(9);
    expect(bert.encode("the whale and the sea, the sea", { maxLength: 5, padding }).ids.length).toBeGreaterThan(5);
    expect(bert.encode("the whale and the sea, the sea", { maxLength: 5, padding, truncation: true }).ids).toHaveLength(5);
    expect(bert.encode("the whale and the sea", { maxLength: 4, truncation: { maxLength: 5 }, padding }).ids).toHaveLength(5);
  });

  it("is padding with an ordinary token, marked as none of the text", () => {
    const made = bert.encode("sea", { padding: { length: 6, padToken: "the", direction: "left" } });
    expect([...made.specialTokensMask].slice(0, 4)).toEqual([1, 1, 1, 1]);
    expect([...made.attentionMask].slice(0, 4)).toEqual([0, 0, 0, 1]);
    expect(made.tokens.slice(0, 3)).toEqual(["the", "the", "the"]);
  });

  it("is a list of pairs as long as the texts, or one pair for all", () => {
    const [one, two] = bert.encodeBatch(["the", "a"], { pair: ["sea", "the whale"] });
    expect([one.ids, two.ids]).toEqual([bert.encode("the", { pair: "sea" }).ids, bert.encode("a", { pair: "the whale" }).ids]);
    expect(bert.encodeBatch(["the", "a"], { pair: "sea" })[1].ids).toEqual(bert.encode("a", { pair: "sea" }).ids);
    expect(() => bert.encodeBatch(["the", "a"], { pair: ["sea"] })).toThrow(/expected 2 texts, one for each text, got 1/);
    expect(() => bytes.encodeAll(["the", "a"], { pair: ["sea"] })).toThrow(ConfigError);
  });

  it("is found in text that is UTF-8, and what is none is counted", () => {
    const broken = Uint8Array.of(97, 0xff, 98);
    expect(bytes.encodeAll([broken, "ab"], { padding: { padToken: "<pad>" } })).toMatchObject({ replaced: 1, starts: Int32Array.of(0, 5, 10) });
  });

  it("is cut off in a template of one text too, which no file says", () => {
    const tokenizer = createTokenizer({
      ...byteTokenizer().spec,
      postProcessor: { before: [{ id: 256, typeId: 1 }], after: [], typeId: 0 },
      addedTokens: [specialToken("<s>", 256)],
    });
    const { ids, typeIds, offsets, overflowing } = tokenizer.encode("abcd", { maxLength: 3 });
    expect([[...ids], [...typeIds], offsets]).toEqual([
      [256, 97, 98],
      [1, 0, 0],
      [
        [0, 0],
        [0, 1],
        [1, 2],
      ],
    ]);
    expect(overflowing.map((part) => [...part.ids])).toEqual([[256, 99, 100]]);
    expect([...overflowing[0].typeIds]).toEqual([1, 0, 0]);
  });

  const wrong: [string, EncodeOptions, RegExp][] = [
    ["an unknown length", { truncation: true }, /do not say how much the model takes, got nothing. Give maxLength/],
    ["an unknown length to pad to", { padding: "max_length" }, /padding to an unknown length/],
    ["no padding token", { padding: true }, /without a padding token, expected padToken or padId/],
    ["a token outside the vocabulary", { padding: { padToken: "<none>" } }, /not in the vocabulary.*"<none>"/],
    ["an id outside the vocabulary", { padding: { padId: 9_999_999 } }, /id that has no token/],
    ["a negative id", { padding: { padId: -1 } }, /bad padId/],
    ["a misspelt strategy", { truncation: { maxLength: 3, strategy: "longest" as "longest_first" } }, /unknown strategy, expected longest_first or/],
    ["a misspelt side", { truncation: { maxLength: 3, direction: "Left" as "left" } }, /unknown direction, expected left or right, got "Left"/],
    ["a misspelt padding", { padding: "maxlength" as "longest" }, /unknown padding, expected longest or max_length/],
    ["an unknown option", { truncation: { max_length: 3 } as object }, /truncation: unknown option.*maxLength/],
    ["an unknown option of padding", { padding: { pad_id: 3 } as object }, /padding: unknown option.*padId/],
    ["a length that is none", { maxLength: 1.5 }, /bad maxLength/],
    ["a stride that is none", { truncation: { maxLength: 3, stride: -1 } }, /bad stride/],
    ["a multiple of nothing", { padding: { padToken: "[PAD]", padToMultipleOf: 0 } }, /bad padToMultipleOf, expected a whole number from 1/],
    ["two lengths", { padding: { padToken: "[PAD]", strategy: "longest", length: 3 } }, /the longest and to a length/],
    ["a maximum without effect", { maxLength: 3, padding: { padToken: "[PAD]" } }, /maxLength without effect/],
    [
      "padding beyond the maximum",
      { truncation: { maxLength: 6 }, padding: { padToken: "[PAD]", padToMultipleOf: 4 } },
      /a multiple of padToMultipleOf, 4, got 6/,
    ],
    ["no room for special tokens", { maxLength: 1 }, /a max_length of at least 2, got 1/],
  ];
  it.each(wrong)("can't be %s", (_, options, message) => {
    for (const call of [() => bert.encode("the whale", options), () => bert.encodeAll(["the whale"], options), () => bert.count("the whale", options)]) {
      expect(call).toThrow(ConfigError);
      expect(call).toThrow(message);
    }
  });

  it("can't be the second of one text", () => {
    expect(() => bert.encode("the whale and the sea", { truncation: { maxLength: 4, strategy: "only_second" } })).toThrow(DataError);
  });

  it.each([
    ["model_max_length", { model_max_length: "512" }],
    ["model_max_length", { model_max_length: 0 }],
    ["padding_side", { padding_side: "both" }],
    ["model_input_names", { model_input_names: "input_ids" }],
  ])("can't be a tokenizer_config.json with a bad %s", async (key, config) => {
    const files = memoryFiles({ "tokenizer.json": JSON.stringify(fileOf("bert")), "tokenizer_config.json": JSON.stringify(config) }, "folder");
    await expect(loadTokenizer(files)).rejects.toThrow(FormatError);
    await expect(loadTokenizer(files)).rejects.toThrow(new RegExp(`folder/tokenizer_config.json, ${key}`));
  });

  it("has no maximum where transformers writes that there is none", async () => {
    const files = memoryFiles({
      "tokenizer.json": JSON.stringify(fileOf("bert")),
      "tokenizer_config.json": '{"model_max_length": 1000000000000000019884624838656}',
    });
    expect((await loadTokenizer(files)).spec.settings).toBeUndefined();
  });
});

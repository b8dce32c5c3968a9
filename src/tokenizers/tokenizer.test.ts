import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError, DataError, GroundupError } from "../errors.ts";
import { loadNative } from "../tensor/native-binding.ts";
import type { Engine } from "./byte-level/native-text.ts";
import {
  byteTokenizer,
  charTokenizer,
  createTokenizer,
  loadTokenizer,
  memoryFiles,
  readTokenizerJson,
  trainBpe,
  trainBpeStream,
  writeTokenizerJson,
} from "./index.ts";
import { specialToken } from "./tokenizer-spec.ts";

const TEXT = "the cat sat on the mat; the cats sat. naïve café 語 🙂 <|end|> ".repeat(40);
const engines: Engine[] = loadNative().binding === null ? ["reference"] : ["native", "reference"];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
});
afterAll(() => rm(folder, { recursive: true }));

for (const engine of engines) {
  describe(`${engine} engine`, () => {
    const tokenizer = trainBpe(TEXT, { vocabSize: 320, specialTokens: ["<|end|>"], engine });
    const end = tokenizer.specialTokens.get("<|end|>") as number;

    it("never makes a special token of text unless asked", () => {
      expect(tokenizer.encode("a <|end|> b").ids).not.toContain(end);
      expect(tokenizer.encode("a <|end|> b", { allowSpecial: true }).ids).toContain(end);
      expect(tokenizer.encode("a <|end|> b", { allowSpecial: ["<|end|>"] }).ids).toContain(end);
      expect(tokenizer.encodeAll(["<|end|>"]).ids).not.toContain(end);
      expect(() => tokenizer.encode("a", { allowSpecial: ["<|pad|>"] })).toThrow(DataError);
      // The same where the text's own words would merge to it.
      const merged = trainBpe("endendend ".repeat(50), { vocabSize: 270, specialTokens: ["end"], engine });
      expect(merged.encode("end endend").ids).not.toContain(0);
      expect(merged.decode(merged.encode("end endend").ids)).toBe("end endend");
    });

    it("gives tokens, offsets and masks when they are read", () => {
      const text = "the 語🙂 <|end|> café";
      const encoding = tokenizer.encode(text, { allowSpecial: true });
      expect(encoding.tokens.length).toBe(encoding.ids.length);
      expect(encoding.tokens.every((token, i) => tokenizer.tokenToId(token) === encoding.ids[i])).toBe(true);
      expect(tokenizer.idToToken(end)).toBe("<|end|>");
      const at = encoding.ids.indexOf(end);
      expect(encoding.offsets[at]).toEqual([text.indexOf("<"), text.indexOf(">") + 1]);
      expect(encoding.offsets[0][0]).toBe(0);
      expect(encoding.offsets.at(-1)?.[1]).toBe(text.length);
      for (const [i, [start]] of encoding.offsets.entries()) if (i > 0) expect(start).toBeLessThanOrEqual(encoding.offsets[i - 1][1]);
      expect(Array.from(encoding.attentionMask)).toEqual(Array(encoding.ids.length).fill(1));
      expect(encoding.specialTokensMask[at]).toBe(1);
      expect(Array.from(encoding.typeIds)).toEqual(Array(encoding.ids.length).fill(0));
    });

    it("decodes what it encoded, skips special tokens when asked, refuses foreign ids", () => {
      const { ids } = tokenizer.encode(TEXT, { allowSpecial: true });
      expect(tokenizer.decode(ids)).toBe(TEXT);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(TEXT.replaceAll("<|end|>", ""));
      expect(tokenizer.decode(Array.from(ids))).toBe(TEXT);
      for (const bad of [-1, tokenizer.vocabSize, 1.5, Number.NaN, 2 ** 40]) expect(() => tokenizer.decode([0, bad])).toThrow(DataError);
    });

    it("streams whole characters only", () => {
      const text = "é語🙂";
      const bytes = byteTokenizer({ engine });
      const stream = bytes.decodeStream();
      const pieces = Array.from(bytes.encode(text).ids, (id) => stream.push(id));
      expect(pieces.join("") + stream.end()).toBe(text);
      expect(pieces.filter((piece) => piece !== "")).toEqual(["é", "語", "🙂"]);
      const cut = bytes.decodeStream();
      expect(cut.push(0xf0) + cut.push(0x9f)).toBe("");
      expect(cut.end()).toBe("\ufffd");
    });

    it("takes bytes, replaces what is not UTF-8 and counts it", () => {
      const bytes = new TextEncoder().encode(TEXT);
      expect(tokenizer.encode(bytes).ids).toEqual(tokenizer.encode(TEXT).ids);
      const broken = tokenizer.encodeAll([Uint8Array.from([97, 0xff, 98, 0xe8, 0xaa]), "\ud800x"]);
      expect(broken.replaced).toBeGreaterThanOrEqual(2);
      expect(tokenizer.decode(broken.ids)).toBe("a\ufffdb\ufffd\ufffdx");
    });

    it("gives the same ids for a batch, alone, and for any number of threads", () => {
      const long = TEXT.repeat(120);
      const texts = [TEXT, "", long, "x"];
      const alone = texts.map((text) => tokenizer.encode(text, { threads: 1 }).ids);
      for (const threads of [1, 2, 5]) {
        const { ids, starts } = tokenizer.encodeAll(texts, { threads });
        for (const [i, expected] of alone.entries()) expect(ids.slice(starts[i], starts[i + 1]).join()).toBe(expected.join());
        expect(tokenizer.encodeBatch(texts, { threads }).map((e) => e.ids.join())).toEqual(alone.map((e) => e.join()));
        expect(texts.map((text) => tokenizer.count(text, { threads }))).toEqual(alone.map((ids) => ids.length));
      }
    });

    it("trains the same from one text, many, bytes, a stream, and on any number of threads", async () => {
      const documents = Array.from({ length: 300 }, (_, i) => TEXT.slice(i % 60) + i);
      async function* stream() {
        yield* documents;
      }
      const options = { vocabSize: 400, engine };
      const expected = writeTokenizerJson(trainBpe(documents, options).spec);
      expect(writeTokenizerJson(trainBpe(documents, { ...options, threads: 1 }).spec)).toBe(expected);
      expect(
        writeTokenizerJson(
          trainBpe(
            documents.map((d) => new TextEncoder().encode(d)),
            options,
          ).spec,
        ),
      ).toBe(expected);
      expect(writeTokenizerJson((await trainBpeStream(stream(), options)).spec)).toBe(expected);
    });

    it("stays usable on hostile text", () => {
      const length = engine === "native" ? 1_000_000 : 100_000;
      const start = performance.now();
      for (const text of ["a".repeat(length), " ".repeat(length), "ab".repeat(length / 2)]) {
        expect(tokenizer.decode(tokenizer.encode(text).ids)).toBe(text);
      }
      expect(performance.now() - start).toBeLessThan(20_000);
    });

    it("says so when it was disposed", () => {
      if (engine === "reference") return;
      const gone = trainBpe("abc", { vocabSize: 256, engine });
      gone.dispose();
      gone.dispose();
      expect(() => gone.encode("a")).toThrow(GroundupError);
    });
  });
}

it("the reference engine refuses, in words, a word that JavaScript can't match", () => {
  const tokenizer = trainBpe("abc", { vocabSize: 256, engine: "reference" });
  expect(() => tokenizer.encode("a".repeat(10_000_000))).toThrow(DataError);
});

it("both engines make the same of random text", () => {
  if (engines.length < 2) return;
  const [native, reference] = engines.map((engine) => trainBpe(TEXT, { vocabSize: 350, pattern: "cl100k", engine }));
  let seed = 9;
  const next = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  for (let i = 0; i < 300; i++) {
    const text = Array.from({ length: next(80) }, () => (next(3) > 0 ? TEXT[next(60)] : String.fromCharCode(next(0xffff)))).join("");
    expect(native.encode(text).ids, JSON.stringify(text)).toEqual(reference.encode(text).ids);
  }
});

it("characters: as in nanoGPT, with and without an unknown token", async () => {
  const plain = charTokenizer("hello 語🙂");
  expect(plain.vocabSize).toBe(7);
  expect(Array.from(plain.encode("hello").ids)).toEqual([2, 1, 3, 3, 4]);
  expect(plain.decode(plain.encode("語🙂o").ids)).toBe("語🙂o");
  expect(() => plain.encode("x")).toThrow(/"x".*U\+78/);
  const open = charTokenizer("ab", { unknownToken: "<unk>" });
  expect(Array.from(open.encode("axb").ids)).toEqual([0, 2, 1]);
  for (const tokenizer of [plain, open]) {
    await tokenizer.save(join(folder, "characters"));
    const again = await loadTokenizer(join(folder, "characters"));
    expect(again.spec.model).toEqual(tokenizer.spec.model);
    expect(writeTokenizerJson(again.spec)).toBe(writeTokenizerJson(tokenizer.spec));
  }
});

it("bytes: ids are the bytes", async () => {
  const tokenizer = byteTokenizer({ specialTokens: ["<s>"] });
  expect(tokenizer.vocabSize).toBe(257);
  expect(Array.from(tokenizer.encode("aé\n").ids)).toEqual([97, 0xc3, 0xa9, 10]);
  await tokenizer.save(join(folder, "bytes"));
  expect((await readdir(join(folder, "bytes"))).sort()).toEqual(["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"]);
  const again = await loadTokenizer(join(folder, "bytes"));
  expect(Array.from(again.encode("aé\n<s>", { allowSpecial: true }).ids)).toEqual([97, 0xc3, 0xa9, 10, 256]);
});

it("a token that is a word of its own is none beside letters, marks, digits, joiners and connectors", () => {
  const { spec } = byteTokenizer();
  const tokenizer = createTokenizer({ ...spec, addedTokens: [{ ...specialToken("ab", 256), special: false, singleWord: true }] });
  const found = (text: string) => tokenizer.encode(text).ids.includes(256);
  // As Hugging Face tokenizers 0.23.3 answers.
  for (const c of ["", " ", "-", "²", "①", "😀", "½"]) expect([c, found(`ab${c}`), found(`${c}ab`)]).toEqual([c, true, true]);
  for (const c of ["_", "x", "é", "\u0301", "5", "Ⅷ", "٣", "\u203f", "\u200d", "\u200c", "𝐀", "ª", "\u0345", "🄰"])
    expect([c, found(`ab${c}`), found(`${c}ab`)]).toEqual([c, false, false]);
});

it("templates, normalisers, a blank before the text, stripping tokens", async () => {
  const base = byteTokenizer().spec;
  if (base.model.kind !== "bpe") throw new Error("a byte tokenizer is a BPE");
  const tokenizer = createTokenizer({
    model: { ...base.model, addPrefixSpace: true },
    normalizer: ["NFC"],
    postProcessor: { before: [{ id: 256, typeId: 1 }], after: [{ id: 257, typeId: 2 }], typeId: 0 },
    addedTokens: [specialToken("<s>", 256), specialToken("</s>", 257), { ...specialToken("<m>", 258), special: false, lstrip: true, rstrip: true }],
  });
  const encoding = tokenizer.encode("e\u0301 <m> x");
  expect(Array.from(encoding.ids)).toEqual([256, 32, 0xc3, 0xa9, 258, 32, 120, 257]);
  expect(encoding.offsets).toEqual([
    [0, 0],
    [0, 0],
    // As with Hugging Face's, a composed character stands where its base stood.
    [0, 1],
    [0, 1],
    [2, 7],
    [7, 7],
    [7, 8],
    [0, 0],
  ]);
  expect(Array.from(encoding.typeIds)).toEqual([1, 0, 0, 0, 0, 0, 0, 2]);
  expect(Array.from(tokenizer.encode("x", { addSpecialTokens: false }).ids)).toEqual([32, 120]);
  expect(Array.from(tokenizer.encodeAll(["x", "y"]).ids)).toEqual([256, 32, 120, 257, 256, 32, 121, 257]);
  expect(tokenizer.count("x")).toBe(4);
  const spelled = createTokenizer({ ...tokenizer.spec, addedTokens: [{ ...specialToken("e\u0301", 258), special: false, normalized: true }] });
  expect(Array.from(spelled.encode("\u00e9e\u0301", { addSpecialTokens: false }).ids)).toEqual([258, 258]);
  // This template is for one text: it came from no file that says how two stand together.
  expect(() => tokenizer.encode("x", { pair: "y" })).toThrow(/no template for two texts/);
});

it("two texts that belong together", () => {
  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [
      { SpecialToken: { id: "<s>", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
      { SpecialToken: { id: "<s>", type_id: 1 } },
      { Sequence: { id: "B", type_id: 1 } },
    ],
    special_tokens: { "<s>": { id: "<s>", ids: [256], tokens: ["<s>"] } },
  };
  const plain = byteTokenizer();
  const spec = { ...plain.spec, addedTokens: [specialToken("<s>", 256)] };
  const { post_processor: _, ...file } = JSON.parse(writeTokenizerJson(spec));
  const tokenizer = createTokenizer(readTokenizerJson(JSON.stringify({ ...file, post_processor: template }), "f"));
  const both = tokenizer.encode("hé", { pair: "b" });
  expect([...both.ids]).toEqual([256, 104, 0xc3, 0xa9, 256, 98]);
  expect([...both.typeIds]).toEqual([0, 0, 0, 0, 1, 1]);
  expect(both.offsets).toEqual([
    [0, 0],
    [0, 1],
    [1, 2],
    [1, 2],
    [0, 0],
    [0, 1],
  ]);
  expect([...both.specialTokensMask]).toEqual([1, 0, 0, 0, 1, 0]);
  expect([...tokenizer.encode("h", { pair: "b", addSpecialTokens: false }).ids]).toEqual([104, 98]);
  expect(tokenizer.count("h", { pair: "b" })).toBe(4);
  // Without a template the second text has a type of its own all the same.
  expect([...plain.encode("hi", { pair: "b" }).typeIds]).toEqual([0, 0, 1]);
  expect([...tokenizer.encodeAll(["h", "i"], { pair: "b" }).ids]).toEqual([256, 104, 256, 98, 256, 105, 256, 98]);
});

it("tells tiktoken's ranks from a SentencePiece model under the same name", async () => {
  const ranks = Array.from({ length: 256 }, (_, i) => `${Buffer.from([i]).toString("base64")} ${i}\n`).join("");
  const files = () => memoryFiles({ "tokenizer.model": ranks }, "llama");
  const specialTokens = { "<|begin_of_text|>": 256 };
  for (const file of [undefined, "tokenizer.model"]) {
    const tokenizer = await loadTokenizer(files(), { pattern: "cl100k", specialTokens, ...(file === undefined ? {} : { file }) });
    expect([...tokenizer.encode("<|begin_of_text|>ab", { allowSpecial: true }).ids]).toEqual([256, 97, 98]);
  }
  await expect(loadTokenizer(files())).rejects.toThrow(/tokenizer\.model: a rank file does not say how text is split/);
  await expect(loadTokenizer(memoryFiles({ "tokenizer.model": "no model\n" }, "other"))).rejects.toThrow(/tokenizer\.model: bad wire type/);
});

it("refuses options that do not fit and text that is not there", async () => {
  expect(() => trainBpe("abc", { vocabSize: 100 })).toThrow(ConfigError);
  expect(() => trainBpe("abc", { vocabSize: 300, pattern: "gpt9" as "gpt2" })).toThrow(/gpt9/);
  expect(() => trainBpe("abc", { vocabSize: 300, specialTokens: ["a", "a"] })).toThrow(ConfigError);
  expect(() => trainBpe("abc", { vocabSize: 300, minFrequency: -1 })).toThrow(ConfigError);
  expect(() => trainBpe([], { vocabSize: 300 })).toThrow(DataError);
  expect(() => charTokenizer("")).toThrow(DataError);
  await expect(loadTokenizer(join(folder, "nowhere"))).rejects.toThrow(/nowhere.*ENOENT/);
  await expect(loadTokenizer(memoryFiles({}, "empty"))).rejects.toThrow(/no tokenizer here.*got none of them/);
  const without: [string[], RegExp][] = [
    [[], /got an empty folder\. Check the path/],
    [["notes.txt"], /got notes\.txt\. Check the path/],
    [["config.json", "model.safetensors"], /The model came without its tokenizer: put the tokenizer\.json/],
    [["a.gguf"], /A tokenizer may be in a\.gguf: name that file itself/],
    [["ranks.tiktoken"], /name that file itself/],
  ];
  for (const [i, [files, message]] of without.entries()) {
    const place = join(folder, `without-${i}`);
    await mkdir(place);
    for (const file of files) await writeFile(join(place, file), "x");
    await expect(loadTokenizer(place)).rejects.toThrow(message);
  }
});

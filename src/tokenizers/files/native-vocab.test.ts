/** The quick way into a tokenizer.json makes of every file what the reader of text makes, and leaves it the files that are not as they should be. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { random } from "../../../tests/random.ts";
import { whereNative } from "../../../tests/where-native.ts";
import { createTokenizer, loadTokenizer, memoryFiles, readTokenizerJson } from "../index.ts";
import { readTokenizerBytes } from "./tokenizer-json.ts";

const trained: { file: string }[] = JSON.parse(readFileSync(new URL("../fixtures/reference.json", import.meta.url), "utf8")).trained;
const encode = (text: string) => new TextEncoder().encode(text);

/** A small byte-level file. */
function file(change: { model?: object; added?: object[]; top?: object } = {}): string {
  const token = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const vocab = { "<s>": 0, a: 1, Ġ: 2, b: 3, Ġa: 4, ab: 5, "<|語|>": 6, é: 9 };
  const split = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return JSON.stringify({
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: change.added ?? [
      { id: 0, content: "<s>", ...token },
      { id: 6, content: "<|語|>", ...token },
      { id: 12, content: "<end>", ...token },
    ],
    normalizer: null,
    pre_tokenizer: split,
    post_processor: null,
    decoder: split,
    model: { type: "BPE", dropout: null, unk_token: null, vocab, merges: [["Ġ", "a"], "a b"], ...change.model },
    ...change.top,
  });
}

whereNative("the native reader of vocabularies", () => {
  it("makes the spec that the reader of text makes", () => {
    for (const text of [file(), ...trained.map((each) => each.file)]) {
      const quick = readTokenizerBytes(encode(text), "tokenizer.json");
      const whole = readTokenizerJson(text, "tokenizer.json");
      expect(quick).toEqual(whole);
      expect(structuredClone(quick)).toEqual(whole);
      if (quick === null) continue;
      const [one, two] = [createTokenizer(quick), createTokenizer(whole)];
      expect(one.vocabSize).toBe(two.vocabSize);
      for (const allowSpecial of [false, true]) {
        const words = "a ab Ġ <s>é<|語|> b ab<end> aab";
        expect({ ...one.encode(words, { allowSpecial }) }).toEqual({ ...two.encode(words, { allowSpecial }) });
      }
      expect(one.decode(Array.from({ length: 13 }, (_, id) => id))).toBe(two.decode(Array.from({ length: 13 }, (_, id) => id)));
      // The same vocabulary with other added tokens.
      const addedTokens = [...whole.addedTokens.slice(1), { ...whole.addedTokens[0], id: 40, content: "ab" }];
      const [other, wanted] = [quick, whole].map((spec) => createTokenizer({ ...spec, addedTokens }).encode("ab a<s>b ab").ids);
      expect(other).toEqual(wanted);
    }
  });

  it("leaves other files to the reader of text, with its errors", async () => {
    const added = (id: number, content: string) => [{ id, content, special: true }];
    const vocab = { a: 0, b: 1, ab: 2 };
    const refused = [
      file({ model: { vocab: { a: 0, b: 0 }, merges: [] } }),
      file({ model: { vocab, merges: ["b a"] }, added: [] }),
      file({ model: { vocab: { ...vocab, 語: 3 }, merges: [] }, added: [] }),
      file({ model: { vocab, merges: [] }, added: added(7, "ab") }),
      file({ model: { vocab, merges: [] }, added: added(2, "<s>") }),
      file({ model: { vocab: { ...vocab, 語: 3 }, merges: [] }, added: added(3, "<s>") }),
      file({ model: { vocab, merges: [] }, added: added(90_000, "<s>") }),
      file({ model: { vocab, merges: [], dropout: 0.5, more: 1 } }),
      file({ model: { vocab, merges: [], more: 1 } }),
      file({ model: { unk_token: "a" } }),
      file({ top: { version: "2.0" } }),
      file({ top: { more: 1 } }),
      `${file()}}`,
      file().slice(0, -1),
    ];
    for (const text of refused) {
      expect([text, readTokenizerBytes(encode(text), "x")]).toEqual([text, null]);
      let message = "";
      try {
        readTokenizerJson(text, "<memory>/tokenizer.json");
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).toMatch(/, expected .*, got /s);
      await expect(loadTokenizer(memoryFiles({ "tokenizer.json": text }))).rejects.toThrow(message);
    }
    // Fine, but not for the quick way: the last of a key's values counts.
    const twice = file().replace('"b":3', '"b":8,"b":3');
    expect(readTokenizerBytes(encode(twice), "x")).toBeNull();
    expect((await loadTokenizer(memoryFiles({ "tokenizer.json": twice }))).tokenToId("b")).toBe(3);
  });

  it("any changed byte: the same spec, or left to the reader of text", () => {
    const { below } = random(5);
    const bytes = encode(file());
    let taken = 0;
    for (let i = 0; i < 3000; i++) {
      const changed = Uint8Array.from(bytes);
      changed[below(bytes.length)] = below(3) === 0 ? below(256) : 32 + below(96);
      const quick = readTokenizerBytes(changed, "x");
      if (quick === null) continue;
      taken++;
      expect(quick).toEqual(readTokenizerJson(new TextDecoder("utf-8", { fatal: true }).decode(changed), "x"));
    }
    expect(taken).toBeGreaterThan(30);
  });
});

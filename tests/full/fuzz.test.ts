/** The fuzz tests at length. */
import { expect, test } from "vitest";
import { setMemoryLimit } from "../../src/tensor/index.ts";
import { fuzzConfigs } from "../fuzz/configs.ts";
import { fuzzGguf, fuzzPipelines, fuzzSafetensors, fuzzSentencePiece, fuzzTiktoken, fuzzTokenizerJson } from "../fuzz/files.ts";
import { fuzzNative } from "../fuzz/native-calls.ts";
import { whereNative } from "../where-native.ts";

whereNative("the native library", () => {
  test("a million random calls", { timeout: 1_200_000 }, async () => {
    for (let seed = 100; seed < 150; seed++) expect((await fuzzNative(seed, 20_000, { large: seed % 5 === 0 })).failure).toBeNull();
  });
});

test("sixty thousand changed configs", { timeout: 600_000 }, async () => {
  setMemoryLimit(256e6);
  for (let seed = 100; seed < 110; seed++)
    for (const kind of ["gpt2", "llama", "gemma3_text"] as const) expect((await fuzzConfigs(kind, seed, 2000)).slowest).toBeLessThan(5000);
});

test.each([
  ["safetensors", fuzzSafetensors, 10_000],
  ["GGUF", fuzzGguf, 10_000],
  ["tokenizer.json", fuzzTokenizerJson, 3000],
  ["tokenizers of every kind", fuzzPipelines, 2000],
  ["SentencePiece", fuzzSentencePiece, 5000],
  ["tiktoken", fuzzTiktoken, 3000],
])("changed files: %s", { timeout: 600_000 }, async (_, fuzz, rounds) => {
  for (let seed = 100; seed < 110; seed++) await fuzz(seed, rounds);
});

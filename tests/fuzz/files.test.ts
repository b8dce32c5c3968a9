/** Files from outside, changed at random. A long run is in tests/full. */
import { expect, test } from "vitest";
import { fuzzGguf, fuzzPipelines, fuzzPytorch, fuzzSafetensors, fuzzSentencePiece, fuzzTiktoken, fuzzTokenizerJson } from "./files.ts";

test.each([
  ["safetensors and their index", fuzzSafetensors, 3000],
  ["GGUF", fuzzGguf, 3000],
  ["PyTorch", fuzzPytorch, 2000],
  ["tokenizer.json", fuzzTokenizerJson, 1500],
  ["tokenizers of every kind", fuzzPipelines, 600],
  ["SentencePiece", fuzzSentencePiece, 1500],
  ["tiktoken", fuzzTiktoken, 600],
])("%s", async (_, fuzz, rounds) => {
  const { accepted, refused } = await fuzz(21, rounds);
  // If all were refused (or none), nothing behind the reader (or in it) was tried.
  expect(accepted).toBeGreaterThan(rounds / 50);
  expect(refused).toBeGreaterThan(rounds / 4);
});

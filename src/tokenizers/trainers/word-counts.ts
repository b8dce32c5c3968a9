/** Counting words: texts as a tokenizer's normalizer and pre-tokenizer leave them. */
import { textToString } from "../byte-level/bpe.ts";
import type { Text } from "../byte-level/bpe-engine.ts";
import { AlignedText } from "../normalizers/aligned-text.ts";
import { type NormalizerSpec, normalize } from "../normalizers/normalizers.ts";
import { type PreTokenizerSpec, preTokenize } from "../pre-tokenizers/pre-tokenizers.ts";

export interface WordCounter {
  /** How often each word was seen, in the order of their first places. */
  readonly counts: ReadonlyMap<string, number>;
  add(text: Text): void;
}

export function createWordCounter(normalizer: NormalizerSpec | null, preTokenizer: PreTokenizerSpec | null): WordCounter {
  const counts = new Map<string, number>();
  return {
    counts,
    add(given) {
      const text = new AlignedText(textToString(given).text);
      normalize(normalizer, text);
      for (const { text: word } of preTokenize(preTokenizer, text)) if (word !== "") counts.set(word, (counts.get(word) ?? 0) + 1);
    },
  };
}

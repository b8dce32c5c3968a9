/** Counting words: texts as a tokenizer's normalizer and pre-tokenizer leave them. */
import { textToString } from "../byte-level/bpe.ts";
import type { Text } from "../byte-level/bpe-engine.ts";
import { AlignedText } from "../normalizers/aligned-text.ts";
import { type NormalizerSpec, normalize } from "../normalizers/normalizers.ts";
import { type PreTokenizerSpec, preTokenize } from "../pre-tokenizers/pre-tokenizers.ts";

export interface CountedWords {
  /** How often each word was seen, in the order of their first places. */
  readonly counts: ReadonlyMap<string, number>;
  /** How often it was the last word of its text. */
  readonly last: ReadonlyMap<string, number>;
}

export interface WordCounter extends CountedWords {
  add(text: Text): void;
}

export function createWordCounter(normalizer: NormalizerSpec | null, preTokenizer: PreTokenizerSpec | null): WordCounter {
  const counts = new Map<string, number>();
  const last = new Map<string, number>();
  const count = (map: Map<string, number>, word: string) => map.set(word, (map.get(word) ?? 0) + 1);
  return {
    counts,
    last,
    add(given) {
      const text = new AlignedText(textToString(given).text);
      normalize(normalizer, text);
      let end = "";
      for (const { text: word } of preTokenize(preTokenizer, text)) {
        if (word === "") continue;
        count(counts, word);
        end = word;
      }
      if (end !== "") count(last, end);
    },
  };
}

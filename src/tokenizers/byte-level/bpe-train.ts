/** Training a byte-level BPE in plain TypeScript: the twin of crates/text/src/train.rs. */

import { DataError } from "../../errors.ts";
import { createSpellings, mergePairs } from "../trainers/pair-merging.ts";
import { textToString } from "./bpe.ts";
import type { BpeTrainer, BpeTrainOptions, Text, TrainedBpe } from "./bpe-engine.ts";
import { BYTE_TO_CHARACTER, bytesInFileOrder } from "./byte-alphabet.ts";
import { type PatternName, splitPattern, splitWords } from "./split-patterns.ts";

export function createReferenceTrainer(patternName: PatternName): BpeTrainer {
  const pattern = splitPattern(patternName);
  const wordCounts = new Map<string, number>();
  return {
    feed(texts: readonly Text[]) {
      for (const text of texts) {
        for (const word of splitWords(pattern, textToString(text).text)) {
          wordCounts.set(word, (wordCounts.get(word) ?? 0) + 1);
        }
      }
    },
    finish: (options) => train(wordCounts, options),
    dispose() {},
  };
}

function train(wordCounts: ReadonlyMap<string, number>, options: BpeTrainOptions): TrainedBpe {
  const least = options.specials.length + 256;
  if (options.vocabSize < least) {
    throw new DataError(
      `trainBpe: vocabSize ${options.vocabSize} is too small, expected at least ${least} (special tokens and the 256 bytes), ` +
        `got ${options.vocabSize}. Give a larger vocabSize.`,
    );
  }
  // Tokens are spelled by one character a byte (byte-alphabet.ts).
  const tokens = createSpellings();
  const { spelling, idOf, add } = tokens;
  const spell = (bytes: Uint8Array): string => Array.from(bytes, (byte) => BYTE_TO_CHARACTER[byte]).join("");
  for (const [id, bytes] of options.specials.entries()) {
    spelling.push(bytes === null ? "" : spell(bytes));
    if (bytes !== null && !idOf.has(spelling[id])) idOf.set(spelling[id], id);
  }
  const byteIds = new Int32Array(256);
  for (const byte of bytesInFileOrder()) byteIds[byte] = add(BYTE_TO_CHARACTER[byte]);

  const encoder = new TextEncoder();
  const words = Array.from(wordCounts.keys(), (word) => Array.from(encoder.encode(word), (byte) => byteIds[byte]));
  const counts = [...wordCounts.values()];

  const merges = mergePairs(words, counts, tokens, { vocabSize: options.vocabSize, minFrequency: options.minFrequency, join: (left, right) => left + right });
  // When one string is made in two ways a pair can come up twice; then the later rank counts.
  const last = new Map(merges.map((pair, rank) => [pair.join(), rank]));
  const kept = merges.filter((pair, rank) => last.get(pair.join()) === rank);
  const lengths = Int32Array.from(spelling, (spelled, id) => (id < options.specials.length ? 0 : spelled.length));
  const bytes = new Uint8Array(lengths.reduce((a, b) => a + b, 0));
  const byteOf = new Map(BYTE_TO_CHARACTER.map((character, byte) => [character, byte]));
  let at = 0;
  for (const spelled of spelling.slice(options.specials.length)) {
    for (const character of spelled) bytes[at++] = byteOf.get(character) as number;
  }
  return { bytes, lengths, merges: Int32Array.from(kept.flat()) };
}

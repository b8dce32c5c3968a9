/** Making tokenizers: byte-level BPE from text, characters of a text, bytes. */
import { ConfigError, DataError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { tokenBytes } from "./byte-level/bpe.ts";
import type { BpeTrainer, Text, TrainedBpe } from "./byte-level/bpe-engine.ts";
import { alphabetToBytes, BYTE_TO_CHARACTER, bytesToAlphabet } from "./byte-level/byte-alphabet.ts";
import { createBpeTrainer, type Engine } from "./byte-level/native-text.ts";
import { type PatternName, SPLIT_PATTERNS } from "./byte-level/split-patterns.ts";
import { NO_POST_PROCESSOR } from "./files/components.ts";
import { createTokenizer, type Tokenizer } from "./tokenizer.ts";
import { specialToken } from "./tokenizer-spec.ts";

/** What training takes; the same text and options give the same tokenizer. */
export interface TrainBpeOptions {
  /** Number of tokens, special tokens and the 256 bytes included. Fewer come out when the text has no more pairs. */
  vocabSize: number;
  /** How text is cut into words before training; default "gpt2". */
  pattern?: PatternName;
  /** Special tokens; they get the first ids. Default none. */
  specialTokens?: readonly string[];
  /** A pair seen less often is not merged; default 0. */
  minFrequency?: number;
  /** Threads that count words; 0, the default, takes as many as the machine offers. The result is the same for any. */
  threads?: number;
  engine?: Engine;
}

const TRAIN_BPE: KnownOptions<TrainBpeOptions> = {
  vocabSize: true,
  pattern: true,
  specialTokens: true,
  minFrequency: true,
  threads: true,
  engine: true,
};

// Documents go to the trainer in batches: few calls, bounded memory.
const BATCH_CHARACTERS = 1 << 22;

/**
 * Trains a byte-level BPE on documents (a string or bytes are one document). The result depends on nothing but the text and the
 * options, and equals that of Hugging Face's `BpeTrainer` with the ByteLevel alphabet.
 *
 * @throws ConfigError for options that do not fit, DataError when there is no text
 */
export function trainBpe(texts: Text | Iterable<Text>, options: TrainBpeOptions): Tokenizer {
  const training = startTraining(options);
  try {
    const list = typeof texts === "string" || texts instanceof Uint8Array ? [texts] : texts;
    for (const text of list) training.add(text);
    return training.finish();
  } finally {
    training.dispose();
  }
}

/** As `trainBpe` for documents that arrive one by one, such as those read from a file. */
export async function trainBpeStream(texts: AsyncIterable<Text>, options: TrainBpeOptions): Promise<Tokenizer> {
  const training = startTraining(options);
  try {
    for await (const text of texts) training.add(text);
    return training.finish();
  } finally {
    training.dispose();
  }
}

function startTraining(options: TrainBpeOptions): { add(text: Text): void; finish(): Tokenizer; dispose(): void } {
  const { vocabSize, pattern = "gpt2", specialTokens = [], minFrequency = 0, threads = 0, engine = "auto" } = options;
  checkOptions("trainBpe", options, TRAIN_BPE);
  checkValues(vocabSize, pattern, specialTokens, minFrequency);
  const trainer: BpeTrainer = createBpeTrainer(pattern, engine, threads);
  let batch: Text[] = [];
  let characters = 0;
  let total = 0;
  const flush = (): void => {
    trainer.feed(batch);
    total += characters;
    batch = [];
    characters = 0;
  };
  return {
    add(text) {
      batch.push(text);
      characters += text.length;
      if (characters >= BATCH_CHARACTERS) flush();
    },
    finish() {
      flush();
      if (total === 0) throw new DataError("trainBpe: no text, expected at least one character, got none. Check the path or the filter of the data.");
      // A merged token may be spelled like a special one; both have one id then, as in Hugging Face.
      const specials = specialTokens.map((content) => alphabetToBytes(content) ?? null);
      const trained = trainer.finish({ vocabSize, minFrequency, specials });
      return createTokenizer(bpeSpec(trained, pattern, specialTokens), engine);
    },
    dispose: trainer.dispose,
  };
}

function checkValues(vocabSize: number, pattern: PatternName, specialTokens: readonly string[], minFrequency: number): void {
  const least = 256 + specialTokens.length;
  if (!Number.isInteger(vocabSize) || vocabSize < least || vocabSize > 2 ** 24) {
    throw new ConfigError(
      `trainBpe: bad vocabSize, expected a whole number from ${least} (the 256 bytes and ${specialTokens.length} special ${specialTokens.length === 1 ? "token" : "tokens"}) to ${2 ** 24}, got ${vocabSize}. ` +
        "Give another vocabSize.",
    );
  }
  if (!SPLIT_PATTERNS.some((known) => known.name === pattern)) {
    const names = SPLIT_PATTERNS.map((known) => known.name).join(", ");
    throw new ConfigError(`trainBpe: unknown pattern, expected one of ${names}, got ${JSON.stringify(pattern)}. Correct the name.`);
  }
  if (!Number.isInteger(minFrequency) || minFrequency < 0) {
    throw new ConfigError(`trainBpe: bad minFrequency, expected a whole number from 0, got ${minFrequency}. Give another one.`);
  }
  if (new Set(specialTokens).size !== specialTokens.length || specialTokens.includes("")) {
    throw new ConfigError(`trainBpe: bad specialTokens, expected different texts, got ${JSON.stringify(specialTokens)}. Name each once.`);
  }
}

function bpeSpec(trained: TrainedBpe, pattern: PatternName, specialTokens: readonly string[]) {
  const tokens = tokenBytes(trained).map((bytes, id) => (id < specialTokens.length ? undefined : bytesToAlphabet(bytes)));
  return {
    model: { kind: "bpe", tokens, merges: trained.merges, wholeWords: false, pattern, addPrefixSpace: false } as const,
    normalizer: [],
    postProcessor: NO_POST_PROCESSOR,
    addedTokens: specialTokens.map((content, id) => specialToken(content, id)),
  };
}

/** What tokenizers of bytes or characters take. */
export interface SimpleOptions {
  /** Special tokens; they follow the characters or bytes. */
  specialTokens?: readonly string[];
}

/**
 * A tokenizer of the characters (code points) of a text, in the order of their code points, as in nanoGPT's character model.
 *
 * @param options.unknownToken the token for characters that the text lacks; without it they are an error
 * @throws DataError when the text is empty
 */
export function charTokenizer(text: string, options: SimpleOptions & { unknownToken?: string } = {}): Tokenizer {
  checkOptions("charTokenizer", options, { specialTokens: true, unknownToken: true });
  const { unknownToken, specialTokens = [] } = options;
  const points = new Set<number>();
  for (const character of text) points.add(character.codePointAt(0) as number);
  if (points.size === 0) throw new DataError("charTokenizer: no text, expected at least one character, got none. Check the path of the data.");
  const tokens = [...points].sort((a, b) => a - b).map((point) => String.fromCodePoint(point));
  const special = unknownToken === undefined ? specialTokens : [unknownToken, ...specialTokens];
  return createTokenizer({
    model: { kind: "characters", tokens, unknownId: unknownToken === undefined ? undefined : tokens.length },
    normalizer: [],
    postProcessor: NO_POST_PROCESSOR,
    addedTokens: special.map((content, i) => specialToken(content, tokens.length + i)),
  });
}

/** A tokenizer whose ids are the bytes of the text in UTF-8. */
export function byteTokenizer(options: SimpleOptions & { engine?: Engine } = {}): Tokenizer {
  checkOptions("byteTokenizer", options, { specialTokens: true, engine: true });
  const { specialTokens = [], engine } = options;
  return createTokenizer(
    {
      model: { kind: "bpe", tokens: BYTE_TO_CHARACTER, merges: new Int32Array(0), wholeWords: false, pattern: "whole", addPrefixSpace: false },
      normalizer: [],
      postProcessor: NO_POST_PROCESSOR,
      addedTokens: specialTokens.map((content, i) => specialToken(content, 256 + i)),
    },
    engine,
  );
}

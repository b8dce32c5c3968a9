/** Making WordPiece and Unigram tokenizers from text. */
import { ConfigError, DataError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import type { Text } from "../byte-level/bpe-engine.ts";
import type { Engine } from "../byte-level/native-text.ts";
import { NO_POST_PROCESSOR } from "../files/components.ts";
import type { ScoredToken } from "../models/unigram.ts";
import type { NormalizerSpec } from "../normalizers/normalizers.ts";
import type { PostProcessorSpec } from "../post-processors/post-processors.ts";
import type { PreTokenizerSpec } from "../pre-tokenizers/pre-tokenizers.ts";
import { createTokenizer, type Tokenizer } from "../tokenizer.ts";
import { type PipelineModel, specialToken } from "../tokenizer-spec.ts";
import { trainUnigramPieces } from "./unigram-trainer.ts";
import { type CountedWords, createWordCounter } from "./word-counts.ts";
import { trainWordPieceTokens } from "./wordpiece-trainer.ts";

/** Documents: a string or bytes are one. */
export type Documents = Text | Iterable<Text> | AsyncIterable<Text>;

/** What all trainers take. */
interface TrainOptions {
  /** Number of tokens, special tokens and letters included. Fewer come out when the text has no more. */
  vocabSize: number;
  /** Special tokens; they get the first ids. */
  specialTokens?: readonly string[];
  engine?: Engine;
}

/** What `trainWordPiece` takes. */
export interface TrainWordPieceOptions extends TrainOptions {
  /** Default [PAD], [UNK], [CLS], [SEP], [MASK]. Where [CLS] and [SEP] are among them they stand around every text. */
  specialTokens?: readonly string[];
  /** What stands for a word that can't be spelled, one of the special tokens. Default [UNK]. */
  unknownToken?: string;
  /** Lower-cases and strips accents, as BERT's uncased models do. Default true. */
  lowercase?: boolean;
  /** A pair seen less often is not merged; default 0. */
  minFrequency?: number;
  /** Letters at most; those seen most often stay. Default 1000. */
  limitAlphabet?: number;
  /** Letters that are tokens even where the text lacks them. */
  initialAlphabet?: readonly string[];
  /** Stands before a token that does not begin a word. Default ##. */
  continuingSubwordPrefix?: string;
}

const WORDPIECE: KnownOptions<TrainWordPieceOptions> = {
  vocabSize: true,
  specialTokens: true,
  engine: true,
  unknownToken: true,
  lowercase: true,
  minFrequency: true,
  limitAlphabet: true,
  initialAlphabet: true,
  continuingSubwordPrefix: true,
};

/**
 * Trains a WordPiece tokenizer with BERT's normalizer and words (Schuster and Nakajima 2012; Devlin et al. 2019). The vocabulary is that of Hugging Face's
 * `WordPieceTrainer` where that is given an order of its letters (it takes the order of a hash table, which changes from run to run).
 *
 * @throws ConfigError for options that do not fit, DataError when there is no text
 */
export async function trainWordPiece(documents: Documents, options: TrainWordPieceOptions): Promise<Tokenizer> {
  checkOptions("trainWordPiece", options, WORDPIECE);
  const {
    vocabSize,
    specialTokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    unknownToken = "[UNK]",
    lowercase = true,
    minFrequency = 0,
    limitAlphabet = 1000,
    initialAlphabet = [],
    continuingSubwordPrefix = "##",
  } = options;
  checkValues("trainWordPiece", vocabSize, specialTokens, unknownToken);
  checkCounts("trainWordPiece", { minFrequency, limitAlphabet });
  if (initialAlphabet.some((letter) => [...letter].length !== 1))
    throw new ConfigError(`trainWordPiece: bad initialAlphabet, expected single characters, got ${JSON.stringify(initialAlphabet)}. Correct it.`);
  const normalizer: NormalizerSpec = { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase };
  const preTokenizer: PreTokenizerSpec = { type: "BertPreTokenizer" };
  const { counts } = await countedWords("trainWordPiece", documents, normalizer, preTokenizer);
  const tokens = trainWordPieceTokens(counts, { vocabSize, minFrequency, specialTokens, initialAlphabet, limitAlphabet, continuingSubwordPrefix });
  if (tokens.length > vocabSize)
    throw new DataError(
      `trainWordPiece: vocabSize is too small for the text's letters, expected at least ${tokens.length} tokens, got ${vocabSize}. Give a larger vocabSize, or a smaller limitAlphabet.`,
    );
  const vocab = { tokens, idOf: new Map(tokens.map((token, id) => [token, id])) };
  return pipeline(
    {
      tokens,
      normalizer,
      preTokenizer,
      pieces: { type: "WordPiece", unk_token: unknownToken, continuing_subword_prefix: continuingSubwordPrefix, max_input_chars_per_word: 100, vocab },
      postProcessor: bertTemplate(vocab.idOf, specialTokens),
      decoder: { type: "WordPiece", prefix: continuingSubwordPrefix, cleanup: true },
    },
    specialTokens,
    options.engine,
  );
}

function bertTemplate(idOf: ReadonlyMap<string, number>, specialTokens: readonly string[]): PostProcessorSpec | null {
  const [cls, sep] = ["[CLS]", "[SEP]"].map((token) => (specialTokens.includes(token) ? (idOf.get(token) as number) : undefined));
  if (cls === undefined || sep === undefined) return null;
  const own = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
  const text = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  const single = [own("[CLS]", 0), text("A", 0), own("[SEP]", 0)];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, text("B", 1), own("[SEP]", 1)],
    special_tokens: {
      "[CLS]": { id: "[CLS]", ids: [cls], tokens: ["[CLS]"] },
      "[SEP]": { id: "[SEP]", ids: [sep], tokens: ["[SEP]"] },
    },
  };
}

/** What `trainUnigram` takes. */
export interface TrainUnigramOptions extends TrainOptions {
  /** Default <unk>, <s>, </s>. */
  specialTokens?: readonly string[];
  /** What stands for characters outside the vocabulary, one of the special tokens. Default <unk>. */
  unknownToken?: string;
  /** Characters outside the vocabulary become their bytes, which are 256 more tokens, in place of the unknown token. Default false. */
  byteFallback?: boolean;
  /** The share of the text's characters that get a token of their own; the rarest of the rest are unknown. From 0 to 1, default 0.9995. */
  characterCoverage?: number;
  /** Characters of a token at most. Default 16. */
  maxPieceLength?: number;
  /** Substrings that training begins with at most. Default 1,000,000. */
  seedSize?: number;
}

const UNIGRAM: KnownOptions<TrainUnigramOptions> = {
  vocabSize: true,
  specialTokens: true,
  engine: true,
  unknownToken: true,
  byteFallback: true,
  characterCoverage: true,
  maxPieceLength: true,
  seedSize: true,
};

const BLANK = "▁";
const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);

/**
 * Trains a Unigram tokenizer as SentencePiece does (Kudo 2018; Kudo and Richardson 2018): NFKC, blanks as ▁ before each word.
 *
 * @throws ConfigError for options that do not fit, DataError when there is no text, or more letters than tokens
 */
export async function trainUnigram(documents: Documents, options: TrainUnigramOptions): Promise<Tokenizer> {
  checkOptions("trainUnigram", options, UNIGRAM);
  const {
    vocabSize,
    specialTokens = ["<unk>", "<s>", "</s>"],
    unknownToken = "<unk>",
    byteFallback = false,
    characterCoverage = 0.9995,
    maxPieceLength = 16,
    seedSize = 1_000_000,
  } = options;
  checkValues("trainUnigram", vocabSize, specialTokens, unknownToken);
  checkCounts("trainUnigram", { maxPieceLength, seedSize });
  if (!(characterCoverage > 0 && characterCoverage <= 1))
    throw new ConfigError(`trainUnigram: bad characterCoverage, expected a share above 0 and up to 1, got ${characterCoverage}. Give another one.`);
  const normalizer: NormalizerSpec = {
    type: "Sequence",
    normalizers: [{ type: "NFKC" }, { type: "Replace", pattern: { Regex: "\\s+" }, content: " " }, { type: "Strip", strip_left: true, strip_right: true }],
  };
  const preTokenizer: PreTokenizerSpec = { type: "Metaspace", replacement: BLANK, prepend_scheme: "always", split: true };
  const words = await countedWords("trainUnigram", documents, normalizer, preTokenizer);
  const fixed: readonly string[] = byteFallback ? [...specialTokens, ...BYTES] : specialTokens;
  const room = vocabSize - fixed.length;
  const pieces = trainUnigramPieces(words, { vocabSize: room, specials: fixed.length, characterCoverage, maxPieceLength, seedSize, blank: BLANK });
  const vocab: ScoredToken[] = [...fixed.map((token): ScoredToken => [token, 0]), ...pieces.map(({ piece, score }): ScoredToken => [piece, score])];
  return pipeline(
    {
      tokens: vocab.map(([token]) => token),
      normalizer,
      preTokenizer,
      pieces: { type: "Unigram", unk_id: specialTokens.indexOf(unknownToken), vocab, byte_fallback: byteFallback },
      postProcessor: null,
      decoder: byteFallback
        ? {
            type: "Sequence",
            decoders: [
              { type: "Replace", pattern: { String: BLANK }, content: " " },
              { type: "ByteFallback" },
              { type: "Fuse" },
              { type: "Strip", content: " ", start: 1, stop: 0 },
            ],
          }
        : { type: "Metaspace", replacement: BLANK, prepend_scheme: "always", split: true, add_prefix_space: undefined, str_rep: undefined },
    },
    specialTokens,
    options.engine,
  );
}

function pipeline(model: Omit<PipelineModel, "kind">, specialTokens: readonly string[], engine: Engine | undefined): Tokenizer {
  const addedTokens = specialTokens.map((content, id) => specialToken(content, id));
  return createTokenizer({ model: { kind: "pipeline", ...model }, normalizer: [], postProcessor: NO_POST_PROCESSOR, addedTokens }, engine);
}

async function countedWords(where: string, documents: Documents, normalizer: NormalizerSpec, preTokenizer: PreTokenizerSpec): Promise<CountedWords> {
  const words = createWordCounter(normalizer, preTokenizer);
  if (typeof documents === "string" || documents instanceof Uint8Array) words.add(documents);
  else for await (const document of documents) words.add(document);
  if (words.counts.size === 0) throw new DataError(`${where}: no text, expected at least one word, got none. Check the path or the filter of the data.`);
  return words;
}

function checkValues(where: string, vocabSize: number, specialTokens: readonly string[], unknownToken: string): void {
  if (!Number.isInteger(vocabSize) || vocabSize < 1 || vocabSize > 2 ** 24)
    throw new ConfigError(`${where}: bad vocabSize, expected a whole number from 1 to ${2 ** 24}, got ${vocabSize}. Give another vocabSize.`);
  if (new Set(specialTokens).size !== specialTokens.length || specialTokens.includes(""))
    throw new ConfigError(`${where}: bad specialTokens, expected different texts, got ${JSON.stringify(specialTokens)}. Name each once.`);
  if (!specialTokens.includes(unknownToken))
    throw new ConfigError(
      `${where}: the unknown token is missing, expected ${JSON.stringify(unknownToken)} among specialTokens, got ${JSON.stringify(specialTokens)}. Add it, or name another unknownToken.`,
    );
}

function checkCounts(where: string, counts: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(counts))
    if (!Number.isInteger(value) || value < 0) throw new ConfigError(`${where}: bad ${name}, expected a whole number from 0, got ${value}. Give another one.`);
}

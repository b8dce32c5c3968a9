/** A tokenizer as data: what is read from files, made by training, and written back. */
import type { AddedToken } from "./added-tokens.ts";
import type { PatternName } from "./byte-level/split-patterns.ts";
import { tokenCount } from "./byte-level/token-bytes.ts";
import type { ChatSpec } from "./chat-template/chat-spec.ts";
import type { DecoderSpec } from "./decoders/decoders.ts";
import type { Normalizer, PostProcessor } from "./files/components.ts";
import type { PieceModelSpec } from "./models/piece-models.ts";
import type { NormalizerSpec } from "./normalizers/normalizers.ts";
import type { PaddingSpec } from "./post-processors/padding.ts";
import type { PostProcessorSpec } from "./post-processors/post-processors.ts";
import type { TruncationSpec } from "./post-processors/truncation.ts";
import type { PreTokenizerSpec } from "./pre-tokenizers/pre-tokenizers.ts";
import { PIECE_TYPES, type SentencePieceSpec } from "./sentencepiece/spec.ts";

/** A byte-level BPE vocabulary. */
export interface BpeModel {
  readonly kind: "bpe";
  /** Each token in the byte alphabet (byte-alphabet.ts) by id; undefined where the id has none. Special tokens are not in here. */
  readonly tokens: readonly (string | undefined)[];
  /** `left, right, left, right …` by rank, or null: merge by rank of the result (tiktoken). */
  readonly merges: Int32Array | null;
  readonly wholeWords: boolean;
  readonly pattern: PatternName;
  readonly addPrefixSpace: boolean;
}

/** A vocabulary of single characters. */
export interface CharacterModel {
  readonly kind: "characters";
  /** The character of each id. */
  readonly tokens: readonly (string | undefined)[];
  /** The id for characters outside the vocabulary; without it they are an error. */
  readonly unknownId?: number;
}

/** Any other tokenizer.json: its parts as the file has them. What stands beside the model in `TokenizerSpec` is empty then. */
export interface PipelineModel {
  readonly kind: "pipeline";
  /** Each token by id, as the file spells it. */
  readonly tokens: readonly (string | undefined)[];
  readonly normalizer: NormalizerSpec | null;
  readonly preTokenizer: PreTokenizerSpec | null;
  readonly pieces: PieceModelSpec;
  readonly postProcessor: PostProcessorSpec | null;
  readonly decoder: DecoderSpec | null;
}

/** A SentencePiece model, with what is put around a text. */
export interface SentencePieceModel {
  readonly kind: "sentencepiece";
  readonly tokens: readonly string[];
  readonly sentencePiece: SentencePieceSpec;
  /** Whether its beginning and end pieces stand around a text. */
  readonly bos: boolean;
  readonly eos: boolean;
  /** The `.model` file, to save it again; null where it came from elsewhere. */
  readonly file: Uint8Array | null;
}

/** The models there are. */
export type ModelSpec = BpeModel | CharacterModel | PipelineModel | SentencePieceModel;

/** All that a tokenizer is, as plain values: what files say, and `createTokenizer` runs. */
export interface TokenizerSpec {
  readonly model: ModelSpec;
  readonly normalizer: Normalizer;
  readonly postProcessor: PostProcessor;
  readonly addedTokens: readonly AddedToken[];
  /** Components as the file had them, so that saving gives back what was read. */
  readonly kept?: {
    readonly truncation: TruncationSpec | null;
    readonly padding: PaddingSpec | null;
    readonly postProcessor: unknown;
  };
  /** Templates for conversations, where its files have some. */
  readonly chat?: ChatSpec;
  /** What tokenizer_config.json says about the length of texts. */
  readonly settings?: TokenizerSettings;
}

/** Settings of a model's tokenizer that its tokenizer.json has no place for. */
export interface TokenizerSettings {
  /** The most tokens that the model takes. */
  readonly maxLength?: number;
  readonly paddingSide?: "left" | "right";
  readonly truncationSide?: "left" | "right";
  /** What models of this tokenizer take, by the names of transformers. */
  readonly inputNames?: readonly string[];
  /** Whether transformers takes blanks before punctuation out when it decodes; groundup does not. */
  readonly cleansSpaces?: boolean;
}

/** The id that stands for text which the vocabulary lacks; undefined where there is none. */
export function unknownId(model: ModelSpec): number | undefined {
  if (model.kind === "characters") return model.unknownId;
  if (model.kind === "sentencepiece") {
    const id = model.sentencePiece.types.indexOf(PIECE_TYPES.unknown);
    return id < 0 ? undefined : id;
  }
  if (model.kind === "bpe") return undefined;
  const { pieces } = model;
  if (pieces.type === "Unigram") return pieces.unk_id ?? undefined;
  return pieces.unk_token === null ? undefined : pieces.vocab.idOf.get(pieces.unk_token);
}

/** A special token with ordinary settings. */
export function specialToken(content: string, id: number): AddedToken {
  return { id, content, special: true, singleWord: false, lstrip: false, rstrip: false, normalized: false };
}

/** One more than the largest id: the rows that an embedding table needs. */
export function specSize(spec: TokenizerSpec): number {
  return spec.addedTokens.reduce((size, token) => Math.max(size, token.id + 1), tokenCount(spec.model));
}

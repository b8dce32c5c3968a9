/** SentencePiece models as tokenizers. */
import { NO_POST_PROCESSOR } from "../files/components.ts";
import { specialToken, type TokenizerSpec } from "../tokenizer-spec.ts";
import { readSentencePiece } from "./model-file.ts";
import { PIECE_TYPES, type SentencePieceSpec } from "./spec.ts";

/**
 * The tokenizer of a `.model` file. As in the library, nothing stands around a text: the file does not say what a model wants.
 * @throws FormatError for a file that is cut off or hostile
 */
export function sentencePieceTokenizer(bytes: Uint8Array, file: string): TokenizerSpec {
  return sentencePieceSpec(readSentencePiece(bytes, file), { bos: false, eos: false, file: bytes });
}

/** Its control pieces are special tokens: text becomes one only where that is allowed. */
export function sentencePieceSpec(sentencePiece: SentencePieceSpec, around: { bos: boolean; eos: boolean; file: Uint8Array | null }): TokenizerSpec {
  const { pieces, types } = sentencePiece;
  return {
    model: { kind: "sentencepiece", tokens: pieces, sentencePiece, ...around },
    normalizer: [],
    postProcessor: NO_POST_PROCESSOR,
    addedTokens: pieces.flatMap((piece, id) => (types[id] === PIECE_TYPES.control ? [specialToken(piece, id)] : [])),
  };
}

/** Tokenizers: open, train, encode, decode, save. */
export type { AddedToken } from "./added-tokens.ts";
export type { Text } from "./byte-level/bpe-engine.ts";
export type { Engine } from "./byte-level/native-text.ts";
export type { PatternName } from "./byte-level/split-patterns.ts";
export type { ChatSpec } from "./chat-template/chat-spec.ts";
export type { ChatMessage, ChatTemplateOptions, RenderedChat } from "./chat-template/chat-template.ts";
export type { DecodeStream } from "./decoders/decode-stream.ts";
export type { BatchEncodeOptions, DecodeOptions, EncodedTexts, EncodeOptions } from "./encode-options.ts";
export type { Encoding, Offset } from "./encoding.ts";
export { type LoadOptions, loadTokenizer } from "./files/load.ts";
export { tokenizerFiles } from "./files/save.ts";
export { readTiktoken, type TiktokenOptions } from "./files/tiktoken-file.ts";
export { memoryFiles, type TokenizerFiles } from "./files/tokenizer-files.ts";
export { readTokenizerJson, writeTokenizerJson } from "./files/tokenizer-json.ts";
export { type FitOptions, type PaddingOptions, type TruncationOptions, WHOLE } from "./fit.ts";
export { createTokenizer, type Tokenizer } from "./tokenizer.ts";
export {
  type BpeModel,
  type CharacterModel,
  type ModelSpec,
  type PipelineModel,
  type SentencePieceModel,
  type TokenizerSettings,
  type TokenizerSpec,
  unknownId,
} from "./tokenizer-spec.ts";
export { type EncodingTrace, type TracedToken, type TracedWord, traceEncoding } from "./trace.ts";
export { byteTokenizer, charTokenizer, type SimpleOptions, type TrainBpeOptions, trainBpe, trainBpeStream } from "./train.ts";
export { type Documents, type TrainUnigramOptions, type TrainWordPieceOptions, trainUnigram, trainWordPiece } from "./trainers/train-pieces.ts";

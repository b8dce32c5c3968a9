/** Tokenizers: open, train, encode, decode, save. */
export type { AddedToken } from "./added-tokens.ts";
export type { Text } from "./bpe-engine.ts";
export type { DecodeStream } from "./decode-stream.ts";
export type { Encoding, Offset } from "./encoding.ts";
export { type LoadOptions, loadTokenizer } from "./load.ts";
export type { Engine } from "./native-text.ts";
export { tokenizerFiles } from "./save.ts";
export type { PatternName } from "./split-patterns.ts";
export { readTiktoken, type TiktokenOptions } from "./tiktoken-file.ts";
export { createTokenizer, type DecodeOptions, type EncodedTexts, type EncodeOptions, type Tokenizer } from "./tokenizer.ts";
export { memoryFiles, type TokenizerFiles } from "./tokenizer-files.ts";
export { readTokenizerJson, writeTokenizerJson } from "./tokenizer-json.ts";
export {
  type BpeModel,
  type CharacterModel,
  type ModelSpec,
  type PipelineModel,
  type SentencePieceModel,
  type TokenizerSpec,
  unknownId,
} from "./tokenizer-spec.ts";
export { byteTokenizer, charTokenizer, type SimpleOptions, type TrainBpeOptions, trainBpe, trainBpeStream } from "./train.ts";

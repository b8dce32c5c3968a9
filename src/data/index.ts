/** Data: documents from files, the train/validation split, token shards, and batches in a reproducible order. */
export {
  type Document,
  type DocumentMode,
  documentModeSchema,
  documentOfJsonLine,
  MAX_DOCUMENT_CHARACTERS,
  splitIntoDocuments,
} from "./documents.ts";
export { batchesOnce, type DataCursor, type DataLoader, dataLoader, type LoaderOptions } from "./loader.ts";
export { type MixPart, weightedMix } from "./mix.ts";
export { packedDocuments } from "./packed-documents.ts";
export { type DocumentFiles, openDocuments, type ReadOptions } from "./read-documents.ts";
export { type Batch, IGNORE, readBatch, type Sample, type SampleSource } from "./samples.ts";
export { manifestSchema, openShards, type ShardData, type ShardManifest } from "./shard-manifest.ts";
export { planSplit, type Side, type SplitOptions, type SplitPlan } from "./split.ts";
export { hashHex, hashText } from "./stable-hash.ts";
export { countDocument, type DataStatistics, emptyStatistics, withStatistics } from "./statistics.ts";
export { type DecodeCounts, decodeText } from "./text-decoding.ts";
export { memoryTokens, openTokenFile, type TokenData, type TokenDtype } from "./token-data.ts";
export { sampledWindows, sequentialWindows } from "./windows.ts";
export { type Encoder, type WriteShardsOptions, writeShards } from "./write-shards.ts";

/** File formats: safetensors, model configs, checkpoints on disk. */

export {
  type Content,
  type FolderWriter,
  isTemporary,
  type WriteFileSystem,
  type WriteOptions,
  writeFileAtomic,
  writeFolderAtomic,
} from "./atomic-write.ts";
export { PACKINGS, type Packing } from "./bitsandbytes.ts";
export {
  type Checkpoint,
  checkpointName,
  hashFile,
  lastGoodCheckpoint,
  listCheckpoints,
  removeLeftovers,
  verifyCheckpoint,
  writeCheckpoint,
} from "./checkpoint-folder.ts";
export { type GenerationConfig, readGenerationConfig } from "./generation-config.ts";
export { DEQUANTIZED, dequantizeBlocks } from "./gguf/dequantize.ts";
export { FILE_TYPES, type GgufFileType, type LayoutModel, layoutOf, PLAIN_FILE_TYPES } from "./gguf/file-types.ts";
export { openGgufFiles } from "./gguf/files.ts";
export { isGgufFile } from "./gguf/is-gguf-file.ts";
export { isGguf } from "./gguf/magic.ts";
export { QUANTIZED, type QuantizedType, quantizeBlocks } from "./gguf/quantize.ts";
export { type GgufNumbers, type GgufReader, type GgufTensor, type GgufValue, openGguf } from "./gguf/read.ts";
export { GGML_TYPES, type GgmlType } from "./gguf/types.ts";
export { encodeGguf, type GgufEntry, type GgufFile } from "./gguf/write.ts";
export {
  COMMON_KEYS,
  type ConfigKeys,
  normaliseKeys,
  parseConfig,
  parseConfigText,
  parseModelConfig,
  readConfigJson,
} from "./hf-config.ts";
export { KNOWN_MODELS, type KnownModel } from "./hub/known-models.ts";
export { type LocalModel, localModels } from "./hub/local-models.ts";
export { type Pulled, type PullOptions, type PullProgress, pullModel } from "./hub/pull.ts";
export { isJsonObject, type Json, type JsonOptions, parseJson } from "./json.ts";
export { dequantizeInt8, dequantizeNf4, type Int8Rows, NF4_VALUES, type Nf4, quantizeInt8, quantizeNf4 } from "./nf4.ts";
export { openFile, openFolder } from "./node-file.ts";
export { openPytorch, type PytorchFile } from "./pytorch/read.ts";
export { type Pickled, PickledTensor, type Storage } from "./pytorch/unpickle.ts";
export {
  openSafetensors,
  SAFETENSORS_DTYPES,
  type SafetensorsDtype,
  type StoredTensor,
  type TensorDtype,
  type TensorInfo,
  type TensorReader,
} from "./safetensors.ts";
export { saveModelWeights } from "./safetensors-save.ts";
export { openModelWeights } from "./safetensors-shards.ts";
export { floatsOf } from "./safetensors-values.ts";
export { encodeModelWeights, encodeSafetensors, type SafetensorsFile, type TensorEntry } from "./safetensors-write.ts";
export { bytesSource, type Folder, memoryFolder, readText, type Source } from "./source.ts";

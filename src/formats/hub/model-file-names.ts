/** What the files of a model's folder hold, by their names. */
import { INDEX_FILE, PYTORCH_FILE, PYTORCH_INDEX, SINGLE_FILE } from "../safetensors-shards.ts";

export const isTokenizerFile = (name: string): boolean =>
  /^(tokenizer\.(json|model)|vocab\.(json|txt)|encoder\.json|spiece\.model|[^/]+\.tiktoken)$/.test(name);

/** Weights, or the index of their files. */
export const isWeightsFile = (name: string): boolean => [SINGLE_FILE, INDEX_FILE, PYTORCH_FILE, PYTORCH_INDEX].includes(name);

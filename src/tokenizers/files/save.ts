/** Saving tokenizers. */
import { asPipeline } from "../sentencepiece/as-pipeline.ts";
import type { TokenizerSpec } from "../tokenizer-spec.ts";
import { writeFiles } from "./tokenizer-files.ts";
import { writeTokenizerJson } from "./tokenizer-json.ts";
import { vocabText, writeMergesText } from "./vocab-merges.ts";

/** The names of the files that a BPE is saved in. */
export const BPE_FILES = ["tokenizer.json", "vocab.json", "merges.txt"] as const;

/** The files of a tokenizer by name: tokenizer.json, and for a BPE vocab.json and merges.txt; of a SentencePiece model its own file where it came from one. */
export function tokenizerFiles(spec: TokenizerSpec): Record<string, string | Uint8Array> {
  if (spec.model.kind === "sentencepiece") {
    const { file } = spec.model;
    return file === null ? { "tokenizer.json": writeTokenizerJson(asPipeline(spec.model)) } : { "tokenizer.model": file };
  }
  const [json, vocab, merges] = BPE_FILES;
  const files: Record<string, string> = { [json]: writeTokenizerJson(spec) };
  if (spec.model.kind === "bpe") {
    files[vocab] = `${vocabText(spec)}\n`;
    files[merges] = writeMergesText(spec.model);
  }
  return files;
}

/** Writes a tokenizer's files into a folder, which is made if needed. Hugging Face tokenizers opens them. */
export async function saveTokenizer(spec: TokenizerSpec, folder: string): Promise<void> {
  await writeFiles(folder, tokenizerFiles(spec));
}

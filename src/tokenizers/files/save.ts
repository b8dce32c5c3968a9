/** Saving tokenizers. */
import { asPipeline } from "../sentencepiece/as-pipeline.ts";
import type { TokenizerSpec } from "../tokenizer-spec.ts";
import { tokenizerConfig } from "./tokenizer-config.ts";
import { writeFiles } from "./tokenizer-files.ts";
import { writeTokenizerJson } from "./tokenizer-json.ts";
import { vocabText, writeMergesText } from "./vocab-merges.ts";

/** The names of the files that a BPE is saved in. */
export const BPE_FILES = ["tokenizer.json", "vocab.json", "merges.txt"] as const;

/**
 * The files of a tokenizer by name: tokenizer.json, and for a BPE vocab.json and merges.txt; of a SentencePiece model its own file where it came from one. Beside
 * them what transformers reads: tokenizer_config.json and chat templates.
 */
export function tokenizerFiles(spec: TokenizerSpec): Record<string, string | Uint8Array> {
  const chat = { "tokenizer_config.json": `${JSON.stringify(tokenizerConfig(spec), null, 2)}\n`, ...chatFiles(spec) };
  if (spec.model.kind === "sentencepiece") {
    const { file } = spec.model;
    return file === null ? { "tokenizer.json": writeTokenizerJson(asPipeline(spec.model)), ...chat } : { "tokenizer.model": file, ...chat };
  }
  const [json, vocab, merges] = BPE_FILES;
  const files: Record<string, string> = { [json]: writeTokenizerJson(spec), ...chat };
  if (spec.model.kind === "bpe") {
    files[vocab] = `${vocabText(spec)}\n`;
    files[merges] = writeMergesText(spec.model);
  }
  return files;
}

/** Templates in files of their own. The tokens that they write are in tokenizer_config.json. */
function chatFiles({ chat }: TokenizerSpec): Record<string, string> {
  if (chat === undefined) return {};
  const templates = Object.entries(chat.templates)
    .filter(([name]) => /^[\w-]+$/.test(name))
    .map(([name, source]) => [name === "default" ? "chat_template.jinja" : `additional_chat_templates/${name}.jinja`, source]);
  return Object.fromEntries(templates);
}

/** Writes a tokenizer's files into a folder, which is made if needed. Hugging Face tokenizers opens them. */
export async function saveTokenizer(spec: TokenizerSpec, folder: string): Promise<void> {
  await writeFiles(folder, tokenizerFiles(spec));
}

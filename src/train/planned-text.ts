/** What a recipe's text will become, estimated before a tokenizer is trained. */
import { statSync } from "node:fs";
import { type DocumentMode, openDocuments } from "../data/index.ts";
import { loadTokenizer } from "../tokenizers/index.ts";
import type { PlannedText } from "./plan.ts";
import { resolveDataPaths } from "./prepare-data.ts";
import { type Recipe, textSources } from "./recipe.ts";
import { openTokenFolder } from "./token-folder.ts";

/** Files up to so many bytes are read whole; of larger ones the size on disk must do. */
const READ_WHOLE = 64 << 20;
/** How much larger than its gzip or Zstandard file text is, about. */
const COMPRESSED = 3;

/** The tokenizer's size, and the tokens of both sides, about. A characters' vocabulary needs the whole text, the others' sizes are known. */
export async function planText(recipe: Recipe): Promise<PlannedText & { vocabulary: number }> {
  const { type, vocab_size, path, end_of_text } = recipe.tokenizer;
  if (recipe.data.tokens !== null) {
    const { train, validation } = await openTokenFolder(recipe.data.tokens);
    for (const file of [train, validation]) await file.close();
    return { vocabulary: (await loadTokenizer(path as string)).vocabSize, trainTokens: train.tokens, validationTokens: validation.tokens };
  }
  const paths = textSources(recipe).flatMap((source) => source.paths);
  const documents = await openDocuments(resolveDataPaths(paths), { document: recipe.data.document as DocumentMode, field: recipe.data.text_field });
  const onDisk = documents.files.reduce((sum, file) => sum + statSync(file).size * (/\.(gz|zst)$/.test(file) ? COMPRESSED : 1), 0);
  let [bytes, letters] = [onDisk, onDisk];
  const alphabet = new Set<string>();
  if (type === "characters" || onDisk <= READ_WHOLE) {
    [bytes, letters] = [0, 0];
    for await (const { text } of documents) {
      bytes += Buffer.byteLength(text);
      if (type !== "characters") continue;
      for (const character of text) {
        letters++;
        alphabet.add(character);
      }
    }
  }
  const split = (vocabulary: number, tokens: number) => ({
    vocabulary,
    trainTokens: Math.round(tokens * (1 - recipe.data.validation_fraction)),
    validationTokens: Math.round(tokens * recipe.data.validation_fraction),
  });
  switch (type) {
    case "bpe":
      return split(vocab_size, bytes / bytesPerToken(vocab_size));
    case "bytes":
      return split(256 + (end_of_text === false ? 0 : 1), bytes);
    case "file": {
      const { vocabSize } = await loadTokenizer(path as string);
      return split(vocabSize, bytes / bytesPerToken(vocabSize));
    }
    case "characters":
      return split(alphabet.size + (end_of_text === true ? 1 : 0), letters);
  }
}

/** English prose, as measured from 512 to 50,257 tokens (1.9 to 4.5 bytes); other text differs, and so does the time of its evaluations. */
const bytesPerToken = (vocabulary: number): number => Math.max(1, 0.4 * Math.log2(vocabulary) - 1.65);

/**
 * Encoding speed of whole tokenizers as models have them: WordPiece, Unigram, BPE with normalizers, SentencePiece models. The setting is the number of threads.
 * Peers: Hugging Face tokenizers and sentencepiece on the same file and text (bench/peers/encode_tokenizer_file.py).
 *
 * GROUNDUP_BENCH_TOKENIZER names a tokenizer.json or a SentencePiece model; GROUNDUP_BENCH_TEXT the text (default: generated).
 */
import { basename } from "node:path";
import { loadTokenizer } from "groundup/tokenizers";
import { benchText, cutDocuments, median } from "./bench-text.mjs";

export async function run({ setting = "2", rounds = 5 }) {
  const threads = Number(setting);
  const file = process.env.GROUNDUP_BENCH_TOKENIZER;
  if (!Number.isInteger(threads) || threads < 1)
    throw new Error(`bench tokenizers: unknown setting, expected a number of threads, got ${setting}. Correct --setting.`);
  if (!file)
    throw new Error("bench tokenizers: no tokenizer, expected GROUNDUP_BENCH_TOKENIZER with a file, got nothing. Name a tokenizer.json or a .model file.");
  const { text, source } = benchText();
  const start = performance.now();
  const tokenizer = await loadTokenizer(file);
  tokenizer.encode("The first text of a fresh process.");
  const loadMilliseconds = Number((performance.now() - start).toFixed(1));
  const documents = cutDocuments(text);
  const megabytes = Buffer.byteLength(text) / 1e6;
  const options = { threads, addSpecialTokens: false, allowSpecial: true };
  let ids = tokenizer.encodeAll(documents, options).ids.length;
  const rates = [];
  for (let i = 0; i < rounds; i++) {
    const from = performance.now();
    ids = tokenizer.encodeAll(documents, options).ids.length;
    rates.push((megabytes * 1000) / (performance.now() - from));
  }
  return {
    name: "tokenizers",
    setting,
    median: Number(median(rates).toFixed(1)),
    best: Number(Math.max(...rates).toFixed(1)),
    unit: "MB/s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    engine: tokenizer.engine,
    tokenizer: basename(file),
    text: source,
    bytes: Math.round(megabytes * 1e6),
    ids,
    loadMilliseconds,
  };
}

/**
 * BPE training, settings 8k and 32k (GPT-2's pattern). Peers: rustbpe and Hugging Face tokenizers on the same text.
 * GROUNDUP_BENCH_TEXT names the text (default: generated).
 */
import { trainBpe } from "groundup/tokenizers";
import { benchText, cutDocuments, median } from "./bench-text.mjs";

const SIZES = { "8k": 8192, "32k": 32_768 };

export async function run({ setting = "8k", rounds = 5 }) {
  const vocabSize = SIZES[setting];
  if (vocabSize === undefined)
    throw new Error(`bench bpe-train: unknown setting, expected ${Object.keys(SIZES).join(" or ")}, got ${setting}. Correct --setting.`);
  const { text, source } = benchText();
  const documents = cutDocuments(text);
  const seconds = [];
  let made = 0;
  let engine = "";
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    const tokenizer = trainBpe(documents, { vocabSize });
    seconds.push((performance.now() - start) / 1000);
    made = tokenizer.vocabSize;
    engine = tokenizer.engine;
    tokenizer.dispose();
  }
  return {
    name: "bpe-train",
    setting,
    median: Number(median(seconds).toFixed(4)),
    best: Number(Math.min(...seconds).toFixed(4)),
    unit: "s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    engine,
    vocabSize: made,
    text: source,
    bytes: Buffer.byteLength(text),
  };
}

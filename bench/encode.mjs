/**
 * Encoding speed, settings gpt2 and cl100k. Peer: tiktoken on the same text and rank file.
 *
 * GROUNDUP_BENCH_TEXT names the text (default: generated), GROUNDUP_BENCH_RANKS a tiktoken rank file (.gz too); without one a
 * vocabulary of 32,768 is trained on the text first, which the result then says.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { gunzipSync } from "node:zlib";
import { createTokenizer, readTiktoken, trainBpe } from "groundup/tokenizers";
import { benchText, cutDocuments, median } from "./bench-text.mjs";

const PATTERN = { gpt2: "gpt2", cl100k: "cl100k" };

function makeTokenizer(pattern, text) {
  const ranks = process.env.GROUNDUP_BENCH_RANKS;
  if (!ranks) return { tokenizer: trainBpe(text, { vocabSize: 32_768, pattern }), vocabulary: "trained here, 32768" };
  const file = readFileSync(ranks);
  const content = (ranks.endsWith(".gz") ? gunzipSync(file) : file).toString();
  return { tokenizer: createTokenizer(readTiktoken(content, basename(ranks, ".gz"), { pattern })), vocabulary: basename(ranks) };
}

export async function run({ setting = "gpt2", rounds = 7 }) {
  const pattern = PATTERN[setting];
  if (pattern === undefined)
    throw new Error(`bench encode: unknown setting, expected ${Object.keys(PATTERN).join(" or ")}, got ${setting}. Correct --setting.`);
  const { text, source } = benchText();
  const { tokenizer, vocabulary } = makeTokenizer(pattern, text);
  const documents = cutDocuments(text);
  const megabytes = Buffer.byteLength(text) / 1e6;
  const jobs = {
    // One call for each document, one thread: how tiktoken is timed.
    documents: () => documents.reduce((n, document) => n + tokenizer.encode(document, { threads: 1 }).ids.length, 0),
    batch1: () => tokenizer.encodeAll(documents, { threads: 1 }).ids.length,
    batch2: () => tokenizer.encodeAll(documents, { threads: 2 }).ids.length,
    oneString1: () => tokenizer.encode(text, { threads: 1 }).ids.length,
    oneString2: () => tokenizer.encode(text, { threads: 2 }).ids.length,
    count1: () => tokenizer.count(text, { threads: 1 }),
  };
  const rates = {};
  const best = {};
  let ids = 0;
  for (const [name, job] of Object.entries(jobs)) {
    ids = job();
    const measured = [];
    for (let i = 0; i < rounds; i++) {
      const start = performance.now();
      job();
      measured.push((megabytes * 1000) / (performance.now() - start));
    }
    rates[name] = Number(median(measured).toFixed(1));
    best[name] = Number(Math.max(...measured).toFixed(1));
  }
  const letters = "a".repeat(10_000_000);
  const start = performance.now();
  tokenizer.encode(letters, { threads: 1 });
  const oneLetterSeconds = Number(((performance.now() - start) / 1000).toFixed(3));
  return {
    name: "encode",
    setting,
    median: rates.documents,
    best: best.documents,
    unit: "MB/s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    engine: tokenizer.engine,
    vocabulary,
    text: source,
    bytes: Math.round(megabytes * 1e6),
    ids,
    medians: rates,
    bests: best,
    tenMegabytesOfOneLetterSeconds: oneLetterSeconds,
  };
}

/** `groundup tokenizer train|encode|decode|inspect`. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import * as z from "zod";
import { type DocumentMode, decodeText, documentModeSchema, openDocuments } from "../data/index.ts";
import { readBytes, replacedNote } from "../data/read-documents.ts";
import { ConfigError, DataError } from "../errors.ts";
import { grouped } from "../quantities.ts";
import { BPE_FILES } from "../tokenizers/files/save.ts";
import {
  type EncodeOptions,
  loadTokenizer,
  type PatternName,
  type Tokenizer,
  traceEncoding,
  trainBpeStream,
  trainUnigram,
  trainWordPiece,
  WHOLE,
} from "../tokenizers/index.ts";
import { defineCommand, type Io } from "./command.ts";
import { commandName, word } from "./command-name.ts";
import type { CommandTable } from "./dispatch.ts";
import { UsageError } from "./failure.ts";
import { checkPath, placeOf } from "./open-model.ts";
import { comparedOn, comparisonLines, cutText, tokenizerLines, tokenizerReport, traceLines } from "./tokenizer-report.ts";

const TOKENIZER = {
  name: "TOKENIZER",
  description:
    "a tokenizer's folder or file (tokenizer.json, vocab.json, a tiktoken rank file), a GGUF file, the folder of a model or a run, or a model of the hub (org/name) or Ollama's (ollama:name)",
} as const;

const PATTERNS = ["gpt2", "cl100k", "qwen2", "o200k", "whole"] as const;
const PATTERN = z
  .enum([...PATTERNS, "cl100k-tiktoken"])
  .optional()
  .describe("how text is cut into words, for a file that does not say it (tiktoken ranks, vocab.json)");

async function open(name: string, { pattern, offline }: { pattern?: PatternName | undefined; offline: boolean }, io: Io): Promise<Tokenizer> {
  const path = await placeOf(name, io.log, { tokenizer: true, offline });
  checkPath(path, "TOKENIZER");
  const ofRun = join(path, "tokenizer");
  return loadTokenizer(existsSync(join(ofRun, "tokenizer.json")) ? ofRun : path, { pattern });
}

/**
 * A file's text (.gz and .zst decompressed), or with - that of standard input; says on stderr what was not UTF-8.
 * @throws DataError for binary data, FormatError for what can't be read
 */
async function textOf(file: string, io: Io): Promise<string> {
  const where = file === "-" ? "standard input" : file;
  const pieces: string[] = [];
  const counts = { bytes: 0, replaced: 0 };
  for await (const piece of decodeText(file === "-" ? process.stdin : readBytes(file), where, counts)) pieces.push(piece);
  if (counts.replaced > 0) io.log(replacedNote(where, counts.replaced));
  return pieces.join("");
}

const OFFLINE = z.boolean().default(false).describe("fetch nothing: the tokenizer must be on this machine");

const MODELS = ["bpe", "wordpiece", "unigram"] as const;
/** Special tokens where none are named. */
const SPECIAL = { bpe: ["<|endoftext|>"], wordpiece: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], unigram: ["<unk>", "<s>", "</s>"] };

const train = defineCommand({
  about:
    "Trains a tokenizer on text and writes tokenizer.json, which Hugging Face tokenizers opens (of a byte-level BPE vocab.json and merges.txt too). The result depends on the text and the flags only.",
  arguments: [{ name: "FILES", description: "text files, JSONL, or folders of them (also .gz, .zst)", variadic: true }],
  options: z.object({
    out: z.string().min(1).describe("folder to write").meta({ placeholder: "FOLDER" }),
    overwrite: z.boolean().default(false).describe("replace the files of a tokenizer that are in that folder"),
    model: z
      .enum(MODELS)
      .default("bpe")
      .describe("bpe: bytes, merged (GPT); wordpiece: letters, merged (BERT); unigram: the likeliest pieces (T5, SentencePiece)"),
    vocabSize: z.int().min(1).default(8192).describe("tokens, letters or the 256 bytes, and special tokens included"),
    pattern: z
      .enum(PATTERNS)
      .optional()
      .describe("of bpe: how text is cut into words, gpt2 (the default), cl100k (GPT-4), o200k (GPT-4o), qwen2; whole is not at all"),
    special: z
      .array(z.string().min(1))
      .optional()
      .describe("special tokens, which get the first ids; by default <|endoftext|>, or those of BERT or SentencePiece")
      .meta({ placeholder: "TOKEN" }),
    minFrequency: z.int().min(0).optional().describe("of bpe and wordpiece: pairs seen less often are not merged; default 0"),
    byteFallback: z.boolean().default(false).describe("of unigram: spell unknown characters in bytes"),
    document: documentModeSchema.meta({ placeholder: "WAY" }),
    field: z.string().default("text").describe("of a JSONL line that holds the text"),
  }),
  examples: [
    "groundup tokenizer train book.txt --vocab-size 4096 --out my-tokenizer",
    "groundup tokenizer train corpus/ --pattern cl100k --vocab-size 32768 --out tok32k",
    "groundup tokenizer train corpus/ --model unigram --vocab-size 16000 --out pieces",
  ],
  async run(paths, { out, overwrite, model, vocabSize, pattern, special, minFrequency, byteFallback, document, field }, io) {
    const { signal } = io;
    const started = performance.now();
    const misplaced = [
      ...(model !== "bpe" && pattern !== undefined ? ["--pattern, which is of bpe"] : []),
      ...(model === "unigram" && minFrequency !== undefined ? ["--min-frequency, which is of bpe and wordpiece"] : []),
      ...(model !== "unigram" && byteFallback ? ["--byte-fallback, which is of unigram"] : []),
    ];
    if (misplaced.length > 0)
      throw new UsageError(
        `groundup tokenizer train: flags of another model, expected those of ${model}, got ${misplaced.join(" and ")}. Leave them out, or change --model.`,
      );
    for (const path of paths) if (!/[*?]/.test(path)) checkPath(path, "FILES");
    const taken = BPE_FILES.filter((file) => existsSync(join(out, file)));
    if (taken.length > 0 && !overwrite)
      throw new ConfigError(
        `${out}: files of a tokenizer are there already, expected a folder without them, got ${taken.join(", ")}. Name another folder with --out, or add --overwrite to replace them.`,
      );
    const files = await openDocuments(paths, { document: document as DocumentMode, field, onNote: (sentence) => io.log(sentence) });
    let [documents, bytes] = [0, 0];
    async function* texts(): AsyncGenerator<string> {
      for await (const { text } of files) {
        signal.throwIfAborted();
        documents++;
        bytes += Buffer.byteLength(text);
        yield text;
      }
    }
    const common = { vocabSize, specialTokens: special ?? SPECIAL[model] };
    const tokenizer = await {
      bpe: () => trainBpeStream(texts(), { ...common, pattern: pattern ?? "gpt2", minFrequency: minFrequency ?? 0 }),
      wordpiece: () => trainWordPiece(texts(), { ...common, minFrequency: minFrequency ?? 0 }),
      unigram: () => trainUnigram(texts(), { ...common, byteFallback }),
    }[model]();
    await tokenizer.save(out);
    const seconds = (performance.now() - started) / 1000;
    io.print(
      `${grouped(tokenizer.vocabSize)} tokens from ${grouped(bytes)} bytes in ${grouped(documents)} ${documents === 1 ? "document" : "documents"}, ${seconds.toFixed(1)} s`,
    );
    if (tokenizer.vocabSize < vocabSize)
      io.print(
        `The text has no more ${model === "unigram" ? "pieces" : "pairs to merge"}, so there are fewer than the ${grouped(vocabSize)} that were asked for.`,
      );
    io.print(`Written to ${resolve(out)}. Look at it with: ${commandName()} tokenizer inspect ${word(out)}`);
    return { out, model, vocabSize: tokenizer.vocabSize, documents, bytes, seconds };
  },
});

const encode = defineCommand({
  about: "Turns text into token ids. Special tokens' spellings in the text are ordinary text unless --allow-special.",
  arguments: [TOKENIZER],
  options: z.object({
    text: z.string().optional().describe("the text").meta({ placeholder: "TEXT" }),
    file: z.string().optional().describe("a text file in its place; - is standard input").meta({ placeholder: "FILE" }),
    count: z.boolean().default(false).describe("say only how many there are"),
    pieces: z.boolean().default(false).describe("show each token's text beside its id"),
    allowSpecial: z.boolean().default(false).describe("read special tokens in the text as such"),
    pattern: PATTERN,
    addSpecialTokens: z.boolean().default(true).describe("leave out the tokens that the tokenizer puts around every text"),
    offline: OFFLINE,
  }),
  examples: ['groundup tokenizer encode gpt2/ --text "Call me Ishmael." --pieces', "groundup tokenizer encode my-tokenizer --file book.txt --count --json"],
  async run([path], { text, file, count, pieces, allowSpecial, addSpecialTokens, pattern, offline }, io) {
    if ((text === undefined) === (file === undefined))
      throw new UsageError(
        `groundup tokenizer encode: expected one of --text and --file, got ${text === undefined ? "neither. Add one." : "both. Leave one out."}`,
      );
    if (file !== undefined && file !== "-") checkPath(file, "--file");
    const input = text ?? (await textOf(file as string, io));
    if (text?.includes("\ufffd")) io.log("--text has bytes that are no UTF-8; they were read as U+FFFD");
    const tokenizer = await open(path, { pattern, offline }, io);
    const options: EncodeOptions = { ...WHOLE, allowSpecial, addSpecialTokens };
    if (count) {
      const tokens = tokenizer.count(input, options);
      io.print(`${tokens}`);
      return { tokens };
    }
    const ids = [...tokenizer.encode(input, options).ids];
    const texts = pieces ? ids.map((id) => tokenizer.decode([id])) : undefined;
    io.print(texts === undefined ? ids.join(" ") : ids.map((id, i) => `${String(id).padStart(7)}  ${JSON.stringify(texts[i])}`).join("\n"));
    return { ids, tokens: ids.length, ...(texts === undefined ? {} : { pieces: texts }) };
  },
});

const decode = defineCommand({
  about: "Turns token ids into text.",
  arguments: [TOKENIZER, { name: "IDS", description: "token ids, with blanks or commas between them", variadic: true }],
  options: z.object({ pattern: PATTERN, skipSpecialTokens: z.boolean().default(false).describe("leave special tokens out of the text"), offline: OFFLINE }),
  examples: ["groundup tokenizer decode gpt2/ 14134 502 680 14133"],
  async run([path, ...words], { skipSpecialTokens, pattern, offline }, io) {
    const numbers = words.flatMap((w) => w.split(/[\s,]+/)).filter((w) => w !== "");
    const bad = numbers.filter((w) => !/^[0-9]+$/.test(w));
    if (bad.length > 0)
      throw new DataError(
        `groundup tokenizer decode: not ids, expected whole numbers, got ${bad
          .slice(0, 5)
          .map((w) => JSON.stringify(w))
          .join(", ")}. Correct them.`,
      );
    const tokenizer = await open(path, { pattern, offline }, io);
    const text = tokenizer.decode(numbers.map(Number), { skipSpecialTokens });
    io.print(text);
    return { text, tokens: numbers.length };
  },
});

/** Longer texts are counted, not shown. */
const MOST_SHOWN = 1000;

const inspect = defineCommand({
  about:
    "Shows what a tokenizer is: its model, vocabulary, special tokens and longest tokens. With a text it shows how that is cut, step by step; with several tokenizers, how they compare on it.",
  arguments: [{ ...TOKENIZER, name: "TOKENIZERS", variadic: true }],
  options: z.object({
    pattern: PATTERN,
    text: z.string().optional().describe("a text to follow through the tokenizer, or to compare on").meta({ placeholder: "TEXT" }),
    file: z.string().optional().describe("a text file to compare on; - is standard input").meta({ placeholder: "FILE" }),
    offline: OFFLINE,
  }),
  examples: [
    "groundup tokenizer inspect runs/quickstart/tokenizer",
    'groundup tokenizer inspect gpt2/ --text "Call me Ishmael."',
    "groundup tokenizer inspect gpt2/ bert/ my-tokenizer/ --file book.txt",
  ],
  async run(paths, { pattern, text, file, offline }, io) {
    if (text !== undefined && file !== undefined)
      throw new UsageError("groundup tokenizer inspect: expected one of --text and --file, got both. Leave one out.");
    const compares = paths.length > 1 || file !== undefined;
    if (compares && text === undefined && file === undefined)
      throw new UsageError("groundup tokenizer inspect: expected --text or --file to compare tokenizers on, got neither. Add one, or name a single tokenizer.");
    if (file !== undefined && file !== "-") checkPath(file, "--file");
    const tokenizers: Tokenizer[] = [];
    for (const path of paths) tokenizers.push(await open(path, { pattern, offline }, io));
    if (compares) {
      const input = text ?? (await textOf(file as string, io));
      if (input === "") throw new DataError("groundup tokenizer inspect: an empty text, expected at least one character, got none. Give another one.");
      const compared = tokenizers.map((tokenizer, i) => comparedOn(paths[i] as string, tokenizer, input));
      const cuts = input.length <= MOST_SHOWN ? tokenizers.map((tokenizer) => cutText(tokenizer, input)) : null;
      for (const line of comparisonLines(compared, cuts)) io.print(line);
      return { bytes: Buffer.byteLength(input), compared };
    }
    const [tokenizer] = tokenizers as [Tokenizer];
    const report = tokenizerReport(tokenizer);
    for (const line of tokenizerLines(report)) io.print(line);
    if (text === undefined) return report;
    if (text.length > MOST_SHOWN)
      throw new DataError(
        `groundup tokenizer inspect: --text is too long to show, expected at most ${MOST_SHOWN} characters, got ${text.length}. Shorten it, or count a file with --file.`,
      );
    const trace = traceEncoding(tokenizer.spec, text);
    io.print();
    for (const line of traceLines(text, trace)) io.print(line);
    return { ...report, trace };
  },
});

export const commands: CommandTable = [
  ["train", "a BPE, WordPiece or Unigram from text", async () => ({ command: train })],
  ["encode", "text to ids", async () => ({ command: encode })],
  ["decode", "ids to text", async () => ({ command: decode })],
  ["inspect", "what a tokenizer is, how it cuts a text, how several compare", async () => ({ command: inspect })],
];

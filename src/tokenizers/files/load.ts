/** Opening tokenizers. */
import { FormatError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import type { Engine } from "../byte-level/native-text.ts";
import type { PatternName } from "../byte-level/split-patterns.ts";
import { sentencePieceTokenizer } from "../sentencepiece/sentencepiece-tokenizer.ts";
import { createTokenizer, type Tokenizer } from "../tokenizer.ts";
import type { TokenizerSpec } from "../tokenizer-spec.ts";
import { readChatFiles, readChatMetadata } from "./chat-files.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import { readTiktoken, startsWithRank } from "./tiktoken-file.ts";
import { readSettings } from "./tokenizer-config.ts";
import { checkFileSystem, diskFiles, type TokenizerFiles } from "./tokenizer-files.ts";
import { readTokenizerBytes, readTokenizerJson } from "./tokenizer-json.ts";
import { readVocabAndMerges } from "./vocab-merges.ts";

/** What a folder or file does not say by itself. */
export interface LoadOptions {
  /** Which file to read; by default the first there is of tokenizer.json, vocab.json with merges.txt, and encoder.json with vocab.bpe. */
  file?: string;
  /** The split pattern, for files that do not say it (vocab.json with merges.txt: GPT-2's; tiktoken rank files). */
  pattern?: PatternName;
  /** Special tokens and their ids, for files that do not say them. */
  specialTokens?: Readonly<Record<string, number>>;
  /** What runs it; `auto` is the native part where it loads. */
  engine?: Engine;
}

const PAIRS = [
  ["vocab.json", "merges.txt"],
  ["encoder.json", "vocab.bpe"],
] as const;

/** What folders call SentencePiece's file: Llama's and most others; T5's. */
const MODEL_FILES = ["tokenizer.model", "spiece.model"];

/**
 * Opens a tokenizer: a Hugging Face folder (tokenizer.json, vocab.json with merges.txt, or a SentencePiece model), one of these files, a tiktoken
 * rank file, a GGUF file with a model, or that of a model of the hub (`org/name`) or of Ollama's (`ollama:name:tag`). A path that exists wins.
 *
 * @throws HubError or ConfigError for a model that is not to be had; FormatError when a file is missing, cut off, damaged or of a kind that is not supported
 */
export async function loadTokenizer(from: string | TokenizerFiles, options: LoadOptions = {}): Promise<Tokenizer> {
  checkOptions("loadTokenizer", options, { file: true, pattern: true, specialTokens: true, engine: true });
  if (typeof from === "string") {
    checkFileSystem();
    const { locate } = await import("../../formats/hub/locate.ts");
    const { path, gguf } = await locate(from, { tokenizer: true });
    if (gguf && options.file === undefined) return createTokenizer(await specOfGguf(path), options.engine);
    const files = await diskFiles(path);
    return createTokenizer(await readSpec(files, options.file ?? files.only, options), options.engine);
  }
  return createTokenizer(await readSpec(from, options.file, options), options.engine);
}

/** Only the file's header is read. */
async function specOfGguf(path: string): Promise<TokenizerSpec> {
  const [{ openFile }, { openGguf }] = await Promise.all([import("../../formats/node-file.ts"), import("../../formats/gguf/read.ts")]);
  const source = await openFile(path);
  const { metadata } = await openGguf(source).finally(() => source.close());
  const spec = ggufTokenizer(metadata, path);
  const names = metadata.get("tokenizer.ggml.tokens");
  const chat = readChatMetadata(metadata, names?.kind === "array" ? (names.value as readonly string[]) : []);
  return chat === undefined ? spec : { ...spec, chat };
}

/** The tokenizer of a folder or file, with the chat templates beside it. */
async function readSpec(files: TokenizerFiles, only: string | undefined, options: LoadOptions): Promise<TokenizerSpec> {
  function decoded(bytes: Uint8Array, file: string): string {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch (cause) {
      throw new FormatError(
        `${files.name}/${file}: not UTF-8 text, expected a tokenizer file, got ${bytes.length} other bytes. The file is damaged, or compressed.`,
        { cause },
      );
    }
  }
  async function text(file: string): Promise<string | null> {
    const bytes = await files.read(file);
    return bytes === null ? null : decoded(bytes, file);
  }
  async function json(file: string): Promise<TokenizerSpec | null> {
    const bytes = await files.read(file);
    if (bytes === null) return null;
    const full = `${files.name}/${file}`;
    const quick = options.engine === "reference" ? null : readTokenizerBytes(bytes, full);
    return quick ?? readTokenizerJson(decoded(bytes, file), full);
  }
  const spec = await readTokenizer(files, { text, json }, only, options);
  const chat = await readChatFiles(files.name, text);
  const settings = readSettings(await text("tokenizer_config.json"), `${files.name}/tokenizer_config.json`);
  return { ...spec, ...(chat === undefined ? {} : { chat }), ...(settings === undefined ? {} : { settings }) };
}

async function readTokenizer(
  files: TokenizerFiles,
  { text, json }: { text(file: string): Promise<string | null>; json(file: string): Promise<TokenizerSpec | null> },
  only: string | undefined,
  options: LoadOptions,
): Promise<TokenizerSpec> {
  const full = (file: string): string => `${files.name}/${file}`;
  async function needed(file: string): Promise<string> {
    const content = await text(file);
    if (content === null) throw new FormatError(`${full(file)}: not there, expected a tokenizer file, got nothing. Check the folder.`);
    return content;
  }

  const ranks = (content: string, file: string): TokenizerSpec => {
    const { pattern, specialTokens } = options;
    return readTiktoken(content, full(file), { ...(pattern === undefined ? {} : { pattern }), ...(specialTokens === undefined ? {} : { specialTokens }) });
  };

  /** SentencePiece's, or (Meta's own Llama 3 and 4) tiktoken's under the same name. */
  async function model(file: string): Promise<TokenizerSpec | null> {
    const bytes = await files.read(file);
    if (bytes === null) return null;
    return startsWithRank(bytes) ? ranks((await text(file)) ?? "", file) : sentencePieceTokenizer(bytes, full(file));
  }

  const pair = PAIRS.find((names) => only !== undefined && (names as readonly string[]).includes(only));
  if (only !== undefined && pair === undefined) {
    if (only.endsWith(".model")) {
      const spec = await model(only);
      if (spec !== null) return spec;
    }
    const spec = only.endsWith(".json") ? await json(only) : null;
    if (spec !== null) return spec;
    return ranks(await needed(only), only);
  }
  const whole = pair === undefined ? await json("tokenizer.json") : null;
  if (whole !== null) return whole;
  for (const [vocabFile, mergesFile] of pair === undefined ? PAIRS : [pair]) {
    const vocab = await text(vocabFile);
    if (vocab === null) continue;
    const specialTokens = options.specialTokens === undefined ? undefined : Object.keys(options.specialTokens);
    return readVocabAndMerges(
      { text: vocab, file: full(vocabFile) },
      { text: await needed(mergesFile), file: full(mergesFile) },
      { pattern: options.pattern, specialTokens },
    );
  }
  for (const file of MODEL_FILES) {
    const spec = await model(file);
    if (spec !== null) return spec;
  }
  const { got, advice } = missing((await files.list?.()) ?? null);
  throw new FormatError(
    `${files.name}: no tokenizer here, expected tokenizer.json, vocab.json with merges.txt, encoder.json with vocab.bpe, or ${MODEL_FILES.join(" or ")}, got ${got}. ${advice}`,
  );
}

/** What a folder without a tokenizer has, and what that means for who named it. */
function missing(names: readonly string[] | null): { got: string; advice: string } {
  if (names === null) return { got: "none of them", advice: "Check the names of the files." };
  const shown = names.filter((name) => !name.startsWith("."));
  const got = shown.length === 0 ? "an empty folder" : `${shown.slice(0, 4).join(", ")}${shown.length > 4 ? " and others" : ""}`;
  const own = shown.find((name) => /\.(gguf|tiktoken)$/i.test(name));
  if (own !== undefined) return { got, advice: `A tokenizer may be in ${own}: name that file itself.` };
  if (shown.some((name) => name === "config.json" || name.endsWith(".safetensors")))
    return { got, advice: "The model came without its tokenizer: put the tokenizer.json that belongs to it beside it." };
  return { got, advice: "Check the path." };
}

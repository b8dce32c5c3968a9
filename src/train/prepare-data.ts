/** From text to tokens: the split, the tokenizer, the shards, all inside the run's folder, so that a resumed run finds them as they were. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import {
  type Document,
  type DocumentFiles,
  type DocumentMode,
  openDocuments,
  openShards,
  planSplit,
  type ShardData,
  type ShardManifest,
  type Side,
  type SplitPlan,
  type TokenData,
  writeShards,
} from "../data/index.ts";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError, FormatError, RunError } from "../errors.ts";
import { hashFile, openFolder } from "../formats/index.ts";
import { checkOptions } from "../options.ts";
import { byteTokenizer, charTokenizer, loadTokenizer, type Tokenizer, trainBpeStream, WHOLE } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { type Recipe, textSources } from "./recipe.ts";
import type { RunFolder } from "./run-folder.ts";
import { openTokenFolder, textBytes } from "./token-folder.ts";

/** The special token that stands behind each document. */
export const END_OF_TEXT = "<|endoftext|>";
const BUNDLED = new URL("../../data/", import.meta.url);

/** Tokens to train on, and how often they come beside the others. */
export interface TrainPart {
  tokens: TokenData;
  weight: number;
}

/** Sizes of one side, over all sources; null where nobody counted: files of tokens do not say what documents they were, and only those of validation are read through. */
export interface SideCounts {
  tokens: number;
  bytes: number | null;
  documents: number | null;
}

/** Tokenizer and tokens of a run, ready to train on. */
export interface PreparedData {
  tokenizer: Tokenizer;
  /** One for each source. */
  train: TrainPart[];
  /** Of all sources. */
  validation: TokenData;
  counts: Record<Side, SideCounts>;
  close(): Promise<void>;
}

/** Path → SHA-256 of every file of text, or a token file's identity. */
export type DataHashes = Record<string, string>;

export interface DataText {
  /** One for each source; none where the recipe names files of tokens. */
  sources: { documents: DocumentFiles; weight: number }[];
  hashes: DataHashes;
}

/** `bundled:NAME` becomes the place of the text that groundup brings along. */
export function resolveDataPaths(paths: readonly string[]): string[] {
  return paths.map((path) => (path.startsWith("bundled:") ? bundledText(path.slice("bundled:".length)) : path));
}

function bundledText(name: string): string {
  const names = fs.readdirSync(BUNDLED).filter((file) => /\.(txt|jsonl)(\.gz|\.zst)?$/.test(file));
  if (names.includes(name)) return fileURLToPath(new URL(name, BUNDLED));
  throw new ConfigError(
    `data.path: no such bundled text, expected ${names.map((n) => `bundled:${n}`).join(" or ")}, got "bundled:${name}".${didYouMean(name, names)} Correct it.`,
  );
}

/** Opens the recipe's texts and hashes their files. */
export async function openText(recipe: Recipe, onNote: (sentence: string) => void): Promise<DataText> {
  const { document, text_field: field } = recipe.data;
  const hashes: DataHashes = {};
  // Bundled text has another place on every machine.
  const name = (file: string) => (file.startsWith(fileURLToPath(BUNDLED)) ? `bundled:${file.slice(fileURLToPath(BUNDLED).length)}` : file);
  const sources: DataText["sources"] = [];
  for (const { paths, weight } of textSources(recipe)) {
    const documents = await openDocuments(resolveDataPaths(paths), { document: document as DocumentMode, field, onNote });
    for (const file of documents.files) hashes[name(file)] ??= await hashFile(file);
    sources.push({ documents, weight });
  }
  if (recipe.data.tokens !== null) {
    // Tens of gigabytes are not hashed at each start: their identity is that of their length and of pieces all over them.
    const files = await openTokenFolder(recipe.data.tokens);
    for (const file of Object.values(files)) {
      hashes[file.name] = file.identity;
      await file.close();
    }
  }
  return { sources, hashes };
}

/** @throws RunError naming the files that are new, gone or changed since the run began */
export function checkSameData(before: DataHashes, now: DataHashes, run: string): void {
  const changed = [
    ...Object.keys(before)
      .filter((file) => !Object.hasOwn(now, file))
      .map((file) => `${file} is gone`),
    ...Object.keys(now)
      .filter((file) => !Object.hasOwn(before, file))
      .map((file) => `${file} is new`),
    ...Object.keys(now)
      .filter((file) => Object.hasOwn(before, file) && before[file] !== now[file])
      .map((file) => `${file} has changed`),
  ];
  if (changed.length > 0)
    throw new RunError(
      `${run}: the data has changed, expected the files that the run began with, got\n  ${changed.join("\n  ")}\nPut them back, or start a new run.`,
    );
}

/**
 * Trains or loads the tokenizer and writes the shards, or finds both in the run's folder.
 * `onTokenizer` is called before the text is tokenized, which may take long; what it throws ends the preparation.
 */
export async function prepareData(
  run: RunFolder,
  text: DataText,
  options: { onNote: (sentence: string) => void; onTokenizer?: (tokenizer: Tokenizer) => void; signal?: AbortSignal },
): Promise<PreparedData> {
  checkOptions("prepareData", options, { onNote: true, onTokenizer: true, signal: true });
  const { recipe } = run;
  const { signal } = options;
  const sides = splitSources(recipe, text, options);
  const folder = run.at("tokenizer");
  if (!fs.existsSync(run.at("tokenizer", "tokenizer.json"))) {
    const made = await makeTokenizer(recipe, text, sides, signal);
    await made.save(folder);
    made.dispose();
  }
  const tokenizer = await loadTokenizer(folder);
  options.onTokenizer?.(tokenizer);
  if (recipe.data.tokens !== null) return tokenFiles(recipe.data.tokens, tokenizer, options);

  const endOfText = endsDocuments(recipe) ? tokenizer.specialTokens.get(END_OF_TEXT) : undefined;
  const tokenizerHash = await hashFile(run.at("tokenizer", "tokenizer.json"));
  const opened: ShardData[] = [];
  const close = async () => {
    for (const shards of opened) await shards.close();
  };
  const shardsAt = async (place: string, name: string, documents: () => AsyncIterable<Document>): Promise<ShardData> => {
    const there = fs.existsSync(place);
    if (!there) {
      const encoder = { encode: (piece: string) => tokenizer.encode(piece, { ...WHOLE, addSpecialTokens: false }) };
      await writeShards(place, documents(), encoder, {
        vocabSize: tokenizer.vocabSize,
        tokenizerHash,
        ...(endOfText === undefined ? {} : { endOfText }),
        ...(signal === undefined ? {} : { signal }),
      });
    }
    const shards = { ...(await openShards(openFolder(place))), name };
    opened.push(shards);
    if (there) await verify(shards, place);
    return shards;
  };
  try {
    const train: (TrainPart & { tokens: ShardData })[] = [];
    for (const [i, { documents, weight }] of text.sources.entries()) {
      const place = text.sources.length === 1 ? run.at("data", "train") : run.at("data", `train-${i}`);
      train.push({ tokens: await shardsAt(place, `${listed(documents.files)} (training part)`, () => sides("train", i)), weight });
    }
    const all = text.sources.flatMap(({ documents }) => documents.files);
    const validation = await shardsAt(run.at("data", "validation"), `${listed(all)} (validation part)`, () => sides("validation"));
    const sum = (of: readonly ShardData[], pick: (s: ShardManifest["statistics"]) => number) =>
      of.reduce((n, shards) => n + pick(shards.manifest.statistics), 0);
    const countsOf = (of: readonly ShardData[]) => ({
      tokens: sum(of, (s) => s.tokens),
      bytes: sum(of, (s) => s.bytes),
      documents: sum(of, (s) => s.documents),
    });
    return { tokenizer, train, validation, counts: { train: countsOf(train.map(({ tokens }) => tokens)), validation: countsOf([validation]) }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Files for a message: the user's, as the shards made of them are nobody's to mend. */
const listed = (files: readonly string[]): string => (files.length > 3 ? `${files.slice(0, 3).join(", ")} and ${files.length - 3} more` : files.join(", "));

async function tokenFiles(
  folder: string,
  tokenizer: Tokenizer,
  { onNote, signal }: { onNote: (sentence: string) => void; signal?: AbortSignal },
): Promise<PreparedData> {
  const { train, validation } = await openTokenFolder(folder, tokenizer.vocabSize);
  const close = async () => {
    await train.close();
    await validation.close();
  };
  try {
    // Training tokens may be tens of gigabytes, and nothing is measured on them.
    const bytes = await textBytes(validation, tokenizer, signal);
    if (bytes === null) onNote(`${validation.name}: bits per byte are not measured, as some of its tokens are the tokenizer's unknown token.`);
    const counts = {
      train: { tokens: train.tokens, bytes: null, documents: null },
      validation: { tokens: validation.tokens, bytes, documents: null },
    };
    return { tokenizer, train: [{ tokens: train, weight: 1 }], validation, counts, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Documents of one side: of one source, or of all of them one after another. */
type Sides = (side: Side, source?: number) => AsyncGenerator<Document>;

/** Each source is split for itself, and read only where something is to be made of it. */
function splitSources(recipe: Recipe, { sources }: DataText, options: { onNote: (sentence: string) => void; signal?: AbortSignal }): Sides {
  const plans = new Map<DocumentFiles, SplitPlan>();
  const planOf = async (documents: DocumentFiles): Promise<SplitPlan> => {
    const made =
      plans.get(documents) ??
      (await planSplit(watched(documents, options.signal), {
        validationFraction: recipe.data.validation_fraction,
        seed: recipe.run.seed,
        by: recipe.data.split_by,
      }));
    if (!plans.has(documents)) for (const note of made.notes) options.onNote(note);
    plans.set(documents, made);
    return made;
  };
  return async function* (side, source) {
    for (const { documents } of source === undefined ? sources : [sources[source]]) yield* (await planOf(documents)).side(documents, side);
  };
}

/** One bit that flipped would train another model than the one that began. */
async function verify(data: ShardData, place: string): Promise<void> {
  try {
    await data.verify();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${error.message} For that, remove ${place} and resume: the text is still there.`, { cause: error });
  }
}

function endsDocuments({ tokenizer }: Recipe): boolean {
  return tokenizer.end_of_text ?? tokenizer.type !== "characters";
}

async function makeTokenizer(recipe: Recipe, { sources }: DataText, sides: Sides, signal: AbortSignal | undefined): Promise<Tokenizer> {
  const { type, vocab_size, pattern, path } = recipe.tokenizer;
  const specialTokens = endsDocuments(recipe) ? [END_OF_TEXT] : [];
  switch (type) {
    case "file":
      return loadTokenizer(path as string);
    case "bytes":
      return byteTokenizer({ specialTokens });
    case "characters": {
      // Of the whole text, as nanoGPT has it: an unseen character in the validation text would have no id.
      const characters = new Set<string>();
      for (const { documents } of sources) for await (const { text } of watched(documents, signal)) for (const character of text) characters.add(character);
      return charTokenizer([...characters].join(""), { specialTokens });
    }
    case "bpe":
      return trainBpeStream(textsOf(watched(sides("train"), signal)), { vocabSize: vocab_size, pattern, specialTokens });
  }
}

/** The documents, until the signal aborts. */
async function* watched<T>(documents: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  let heard = performance.now();
  for await (const document of documents) {
    // Many documents come from one piece of a file, and Ctrl-C is heard only between turns of the event loop.
    if (performance.now() - heard > 100) {
      await turn();
      heard = performance.now();
    }
    signal?.throwIfAborted();
    yield document;
  }
}

async function* textsOf(documents: AsyncIterable<{ text: string }>): AsyncGenerator<string> {
  for await (const { text } of documents) yield text;
}

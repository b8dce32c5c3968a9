/** From text to tokens: the split, the tokenizer, the shards, all inside the run's folder, so that a resumed run finds them as they were. */
import * as fs from "node:fs";
import { fileURLToPath } from "node:url";
import {
  type DocumentFiles,
  type DocumentMode,
  openDocuments,
  openShards,
  planSplit,
  type ShardData,
  type Side,
  type SplitPlan,
  writeShards,
} from "../data/index.ts";
import { ConfigError, FormatError, RunError } from "../errors.ts";
import { didYouMean, hashFile, openFolder } from "../formats/index.ts";
import { byteTokenizer, charTokenizer, loadTokenizer, type Tokenizer, trainBpeStream } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import type { Recipe } from "./recipe.ts";
import type { RunFolder } from "./run-folder.ts";

export const END_OF_TEXT = "<|endoftext|>";
const BUNDLED = new URL("../../data/", import.meta.url);

export interface PreparedData {
  tokenizer: Tokenizer;
  train: ShardData;
  validation: ShardData;
  /** The token behind each document, where there is one. */
  endOfText: number | undefined;
}

/** Path → SHA-256 of every file of text. */
export type DataHashes = Record<string, string>;

export interface DataText {
  documents: DocumentFiles;
  hashes: DataHashes;
}

/** The recipe's paths; `bundled:NAME` becomes the place of the text that groundup brings along. */
export function resolveDataPaths({ data: { path } }: Recipe): string[] {
  const place = (p: string) => (p.startsWith("bundled:") ? bundledText(p.slice("bundled:".length)) : p);
  return (typeof path === "string" ? [path] : path).map(place);
}

function bundledText(name: string): string {
  const names = fs.readdirSync(BUNDLED).filter((file) => /\.(txt|jsonl)(\.gz|\.zst)?$/.test(file));
  if (names.includes(name)) return fileURLToPath(new URL(name, BUNDLED));
  throw new ConfigError(
    `data.path: no such bundled text, expected ${names.map((n) => `bundled:${n}`).join(" or ")}, got "bundled:${name}".${didYouMean(name, names)} Correct it.`,
  );
}

/** Opens the recipe's text and hashes its files. */
export async function openText(recipe: Recipe, onNote: (sentence: string) => void): Promise<DataText> {
  const { document, text_field: field } = recipe.data;
  const documents = await openDocuments(resolveDataPaths(recipe), { document: document as DocumentMode, field, onNote });
  const hashes: DataHashes = {};
  // Bundled text has another place on every machine.
  const name = (file: string) => (file.startsWith(fileURLToPath(BUNDLED)) ? `bundled:${file.slice(fileURLToPath(BUNDLED).length)}` : file);
  for (const file of documents.files) hashes[name(file)] = await hashFile(file);
  return { documents, hashes };
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

/** Trains or loads the tokenizer and writes the shards, or finds both in the run's folder. */
export async function prepareData(
  run: RunFolder,
  { documents, hashes: _ }: DataText,
  options: { onNote: (sentence: string) => void; signal?: AbortSignal },
): Promise<PreparedData> {
  const { recipe } = run;
  const { onNote, signal } = options;
  let planned: SplitPlan | undefined;
  // Reads the whole text, so only where something is to be made of it.
  const plan = async (): Promise<SplitPlan> => {
    if (planned !== undefined) return planned;
    planned = await planSplit(watched(documents, signal), {
      validationFraction: recipe.data.validation_fraction,
      seed: recipe.run.seed,
      by: recipe.data.split_by,
    });
    for (const note of planned.notes) onNote(note);
    return planned;
  };
  const folder = run.at("tokenizer");
  if (!fs.existsSync(run.at("tokenizer", "tokenizer.json"))) {
    const made = await makeTokenizer(recipe, documents, plan, signal);
    await made.save(folder);
    made.dispose();
  }
  const tokenizer = await loadTokenizer(folder);
  const endOfText = endsDocuments(recipe) ? tokenizer.specialTokens.get(END_OF_TEXT) : undefined;
  const tokenizerHash = await hashFile(run.at("tokenizer", "tokenizer.json"));
  const sides: Partial<Record<Side, ShardData>> = {};
  for (const side of ["train", "validation"] as const) {
    const place = run.at("data", side);
    const there = fs.existsSync(place);
    if (!there) {
      const encoder = { encode: (text: string) => tokenizer.encode(text, { addSpecialTokens: false }) };
      await writeShards(place, (await plan()).side(documents, side), encoder, {
        vocabSize: tokenizer.vocabSize,
        tokenizerHash,
        ...(endOfText === undefined ? {} : { endOfText }),
        ...(signal === undefined ? {} : { signal }),
      });
    }
    sides[side] = await openShards(openFolder(place));
    if (there) await verify(sides[side], place);
  }
  return { tokenizer, train: sides.train as ShardData, validation: sides.validation as ShardData, endOfText };
}

/** One bit that flipped would train another model than the one that began. */
async function verify(data: ShardData, place: string): Promise<void> {
  try {
    await data.verify();
  } catch (error) {
    await data.close();
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${error.message} For that, remove ${place} and resume: the text is still there.`, { cause: error });
  }
}

function endsDocuments({ tokenizer }: Recipe): boolean {
  return tokenizer.end_of_text ?? tokenizer.type !== "characters";
}

async function makeTokenizer(recipe: Recipe, documents: DocumentFiles, plan: () => Promise<SplitPlan>, signal: AbortSignal | undefined): Promise<Tokenizer> {
  const { type, vocab_size, pattern, path } = recipe.tokenizer;
  const specialTokens = endsDocuments(recipe) ? [END_OF_TEXT] : [];
  switch (type) {
    case "file":
      if (path === null)
        throw new RunError("recipe: tokenizer.path is missing, expected a tokenizer's folder or file with tokenizer.type file, got null. Set it.");
      return loadTokenizer(path);
    case "bytes":
      return byteTokenizer({ specialTokens });
    case "characters": {
      // Of the whole text, as nanoGPT has it: an unseen character in the validation text would have no id.
      const characters = new Set<string>();
      for await (const { text } of watched(documents, signal)) for (const character of text) characters.add(character);
      return charTokenizer([...characters].join(""), { specialTokens });
    }
    case "bpe":
      return trainBpeStream(textsOf(watched((await plan()).side(documents, "train"), signal)), { vocabSize: vocab_size, pattern, specialTokens });
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

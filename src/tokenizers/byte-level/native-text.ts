/** Chooses what runs byte-level BPE: the native part where it loads, else the TypeScript twin. The only caller of crates/text. */
import { DataError, GroundupError } from "../../errors.ts";
import { loadNative } from "../../tensor/native-binding.ts";
import { createReferenceBpe } from "./bpe.ts";
import type { BpeEngine, BpeTables, BpeTrainer, IdsEngine, Recipe, Text } from "./bpe-engine.ts";
import { createReferenceTrainer } from "./bpe-train.ts";
import { alphabetToBytes } from "./byte-alphabet.ts";
import { type PatternName, splitPattern } from "./split-patterns.ts";

type VocabArrays = [vocabulary: number, rest: Uint8Array, bytes: Uint8Array, lengths: Int32Array, merges: Int32Array, ids: Int32Array, ...others: string[]];

/** The functions of crates/node/src/text.rs and text/pipeline.rs. Handles are positive integers. */
interface TextBinding {
  /** `[vocabulary, rest, bytes, lengths, merges, ids of others, other, other …]`, or nothing. */
  textVocabRead(file: Uint8Array): [] | VocabArrays;
  /** -1 for what is no token. */
  textVocabFind(vocabulary: number, bytes: Uint8Array, lengths: Int32Array): Int32Array;
  /** 0 where the added tokens are not as the file has them. */
  textVocabEncoder(
    vocabulary: number,
    ids: Int32Array,
    contents: Uint8Array,
    contentLengths: Int32Array,
    spelled: Uint8Array,
    spelledLengths: Int32Array,
    wholeWords: boolean,
    pattern: number,
  ): number;
  textVocabFree(vocabulary: number): boolean;
  textEncoderNew(bytes: Uint8Array, lengths: Int32Array, merges: Int32Array, byRank: boolean, hidden: Int32Array, wholeWords: boolean, pattern: number): number;
  textEncoderFree(encoder: number): boolean;
  textEncode(encoder: number, text: Text, threads: number): Int32Array;
  textEncodeBatch(encoder: number, texts: readonly Text[], threads: number): [ids: Int32Array, counts: Int32Array, replaced: number];
  textCount(encoder: number, texts: readonly Text[], threads: number): Int32Array;
  textDecode(encoder: number, ids: Int32Array): Uint8Array;
  textPipelineNew(
    words: readonly string[],
    bytes: Uint8Array,
    lengths: Int32Array,
    numbers: Int32Array,
    scores: Float64Array,
    charsmap: Uint8Array,
    encoder: number,
  ): number;
  textPipelineFree(pipeline: number): boolean;
  textPipelineEncode(pipeline: number, texts: readonly Text[], allowed: Uint8Array, threads: number): [ids: Int32Array, counts: Int32Array, replaced: number];
  textPipelineCount(pipeline: number, texts: readonly Text[], allowed: Uint8Array, threads: number): Int32Array;
  textTrainerNew(pattern: number): number;
  textTrainerFeed(trainer: number, texts: readonly Text[], threads: number): number;
  textTrainerFinish(
    trainer: number,
    vocabSize: number,
    minFrequency: number,
    specialBytes: Uint8Array,
    specialLengths: Int32Array,
  ): [bytes: Uint8Array, lengths: Int32Array, merges: Int32Array];
  textTrainerFree(trainer: number): boolean;
}

/** Which implementation to use; `auto` is the native one where it loads. */
export type Engine = "auto" | "native" | "reference";

function findBinding(engine: Engine): TextBinding | null {
  if (engine === "reference") return null;
  const { binding, reason } = loadNative();
  if (binding !== null) return binding as unknown as TextBinding;
  if (engine === "native") {
    throw new GroundupError(`tokenizer: the native engine is not there, expected the native library, got: ${reason}. Use engine "auto" or "reference".`);
  }
  return null;
}

// A net for tokenizers that nobody disposed. What it holds must not reach the tokenizer, or nothing is ever collected.
const forgotten = new FinalizationRegistry<() => void>((free) => free());

/** A call into the native part with its errors as ours. */
function guarded<T>(where: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw new DataError(`${where}: ${(error as Error).message}. Check the vocabulary, ids or text that were given.`, { cause: error });
  }
}

/** A vocabulary that the native part has read, as it is there: with its tables made already. */
export interface NativeVocab {
  /** The ids of those of some texts that are tokens. */
  idsSpelling(texts: Iterable<string>): Map<string, number>;
  /** An engine with these added tokens; null where they are not as the file has them, which needs other tables. */
  createEngine(added: ReadonlyMap<number, string>, wholeWords: boolean, pattern: PatternName): BpeEngine | null;
}

/** The vocabulary and merges of a byte-level tokenizer.json, with the file's text without them; null where the reader of text must take it. */
export function readVocabFile(
  file: Uint8Array,
): { rest: Uint8Array; bytes: Uint8Array; lengths: Int32Array; merges: Int32Array; others: Map<number, string>; vocab: NativeVocab } | null {
  const binding = findBinding("auto");
  if (binding === null) return null;
  const found = guarded("tokenizer", () => binding.textVocabRead(file));
  if (found.length === 0) return null;
  const [vocabulary, rest, bytes, lengths, merges, ids, ...texts] = found as VocabArrays;
  return { rest, bytes, lengths, merges, others: new Map(texts.map((text, i) => [ids[i], text])), vocab: nativeVocab(binding, vocabulary) };
}

function joinBytes(parts: readonly Uint8Array[]): [bytes: Uint8Array, lengths: Int32Array] {
  const lengths = Int32Array.from(parts, (part) => part.length);
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return [bytes, lengths];
}

function nativeVocab(binding: TextBinding, vocabulary: number): NativeVocab {
  const { live } = held(vocabulary, binding.textVocabFree);
  // Of length 0 where a text has a character that is no byte of a token.
  const spelled = (text: string): Uint8Array => alphabetToBytes(text) ?? new Uint8Array(0);
  return {
    idsSpelling(texts) {
      const all = [...texts];
      const ids = guarded("tokenizer", () => binding.textVocabFind(live(), ...joinBytes(all.map(spelled))));
      return new Map(all.flatMap((text, i) => (ids[i] < 0 ? [] : [[text, ids[i]]])));
    },
    createEngine(added, wholeWords, pattern) {
      const texts = [...added.values()];
      const encoder = new TextEncoder();
      const contents = joinBytes(texts.map((text) => encoder.encode(text)));
      const tokens = [...contents, ...joinBytes(texts.map(spelled))] as const;
      const made = guarded("tokenizer", () =>
        binding.textVocabEncoder(live(), Int32Array.from(added.keys()), ...tokens, wholeWords, splitPattern(pattern).code),
      );
      return made === 0 ? null : createNativeBpe(binding, made);
    },
  };
}

export function createBpeEngine(tables: BpeTables, engine: Engine = "auto"): BpeEngine {
  const binding = findBinding(engine);
  return binding === null ? createReferenceBpe(tables) : createNativeBpe(binding, newEncoder(binding, tables));
}

// A function of its own: what it closes over must not reach the state, or that is never collected.
const freeing = (handle: number, free: (handle: number) => unknown) => () => void free(handle);

/** Something native that lives until it is disposed, or nobody can ask for it any more. */
function held(handle: number, free: (handle: number) => unknown): { live(): number; dispose(): void } {
  const state = { handle };
  forgotten.register(state, freeing(handle, free), state);
  return {
    live() {
      if (state.handle === 0) throw new GroundupError("tokenizer: was disposed, expected a live tokenizer, got a freed one. Load it again.");
      return state.handle;
    },
    dispose() {
      if (state.handle !== 0) free(state.handle);
      state.handle = 0;
      forgotten.unregister(state);
    },
  };
}

function newEncoder(binding: TextBinding, { bytes, lengths, merges, hidden, wholeWords, pattern }: BpeTables): number {
  const { code } = splitPattern(pattern);
  return guarded("tokenizer", () => binding.textEncoderNew(bytes, lengths, merges ?? new Int32Array(0), merges === null, hidden, wholeWords, code));
}

function createNativeBpe(binding: TextBinding, made: number): BpeEngine {
  const encoder = held(made, binding.textEncoderFree);
  const { live } = encoder;
  return {
    name: "native",
    encode: (text, threads) => guarded("tokenizer.encode", () => binding.textEncode(live(), text, threads)),
    encodeBatch(texts, threads) {
      const [ids, counts, replaced] = guarded("tokenizer.encodeBatch", () => binding.textEncodeBatch(live(), texts, threads));
      return { ids, counts, replaced };
    },
    count: (texts, threads) => guarded("tokenizer.count", () => binding.textCount(live(), texts, threads)),
    decode: (ids) => guarded("tokenizer.decode", () => binding.textDecode(live(), ids)),
    withParts(words) {
      const none = {
        bytes: new Uint8Array(0),
        lengths: new Int32Array(0),
        numbers: new Int32Array(0),
        scores: new Float64Array(0),
        charsmap: new Uint8Array(0),
      };
      return nativeIds(binding, { ...none, words: [...words, "Model", "Bytes"] }, live());
    },
    dispose: encoder.dispose,
  };
}

/** @returns null where the native part is not there, or was not asked for */
export function createIdsEngine(recipe: Recipe, engine: Engine): IdsEngine | null {
  const binding = findBinding(engine);
  if (binding === null) return null;
  const encoder = recipe.bpe === null ? 0 : newEncoder(binding, recipe.bpe);
  try {
    return nativeIds(binding, recipe, encoder);
  } finally {
    // The pipeline keeps the vocabulary.
    if (encoder !== 0) binding.textEncoderFree(encoder);
  }
}

function nativeIds(binding: TextBinding, recipe: Omit<Recipe, "bpe">, encoder: number): IdsEngine {
  const { words, bytes, lengths, numbers, scores, charsmap } = recipe;
  const handle = guarded("tokenizer", () => binding.textPipelineNew(words, bytes, lengths, numbers, scores, charsmap, encoder));
  const pipeline = held(handle, binding.textPipelineFree);
  return {
    encodeBatch(texts, allowed, threads) {
      const [ids, counts, replaced] = guarded("tokenizer.encode", () => binding.textPipelineEncode(pipeline.live(), texts, allowed, threads));
      return { ids, counts, replaced };
    },
    count: (texts, allowed, threads) => guarded("tokenizer.count", () => binding.textPipelineCount(pipeline.live(), texts, allowed, threads)),
    dispose: pipeline.dispose,
  };
}

export function createBpeTrainer(pattern: PatternName, engine: Engine = "auto", threads = 0): BpeTrainer {
  const binding = findBinding(engine);
  if (binding === null) return createReferenceTrainer(pattern);
  let trainer = binding.textTrainerNew(splitPattern(pattern).code);
  return {
    feed: (texts) => void guarded("trainBpe", () => binding.textTrainerFeed(trainer, texts, threads)),
    finish({ vocabSize, minFrequency, specials }) {
      const specialBytes = Uint8Array.from(specials.flatMap((special) => [...(special ?? [])]));
      const specialLengths = Int32Array.from(specials, (special) => special?.length ?? -1);
      const used = trainer;
      trainer = 0;
      const [bytes, lengths, merges] = guarded("trainBpe", () => binding.textTrainerFinish(used, vocabSize, minFrequency, specialBytes, specialLengths));
      return { bytes, lengths, merges };
    },
    dispose() {
      if (trainer !== 0) binding.textTrainerFree(trainer);
      trainer = 0;
    },
  };
}

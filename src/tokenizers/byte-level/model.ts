/** Runs the model of a spec on ordinary text. Knows nothing of special tokens, normalisers or templates. */
import { DataError } from "../../errors.ts";
import { type BpeModel, type CharacterModel, specSize, type TokenizerSpec } from "../tokenizer-spec.ts";
import { textToString } from "./bpe.ts";
import type { BpeEngine, BpeTables, EncodedBatch, IdsEngine, Text } from "./bpe-engine.ts";
import { writeAlphabetBytes } from "./byte-alphabet.ts";
import { createBpeEngine, type Engine } from "./native-text.ts";
import { bytesOfModel, type TokenBytes } from "./token-bytes.ts";

/** What every model offers. Ids that reach `decode` are within the vocabulary. */
export interface Model {
  readonly engine: "native" | "reference";
  encode(text: Text, threads: number): Int32Array;
  encodeBatch(texts: readonly Text[], threads: number): EncodedBatch;
  count(texts: readonly Text[], threads: number): Int32Array;
  /** UTF-8 (perhaps broken at the ends, where ids hold parts of characters). */
  decode(ids: Int32Array): Uint8Array;
  /** The same vocabulary behind the words of a recipe's other parts; undefined where there is no fast way. */
  readonly withParts?: (words: readonly string[]) => IdsEngine;
  /** Number of bytes that an id spells. */
  byteLength(id: number): number;
  dispose(): void;
}

export function createModel(spec: TokenizerSpec, model: BpeModel | CharacterModel, engine: Engine): Model {
  return model.kind === "bpe" ? createBpeModel(spec, model, engine) : createCharacterModel(spec, model);
}

/** The bytes of all ids, special tokens included, laid one after the other. */
export function bpeTables(spec: TokenizerSpec): BpeTables {
  const { model } = spec;
  if (model.kind !== "bpe") throw new DataError(`tokenizer: not a BPE, expected a model of kind bpe, got ${model.kind}. Use it by its own kind.`);
  const size = specSize(spec);
  const added = new Map(spec.addedTokens.map((token) => [token.id, token.content]));
  const contents = new Map<number, Uint8Array>();
  for (const [id, content] of added) contents.set(id, new TextEncoder().encode(content));
  const own = bytesOfModel(model) ?? alphabetBytes(model, contents);
  return {
    ...withContents(own, contents, size),
    merges: withoutHidden(model, added),
    hidden: Int32Array.from(added.keys()),
    wholeWords: model.wholeWords,
    pattern: model.pattern,
  };
}

/** Tokens as bytes, but for ids that mean something else. */
function alphabetBytes({ tokens }: BpeModel, others: ReadonlyMap<number, unknown>): TokenBytes {
  const lengths = Int32Array.from(tokens, (token, id) => (others.has(id) ? 0 : (token?.length ?? 0)));
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const [id, token] of tokens.entries()) {
    if (lengths[id] > 0 && !writeAlphabetBytes(token as string, bytes, at)) {
      throw new DataError(
        `tokenizer: token ${id} is not in the byte alphabet, expected only its 256 characters, got ${JSON.stringify(token)}. ` +
          "This vocabulary is not a byte-level one.",
      );
    }
    at += lengths[id];
  }
  return { bytes, lengths };
}

/** Tokens with what stands at some ids instead. */
function withContents(own: TokenBytes, contents: ReadonlyMap<number, Uint8Array>, size: number): TokenBytes {
  const lengths = new Int32Array(size);
  lengths.set(own.lengths);
  for (const [id, content] of contents) lengths[id] = content.length;
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let [from, to, id] = [0, 0, 0];
  // Runs of tokens between them are copied as one.
  for (const next of [...[...contents.keys()].sort((a, b) => a - b), size]) {
    const start = from;
    for (; id < next; id++) from += own.lengths[id] ?? 0;
    bytes.set(own.bytes.subarray(start, from), to);
    to += from - start;
    bytes.set(contents.get(next) ?? [], to);
    to += contents.get(next)?.length ?? 0;
    from += own.lengths[id++] ?? 0;
  }
  return { bytes, lengths };
}

/** Merges that would make or use a special token are left out: text can't become one. */
function withoutHidden(model: BpeModel, added: ReadonlyMap<number, string>): Int32Array | null {
  const { merges } = model;
  if (merges === null || added.size === 0) return merges;
  const own = bytesOfModel(model);
  // In most files added tokens stand behind the vocabulary, where no merge leads.
  if (own !== undefined && !own.hadAdded) {
    const inside = [...added.keys()].some((id) => id < own.lengths.length);
    if (!inside && own.vocab.idsSpelling(added.values()).size === 0) return merges;
  }
  const { tokens } = model;
  const contents = new Set(added.values());
  const sizes = new Set(Array.from(contents, (content) => content.length));
  const makesOne = (left: string | undefined, right: string | undefined): boolean =>
    left !== undefined && right !== undefined && sizes.has(left.length + right.length) && contents.has(left + right);
  const kept: number[] = [];
  let changed = false;
  for (let i = 0; i < merges.length; i += 2) {
    const [left, right] = [merges[i], merges[i + 1]];
    if (added.has(left) || added.has(right) || makesOne(tokens[left], tokens[right])) changed = true;
    else kept.push(left, right);
  }
  return changed ? Int32Array.from(kept) : merges;
}

function createBpeModel(spec: TokenizerSpec, model: BpeModel, wanted: Engine): Model {
  const quick = wanted === "reference" ? null : engineOfFile(spec, model);
  const engine = quick ?? createBpeEngine(bpeTables(spec), wanted);
  let lengths: Int32Array | undefined;
  return {
    engine: engine.name,
    encode: engine.encode,
    encodeBatch: engine.encodeBatch,
    count: engine.count,
    decode: engine.decode,
    ...(engine.withParts === undefined ? {} : { withParts: engine.withParts }),
    byteLength(id) {
      lengths ??= bpeTables(spec).lengths;
      return lengths[id];
    },
    dispose: engine.dispose,
  };
}

/** An engine over the tables that were made when the file was read; null where there are none, or others are needed. */
function engineOfFile({ addedTokens }: TokenizerSpec, model: BpeModel): BpeEngine | null {
  const added = new Map(addedTokens.map(({ id, content }) => [id, content]));
  return bytesOfModel(model)?.vocab.createEngine(added, model.wholeWords, model.pattern) ?? null;
}

function createCharacterModel(spec: TokenizerSpec, model: CharacterModel): Model {
  const idOf = new Map<string, number>();
  const added = new Map(spec.addedTokens.map((token) => [token.id, token.content]));
  const encoder = new TextEncoder();
  const bytesOf = Array.from({ length: specSize(spec) }, (_, id) => encoder.encode(added.get(id) ?? model.tokens[id] ?? ""));
  for (const [id, token] of model.tokens.entries()) if (token !== undefined && !added.has(id)) idOf.set(token, id);

  function encodeBatch(texts: readonly Text[]): EncodedBatch {
    const all: number[] = [];
    const counts = new Int32Array(texts.length);
    let replaced = 0;
    for (const [i, item] of texts.entries()) {
      const before = all.length;
      const clean = textToString(item);
      replaced += clean.replaced;
      for (const character of clean.text) {
        const id = idOf.get(character) ?? model.unknownId;
        if (id === undefined) {
          throw new DataError(
            `tokenizer.encode: character ${JSON.stringify(character)} is not in the vocabulary, expected one of ${idOf.size} characters, ` +
              `got U+${(character.codePointAt(0) as number).toString(16)}. Make the tokenizer from text that has it, or give it an unknown token.`,
          );
        }
        all.push(id);
      }
      counts[i] = all.length - before;
    }
    return { ids: Int32Array.from(all), counts, replaced };
  }

  return {
    engine: "reference",
    encode: (text) => encodeBatch([text]).ids,
    encodeBatch,
    count: (texts) => encodeBatch(texts).counts,
    decode(ids) {
      const out = new Uint8Array(ids.reduce((sum, id) => sum + bytesOf[id].length, 0));
      let at = 0;
      for (const id of ids) {
        out.set(bytesOf[id], at);
        at += bytesOf[id].length;
      }
      return out;
    },
    byteLength: (id) => bytesOf[id].length,
    dispose() {},
  };
}

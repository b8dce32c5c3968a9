/** Runs the model of a spec on ordinary text. Knows nothing of special tokens, normalisers or templates. */
import { DataError } from "../../errors.ts";
import { type BpeModel, type CharacterModel, specSize, type TokenizerSpec } from "../tokenizer-spec.ts";
import { textToString } from "./bpe.ts";
import type { BpeTables, EncodedBatch, IdsEngine, Text } from "./bpe-engine.ts";
import { writeAlphabetBytes } from "./byte-alphabet.ts";
import { createBpeEngine, type Engine } from "./native-text.ts";

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
  return model.kind === "bpe" ? createBpeModel(spec, engine) : createCharacterModel(spec, model);
}

/** The bytes of all ids, special tokens included, laid one after the other. */
export function bpeTables(spec: TokenizerSpec): BpeTables {
  const { model } = spec;
  if (model.kind !== "bpe") throw new DataError(`tokenizer: not a BPE, expected a model of kind bpe, got ${model.kind}. Use it by its own kind.`);
  const size = specSize(spec);
  const lengths = new Int32Array(size);
  const added = new Map(spec.addedTokens.map((token) => [token.id, token.content]));
  const contents = new Map<number, Uint8Array>();
  for (const [id, content] of added) contents.set(id, new TextEncoder().encode(content));
  let total = 0;
  for (let id = 0; id < size; id++) {
    lengths[id] = contents.get(id)?.length ?? model.tokens[id]?.length ?? 0;
    total += lengths[id];
  }
  const bytes = new Uint8Array(total);
  let at = 0;
  for (let id = 0; id < size; id++) {
    const content = contents.get(id);
    if (content !== undefined) bytes.set(content, at);
    else if (!writeAlphabetBytes(model.tokens[id] ?? "", bytes, at)) {
      throw new DataError(
        `tokenizer: token ${id} is not in the byte alphabet, expected only its 256 characters, got ${JSON.stringify(model.tokens[id])}. ` +
          "This vocabulary is not a byte-level one.",
      );
    }
    at += lengths[id];
  }
  return {
    bytes,
    lengths,
    merges: withoutHidden(model.merges, added, model.tokens),
    hidden: Int32Array.from(added.keys()),
    wholeWords: model.wholeWords,
    pattern: model.pattern,
  };
}

/** Merges that would make or use a special token are left out: text can't become one. */
function withoutHidden(merges: Int32Array | null, added: ReadonlyMap<number, string>, tokens: readonly (string | undefined)[]): Int32Array | null {
  if (merges === null || added.size === 0) return merges;
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

function createBpeModel(spec: TokenizerSpec, wanted: Engine): Model {
  const tables = bpeTables(spec);
  const engine = createBpeEngine(tables, wanted);
  return {
    engine: engine.name,
    encode: engine.encode,
    encodeBatch: engine.encodeBatch,
    count: engine.count,
    decode: engine.decode,
    ...(engine.withParts === undefined ? {} : { withParts: engine.withParts }),
    byteLength: (id) => tables.lengths[id],
    dispose: engine.dispose,
  };
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

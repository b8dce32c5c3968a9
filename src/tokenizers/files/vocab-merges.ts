/** Vocabularies and merge lists as files have them: `{"token": id}` and `left right` by rank (vocab.json, merges.txt, tokenizer.json). */
import { FormatError } from "../../errors.ts";
import { isAlphabet } from "../byte-level/byte-alphabet.ts";
import type { PatternName } from "../byte-level/split-patterns.ts";
import { type BpeModel, specialToken, type TokenizerSpec } from "../tokenizer-spec.ts";
import { NO_POST_PROCESSOR } from "./components.ts";
import { asArray, asId, asObject, Place, parseJsonText } from "./strict-json.ts";

/** Ids may have gaps, but not so wide that a table over them is absurd for the number of tokens: they are below this. */
export const idLimit = (count: number): number => count * 4 + 65_536;

export function checkGaps(ids: Iterable<number>, count: number, place: Place): void {
  const limit = idLimit(count);
  for (const id of ids) if (id >= limit) place.fail("absurd id", `less than ${limit} for ${count} tokens`, id);
}

/** A vocabulary object as a list by id and a map by token. */
export function tokensById(value: unknown, place: Place): { tokens: (string | undefined)[]; idOf: Map<string, number> } {
  const object = asObject(value, place) as Readonly<Record<string, number>>;
  const names = Object.keys(object);
  const limit = idLimit(names.length);
  const idOf = new Map<string, number>();
  let size = 0;
  for (const token of names) {
    const id = object[token];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) asId(id, place.at(JSON.stringify(token)));
    if (id >= limit) checkGaps([id], names.length, place);
    idOf.set(token, id);
    if (id >= size) size = id + 1;
  }
  const tokens = new Array<string | undefined>(size).fill(undefined);
  for (const token of names) {
    const id = object[token];
    if (tokens[id] !== undefined) place.fail(`id ${id} given twice`, "each id once", `${JSON.stringify(tokens[id])} and ${JSON.stringify(token)}`);
    tokens[id] = token;
  }
  return { tokens, idOf };
}

/**
 * Merges, as pairs (`["a", "b"]`) or in the older spelling (`"a b"`), as ids.
 *
 * @param prefix what marks tokens that do not begin a word: the right one of a pair loses it
 */
export function mergesFromPairs(
  value: unknown,
  tokens: readonly (string | undefined)[],
  idOf: ReadonlyMap<string, number>,
  place: Place,
  prefix = "",
): Int32Array {
  const list = asArray(value, place);
  const merges = new Int32Array(list.length * 2);
  for (let rank = 0; rank < list.length; rank++) {
    const item = list[rank];
    const parts: unknown = typeof item === "string" ? item.split(" ") : item;
    if (!Array.isArray(parts) || parts.length !== 2) return place.at(rank).fail("bad merge", "two tokens", item);
    for (const side of [0, 1]) {
      const id = typeof parts[side] === "string" ? idOf.get(parts[side]) : undefined;
      if (id === undefined) return place.at(rank).fail("merge of an unknown token", "two tokens of the vocabulary", parts[side]);
      merges[rank * 2 + side] = id;
    }
    const right = tokens[merges[rank * 2 + 1]] as string;
    if (!right.startsWith(prefix)) place.at(rank).fail("merge of a token without its mark", `one that begins with ${JSON.stringify(prefix)}`, right);
    const made = `${tokens[merges[rank * 2]]}${right.slice(prefix.length)}`;
    if (!idOf.has(made)) place.at(rank).fail("merge without a result", "a token of the vocabulary", made);
  }
  return merges;
}

/** A spec's vocabulary, special tokens included, as JSON text in the order of ids. */
export function vocabText(spec: TokenizerSpec): string {
  const all = new Map<number, string>();
  for (const [id, token] of spec.model.tokens.entries()) if (token !== undefined) all.set(id, token);
  for (const token of spec.addedTokens) all.set(token.id, token.content);
  const ordered = [...all].sort(([a], [b]) => a - b);
  return `{${ordered.map(([id, token]) => `${JSON.stringify(token)}:${id}`).join(",")}}`;
}

/** Merges as pairs of tokens by rank. For a vocabulary that merges by rank of the result: every way to make each token. */
export function mergesOf(model: BpeModel): [string, string][] {
  const { tokens, merges } = model;
  const pairs: [string, string][] = [];
  if (merges !== null) {
    for (let i = 0; i < merges.length; i += 2) {
      const [left, right] = [tokens[merges[i]], tokens[merges[i + 1]]];
      if (left !== undefined && right !== undefined) pairs.push([left, right]);
    }
    return pairs;
  }
  const idOf = new Map<string, number>();
  for (const [id, token] of tokens.entries()) if (token !== undefined) idOf.set(token, id);
  for (const token of tokens) {
    if (token === undefined) continue;
    const own: { left: number; right: number; pair: [string, string] }[] = [];
    for (let cut = 1; cut < token.length; cut++) {
      const pair: [string, string] = [token.slice(0, cut), token.slice(cut)];
      const [left, right] = [idOf.get(pair[0]), idOf.get(pair[1])];
      if (left !== undefined && right !== undefined) own.push({ left, right, pair });
    }
    own.sort((a, b) => a.left - b.left || a.right - b.right);
    for (const { pair } of own) pairs.push(pair);
  }
  return pairs;
}

/** The text of merges.txt. */
export function writeMergesText(model: BpeModel): string {
  return `#version: 0.2\n${mergesOf(model)
    .map(([left, right]) => `${left} ${right}\n`)
    .join("")}`;
}

/**
 * Reads GPT-2's two files: vocab.json (encoder.json) and merges.txt (vocab.bpe).
 *
 * @param specialTokens tokens of the vocabulary that are special; by default `<|endoftext|>` where it is one
 * @throws FormatError with file, place, expected and got
 */
export function readVocabAndMerges(
  vocab: { text: string; file: string },
  merges: { text: string; file: string },
  options: { pattern?: PatternName; specialTokens?: readonly string[] } = {},
): TokenizerSpec {
  const place = new Place(vocab.file);
  const { tokens, idOf } = tokensById(parseJsonText(vocab.text, vocab.file), place);
  const lines = merges.text.split("\n").map((line) => line.replace(/\r$/, ""));
  const body = lines.filter((line, i) => line !== "" && !(i === 0 && line.startsWith("#version")));
  const list = mergesFromPairs(body, tokens, idOf, new Place(merges.file, "merges"));
  const wanted = options.specialTokens ?? ["<|endoftext|>"].filter((content) => idOf.has(content));
  const addedTokens = wanted.map((content) => {
    const id = idOf.get(content);
    if (id === undefined) {
      throw new FormatError(
        `${vocab.file}: special token ${JSON.stringify(content)} is missing, expected it in the vocabulary, got ${idOf.size} other tokens. Correct specialTokens.`,
      );
    }
    tokens[id] = undefined;
    return specialToken(content, id);
  });
  for (const token of tokens) {
    if (token !== undefined && !isAlphabet(token)) {
      place.fail(
        "token outside the byte alphabet",
        "characters that stand for bytes",
        token,
        "This is not a byte-level vocabulary, or a special token is not named as one.",
      );
    }
  }
  const model: BpeModel = { kind: "bpe", tokens, merges: list, wholeWords: false, pattern: options.pattern ?? "gpt2", addPrefixSpace: false };
  return { model, normalizer: [], postProcessor: NO_POST_PROCESSOR, addedTokens };
}

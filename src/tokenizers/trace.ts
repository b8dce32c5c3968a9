/** How a text becomes tokens, step by step, for people: normalised, cut into words, and in each word the merges as they happen. */

import { bytesToAlphabet } from "./byte-level/byte-alphabet.ts";
import { splitPattern, splitWords } from "./byte-level/split-patterns.ts";
import { createPieceModel } from "./models/piece-models.ts";
import { AlignedText } from "./normalizers/aligned-text.ts";
import { normalize } from "./normalizers/normalizers.ts";
import { preTokenize } from "./pre-tokenizers/pre-tokenizers.ts";
import { createSentencePiece } from "./sentencepiece/sentencepiece.ts";
import type { BpeModel, PipelineModel, TokenizerSpec } from "./tokenizer-spec.ts";

/** A token of a traced word. */
export interface TracedToken {
  readonly id: number;
  /** As the vocabulary spells it. */
  readonly token: string;
}

/** A word on its way to its tokens. */
export interface TracedWord {
  /** The word as the model gets it. */
  readonly text: string;
  /** Of BPE: the word's parts before the first merge and after each one; the last are its tokens. Empty for other models. */
  readonly merges: readonly (readonly string[])[];
  readonly tokens: readonly TracedToken[];
}

/** A text on its way to its tokens. */
export interface EncodingTrace {
  readonly normalized: string;
  readonly words: readonly TracedWord[];
}

/**
 * Follows a text through a tokenizer. Added tokens in the text are ordinary text here, and nothing is put around it. Takes time that grows with the square of a word's
 * length: for texts that people look at.
 */
export function traceEncoding(spec: TokenizerSpec, text: string): EncodingTrace {
  const { model } = spec;
  switch (model.kind) {
    case "bpe":
      return traceByteLevel(spec, model, text);
    case "pipeline":
      return tracePipeline(model, text);
    case "characters": {
      const normalized = spec.normalizer.reduce((t, form) => t.normalize(form), text);
      const idOf = new Map(model.tokens.map((token, id) => [token, id]));
      const words = Array.from(normalized, (token) => {
        const id = idOf.get(token) ?? model.unknownId;
        return { text: token, merges: [], tokens: id === undefined ? [] : [{ id, token }] };
      });
      return { normalized, words };
    }
    case "sentencepiece": {
      const run = createSentencePiece(model.sentencePiece);
      const { ids, pieces } = run.encode(text);
      const tokens = Array.from(ids, (id, i) => ({ id, token: pieces[i] as string }));
      return { normalized: pieces.join(""), words: [{ text, merges: [], tokens }] };
    }
  }
}

function traceByteLevel(spec: TokenizerSpec, model: BpeModel, text: string): EncodingTrace {
  const normalized = spec.normalizer.reduce((t, form) => t.normalize(form), text);
  const prefixed = model.addPrefixSpace && normalized !== "" && !normalized.startsWith(" ") ? ` ${normalized}` : normalized;
  const idOf = new Map(model.tokens.flatMap((token, id) => (token === undefined ? [] : [[token, id] as const])));
  const pairs = model.merges === null ? null : ranksOf(model.merges, model.tokens);
  const rankOf = (left: string, right: string) => (pairs === null ? idOf.get(left + right) : pairs.get(keyOf(left, right)));
  const encoder = new TextEncoder();
  const words = splitWords(splitPattern(model.pattern), prefixed).map((word): TracedWord => {
    const spelled = bytesToAlphabet(encoder.encode(word));
    const whole = model.wholeWords && idOf.has(spelled);
    const merges = whole ? [[spelled]] : traceMerges([...spelled], rankOf, (left, right) => left + right);
    return { text: word, merges, tokens: tokensOf(merges, idOf) };
  });
  return { normalized, words };
}

function tracePipeline(model: PipelineModel, text: string): EncodingTrace {
  const aligned = new AlignedText(text);
  normalize(model.normalizer, aligned);
  const normalized = aligned.text;
  const { pieces } = model;
  const run = createPieceModel(pieces);
  const prefix = pieces.type === "BPE" ? (pieces.continuing_subword_prefix ?? "") : "";
  const ranks = pieces.type === "BPE" ? ranksOf(pieces.merges, pieces.vocab.tokens) : null;
  const words = preTokenize(model.preTokenizer, aligned).map((piece): TracedWord => {
    const tokens = run.tokenize(piece.text).map(({ id, token }) => ({ id, token }));
    if (ranks === null || pieces.type !== "BPE") return { text: piece.text, merges: [], tokens };
    const letters = [...piece.text];
    const parts = letters.map((letter, i) => (i > 0 ? prefix : "") + letter + (i + 1 === letters.length ? (pieces.end_of_word_suffix ?? "") : ""));
    const whole = pieces.ignore_merges === true && pieces.vocab.idOf.has(piece.text);
    const join = (left: string, right: string) => left + right.slice(prefix.length);
    return { text: piece.text, merges: whole ? [[piece.text]] : traceMerges(parts, (left, right) => ranks.get(keyOf(left, right)), join), tokens };
  });
  return { normalized, words };
}

/** No token holds a NUL. */
const keyOf = (left: string, right: string): string => `${left}\0${right}`;

function ranksOf(merges: Int32Array, tokens: readonly (string | undefined)[]): Map<string, number> {
  const ranks = new Map<string, number>();
  for (let rank = 0; 2 * rank < merges.length; rank++) ranks.set(keyOf(tokens[merges[2 * rank]] as string, tokens[merges[2 * rank + 1]] as string), rank);
  return ranks;
}

/** The pair of the smallest rank merges, the leftmost first, until none may (Sennrich, Haddow and Birch 2016, arXiv:1508.07909, section 3.2). */
function traceMerges(
  letters: string[],
  rankOf: (left: string, right: string) => number | undefined,
  join: (left: string, right: string) => string,
): string[][] {
  const states = [letters];
  for (;;) {
    const parts = states.at(-1) as string[];
    let [best, at] = [Number.POSITIVE_INFINITY, -1];
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = rankOf(parts[i], parts[i + 1]);
      if (rank !== undefined && rank < best) [best, at] = [rank, i];
    }
    if (at < 0) return states;
    states.push([...parts.slice(0, at), join(parts[at], parts[at + 1]), ...parts.slice(at + 2)]);
  }
}

function tokensOf(merges: readonly (readonly string[])[], idOf: ReadonlyMap<string, number>): TracedToken[] {
  return (merges.at(-1) ?? []).flatMap((token) => {
    const id = idOf.get(token);
    return id === undefined ? [] : [{ id, token }];
  });
}

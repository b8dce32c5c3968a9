/** What callers say about encoding and decoding, and what they get for many texts. */
import type { KnownOptions } from "../options.ts";
import type { Text } from "./byte-level/bpe-engine.ts";
import type { FitOptions } from "./fit.ts";

/** How text becomes ids. */
export interface EncodeOptions extends FitOptions {
  /** Put the template's special tokens (such as a beginning-of-text token) around the text. Default true. */
  addSpecialTokens?: boolean;
  /**
   * Which special tokens the text itself may contain: none (the default, right for text from users), all, or those named.
   * Elsewhere their spelling is ordinary text.
   */
  allowSpecial?: boolean | readonly string[];
  /** Threads for long texts and batches; 0, the default, takes as many as the machine offers. The ids are the same for any. */
  threads?: number;
  /** A second text that belongs to this one: the template puts the tokenizer's special tokens around both. */
  pair?: Text;
}

/** How many texts become ids. */
export interface BatchEncodeOptions extends Omit<EncodeOptions, "pair"> {
  /** Second texts: a list with one for each text, or one that belongs to all. */
  pair?: Text | readonly Text[];
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

export const ENCODE: KnownOptions<EncodeOptions> = {
  addSpecialTokens: true,
  allowSpecial: true,
  threads: true,
  pair: true,
  truncation: true,
  padding: true,
  maxLength: true,
};
export const DECODE: KnownOptions<DecodeOptions> = { skipSpecialTokens: true };

/** The ids of many texts in one array. */
export interface EncodedTexts {
  /** Ids of all texts, one after the other. */
  readonly ids: Int32Array;
  /** Text `i` has `ids.subarray(starts[i], starts[i + 1])`; one item more than there are texts. */
  readonly starts: Int32Array;
  /** Malformed parts of byte input that became U+FFFD. */
  readonly replaced: number;
}

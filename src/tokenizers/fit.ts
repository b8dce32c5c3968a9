/**
 * How long encodings become: truncation and padding as a caller asks for them, or as the tokenizer's files have them. The names are those of Hugging Face. Where the
 * native part makes the ids, they are cut and padded here, and the rest comes from the TypeScript twin when it is first read.
 */
import { ConfigError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import type { AddedToken } from "./added-tokens.ts";
import { textToString } from "./byte-level/bpe.ts";
import type { Text } from "./byte-level/bpe-engine.ts";
import type { BatchEncodeOptions, EncodedTexts, EncodeOptions } from "./encode-options.ts";
import type { Encoding } from "./encoding.ts";
import { type Around, createIdsEncoding, encodingFrom } from "./ids-encoding.ts";
import type { Encoded } from "./post-processors/encoded.ts";
import { type PaddingSpec, padBatch, paddedLength } from "./post-processors/padding.ts";
import { cutPlaces, type TruncationSpec, truncate } from "./post-processors/truncation.ts";
import type { TokenizerSpec } from "./tokenizer-spec.ts";

/** What is cut off where a text has more tokens than it may have. */
export interface TruncationOptions {
  /** Tokens, special ones included. Default: `maxLength` beside it, else the model's maximum (`model_max_length`). */
  maxLength?: number;
  /** How many tokens each overflowing part has in common with the part before it. Default 0. */
  stride?: number;
  /** Which text of a pair is cut. Default `longest_first`: the longer one. */
  strategy?: "longest_first" | "only_first" | "only_second";
  /** The side that is cut. Default: what the tokenizer's files say (`truncation_side`), else `right`. */
  direction?: "left" | "right";
}

/** How texts become equally long. */
export interface PaddingOptions {
  /** `longest`, the default: as the longest text of the batch. `max_length`: `length`, else `maxLength`, else the model's maximum. */
  strategy?: "longest" | "max_length";
  /** Tokens that each text gets at least, in place of a strategy. */
  length?: number;
  /** The length becomes a multiple of this. */
  padToMultipleOf?: number;
  /** The token that stands in the empty places. Default: what the tokenizer's files say (`pad_token`). */
  padToken?: string;
  /** Its id. Default: that of the token. */
  padId?: number;
  /** The type id of empty places. Default 0. */
  padTypeId?: number;
  /** The side on which empty places stand. Default: what the tokenizer's files say (`padding_side`), else `right`. */
  direction?: "left" | "right";
}

/** The options of `encode` that say how long the result may and must be. */
export interface FitOptions {
  /**
   * Cuts what is too long; what is cut off is in `overflowing`. `true` cuts at `maxLength`, else at the model's maximum. Default: the `truncation` of
   * tokenizer.json, which most files do not have; `false` also switches that off.
   */
  truncation?: boolean | TruncationOptions;
  /**
   * Fills what is too short; `attentionMask` is 0 there. `true` is `"longest"`. Default: the `padding` of tokenizer.json, which most files do not have; `false`
   * also switches that off.
   */
  padding?: boolean | "longest" | "max_length" | PaddingOptions;
  /** Tokens, special ones included, that truncation leaves and `padding: "max_length"` fills. Without either, texts are truncated to it. */
  maxLength?: number;
}

/** All of a text and nothing else, whatever the tokenizer's files ask for: what a language model reads. */
export const WHOLE: Readonly<{ truncation: false; padding: false }> = { truncation: false, padding: false };

const TRUNCATION: KnownOptions<TruncationOptions> = { maxLength: true, stride: true, strategy: true, direction: true };
const PADDING: KnownOptions<PaddingOptions> = {
  strategy: true,
  length: true,
  padToMultipleOf: true,
  padToken: true,
  padId: true,
  padTypeId: true,
  direction: true,
};

const STRATEGIES = { longest_first: "LongestFirst", only_first: "OnlyFirst", only_second: "OnlySecond" } as const;
const SIDES = { left: "Left", right: "Right" } as const;

/** What is to be done; null for nothing. */
export interface Fit {
  readonly truncation: TruncationSpec | null;
  readonly padding: PaddingSpec | null;
}

/** What a fit takes of a tokenizer beside its description. */
interface TokenNames {
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
}

const wrong = (what: string, expected: string, got: unknown, advice: string): ConfigError =>
  new ConfigError(`tokenizer.encode: ${what}, expected ${expected}, got ${got === undefined ? "nothing" : JSON.stringify(got)}. ${advice}`);

function counted(name: string, value: number, least = 0): number {
  if (!Number.isSafeInteger(value) || value < least) throw wrong(`bad ${name}`, `a whole number from ${least} on`, value, "Correct it.");
  return value;
}

function oneOf<V extends object, K extends keyof V & string>(name: string, words: V, word: K): V[K] {
  if (!Object.hasOwn(words, word)) throw wrong(`unknown ${name}`, Object.keys(words).join(" or "), word, "Correct it.");
  return words[word];
}

/**
 * What a caller's options and a tokenizer's files together ask for.
 *
 * @throws ConfigError for numbers and words that can't be, and where nothing says how long or with which token
 */
export function fitOf(options: FitOptions, spec: TokenizerSpec, names: TokenNames): Fit | null {
  const { truncation, padding, maxLength } = options;
  const kept = spec.kept;
  if (truncation === undefined && padding === undefined && maxLength === undefined && !kept?.truncation && !kept?.padding) return null;
  if (maxLength !== undefined) counted("maxLength", maxLength);
  const cut = truncation === undefined && (kept?.truncation ?? null) === null ? maxLength !== undefined && isOff(padding) : truncation;
  const fit = {
    truncation: cut === false ? null : truncationOf(cut, maxLength, spec),
    padding: padding === false ? null : padding === undefined ? (kept?.padding ?? null) : paddingOf(padding, options, spec, names),
  };
  if (maxLength !== undefined && fit.truncation === null && !(fit.padding !== null && fit.padding.strategy !== "BatchLongest"))
    throw wrong("maxLength without effect", "truncation, or padding to max_length, beside it", maxLength, "Add truncation: true, or leave maxLength out.");
  const multiple = fit.padding?.pad_to_multiple_of ?? 0;
  if (padding !== undefined && fit.truncation !== null && multiple > 0 && fit.truncation.max_length % multiple !== 0)
    throw wrong(
      "padding beyond the maximum",
      `a maxLength that is a multiple of padToMultipleOf, ${multiple}`,
      fit.truncation.max_length,
      "Make it one, so that no text becomes longer than the maximum.",
    );
  return fit.truncation === null && fit.padding === null ? null : fit;
}

const isOff = (option: FitOptions["padding"]): boolean => option === undefined || option === false;

function truncationOf(option: true | TruncationOptions | undefined, maxLength: number | undefined, spec: TokenizerSpec): TruncationSpec {
  const { settings } = spec;
  const inFile = spec.kept?.truncation ?? null;
  if (option === undefined && inFile !== null) return { ...inFile, max_length: maxLength ?? inFile.max_length };
  const own: TruncationOptions = typeof option === "object" ? option : {};
  checkOptions("tokenizer.encode: truncation", own, TRUNCATION);
  const most = own.maxLength ?? maxLength ?? settings?.maxLength ?? inFile?.max_length;
  if (most === undefined)
    throw wrong("truncation to an unknown length", "maxLength, as the tokenizer's files do not say how much the model takes", undefined, "Give maxLength.");
  const side = own.direction ?? settings?.truncationSide;
  return {
    max_length: counted("maxLength", most),
    stride: counted("stride", own.stride ?? 0),
    strategy: oneOf("strategy", STRATEGIES, own.strategy ?? "longest_first"),
    direction: side === undefined ? (inFile?.direction ?? "Right") : oneOf("direction", SIDES, side),
  };
}

function paddingOf(option: true | "longest" | "max_length" | PaddingOptions, options: FitOptions, spec: TokenizerSpec, names: TokenNames): PaddingSpec {
  const own: PaddingOptions = option === true ? {} : typeof option === "string" ? { strategy: option } : option;
  checkOptions("tokenizer.encode: padding", own, PADDING);
  const { settings } = spec;
  const inFile = spec.kept?.padding ?? null;
  const side = own.direction ?? settings?.paddingSide;
  const multiple = own.padToMultipleOf;
  return {
    strategy: strategyOf(own, options, spec),
    direction: side === undefined ? (inFile?.direction ?? "Right") : oneOf("direction", SIDES, side),
    pad_to_multiple_of: multiple === undefined ? null : counted("padToMultipleOf", multiple, 1),
    ...padToken(own, spec, names),
    pad_type_id: counted("padTypeId", own.padTypeId ?? 0),
  };
}

function strategyOf(own: PaddingOptions, { truncation, maxLength }: FitOptions, spec: TokenizerSpec): PaddingSpec["strategy"] {
  const strategy = oneOf("padding", { longest: "longest", max_length: "max_length" }, own.strategy ?? (own.length === undefined ? "longest" : "max_length"));
  if (strategy === "longest") {
    if (own.length !== undefined) throw wrong("padding to the longest and to a length", "one of them", own.length, "Leave one out.");
    return "BatchLongest";
  }
  const inFile = spec.kept?.padding?.strategy;
  const cutAt = typeof truncation === "object" ? truncation.maxLength : undefined;
  const fixed = typeof inFile === "object" ? inFile.Fixed : undefined;
  const length = own.length ?? maxLength ?? cutAt ?? spec.settings?.maxLength ?? fixed;
  if (length === undefined)
    throw wrong(
      "padding to an unknown length",
      "maxLength, as the tokenizer's files do not say how much the model takes",
      undefined,
      'Give maxLength, or pad to the "longest".',
    );
  return { Fixed: counted("length", length) };
}

function padToken(own: PaddingOptions, spec: TokenizerSpec, names: TokenNames): { pad_token: string; pad_id: number } {
  const inFile = spec.kept?.padding ?? null;
  if (own.padId !== undefined) {
    const token = own.padToken ?? names.idToToken(counted("padId", own.padId));
    if (token === undefined) throw wrong("padding with an id that has no token", "an id of the vocabulary", own.padId, "Correct it.");
    return { pad_token: token, pad_id: own.padId };
  }
  const token = own.padToken ?? spec.chat?.tokens.pad_token ?? inFile?.pad_token;
  if (token === undefined)
    throw wrong(
      "padding without a padding token",
      "padToken or padId, as the tokenizer's files name none",
      undefined,
      "Name one; the attention mask hides it, so the end-of-text token will do.",
    );
  const id = names.tokenToId(token) ?? (token === inFile?.pad_token ? inFile.pad_id : undefined);
  if (id === undefined) throw wrong("padding token that is not in the vocabulary", "a token of this tokenizer, or padId beside it", token, "Correct it.");
  return { pad_token: token, pad_id: id };
}

/** The parts of a tokenizer that texts are fitted with. */
export interface FitParts {
  /** What stands around any text; null where that is no matter of ids before and behind it. */
  around(special: boolean): Around | null;
  /** The ids of texts with nothing around, made quickly; null where only `rows` makes them. */
  bare(texts: readonly Text[], options: EncodeOptions): EncodedTexts | null;
  /** The tokens of a text with nothing around. */
  rows(text: Text, options: EncodeOptions, sequence: 0 | 1): Encoded;
  /** How many tokens are put around one text, or two. */
  added(pair: boolean): number;
  postProcess(texts: readonly [Encoded] | readonly [Encoded, Encoded], special: boolean): Encoded;
  readonly addedTokens: ReadonlyMap<number, AddedToken>;
}

/** The second texts of a batch: one for each of `count` texts, or the same for all. */
export function pairsOf(pair: BatchEncodeOptions["pair"], count: number): (i: number) => Text | undefined {
  if (!Array.isArray(pair)) return () => pair as Text | undefined;
  if (pair.length !== count) throw wrong("a list of pairs that does not fit", `${count} texts, one for each text`, pair.length, "Give as many of both.");
  return (i) => pair[i];
}

/** Texts of a batch, cut and padded. */
export function encodeFitted(parts: FitParts, texts: readonly Text[], options: BatchEncodeOptions, fit: Fit): Encoding[] {
  const pairs = pairsOf(options.pair, texts.length);
  const { pair: _, ...alone } = options;
  if (options.pair === undefined) {
    const quick = fitIds(parts, texts, alone, fit);
    if (quick !== null) return quick;
  }
  const whole = texts.map((text, i) => fitRows(parts, text, pairs(i), alone, fit.truncation));
  return (fit.padding === null ? whole : padBatch(whole, fit.padding)).map((found) => encodingFrom(found, parts.addedTokens));
}

/** One text, or two, cut and with what stands around, in all columns. */
function fitRows(parts: FitParts, text: Text, pair: Text | undefined, options: EncodeOptions, truncation: TruncationSpec | null): Encoded {
  const special = options.addSpecialTokens !== false;
  const one = parts.rows(text, options, 0);
  const given = pair === undefined ? ([one] as const) : ([one, parts.rows(pair, options, 1)] as const);
  if (truncation === null) return parts.postProcess(given, special);
  return parts.postProcess(truncate<typeof given>(given, truncation, special ? parts.added(pair !== undefined) : 0), special);
}

/** Single texts by their ids; null where these are not made apart from the rest. */
function fitIds(parts: FitParts, texts: readonly Text[], options: EncodeOptions, { truncation, padding }: Fit): Encoding[] | null {
  const special = options.addSpecialTokens !== false;
  const around = parts.around(special);
  if (around === null) return null;
  const made = parts.bare(texts, options);
  if (made === null) return null;
  const { before, after } = around;
  const more = before.ids.length + after.ids.length;
  const cut = texts.map((_, i) => {
    const ids = made.ids.subarray(made.starts[i], made.starts[i + 1]);
    const places = truncation === null ? null : cutPlaces([ids.length], truncation, more);
    return { ids: places === null ? ids : ids.subarray(...places[0][0]), overflows: places !== null && places[0].length > 1 };
  });
  const lengths = cut.map(({ ids }) => ids.length + more);
  const length = padding === null ? 0 : paddedLength(lengths, padding);
  // The length is known now; the twin sees one text and not the batch.
  const fixed = padding === null ? null : { ...padding, strategy: { Fixed: length }, pad_to_multiple_of: null };
  return cut.map(({ ids: own, overflows }, i) => {
    const missing = Math.max(0, length - lengths[i]);
    const left = padding?.direction === "Left" ? missing : 0;
    const ids = new Int32Array(lengths[i] + missing).fill(padding?.pad_id ?? 0);
    ids.set(before.ids, left);
    ids.set(own, left + before.ids.length);
    ids.set(after.ids, left + before.ids.length + own.length);
    const twin = (): Encoding => {
      const found = fitRows(parts, texts[i], undefined, options, truncation);
      return encodingFrom(fixed === null ? found : padBatch([found], fixed)[0], parts.addedTokens);
    };
    const pads = { left, right: missing - left, typeId: padding?.pad_type_id ?? 0 };
    return createIdsEncoding(ids, around, parts.addedTokens, twin, { pads, overflows });
  });
}

/** The ids of encodings in one array. */
export function joinEncodings(encodings: readonly Encoding[], texts: readonly Text[]): EncodedTexts {
  const starts = new Int32Array(encodings.length + 1);
  for (const [i, { ids }] of encodings.entries()) starts[i + 1] = starts[i] + ids.length;
  const ids = new Int32Array(starts[encodings.length]);
  for (const [i, encoding] of encodings.entries()) ids.set(encoding.ids, starts[i]);
  return { ids, starts, replaced: texts.reduce((sum, text) => sum + (typeof text === "string" ? 0 : textToString(text).replaced), 0) };
}

/** What a prompt's continuation depends on: flags of `groundup generate`, and keys of a line of its file. */
import * as z from "zod";
import { breakerIds, type RequestOptions } from "../generate/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { flagOf } from "./flags.ts";

export const REQUEST_FLAGS = z.object({
  maxNewTokens: z.int().min(0).default(128).describe("tokens to generate at most"),
  temperature: z.number().min(0).default(1).describe("below 1 is surer, above 1 more varied, 0 always takes the likeliest token"),
  topK: z.int().min(0).default(0).describe("only the k likeliest tokens; 0 is off"),
  topP: z.number().gt(0).max(1).default(1).describe("only the likeliest tokens that reach this probability together; 1 is off"),
  minP: z.number().min(0).max(1).default(0).describe("only tokens at least this fraction as likely as the likeliest; 0 is off"),
  typicalP: z.number().gt(0).max(1).default(1).describe("only the tokens of the most usual surprise, up to this probability; 1 is off"),
  topNSigma: z.number().min(0).default(0).describe("only tokens within so many standard deviations of the largest logit; 0 is off"),
  mirostatTau: z.number().min(0).default(0).describe("steer to so many bits of surprise a token (Mirostat 2.0); usual 5, 0 is off"),
  mirostatEta: z.number().gt(0).default(0.1).describe("how fast Mirostat steers"),
  repetitionPenalty: z.number().gt(0).default(1).describe("above 1 makes tokens of the text so far less likely"),
  presencePenalty: z.number().default(0).describe("taken from the logit of every generated token"),
  frequencyPenalty: z.number().default(0).describe("taken from a token's logit for each time it was generated"),
  dryMultiplier: z.number().min(0).default(0).describe("how dear it is to go on with a repetition (DRY); usual 0.8, 0 is off"),
  dryBase: z.number().min(1).default(1.75).describe("how much dearer for each token of the repetition"),
  dryAllowedLength: z.int().min(1).default(2).describe("repetitions shorter than this are free"),
  dryRange: z.int().min(0).default(0).describe("tokens looked back for repetitions; 0 is all"),
  drySequenceBreaker: z
    .array(z.string().min(1))
    .default(["\n", ":", '"', "*"])
    .describe("no repetition reaches across a token with this text")
    .meta({ placeholder: "TEXT" }),
  logitBias: z
    .array(z.string().regex(/^\d+=(-?\d+(\.\d+)?|-Infinity)$/, "expected ID=NUMBER"))
    .default([])
    .describe("add to a token's logit; -Infinity forbids it")
    .meta({ placeholder: "ID=NUMBER" }),
  stop: z.array(z.string().min(1)).default([]).describe("end before this text").meta({ placeholder: "TEXT" }),
  topLogprobs: z.int().min(0).default(0).describe("with --json or --out, the log-probabilities of so many of the likeliest tokens at each place"),
});
export type RequestFlags = z.output<typeof REQUEST_FLAGS>;

/** The library's options, from flags. */
export function requestOptions(flags: Partial<RequestFlags>, tokenizer: Tokenizer): RequestOptions {
  const { drySequenceBreaker = REQUEST_FLAGS.shape.drySequenceBreaker.parse(undefined), logitBias = [], ...options } = flags;
  return {
    ...options,
    ...((flags.dryMultiplier ?? 0) > 0 ? { dryBreakers: breakersOf(tokenizer, drySequenceBreaker) } : {}),
    ...(logitBias.length > 0 ? { logitBias: Object.fromEntries(logitBias.map((text) => text.split("=").map(Number))) } : {}),
  };
}

// Each look-up decodes the whole vocabulary, and a file has the same texts in every line.
const breakers = new WeakMap<Tokenizer, Map<string, number[]>>();
function breakersOf(tokenizer: Tokenizer, texts: readonly string[]): number[] {
  const key = JSON.stringify(texts);
  const known = breakers.get(tokenizer) ?? new Map<string, number[]>();
  breakers.set(tokenizer, known);
  const ids = known.get(key) ?? breakerIds(tokenizer, texts);
  known.set(key, ids);
  return ids;
}

/** The same keys without their defaults: what one prompt says for itself. */
export const OWN_FLAGS = Object.fromEntries(
  Object.entries(REQUEST_FLAGS.shape).map(([key, field]) => [
    key,
    (field as z.ZodDefault<z.ZodType>)
      .unwrap()
      .optional()
      .meta(field.meta() ?? {}),
  ]),
) as unknown as { [K in keyof RequestFlags]: z.ZodType<RequestFlags[K] | undefined> };

const { maxNewTokens: _length, stop: _stop, topLogprobs: _logprobs, ...sampling } = OWN_FLAGS;
/** Of these, how tokens are chosen. */
export const OWN_SAMPLING = sampling;

/** `logitBias` of a line: as the flag has it, or as the library does, by id. */
export const LOGIT_BIAS = z.union([
  OWN_FLAGS.logitBias,
  z
    .record(z.string(), z.number())
    .refine((biases) => Object.keys(biases).every((id) => /^\d+$/.test(id)), '{"ID": NUMBER}')
    .transform((biases) => Object.entries(biases).map(([id, bias]) => `${id}=${bias}`)),
]);

/** Flags that were given, of those that a search for one text does not read. */
export function drawingFlags(flags: RequestFlags, read: readonly (keyof RequestFlags)[]): string[] {
  const usual: Record<string, unknown> = REQUEST_FLAGS.parse({});
  return Object.entries(flags)
    .filter(([key, value]) => !read.includes(key as keyof RequestFlags) && JSON.stringify(value) !== JSON.stringify(usual[key]))
    .map(([key]) => flagOf(key));
}

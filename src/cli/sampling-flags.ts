/** The flags of every command that draws tokens. */
import * as z from "zod";

const FLAGS = {
  temperature: z.number().min(0).describe("below 1 is surer, above 1 more varied, 0 always takes the likeliest token"),
  topK: z.int().min(0).describe("only the k likeliest tokens; 0 is off"),
  topP: z.number().gt(0).max(1).describe("only the likeliest tokens that reach this probability together; 1 is off"),
  minP: z.number().min(0).max(1).describe("only tokens at least this fraction as likely as the likeliest; 0 is off"),
  repetitionPenalty: z.number().gt(0).describe("above 1 makes tokens of the text so far less likely"),
  presencePenalty: z.number().describe("taken from the logit of every generated token"),
  frequencyPenalty: z.number().describe("taken from a token's logit for each time it was generated"),
};

/** With the values that change nothing. */
export const samplingFlags = {
  temperature: FLAGS.temperature.default(1),
  topK: FLAGS.topK.default(0),
  topP: FLAGS.topP.default(1),
  minP: FLAGS.minP.default(0),
  repetitionPenalty: FLAGS.repetitionPenalty.default(1),
  presencePenalty: FLAGS.presencePenalty.default(0),
  frequencyPenalty: FLAGS.frequencyPenalty.default(0),
};

/** Where what is not given comes from the model's own files. */
export const samplingFlagsOfModel = {
  temperature: FLAGS.temperature.optional(),
  topK: FLAGS.topK.optional(),
  topP: FLAGS.topP.optional(),
  minP: FLAGS.minP.optional(),
  repetitionPenalty: FLAGS.repetitionPenalty.optional(),
  presencePenalty: FLAGS.presencePenalty.optional(),
  frequencyPenalty: FLAGS.frequencyPenalty.optional(),
};

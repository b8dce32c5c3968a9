/** Values that the configs of many architectures have, with the bounds that keep a hostile one from harm. */
import * as z from "zod";
import type { ConfigKeys } from "../formats/hf-config.ts";
import type { Activation, GatedActivation } from "../tensor/index.ts";

/** A width or a number of tokens, heads, positions: ids and places are int32. */
export const size = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);

/** A number of layers. The deepest published networks have a thousand. */
export const depth = z.int().min(1).max(4096);

/** Of dropout. */
export const probability = z.number().min(0).lt(1);

/** A number of experts. */
export const experts = z.int().min(1).max(65536);

/** Refuses more experts for a token than there are. */
export function checkExperts(config: { num_local_experts: number; num_experts_per_tok: number }, ctx: Pick<z.RefinementCtx, "addIssue">): void {
  const { num_local_experts: count, num_experts_per_tok: chosen } = config;
  if (chosen > count)
    ctx.addIssue({
      code: "custom",
      path: ["num_experts_per_tok"],
      message: `is more than there are, expected at most num_local_experts = ${count}, got ${chosen}. Change one of them.`,
    });
}

/** What a norm adds to the variance. */
export const epsilon = z.number().positive().max(1);

/** Of the normal that fresh weights come from. */
export const initialiserRange = z.number().nonnegative().max(1000);

/** What is wrong where a number of heads does not go into a width. */
export const doesNotDivide = (name: string, width: number, parts: number): string =>
  `does not divide ${name}, expected no rest, got ${parts} for ${width}. Change one of them.`;

/** Hugging Face's names of the activations, and ours. */
export const ACTIVATIONS = {
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu: "gelu",
  relu: "relu",
  silu: "silu",
  swish: "silu",
} as const satisfies Record<string, Activation>;

/** Those that `gated` has. */
export const GATED_ACTIVATIONS = {
  silu: "silu",
  swish: "silu",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_new: "gelu_tanh",
} as const satisfies Record<string, GatedActivation>;

/**
 * The keys of a config: those of its schema, each with the other spellings that are read (`rope_parameters.rope_theta` reaches into an object), and those that
 * are known and change nothing.
 */
export function configKeys<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  spellings: Partial<Record<keyof Shape & string, readonly string[]>>,
  ignored: readonly string[] = [],
): ConfigKeys {
  return { keys: Object.fromEntries(Object.keys(schema.shape).map((key) => [key, spellings[key] ?? []])), ignored };
}

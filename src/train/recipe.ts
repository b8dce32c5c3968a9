/**
 * What a training recipe may say: one schema for the YAML file, `--set` and the help. Model keys are those of Hugging Face's config.json,
 * most others are named as in its TrainingArguments, in PyTorch (`betas`, `eps`) or in papers; other names in use are aliases.
 */
import { basename, resolve } from "node:path";
import * as z from "zod";
import { documentModeSchema } from "../data/documents.ts";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import { parseModelConfig } from "../formats/index.ts";
import { architectures, parameterCountOf, sizedConfig, sizedKeys } from "../models/index.ts";

const count = z.int().min(1);
const factor = z.number().nonnegative();
const share = factor.lt(1);

/** What others call a key: `parseConfig` answers these with "did you mean". */
const known = (...aliases: string[]) => ({ aliases });

/** A model config without the keys that data and training decide; its own schema checks the rest. */
const modelSchema = z
  .looseObject({
    model_type: z.string().describe(`architecture (${Object.keys(architectures).join(", ")}); its other keys are those of config.json`),
    size: z
      .union([count, z.string().regex(/^\d+(\.\d+)?[KMB]?$/i, "must be a number of parameters such as 15M")])
      .optional()
      .describe("number of parameters, such as 15M: decides layers, width and heads, which are then left out"),
  })
  .superRefine((model, ctx) => {
    const known = Object.keys(architectures);
    const architecture = Object.hasOwn(architectures, model.model_type) ? architectures[model.model_type] : undefined;
    if (architecture === undefined) {
      ctx.addIssue({
        code: "custom",
        path: ["model_type"],
        message: `unknown architecture, expected one of ${known.join(", ")}, got ${JSON.stringify(model.model_type)}.${didYouMean(model.model_type, known)} Choose one of them.`,
      });
      return;
    }
    const { size, ...config } = model;
    const twice = size === undefined ? [] : sizedKeys(model.model_type).filter((key) => key in config);
    if (twice.length > 0) ctx.addIssue({ code: "custom", message: `size decides ${twice.join(", ")}, expected one or the other, got both. Leave one out.` });
    try {
      parseModelConfig(architecture.schema, architecture.keys, config as never, "model");
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const line of error.message.split("\n").slice(1)) ctx.addIssue({ code: "custom", message: line.trim() });
    }
  });

const textPath = z.union([z.string(), z.array(z.string()).min(1)]);

const dataSchema = z
  .strictObject({
    path: textPath
      .nullable()
      .default(null)
      .describe("text: files, folders or globs (.txt, .jsonl, also .gz, .zst); bundled:NAME is text that groundup brings along")
      .meta(known("paths", "file", "files", "dataset", "text")),
    sources: z
      .array(
        z.strictObject({
          path: textPath.describe("as data.path").meta(known("paths", "file", "files")),
          weight: z
            .number()
            .positive()
            .default(1)
            .describe("share of the training samples, relative to the other sources'")
            .meta(known("ratio", "probability", "share")),
        }),
      )
      .min(1)
      .nullable()
      .default(null)
      .describe("in place of path: several texts, each { path, weight }, mixed in proportion to their weights")
      .meta(known("mix", "mixture", "datasets")),
    tokens: z
      .string()
      .nullable()
      .default(null)
      .describe("in place of path: a folder with train.bin and val.bin of 16-bit token ids, as nanoGPT writes them; tokenizer.type must be file")
      .meta(known("bin", "token_folder", "tokens_path")),
    document: documentModeSchema,
    text_field: z
      .string()
      .default("text")
      .describe("key of the text in .jsonl files")
      .meta(known("field", "text_column", "dataset_text_field")),
    validation_fraction: z.number().gt(0).lt(1).default(0.1).describe("share of the documents held out for validation"),
    split_by: z.enum(["document", "tail"]).default("document").describe("hold out whole documents, or the end of each"),
    order: z.enum(["windows", "documents"]).default("windows").describe("train on windows at random places, or on packed whole documents"),
  })
  .superRefine(({ path, sources, tokens, order }, ctx) => {
    const given = Object.entries({ path, sources, tokens }).flatMap(([key, value]) => (value === null ? [] : [key]));
    if (given.length !== 1)
      ctx.addIssue({
        code: "custom",
        message: `expected one of path, sources and tokens, got ${given.length === 0 ? "none" : given.join(" and ")}. ${given.length === 0 ? "Add one" : "Leave the others out, or set them to null"}.`,
      });
    if (tokens !== null && order === "documents")
      ctx.addIssue({
        code: "custom",
        path: ["order"],
        message: 'token files have no documents, expected "windows" with data.tokens, got "documents". Correct it.',
      });
  });

const sections = z.strictObject({
  run: z
    .strictObject({
      name: z
        .string()
        .regex(/^\w[\w.-]*$/, "must be letters, digits, dots, dashes, and begin with a letter or digit")
        .default("pretrain")
        .describe("name of the run; its folder is runs/<name> unless --out says otherwise"),
      seed: z.int().min(0).default(0).describe("seed of initialisation, data order, dropout and sampling"),
    })
    .prefault({}),
  data: dataSchema,
  tokenizer: z
    .strictObject({
      type: z.enum(["bpe", "characters", "bytes", "file"]).default("bpe").describe("train a byte-level BPE, use the text's characters, use bytes, or load one"),
      vocab_size: count.default(4096).describe("bpe: number of tokens"),
      pattern: z.enum(["gpt2", "cl100k"]).default("gpt2").describe("bpe: how text is cut into words"),
      path: z.string().nullable().default(null).describe("file: a folder or tokenizer.json"),
      end_of_text: z.boolean().nullable().default(null).describe("put <|endoftext|> behind each document (null: yes, except for characters)"),
    })
    .prefault({}),
  model: modelSchema,
  training: z.strictObject({
    max_steps: count.describe("optimiser steps").meta(known("steps", "max_iters", "num_steps", "iterations")),
    batch_size: count.describe("rows of one forward pass").meta(known("batch", "per_device_train_batch_size", "micro_batch_size")),
    gradient_accumulation_steps: count
      .default(1)
      .describe("forward passes in a step; their gradients add up to that of one large batch")
      .meta(known("accumulate", "accumulation", "accumulate_grad_batches")),
    context_length: count.describe("tokens in a row").meta(known("context", "block_size", "max_length", "max_seq_length", "seq_len")),
    precision: z
      .enum(["f32", "bf16"])
      .default("f32")
      .describe("of matrix products; bf16 rounds their operands to bfloat16: fast on CPUs with AVX512_BF16, slow elsewhere")
      .meta(known("dtype", "bf16", "mixed_precision")),
    optimizer: z.enum(["adamw", "adam", "sgd", "rmsprop"]).default("adamw").meta(known("optim")),
    learning_rate: factor.default(1e-3).describe("highest learning rate").meta(known("lr", "max_lr")),
    betas: z
      .tuple([share, share])
      .default([0.9, 0.95])
      .describe("adam, adamw")
      .meta(known("beta1", "beta2", "adam_beta1", "adam_beta2")),
    eps: factor.default(1e-8).describe("adam, adamw, rmsprop").meta(known("epsilon", "adam_epsilon")),
    momentum: share.default(0).describe("sgd"),
    nesterov: z.boolean().default(false).describe("sgd"),
    alpha: share.default(0.99).describe("rmsprop"),
    weight_decay: factor.default(0.1).describe("of matrices and embeddings; norms and biases have none"),
    max_grad_norm: z
      .number()
      .positive()
      .nullable()
      .default(1)
      .describe("gradients are scaled down to this norm; null: never")
      .meta(known("clip", "grad_clip", "gradient_clip_val")),
    lr_scheduler_type: z
      .enum(["cosine", "linear", "constant", "wsd", "one_cycle"])
      .default("cosine")
      .describe("of the learning rate")
      .meta(known("schedule", "scheduler", "lr_schedule")),
    warmup_steps: z
      .int()
      .min(0)
      .default(0)
      .describe("steps until the highest learning rate")
      .meta(known("warmup", "warmup_iters", "warmup_ratio")),
    final_lr_ratio: factor
      .default(0.1)
      .describe("last learning rate as a share of the highest")
      .meta(known("final_lr", "min_lr", "min_lr_ratio", "min_lr_rate")),
    decay_steps: z
      .int()
      .min(0)
      .nullable()
      .default(null)
      .describe("wsd: steps of decay at the end (null: a fifth)")
      .meta(known("decay", "lr_decay_iters", "num_decay_steps")),
    save_steps: count
      .default(500)
      .describe("steps between checkpoints; the best and the last are always written")
      .meta(known("checkpoint_every", "every", "save_every", "checkpoint_interval")),
    save_total_limit: count.default(2).describe("newest checkpoints that are kept, besides the best").meta(known("keep", "keep_checkpoints")),
    on_non_finite: z
      .enum(["stop", "rollback"])
      .default("stop")
      .describe("when a loss or gradient is NaN or infinite: stop, or go back to the last good checkpoint and leave out that batch"),
    on_spike: z.enum(["note", "rollback", "stop"]).default("note").describe("when the loss leaps above spike_sigmas"),
    spike_sigmas: z.number().positive().default(8).describe("a leap is a loss this many standard deviations above its running mean"),
    max_rollbacks: z.int().min(0).default(3),
  }),
  eval: z
    .strictObject({
      eval_steps: count
        .default(250)
        .describe("steps between evaluations on the whole validation split")
        .meta(known("every", "steps", "eval_interval")),
      batch_size: count.default(16).describe("rows of one forward pass").meta(known("batch", "per_device_eval_batch_size")),
      early_stopping_patience: count
        .nullable()
        .default(null)
        .describe("stop after this many evaluations without a better loss; null: never")
        .meta(known("patience")),
    })
    .prefault({}),
  sample: z
    .strictObject({
      sample_steps: count.nullable().default(null).describe("steps between samples; null: none").meta(known("every", "steps")),
      prompts: z.array(z.string()).default([]).meta(known("prompt")),
      max_new_tokens: count.default(100).meta(known("tokens", "max_tokens", "length")),
      temperature: factor.default(0.8),
      top_k: z.int().min(0).default(40).describe("0: all tokens"),
    })
    .prefault({}),
});

/** How long the schedule `wsd` decays at the end of a run. */
export const decayStepsOf = ({ decay_steps, max_steps }: z.output<typeof sections>["training"]): number => decay_steps ?? Math.ceil(max_steps / 5);

/** What a recipe may hold: its keys with their defaults and ranges, and which of them go together. */
export const recipeSchema = sections.superRefine(({ data, tokenizer, model, training }, ctx) => {
  if (data.tokens !== null && tokenizer.type !== "file")
    ctx.addIssue({
      code: "custom",
      path: ["tokenizer", "type"],
      message: `ids mean something by their tokenizer only, expected "file" and tokenizer.path with data.tokens, got "${tokenizer.type}". Name the tokenizer that made them.`,
    });
  const context = architectures[model.model_type]?.keyOf.context;
  if (context !== undefined && context in model && Number(model[context]) < training.context_length)
    ctx.addIssue({
      code: "custom",
      path: ["model", context],
      message: `too small, expected at least training.context_length ${training.context_length}, got ${model[context]}. Raise it or shorten the context.`,
    });
  if (tokenizer.type === "file" && tokenizer.path === null)
    ctx.addIssue({
      code: "custom",
      path: ["tokenizer", "path"],
      message: "missing, expected a tokenizer's folder or tokenizer.json with tokenizer.type file, got null. Set it.",
    });
  if (training.optimizer === "sgd" && training.nesterov && training.momentum === 0)
    ctx.addIssue({
      code: "custom",
      path: ["training", "nesterov"],
      message: "has nothing to look ahead with, expected training.momentum above 0, got 0. Set training.momentum, or leave nesterov out.",
    });
  // Found here, before a tokenizer is trained and the folder belongs to the wrong recipe.
  const { warmup_steps, max_steps, lr_scheduler_type } = training;
  const left = max_steps - warmup_steps;
  const decay = decayStepsOf(training);
  if (left < 0 && max_steps > 0)
    ctx.addIssue({
      code: "custom",
      path: ["training", "warmup_steps"],
      message: `too long, expected at most training.max_steps ${max_steps}, got ${warmup_steps}. Shorten it.`,
    });
  else if (lr_scheduler_type === "wsd" && decay > left)
    ctx.addIssue({
      code: "custom",
      path: ["training", "decay_steps"],
      message: `too long, expected at most ${left} (what training.warmup_steps leaves), got ${decay}${training.decay_steps === null ? ", a fifth of the run" : ""}. Shorten one of them.`,
    });
});

/** A recipe, checked, with its defaults. */
export type Recipe = z.output<typeof recipeSchema>;

/** The texts of a recipe with their weights; none where it names files of tokens. */
export function textSources({ data }: Recipe): { paths: string[]; weight: number }[] {
  const list = (path: string | string[]) => (typeof path === "string" ? [path] : path);
  if (data.path !== null) return [{ paths: list(data.path), weight: 1 }];
  return (data.sources ?? []).map(({ path, weight }) => ({ paths: list(path), weight }));
}

/** Keys whose values differ, as `key: before → now`, dotted. */
export function differences(before: unknown, now: unknown, path = ""): string[] {
  const isTree = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);
  if (isTree(before) && isTree(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) =>
      differences(before[key], now[key], path === "" ? key : `${path}.${key}`),
    );
  }
  const [a, b] = [JSON.stringify(before), JSON.stringify(now)];
  return a === b ? [] : [`${path}: ${a ?? "absent"} → ${b ?? "absent"}`];
}

/** The recipe with the places of its files as they are from anywhere: a run is resumed from another folder than it began in. */
export const withAbsolutePaths = (recipe: Recipe): Recipe => withPaths(recipe, (path) => resolve(path));

/** The recipe with the names of its files in place of where they lie. */
export const withFileNames = (recipe: Recipe): Recipe => withPaths(recipe, (path) => basename(path));

function withPaths(recipe: Recipe, to: (path: string) => string): Recipe {
  const { data, tokenizer } = recipe;
  const place = (path: string) => (path.startsWith("bundled:") ? path : to(path));
  const placed = (path: string | string[]) => (typeof path === "string" ? place(path) : path.map(place));
  const orNull = (path: string | null) => (path === null ? null : to(path));
  return {
    ...recipe,
    data: {
      ...data,
      path: data.path === null ? null : placed(data.path),
      sources: data.sources?.map((source) => ({ ...source, path: placed(source.path) })) ?? null,
      tokens: orNull(data.tokens),
    },
    tokenizer: { ...tokenizer, path: orNull(tokenizer.path) },
  };
}

/** Tokens that the recipe's model can see. @throws ConfigError as `modelConfig` */
export const contextLength = (recipe: Recipe, tokens: number): number =>
  Number(modelConfig(recipe, tokens)[architectures[recipe.model.model_type].keyOf.context]);

/** The model's config with what the tokenizer and the training decide filled in. @throws ConfigError when they contradict it */
export function modelConfig(recipe: Recipe, tokens: number): Record<string, unknown> {
  const { training } = recipe;
  const { size, ...model } = recipe.model;
  const key = architectures[model.model_type].keyOf.context;
  const config: Record<string, unknown> = { vocab_size: tokens, [key]: training.context_length, ...model };
  if (Number(config.vocab_size) < tokens)
    throw new ConfigError(`recipe: model.vocab_size is too small, expected at least the tokenizer's ${tokens} tokens, got ${config.vocab_size}. Leave it out.`);
  return size === undefined ? config : sizedConfig(config, parameterCountOf(size));
}

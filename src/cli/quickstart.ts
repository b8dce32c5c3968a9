/** `groundup quickstart`: from a book to a model that speaks, in minutes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { ngramModel } from "../eval/index.ts";
import { duration, grouped } from "../quantities.ts";
import { backend } from "../tensor/index.ts";
import { type Baseline, type PreparedData, type PretrainSession, type Recipe, recipeSchema } from "../train/index.ts";
import { defineCommand } from "./command.ts";
import { commandName } from "./command-name.ts";
import { packageVersion } from "./package-version.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine, openSession, showEnd, watchTraining } from "./training-view.ts";

/** What replaces the recipe's sizes where only the plain TypeScript backend runs. */
const TINY = [
  "tokenizer.vocab_size=512",
  "model.hidden_size=48",
  "model.intermediate_size=128",
  "model.num_hidden_layers=2",
  "model.num_attention_heads=4",
  "model.num_key_value_heads=2",
  "training.max_steps=1500",
  "training.learning_rate=0.006",
  "training.weight_decay=0.1",
  "training.batch_size=8",
  "training.context_length=48",
  "training.save_steps=750",
  "eval.eval_steps=500",
  "eval.batch_size=8",
  "sample.sample_steps=750",
  "sample.max_new_tokens=40",
];

/** Training tokens whose n-grams are counted at most: half a minute, and up to two gigabytes. */
const MOST_COUNTED = 1 << 24;

export const command = defineCommand({
  about:
    "Trains a tokenizer and a small Llama on Moby-Dick, measures it on held-out chapters against an n-gram model, shows what it writes before, during and after, and leaves a run folder with report.html.",
  options: z.object({
    out: z.string().min(1).optional().describe("folder of the run (default: runs/quickstart, or the next free number)").meta({ placeholder: "FOLDER" }),
    set: z
      .array(z.string().meta({ placeholder: "key=value" }))
      .default([])
      .describe("replaces a key of recipes/quickstart.yaml"),
  }),
  saves: true,
  examples: ["groundup quickstart", "groundup quickstart --set training.max_steps=200 --out runs/short"],
  async run(_args, options, io) {
    const began = performance.now();
    const slow = backend().name === "reference";
    const recipe = await readRecipe(recipeSchema, "quickstart", [...(slow ? TINY : []), ...options.set]);
    const out = options.out ?? freeFolder(join("runs", "quickstart"));
    io.print(`groundup ${packageVersion()}: a language model from raw text\n`);
    io.print(`Machine    ${machineLine()}`);
    if (slow)
      io.print(
        "           A tiny model is trained in place of the recipe's: it learns to spell, and stays behind the 4-gram. The native library trains the whole one.",
      );
    const session = await openSession(recipe, { out }, io);
    try {
      const { manifest, data } = session;
      for (const note of session.notes) io.print(note);
      for (const line of textLines(recipe, session)) io.print(line);
      const counted = data.counts.train.tokens;
      const baseline = counted > MOST_COUNTED ? null : await ngramBaseline(data);
      if (counted > MOST_COUNTED)
        io.print(`Baseline   none: n-grams are counted on at most ${grouped(MOST_COUNTED)} training tokens, and these are ${grouped(counted)}`);
      if (baseline !== null) {
        await session.run.saveBaseline(baseline);
        io.print(`Baseline   4-gram (Kneser-Ney) on the held-out text: ${baseline.bitsPerByte.toFixed(3)} bits per byte`);
      }
      io.print(
        `Model      ${recipe.model.model_type}, ${grouped(manifest.parameters)} parameters, context ${recipe.training.context_length}; ${recipe.training.max_steps} steps of ${grouped(recipe.training.batch_size * recipe.training.context_length)} tokens\n`,
      );
      const outcome = await watchTraining(session, io);
      const { end, validation, checkpoint, samples } = outcome;
      showEnd(session, outcome, io);
      if (end.why === "stopped") return { run: out, step: end.step, why: end.why, checkpoint };
      io.print(`  ${commandName()} pretrain quickstart --set data.path=my.txt --set run.name=mine`);
      const seconds = (performance.now() - began) / 1000;
      io.print(`\nAll of it took ${duration(seconds)}.`);
      return { run: out, step: end.step, why: end.why, checkpoint, validation, baseline, seconds, samples };
    } finally {
      await session.close();
    }
  },
});

/** The text and its tokens in two lines; files of tokens do not say how much text they were. */
function textLines({ data, tokenizer }: Recipe, { manifest, data: { tokenizer: made } }: PretrainSession): [text: string, tokens: string] {
  const { bytes, documents, tokens } = manifest;
  const origin = { bpe: "byte-level BPE trained here", characters: "the text's characters", bytes: "bytes", file: `from ${tokenizer.path}` }[tokenizer.type];
  const tokenLine = `Tokenizer  ${origin}: ${grouped(made.vocabSize)} tokens`;
  const files = Object.keys(manifest.data).join(", ");
  if (bytes.train === null || bytes.validation === null)
    return [`Text       ${grouped(tokens.train)} training and ${grouped(tokens.validation)} validation tokens of ${files}`, tokenLine];
  const all = grouped(bytes.train + bytes.validation);
  const text =
    data.path === "bundled:moby-dick.jsonl.gz"
      ? `Moby-Dick, ${all} bytes in ${grouped((documents.train ?? 0) + (documents.validation ?? 0))} chapters; ${documents.validation} of them are held out`
      : `${all} bytes of ${files}; ${grouped(bytes.validation)} of them are held out`;
  return [`Text       ${text}`, `${tokenLine}, ${(bytes.train / tokens.train).toFixed(2)} bytes each`];
}

function freeFolder(wanted: string): string {
  for (let n = 1; ; n++) {
    const path = n === 1 ? wanted : `${wanted}-${n}`;
    if (!existsSync(path)) return path;
  }
}

/** How well counted 4-grams of the training tokens predict the validation tokens: the bar that a network must clear. Null where the bytes are unknown. */
async function ngramBaseline({ train, validation, tokenizer, counts }: PreparedData): Promise<Baseline | null> {
  const { bytes } = counts.validation;
  if (bytes === null) return null;
  const parts = await Promise.all(train.map(({ tokens }) => tokens.read(0, tokens.tokens)));
  const all = new Int32Array(counts.train.tokens);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const model = ngramModel(all, { order: 4, vocabSize: tokenizer.vocabSize });
  const logprobs = model.logprobs(await validation.read(0, validation.tokens));
  // As for the network: every token but the first.
  const nats = -logprobs.subarray(1).reduce((sum, logp) => sum + logp, 0);
  return {
    name: "4-gram (Kneser-Ney)",
    perplexity: Math.exp(nats / (validation.tokens - 1)),
    bitsPerByte: nats / Math.LN2 / bytes,
  };
}

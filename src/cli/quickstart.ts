/** `groundup quickstart`: from a book to a model that speaks, in minutes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { ngramModel } from "../eval/index.ts";
import { duration, grouped } from "../quantities.ts";
import { backend } from "../tensor/index.ts";
import { type Baseline, openPretraining, type PreparedData, recipeSchema } from "../train/index.ts";
import { defineCommand } from "./command.ts";
import { commandName } from "./command-name.ts";
import { packageVersion } from "./package-version.ts";
import { readRecipe } from "./recipe-file.ts";
import { machineLine, samplerOf, watchTraining } from "./training-view.ts";

/** What replaces the recipe's sizes where only the plain TypeScript backend runs. */
const TINY = [
  "tokenizer.vocab_size=512",
  "model.hidden_size=48",
  "model.intermediate_size=128",
  "model.num_hidden_layers=2",
  "model.num_attention_heads=4",
  "model.num_key_value_heads=2",
  "training.steps=1500",
  "training.lr=0.006",
  "training.weight_decay=0.1",
  "training.batch=8",
  "training.context=48",
  "training.checkpoint_every=750",
  "eval.every=500",
  "eval.batch=8",
  "sample.every=750",
  "sample.tokens=40",
];

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
  examples: ["groundup quickstart", "groundup quickstart --set training.steps=200 --out runs/short"],
  async run(_args, options, io) {
    const began = performance.now();
    const elapsed = () => duration((performance.now() - began) / 1000);
    const slow = backend().name === "reference";
    const recipe = await readRecipe(recipeSchema, "quickstart", [...(slow ? TINY : []), ...options.set]);
    const out = options.out ?? freeFolder(join("runs", "quickstart"));
    io.print(`groundup ${packageVersion()}: a language model from raw text\n`);
    io.print(`Machine    ${machineLine()}`);
    if (slow)
      io.print(
        "           A tiny model is trained in place of the recipe's: it learns to spell, and stays behind the 4-gram. The native library trains the whole one.",
      );
    const session = await openPretraining(recipe, { out, signal: io.signal, sampler: samplerOf, version: packageVersion() });
    try {
      const { manifest, data } = session;
      const book = recipe.data.path === "bundled:moby-dick.jsonl.gz";
      const [documents, bytes] = [manifest.documents, manifest.bytes].map(({ train, validation }) => ({ all: train + validation, held: validation }));
      io.print(
        book
          ? `Text       Moby-Dick, ${grouped(bytes.all)} bytes in ${documents.all} chapters; ${documents.held} of them are held out`
          : `Text       ${grouped(bytes.all)} bytes of ${Object.keys(manifest.data).join(", ")}; ${grouped(bytes.held)} of them are held out`,
      );
      io.print(
        `Tokenizer  byte-level BPE trained here: ${grouped(data.tokenizer.vocabSize)} tokens, ${(manifest.bytes.train / manifest.tokens.train).toFixed(2)} bytes each`,
      );
      const baseline = await ngramBaseline(data);
      await session.run.saveBaseline(baseline);
      io.print(`Baseline   4-gram (Kneser-Ney) on the held-out text: ${baseline.bitsPerByte.toFixed(3)} bits per byte`);
      io.print(
        `Model      Llama, ${grouped(manifest.parameters)} parameters, context ${recipe.training.context}; ${recipe.training.steps} steps of ${grouped(recipe.training.batch * recipe.training.context)} tokens\n`,
      );
      const { end, validation, checkpoint, samples } = await watchTraining(session, io);
      if (end.why === "stopped") {
        io.print(`\nStopped and saved at step ${end.step}. Go on with: ${commandName()} pretrain ${out} --resume`);
        return { run: out, step: end.step, why: end.why, checkpoint };
      }
      const bits = validation?.bitsPerByte ?? Number.NaN;
      io.print(`\nHeld-out text     perplexity   bits per byte`);
      io.print(`  4-gram          ${baseline.perplexity.toFixed(1).padStart(10)}   ${baseline.bitsPerByte.toFixed(3).padStart(13)}`);
      io.print(
        `  this model      ${(validation?.perplexity ?? Number.NaN).toFixed(1).padStart(10)}   ${bits.toFixed(3).padStart(13)}   ${bits < baseline.bitsPerByte ? `${((1 - bits / baseline.bitsPerByte) * 100).toFixed(0)} % fewer bits` : "not yet better"}`,
      );
      io.print(`\nDone in ${elapsed()}. Curves and samples: ${session.run.at("report.html")}\n`);
      io.print("What next:");
      io.print(`  ${commandName()} generate ${checkpoint} --prompt "The whale"`);
      io.print(`  ${commandName()} pretrain quickstart --set data.path=my.txt --set run.name=mine`);
      return { run: out, step: end.step, why: end.why, checkpoint, validation, baseline, seconds: (performance.now() - began) / 1000, samples };
    } finally {
      await session.close();
    }
  },
});

function freeFolder(wanted: string): string {
  for (let n = 1; ; n++) {
    const path = n === 1 ? wanted : `${wanted}-${n}`;
    if (!existsSync(path)) return path;
  }
}

/** How well counted 4-grams of the training tokens predict the validation tokens: the bar that a network must clear. */
async function ngramBaseline({ train, validation, tokenizer }: PreparedData): Promise<Baseline> {
  const model = ngramModel(await train.read(0, train.tokens), { order: 4, vocabSize: tokenizer.vocabSize });
  const logprobs = model.logprobs(await validation.read(0, validation.tokens));
  // As for the network: every token but the first.
  const nats = -logprobs.subarray(1).reduce((sum, logp) => sum + logp, 0);
  return {
    name: "4-gram (Kneser-Ney)",
    perplexity: Math.exp(nats / (validation.tokens - 1)),
    bitsPerByte: nats / Math.LN2 / validation.manifest.statistics.bytes,
  };
}

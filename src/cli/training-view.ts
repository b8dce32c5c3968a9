/** What the training commands share: the sampler, the progress on the terminal, the report at the end. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { generate } from "../generate/index.ts";
import { modelCounts } from "../models/index.ts";
import { columnsOf, visible } from "../shown-text.ts";
import { backend } from "../tensor/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import {
  checkPrompts,
  createProgress,
  type EvaluationResult,
  frequentTokens,
  measurePeakFlops,
  openPretraining,
  type PretrainSession,
  type Recipe,
  type Sampler,
  type TrainingEvent,
  writeReport,
} from "../train/index.ts";
import type { Io } from "./command.ts";
import { commandName, word } from "./command-name.ts";
import { packageVersion } from "./package-version.ts";

/**
 * Continues prompts as the recipe's `sample` says. The seed depends on the step, so a resumed run writes the same texts.
 * @throws ConfigError for prompts that can't be continued
 */
export function samplerOf(tokenizer: Tokenizer, recipe: Recipe): Sampler {
  checkPrompts(recipe, tokenizer);
  const { sample, run } = recipe;
  return async (model, prompt, step, signal) => {
    const training = model.training;
    model.eval();
    try {
      const options = {
        tokenizer,
        maxNewTokens: sample.max_new_tokens,
        temperature: sample.temperature,
        seed: run.seed + step,
        ...(sample.top_k === 0 ? {} : { topK: sample.top_k }),
        ...(signal === undefined ? {} : { signal }),
      };
      return (await generate(model, prompt, options)).text;
    } finally {
      model.train(training);
    }
  };
}

/** `openPretraining` with what the commands share. Stopped while it prepares, it says how to go on. */
export async function openSession(recipe: Recipe, options: { out: string; resume?: boolean }, io: Io): Promise<PretrainSession> {
  try {
    return await openPretraining(recipe, { ...options, signal: io.signal, sampler: samplerOf, version: packageVersion() });
  } catch (error) {
    if (io.signal.aborted && existsSync(join(options.out, "config.yaml")))
      io.print(`Stopped while the text was prepared. Go on with: ${commandName()} pretrain ${word(options.out)} --resume`);
    throw error;
  }
}

export interface Outcome {
  end: Extract<TrainingEvent, { type: "end" }>;
  /** Of the last evaluation, which may have been in an earlier sitting. */
  validation: ({ step: number } & Pick<EvaluationResult, "loss" | "perplexity" | "bitsPerByte"> & Partial<EvaluationResult>) | null;
  /** The newest. */
  checkpoint: string | null;
  samples: { step: number; prompt: string; text: string }[];
}

/** Runs a session's loop, shows it, and writes report.html at its end. */
export async function watchTraining(session: PretrainSession, io: Io): Promise<Outcome> {
  const { recipe, model, checkpoint } = session;
  const stream = io.json ? process.stderr : process.stdout;
  const progress = createProgress({
    // The line is rewritten with \r, which `io.write` would show.
    write: (text) => void stream.write(text),
    live: stream.isTTY === true,
    columns: columnsOf(stream),
    steps: recipe.training.max_steps,
    flopsPerToken: modelCounts(model).trainingFlops(recipe.training.context_length),
    peakFlops: measurePeakFlops(recipe.training.precision),
  });
  const outcome: Outcome = {
    end: { type: "end", why: "stopped", step: session.state.step, best: null },
    validation: lastValidation(session),
    checkpoint,
    samples: [],
  };
  const { data } = session;
  const frequent = await frequentTokens(
    data.train.map(({ tokens }) => tokens),
    data.tokenizer,
  );
  const report = () => writeReport(session.run, session.manifest, { frequent });
  try {
    for await (const event of session.train()) {
      progress.show(event);
      if (event.type === "sample") {
        progress.clear();
        io.print(quote(event.sample.step, event.sample.prompt, event.sample.text, columnsOf(stream)));
        outcome.samples.push(event.sample);
      } else if (event.type === "evaluation") outcome.validation = { step: event.step, ...event.result };
      else if (event.type === "checkpoint") {
        outcome.checkpoint = event.path;
        await report();
      } else if (event.type === "end") outcome.end = event;
    }
    await report();
  } catch (error) {
    // What there is until then is what one looks at first. Where that can't be written either, both are told, and the first failure ends the run.
    await report().catch((failed: Error) => io.log(failed.message));
    throw error;
  } finally {
    progress.clear();
  }
  return outcome;
}

/** As metrics.jsonl has it. */
function lastValidation({ run }: PretrainSession): Outcome["validation"] {
  const last = run.metrics().findLast((m) => m.val_loss !== undefined);
  if (last?.val_loss === undefined) return null;
  return { step: last.step, loss: last.val_loss, perplexity: Math.exp(last.val_loss), bitsPerByte: last.val_bits_per_byte ?? null };
}

/** What stands at a run's end: the model beside its baseline, where the run has one, and what to do next. */
export function showEnd(session: PretrainSession, { end, validation }: Outcome, io: Io): void {
  const { path } = session.run;
  if (end.why === "stopped") {
    io.print(
      `\n${end.step === 0 ? "Stopped before the first step" : `Stopped and saved at step ${end.step} of ${session.recipe.training.max_steps}`}. Run folder: ${path}`,
    );
    io.print(`Go on with: ${commandName()} pretrain ${word(path)} --resume`);
    return;
  }
  const baseline = session.run.baseline();
  if (baseline !== null && typeof validation?.bitsPerByte === "number") {
    const { perplexity, bitsPerByte } = validation;
    const row = (name: string, ppl: number, bits: number) => `  ${name.padEnd(20)} ${ppl.toFixed(1).padStart(10)}   ${bits.toFixed(3).padStart(13)}`;
    const verdict = bitsPerByte < baseline.bitsPerByte ? `${((1 - bitsPerByte / baseline.bitsPerByte) * 100).toFixed(1)} % fewer bits` : "not yet better";
    io.print(`\nHeld-out text          perplexity   bits per byte`);
    io.print(row(baseline.name, baseline.perplexity, baseline.bitsPerByte));
    io.print(`${row("this model", perplexity, bitsPerByte)}   ${verdict}`);
  }
  const patience = session.recipe.eval.early_stopping_patience;
  const how = end.why === "done" ? "Done" : `Stopped after ${patience} ${patience === 1 ? "evaluation" : "evaluations"} without a better loss`;
  io.print(`\n${how} at step ${end.step}. Run folder: ${path}`);
  io.print(`Curves and samples: ${session.run.at("report.html")}`);
  io.print("\nWhat next:");
  // The run folder, so that the best checkpoint speaks and not the newest.
  const folder = word(path);
  io.print(`  ${commandName()} generate ${folder} --prompt ${word(session.recipe.sample.prompts[0] ?? "The ")}`);
  io.print(`  ${commandName()} eval ${folder} --tasks perplexity --data my.txt`);
  io.print(`  ${commandName()} pretrain ${folder} --resume   # after Ctrl-C or a crash; this run is done`);
}

/** A sample as an indented paragraph: the prompt, then what the model made of it. */
export function quote(step: number, prompt: string, text: string, columns: number): string {
  const words = visible(`${prompt}▸${text}`.replace(/\s*\n\s*/g, " ¶ ")).split(" ");
  const lines = [`  step ${step}  `];
  const width = Math.min(columns, 100) - 2;
  for (const word of words) {
    if ((lines.at(-1) as string).length + word.length + 1 > width) lines.push("    ");
    lines[lines.length - 1] += ` ${word}`;
  }
  return lines.join("\n");
}

/** The machine in a few words. */
export function machineLine(): string {
  const b = backend();
  return b.name === "native" ? `native kernels (${b.isa()}), ${b.threads()} threads` : "the plain TypeScript backend, which is slow";
}

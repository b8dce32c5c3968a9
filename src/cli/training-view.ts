/** What the training commands share: the sampler, the progress on the terminal, the report at the end. */
import { generate } from "../generate/index.ts";
import { modelCounts } from "../models/index.ts";
import { backend } from "../tensor/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import {
  createProgress,
  type EvaluationResult,
  frequentTokens,
  measurePeakFlops,
  type PretrainSession,
  type Recipe,
  type Sampler,
  type TrainingEvent,
  writeReport,
} from "../train/index.ts";
import type { Io } from "./command.ts";

/** Continues prompts as the recipe's `sample` says. The seed depends on the step, so a resumed run writes the same texts. */
export function samplerOf(tokenizer: Tokenizer, { sample, run }: Recipe): Sampler {
  return async (model, prompt, step) => {
    const training = model.training;
    model.eval();
    try {
      const options = {
        tokenizer,
        maxNewTokens: sample.max_new_tokens,
        temperature: sample.temperature,
        seed: run.seed + step,
        ...(sample.top_k === 0 ? {} : { topK: sample.top_k }),
      };
      return (await generate(model, prompt, options)).text;
    } finally {
      model.train(training);
    }
  };
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
    write: (text) => io.write(text),
    live: stream.isTTY === true,
    columns: stream.columns ?? 80,
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
  const frequent = await frequentTokens(data.train, data.tokenizer);
  const report = () => writeReport(session.run, session.manifest, { frequent });
  try {
    for await (const event of session.train()) {
      progress.show(event);
      if (event.type === "sample") {
        progress.clear();
        io.print(quote(event.sample.step, event.sample.prompt, event.sample.text, stream.columns ?? 80));
        outcome.samples.push(event.sample);
      } else if (event.type === "evaluation") outcome.validation = { step: event.step, ...event.result };
      else if (event.type === "checkpoint") {
        outcome.checkpoint = event.path;
        await report();
      } else if (event.type === "end") outcome.end = event;
    }
    await report();
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

/** A sample as an indented paragraph: the prompt, then what the model made of it. */
export function quote(step: number, prompt: string, text: string, columns: number): string {
  const words = `${prompt}▸${text}`.replace(/\s*\n\s*/g, " ¶ ").split(" ");
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

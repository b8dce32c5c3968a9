/** What `groundup eval` can measure, by name. A task is one entry here. */
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { type PerplexityOptions, perplexity } from "./perplexity.ts";

/** What a task is given. */
export interface TaskInput {
  model: CausalLM;
  tokenizer: Tokenizer;
  /** The documents of `--data`, one by one. */
  documents: readonly string[] | AsyncIterable<string>;
  options: PerplexityOptions;
}

/** An evaluation that `groundup eval --tasks` can name. */
export interface Task {
  readonly name: string;
  readonly about: string;
  /** Numbers by name. */
  run(input: TaskInput): Promise<Record<string, number>>;
}

/** Every evaluation there is. */
export const tasks: readonly Task[] = [
  {
    name: "perplexity",
    about: "how well the model predicts a text: nll, perplexity, bits per byte",
    run: async ({ model, tokenizer, documents, options }) => ({ ...(await perplexity(model, tokenizer, documents, options)) }),
  },
];

/** Tasks by their names. @throws ConfigError that names every unknown one */
export function tasksNamed(names: readonly string[]): Task[] {
  const known = tasks.map((t) => t.name);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0 || names.length === 0) {
    const got = unknown.map((n) => `"${n}"`).join(", ") || "none";
    throw new ConfigError(
      `eval: unknown tasks, expected some of ${known.join(", ")}, got ${got}.${unknown.map((n) => didYouMean(n, known)).join("")} Correct --tasks.`,
    );
  }
  return [...new Set(names)].map((name) => tasks[known.indexOf(name)]);
}

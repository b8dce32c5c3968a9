/** A recipe's sample prompts, for samplers that continue them with `generate`: the first sample is due before the first step, and would end the run. */
import { ConfigError, DataError } from "../errors.ts";
import { endIds } from "../tokenizers/end-ids.ts";
import { type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { contextLength, type Recipe } from "./recipe.ts";

/**
 * Called where such a sampler is made, so that samplers of another kind may take other prompts.
 * @throws ConfigError that names every prompt which can't be continued
 */
export function checkPrompts(recipe: Recipe, tokenizer: Tokenizer): void {
  const { sample } = recipe;
  if (sample.sample_steps === null) return;
  const context = contextLength(recipe, tokenizer.vocabSize);
  const problems = sample.prompts.flatMap((prompt, i) => {
    const problem = problemOf(prompt, tokenizer, context);
    return problem === null ? [] : [`sample.prompts[${i}] ${problem}`];
  });
  if (problems.length > 0) throw new ConfigError(`recipe: ${problems.join("\n  ")}`);
}

function problemOf(prompt: string, tokenizer: Tokenizer, context: number): string | null {
  const unknown = [...new Set(prompt)].filter((character) => tokensOf(character, tokenizer) === null);
  const tokens = unknown.length > 0 ? null : tokensOf(prompt, tokenizer);
  if (tokens === null) {
    const named = unknown.map((c) => `${JSON.stringify(c)} (U+${(c.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, "0")})`);
    return `has what the run's tokenizer lacks, expected characters of the training text, got ${named.join(", ")} in ${JSON.stringify(prompt)}. Leave it out of the prompt, or train on text that has it.`;
  }
  if (tokens === 0 && endIds(tokenizer).length === 0)
    return "is empty, expected a first word, as the tokenizer has no end-of-text token to begin after, got none. Write one, or set tokenizer.end_of_text=true.";
  if (tokens > context)
    return `is too long, expected at most ${context} tokens (the model's context), got ${tokens}. Shorten it, or raise training.context_length.`;
  return null;
}

/** How many tokens a text has; null where it can't be encoded. */
function tokensOf(text: string, tokenizer: Tokenizer): number | null {
  try {
    return tokenizer.encode(text, WHOLE).ids.length;
  } catch (error) {
    if (error instanceof DataError) return null;
    throw error;
  }
}

/** The tokens that end a text. */
import type { Tokenizer } from "./tokenizer.ts";

const END_OF_TEXT = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"];

/** The ids of the special tokens that end a text, under the names that published models give them. */
export function endIds(tokenizer: Tokenizer): number[] {
  return END_OF_TEXT.map((name) => tokenizer.specialTokens.get(name)).filter((id) => id !== undefined);
}

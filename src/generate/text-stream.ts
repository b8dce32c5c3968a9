/** Text of a growing sequence: never half a character, never a part of a stop string. */
import type { Tokenizer } from "../tokenizers/index.ts";

/** Ids in, text out as soon as it is certain. */
export interface TextStream {
  /** Text that this id makes certain; empty while a character is in parts or a stop string may be beginning. `stopped`: a stop string is complete, and nothing follows. */
  push(id: number): { text: string; stopped: boolean };
  /** The rest, when no more ids come (after `stopped` there is none). */
  end(): { text: string; stopped: boolean };
}

/** Special tokens give no text, nor do ids that the tokenizer does not have (models may have more rows than their tokenizer). */
export function createTextStream(tokenizer: Tokenizer, stop: readonly string[]): TextStream {
  const decoder = tokenizer.decodeStream({ skipSpecialTokens: true });
  let held = "";

  function accept(more: string, final: boolean): { text: string; stopped: boolean } {
    held += more;
    const places = stop.map((s) => held.indexOf(s)).filter((at) => at >= 0);
    if (places.length > 0) {
      const text = held.slice(0, Math.min(...places));
      held = "";
      return { text, stopped: true };
    }
    const cut = final ? held.length : held.length - beginningOfStop(held, stop);
    const text = held.slice(0, cut);
    held = held.slice(cut);
    return { text, stopped: false };
  }

  return {
    push: (id) => accept(id < tokenizer.vocabSize ? decoder.push(id) : "", false),
    end: () => accept(decoder.end(), true),
  };
}

/** The length of the longest end of `text` that begins a stop string. */
function beginningOfStop(text: string, stop: readonly string[]): number {
  let longest = 0;
  for (const s of stop) {
    for (let n = Math.min(s.length - 1, text.length); n > longest; n--) if (text.endsWith(s.slice(0, n))) longest = n;
  }
  return longest;
}

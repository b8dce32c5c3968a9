/** One conversation: its turns, its answers, and how much of the model's context they take. */
import { ConfigError } from "../errors.ts";
import { createEngine, type Done, type SamplingOptions, type SpeculationOptions } from "../generate/index.ts";
import type { CausalLM } from "../models/index.ts";
import type { StateDType } from "../tensor/index.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import type { Turn } from "./chat-file.ts";
import { type ChatForm, writeChat } from "./chat-model.ts";

export interface SessionOptions {
  readonly model: CausalLM;
  readonly tokenizer: Tokenizer;
  readonly form: ChatForm;
  readonly sampling: SamplingOptions;
  readonly stopIds: readonly number[];
  readonly stop: readonly string[];
  readonly maxNewTokens: number;
  readonly seed: number;
  /** Leave the oldest turns out of what the model sees when they no longer fit. */
  readonly contextShift: boolean;
  /** More variables of the template. */
  readonly variables: Readonly<Record<string, unknown>>;
  readonly stateDtype: StateDType;
  readonly speculation?: SpeculationOptions;
}

/** How an answer went. */
export interface Answer {
  readonly text: string;
  readonly done: Done | "stopped";
  readonly tokens: number;
  /** Tokens of the conversation before the answer, and how many of them were held from before. */
  readonly promptTokens: number;
  readonly reusedTokens: number;
  readonly firstTokenSeconds: number;
  readonly seconds: number;
  /** After the first; null for a single one. */
  readonly tokensPerSecond: number | null;
  /** Turns that were left out of what the model saw. */
  readonly droppedTurns: number;
}

export interface Session {
  readonly turns: readonly Turn[];
  readonly last: Answer | null;
  /** Tokens of the model's context, and how many the conversation took with the last answer. */
  readonly context: { readonly used: number; readonly size: number };
  system(text: string): void;
  clear(): void;
  replace(turns: readonly Turn[]): void;
  /** Takes the last answer back; false where there is none. */
  takeBack(): boolean;
  /** Adds a message and answers it; without one, answers the last. A message that can't be answered is not kept. */
  answer(message: string | null, signal: AbortSignal, show: (text: string) => void): Promise<Answer>;
  dispose(): void;
}

export function createSession(options: SessionOptions): Session {
  const { model, tokenizer, form, contextShift, stateDtype, speculation } = options;
  const size = model.dimensions.context;
  // Its prefix cache keeps what turns have in common.
  const engine = createEngine(model, { tokenizer, maxBatch: 1, stateDtype, ...(speculation === undefined ? {} : { speculation }) });
  let turns: Turn[] = [];
  let last: Answer | null = null;
  let retries = 0;

  const idsOf = (shown: readonly Turn[]): Int32Array => writeChat(tokenizer, form, shown, { addGenerationPrompt: true, variables: options.variables }).ids;

  /** What the model sees: all turns, or where they do not fit, and only if that was asked for, the system message and the newest. */
  function fitting(): { ids: Int32Array; dropped: number } {
    let ids = idsOf(turns);
    if (!contextShift) {
      if (ids.length <= size) return { ids, dropped: 0 };
      throw new ConfigError(
        `the conversation is longer than the model's context, expected at most ${size} tokens, got ${ids.length}. ` +
          "Begin anew with /clear, say it shorter, or start with --context-shift, which leaves the oldest turns out.",
      );
    }
    const head = turns[0]?.role === "system" ? 1 : 0;
    const room = size - Math.min(options.maxNewTokens, Math.floor(size / 4));
    let dropped = 0;
    // A question goes with its answer: templates want them to take turns.
    while (ids.length > room && head + dropped + 2 < turns.length) {
      dropped += 2;
      ids = idsOf([...turns.slice(0, head), ...turns.slice(head + dropped)]);
    }
    if (ids.length > size)
      throw new ConfigError(`the last message alone is longer than the model's context, expected at most ${size} tokens, got ${ids.length}. Say it shorter.`);
    return { ids, dropped };
  }

  async function run(signal: AbortSignal, show: (text: string) => void): Promise<Answer> {
    const { ids, dropped } = fitting();
    const started = performance.now();
    let [text, tokens, first, reusedTokens] = ["", 0, 0, 0];
    let done: Answer["done"] = "length";
    try {
      const { sampling, maxNewTokens, stopIds } = options;
      const stop = [...options.stop, ...form.stop];
      for await (const token of engine.submit(ids, { ...sampling, maxNewTokens, stopIds, stop, seed: options.seed + retries, signal })) {
        if (tokens++ === 0) first = performance.now() - started;
        // Some models begin an answer with a blank that belongs to no word.
        const shown = text === "" ? token.text.trimStart() : token.text;
        text += shown;
        show(shown);
        if (token.done !== null) [done, reusedTokens] = [token.done, token.usage?.cachedTokens ?? 0];
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      done = "stopped";
    }
    const seconds = (performance.now() - started) / 1000;
    return {
      text: text.trimEnd(),
      done,
      tokens,
      promptTokens: ids.length,
      reusedTokens,
      firstTokenSeconds: first / 1000,
      seconds,
      tokensPerSecond: tokens > 1 ? (tokens - 1) / (seconds - first / 1000) : null,
      droppedTurns: dropped,
    };
  }

  return {
    get turns() {
      return turns;
    },
    get last() {
      return last;
    },
    get context() {
      return { used: last === null ? 0 : Math.min(size, last.promptTokens + last.tokens), size };
    },
    system(text) {
      const rest = turns[0]?.role === "system" ? turns.slice(1) : turns;
      turns = text === "" ? rest : [{ role: "system", content: text }, ...rest];
    },
    clear() {
      turns = turns.filter(({ role }) => role === "system");
      last = null;
    },
    replace(loaded) {
      turns = [...loaded];
      last = null;
    },
    takeBack() {
      if (turns.at(-1)?.role === "assistant") turns = turns.slice(0, -1);
      const possible = turns.at(-1)?.role === "user";
      if (possible) retries++;
      return possible;
    },
    async answer(message, signal, show) {
      const before = turns;
      if (message !== null) turns = [...turns, { role: "user", content: message }];
      try {
        const answer = await run(signal, show);
        turns = [...turns, { role: "assistant", content: answer.text }];
        last = answer;
        return answer;
      } catch (error) {
        turns = before;
        throw error;
      }
    },
    dispose: () => engine.dispose(),
  };
}

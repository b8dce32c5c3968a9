/** `groundup generate`: one completion as it comes, or a file of prompts. */
import * as z from "zod";
import { beamSearch, contrastiveSearch, generateStream, type RequestUsage, type TokenEvent } from "../generate/index.ts";
import { STATE_DTYPES } from "../tensor/index.ts";
import { WHOLE } from "../tokenizers/index.ts";
import { answerEnds, hasTemplate, noTemplate } from "./chat-model.ts";
import { defineCommand } from "./command.ts";
import { UsageError } from "./failure.ts";
import { checkFiles, generateFile, lockAnswers } from "./generate-file.ts";
import { CHECKPOINT_FLAG, DRAFT_FLAG, DTYPE_FLAG, MODEL_ARGUMENT, OFFLINE_FLAG, openModel, STATE_DTYPE_FLAG, speculationOf } from "./open-model.ts";
import { drawingFlags, REQUEST_FLAGS, requestOptions } from "./request-flags.ts";

export const command = defineCommand({
  about:
    "Continues a text, or each line of a file of prompts. The same seed gives the same text. Ctrl-C stops and keeps what is there; a file is gone on with by the same command.",
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    prompt: z.string().optional().describe("the text to continue; \\n is not read as a line break").meta({ placeholder: "TEXT" }),
    message: z
      .string()
      .min(1)
      .optional()
      .describe("a message to answer, in the form of the model's chat template, in place of --prompt; small models answer better with --temperature 0.2")
      .meta({ placeholder: "TEXT" }),
    inputs: z
      .string()
      .optional()
      .describe(
        'prompts in place of --prompt: a line for each, {"prompt": "…"}, {"message": "…"} or {"messages": […]}, with any of these flags as keys; - is standard input',
      )
      .meta({ placeholder: "JSONL" }),
    out: z.string().optional().describe("with --inputs: where the answers go, a line for each").meta({ placeholder: "JSONL" }),
    order: z.enum(["completion", "input"]).default("completion").describe("with --inputs: in which order answers are written"),
    maxBatch: z.int().min(1).default(32).describe("with --inputs: prompts that are continued at the same time"),
    ...REQUEST_FLAGS.shape,
    numBeams: z.int().min(1).default(1).describe("search for the likeliest whole text, following so many at once, in place of drawing tokens; 1 is off"),
    lengthPenalty: z.number().default(1).describe("with --num-beams: above 0 favours longer texts, below 0 shorter ones"),
    penaltyAlpha: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe("contrastive search: of the --top-k (4) likeliest tokens the one most unlike the text so far, which counts so much; usual 0.6, 0 is off"),
    seed: z.int().min(0).default(0).describe("another seed gives another text; line n of --inputs has seed + n − 1"),
    draft: z.string().min(1).optional().describe(DRAFT_FLAG).meta({ placeholder: "MODEL" }),
    stream: z.boolean().default(true).describe("print the text when it is finished, not as it comes"),
    dtype: z.enum(["f32"]).optional().describe(DTYPE_FLAG),
    stateDtype: z.enum(STATE_DTYPES).default("f32").describe(STATE_DTYPE_FLAG),
    checkpoint: z.string().optional().describe(CHECKPOINT_FLAG).meta({ placeholder: "WHICH" }),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: [
    'groundup generate runs/quickstart --prompt "The whale"',
    'groundup generate ./SmolLM2-135M --prompt "def fib(n):" --temperature 0 --max-new-tokens 64',
    'groundup generate ./SmolLM2-135M-Instruct --message "What is a whale?" --temperature 0.2',
    'groundup generate runs/mine --checkpoint last --prompt "Once" --top-p 0.9 --seed 7 --json',
    "groundup generate model.gguf --inputs prompts.jsonl --out answers.jsonl",
  ],
  async run(
    [path],
    {
      prompt,
      message,
      inputs,
      out,
      order,
      maxBatch,
      seed,
      draft,
      stream,
      checkpoint,
      dtype,
      stateDtype,
      offline,
      numBeams,
      lengthPenalty,
      penaltyAlpha,
      ...flags
    },
    io,
  ) {
    const given = Object.entries({ "--prompt": prompt, "--message": message, "--inputs": inputs }).filter(([, value]) => value !== undefined);
    if (given.length !== 1)
      throw new UsageError(
        `groundup generate: expected one of --prompt, --message and --inputs, got ${given.length === 0 ? "none" : given.map(([flag]) => flag).join(" and ")}. Give --prompt TEXT, --message TEXT, or --inputs FILE with --out FILE.`,
      );
    if ((inputs === undefined) !== (out === undefined))
      throw new UsageError(
        `groundup generate: expected --inputs and --out together, got ${inputs === undefined ? "--out" : "--inputs"} alone. Say where prompts come from and where answers go.`,
      );
    const search = numBeams > 1 ? "--num-beams" : penaltyAlpha > 0 ? "--penalty-alpha" : null;
    if (search !== null) {
      const others = [
        ...(numBeams > 1 && penaltyAlpha > 0 ? ["--penalty-alpha"] : []),
        ...(inputs === undefined ? [] : ["--inputs"]),
        ...(draft === undefined ? [] : ["--draft"]),
        ...(seed === 0 ? [] : ["--seed"]),
        ...(stateDtype === "f32" ? [] : ["--state-dtype"]),
        ...drawingFlags(flags, search === "--num-beams" ? ["maxNewTokens"] : ["maxNewTokens", "topK"]),
      ];
      if (others.length > 0)
        throw new UsageError(
          `groundup generate: ${search} searches for one text and draws nothing, expected no other way to choose tokens beside it, got ${others.join(", ")}. Leave ${search} out, or ${others.length === 1 ? "the other" : "the others"}.`,
        );
    }
    const opening = { offline, signal: io.signal, ...(dtype === undefined ? {} : { dtype }) };
    if (inputs !== undefined && out !== undefined) {
      checkFiles(inputs, out);
      const free = lockAnswers(out);
      try {
        const model = await openModel(path, checkpoint, io.log, opening);
        const speculation = await speculationOf(draft, io.log, opening);
        return await generateFile(model, { inputs, out, order, maxBatch, seed, flags, speculation, stateDtype, dtype }, io);
      } finally {
        free();
      }
    }
    const opened = await openModel(path, checkpoint, io.log, opening);
    const speculation = await speculationOf(draft, io.log, opening);
    return message === undefined ? one(prompt as string, prompt as string) : answer(message);

    /** An answer is shown without the form that the message was given. */
    async function answer(content: string): Promise<object> {
      const { tokenizer, folder, stopIds } = opened;
      if (!hasTemplate(tokenizer))
        throw noTemplate(folder, "continue texts with --prompt, or talk with groundup chat, which takes a template (--template FILE) or none (--plain).");
      stopIds.push(...(await answerEnds(folder, tokenizer)));
      const chat = tokenizer.applyChatTemplate([{ role: "user", content }], { addGenerationPrompt: true });
      return one(chat.text, "", chat.ids);
    }

    async function one(prompt: string, shown: string, promptIds?: Int32Array): Promise<object> {
      const { signal } = io;
      const { model, tokenizer, folder, stopIds } = opened;
      if (search !== null) return searched(prompt, shown, promptIds);
      const live = stream && !io.json;
      if (shown.includes("\ufffd")) io.log("--prompt has bytes that are no UTF-8; they were read as U+FFFD");
      const promptTokens = promptIds?.length ?? tokenizer.count(prompt, WHOLE);
      const started = performance.now();
      let first = 0;
      const events: TokenEvent[] = [];
      let done = "length";
      let usage: RequestUsage | undefined;
      try {
        for await (const event of generateStream(model, promptIds ?? prompt, {
          ...requestOptions(flags, tokenizer),
          seed,
          tokenizer,
          stopIds,
          signal,
          speculation,
          stateDtype,
        })) {
          if (events.length === 0) first = performance.now() - started;
          // The prompt goes out with the first token: before, it may still be refused.
          if (live) io.write(events.length > 0 ? event.text : shown + event.text);
          events.push(event);
          if (event.done !== null) ({ done, usage } = { done: event.done, usage: event.usage });
        }
      } catch (error) {
        if (!signal.aborted) throw error;
        done = "stopped";
      }
      const text = events.map((e) => e.text).join("");
      const seconds = (performance.now() - started) / 1000;
      if (live) io.print(events.length > 0 ? "" : shown);
      else io.print(shown + text);
      const count = events.length;
      const decode = count > 1 ? (count - 1) / (seconds - first / 1000) : null;
      const why = ENDED[done];
      const guessed = usage !== undefined && usage.draftedTokens > 0 ? `; ${usage.acceptedTokens} of ${usage.draftedTokens} guesses were right` : "";
      io.log(
        `\n${count} ${count === 1 ? "token" : "tokens"} after a prompt of ${promptTokens}, ended ${why}; first token after ${first.toFixed(0)} ms${decode === null ? "" : `, then ${decode.toFixed(1)} tokens/s`}${guessed}`,
      );
      return {
        model: folder,
        prompt,
        text,
        ids: events.map((e) => e.id),
        logprobs: events.map((e) => e.logprob),
        ...(flags.topLogprobs > 0 ? { topLogprobs: events.map((e) => e.topLogprobs) } : {}),
        done,
        promptTokens,
        seed,
        ...(draft === undefined ? {} : { draftedTokens: usage?.draftedTokens ?? 0, acceptedTokens: usage?.acceptedTokens ?? 0 }),
        firstTokenSeconds: first / 1000,
        seconds,
        tokensPerSecond: decode,
      };
    }

    /** The text that a search finds is there as a whole or not at all. */
    async function searched(prompt: string, shown: string, promptIds?: Int32Array): Promise<object> {
      const { model, tokenizer, folder, stopIds } = opened;
      const { maxNewTokens, topK } = flags;
      const common = { tokenizer, maxNewTokens, stopIds, signal: io.signal };
      const started = performance.now();
      const found =
        search === "--num-beams"
          ? (await beamSearch(model, promptIds ?? prompt, { ...common, numBeams, lengthPenalty }))[0]
          : await contrastiveSearch(model, promptIds ?? prompt, { ...common, penaltyAlpha, ...(topK > 0 ? { topK } : {}) });
      const seconds = (performance.now() - started) / 1000;
      const { text, done, ...rest } = found;
      const ids = [...rest.ids];
      io.print(shown + text);
      io.log(`\n${ids.length} ${ids.length === 1 ? "token" : "tokens"}, ended ${ENDED[done]}; ${seconds.toFixed(1)} s`);
      const told = "score" in rest ? { score: rest.score } : { logprobs: [...rest.logprobs] };
      return { model: folder, prompt, text, ids, ...told, done, promptTokens: promptIds?.length ?? tokenizer.count(prompt, WHOLE), seconds };
    }
  },
});

const ENDED: Readonly<Record<string, string>> = {
  stop: "at the end of its turn (or at a stop text)",
  length: "at --max-new-tokens",
  context: "at the end of the model's context",
  stopped: "by Ctrl-C",
};

/** `groundup generate`: one completion, as it comes. */
import * as z from "zod";
import { generateStream } from "../generate/index.ts";
import { chatDefaults, chatForm } from "./chat-model.ts";
import { defineCommand } from "./command.ts";
import { UsageError } from "./failure.ts";
import { CHECKPOINT_FLAG, MODEL_ARGUMENT, OFFLINE_FLAG, openModel } from "./open-model.ts";
import { samplingFlags } from "./sampling-flags.ts";

export const command = defineCommand({
  about: "Continues a text. The same seed gives the same text. Ctrl-C stops and keeps what is there.",
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    prompt: z.string().optional().describe("the text to continue; \\n is not read as a line break").meta({ placeholder: "TEXT" }),
    message: z
      .string()
      .min(1)
      .optional()
      .describe("a message to answer, in the form of the model's chat template, in place of --prompt")
      .meta({ placeholder: "TEXT" }),
    maxNewTokens: z.int().min(0).default(128).describe("tokens to generate at most"),
    ...samplingFlags,
    seed: z.int().min(0).default(0).describe("another seed gives another text"),
    stop: z.array(z.string().min(1)).default([]).describe("end before this text").meta({ placeholder: "TEXT" }),
    stream: z.boolean().default(true).describe("print the text when it is finished, not as it comes"),
    checkpoint: z.string().optional().describe(CHECKPOINT_FLAG).meta({ placeholder: "WHICH" }),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: [
    'groundup generate runs/quickstart --prompt "The whale"',
    'groundup generate ./SmolLM2-135M --prompt "def fib(n):" --temperature 0 --max-new-tokens 64',
    'groundup generate ./SmolLM2-135M-Instruct --message "What is a whale?" --temperature 0.2',
    'groundup generate runs/mine --checkpoint last --prompt "Once" --top-p 0.9 --seed 7 --json',
  ],
  async run([path], { prompt: given, message, stream, checkpoint, offline, ...options }, io) {
    if ((given === undefined) === (message === undefined))
      throw new UsageError(
        `groundup generate: expected one of --prompt and --message, got ${given === undefined ? "neither. Add one." : "both. Leave one out."} ` +
          'Run "groundup generate --help" to see what it takes.',
      );
    const { signal } = io;
    const { model, tokenizer, folder, stopIds } = await openModel(path, checkpoint, io.log, { offline, signal });
    // An answer is shown without the form that the message was given.
    let [prompt, shown, promptIds] = [given ?? "", given ?? "", null as Int32Array | null];
    if (message !== undefined) {
      const form = await chatForm(folder, tokenizer, { plain: false });
      stopIds.push(...form.endIds, ...(await chatDefaults(folder)).stopIds);
      const chat = tokenizer.applyChatTemplate([{ role: "user", content: message }], { addGenerationPrompt: true });
      [prompt, shown, promptIds] = [chat.text, "", chat.ids];
    }
    const live = stream && !io.json;
    if (shown.includes("\ufffd")) io.log("--prompt has bytes that are no UTF-8; they were read as U+FFFD");
    const promptTokens = promptIds?.length ?? tokenizer.count(prompt);
    const started = performance.now();
    let [text, first] = ["", 0];
    const [ids, logprobs]: [number[], number[]] = [[], []];
    let done = "length";
    let begun = false;
    try {
      for await (const event of generateStream(model, promptIds ?? prompt, { ...options, tokenizer, stopIds, signal })) {
        if (ids.length === 0) first = performance.now() - started;
        ids.push(event.id);
        logprobs.push(event.logprob);
        text += event.text;
        // The prompt goes out with the first token: before, it may still be refused.
        if (live) io.write(begun ? event.text : shown + event.text);
        begun = true;
        if (event.done !== null) done = event.done;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      done = "stopped";
    }
    const seconds = (performance.now() - started) / 1000;
    if (live) io.print(begun ? "" : shown);
    else io.print(shown + text);
    const decode = ids.length > 1 ? (ids.length - 1) / (seconds - first / 1000) : null;
    const why = { stop: "at a stop text", length: "at --max-new-tokens", context: "at the end of the model's context", stopped: "by Ctrl-C" }[done];
    io.log(
      `\n${ids.length} ${ids.length === 1 ? "token" : "tokens"} after a prompt of ${promptTokens}, ended ${why}; first token after ${first.toFixed(0)} ms${decode === null ? "" : `, then ${decode.toFixed(1)} tokens/s`}`,
    );
    return {
      model: folder,
      prompt,
      text,
      ids,
      logprobs,
      done,
      promptTokens,
      seed: options.seed,
      firstTokenSeconds: first / 1000,
      seconds,
      tokensPerSecond: decode,
    };
  },
});

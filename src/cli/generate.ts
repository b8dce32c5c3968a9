/** `groundup generate`: one completion, as it comes. */
import * as z from "zod";
import { generateStream } from "../generate/index.ts";
import { defineCommand } from "./command.ts";
import { CHECKPOINT_FLAG, DTYPE_FLAG, MODEL_ARGUMENT, openModel } from "./open-model.ts";

export const command = defineCommand({
  about: "Continues a text. The same seed gives the same text. Ctrl-C stops and keeps what is there.",
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    prompt: z.string().describe("the text to continue; \\n is not read as a line break").meta({ placeholder: "TEXT" }),
    maxNewTokens: z.int().min(0).default(128).describe("tokens to generate at most"),
    temperature: z.number().min(0).default(1).describe("below 1 is surer, above 1 more varied, 0 always takes the likeliest token"),
    topK: z.int().min(0).default(0).describe("only the k likeliest tokens; 0 is off"),
    topP: z.number().gt(0).max(1).default(1).describe("only the likeliest tokens that reach this probability together; 1 is off"),
    minP: z.number().min(0).max(1).default(0).describe("only tokens at least this fraction as likely as the likeliest; 0 is off"),
    repetitionPenalty: z.number().gt(0).default(1).describe("above 1 makes tokens of the text so far less likely"),
    presencePenalty: z.number().default(0).describe("taken from the logit of every generated token"),
    frequencyPenalty: z.number().default(0).describe("taken from a token's logit for each time it was generated"),
    seed: z.int().min(0).default(0).describe("another seed gives another text"),
    stop: z.array(z.string().min(1)).default([]).describe("end before this text").meta({ placeholder: "TEXT" }),
    stream: z.boolean().default(true).describe("print the text when it is finished, not as it comes"),
    dtype: z.enum(["f32"]).optional().describe(DTYPE_FLAG),
    checkpoint: z.string().optional().describe(CHECKPOINT_FLAG).meta({ placeholder: "WHICH" }),
  }),
  examples: [
    'groundup generate runs/quickstart --prompt "The whale"',
    'groundup generate ./SmolLM2-135M --prompt "def fib(n):" --temperature 0 --max-new-tokens 64',
    'groundup generate runs/mine --checkpoint last --prompt "Once" --top-p 0.9 --seed 7 --json',
  ],
  async run([path], { prompt, stream, checkpoint, dtype, ...options }, io) {
    const { signal } = io;
    const { model, tokenizer, folder, stopIds } = await openModel(path, checkpoint, io.log, dtype === undefined ? {} : { dtype });
    const live = stream && !io.json;
    if (prompt.includes("\ufffd")) io.log("--prompt has bytes that are no UTF-8; they were read as U+FFFD");
    const promptTokens = tokenizer.count(prompt);
    const started = performance.now();
    let [text, first] = ["", 0];
    const [ids, logprobs]: [number[], number[]] = [[], []];
    let done = "length";
    let begun = false;
    try {
      for await (const event of generateStream(model, prompt, { ...options, tokenizer, stopIds, signal })) {
        if (ids.length === 0) first = performance.now() - started;
        ids.push(event.id);
        logprobs.push(event.logprob);
        text += event.text;
        // The prompt goes out with the first token: before, it may still be refused.
        if (live) io.write(begun ? event.text : prompt + event.text);
        begun = true;
        if (event.done !== null) done = event.done;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      done = "stopped";
    }
    const seconds = (performance.now() - started) / 1000;
    if (live) io.print(begun ? "" : prompt);
    else io.print(prompt + text);
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

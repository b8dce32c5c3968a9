/** `groundup eval`: measures a model. */
import * as z from "zod";
import { type DocumentMode, documentModeSchema, openDocuments } from "../data/index.ts";
import { tasks, tasksNamed } from "../eval/index.ts";
import { grouped } from "../quantities.ts";
import { defineCommand } from "./command.ts";
import { CHECKPOINT_FLAG, checkPath, DTYPE_FLAG, MODEL_ARGUMENT, OFFLINE_FLAG, openModel } from "./open-model.ts";

export const command = defineCommand({
  about: `Evaluates a model. Tasks: ${tasks.map(({ name, about }) => `${name} (${about})`).join("; ")}.`,
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    tasks: z.string().default("perplexity").describe("tasks by name, with commas between them").meta({ placeholder: "NAMES" }),
    data: z.string().describe("text file, JSONL, or a folder of them (also .gz, .zst)").meta({ placeholder: "FILE" }),
    document: documentModeSchema.meta({ placeholder: "WAY" }),
    field: z.string().default("text").describe("key of the text in .jsonl files"),
    context: z.int().min(2).optional().describe("tokens in a window (default: the model's context)"),
    stride: z.int().min(1).optional().describe("new tokens that each window scores (default: half of the window)"),
    dtype: z.enum(["f32"]).optional().describe(DTYPE_FLAG),
    checkpoint: z.string().optional().describe(CHECKPOINT_FLAG).meta({ placeholder: "WHICH" }),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: ["groundup eval runs/quickstart --data book.txt", "groundup eval ./gpt2 --tasks perplexity --data wiki.valid.txt.gz --stride 512 --json"],
  async run([path], { tasks: names, data, document, field, context, stride, checkpoint, dtype, offline }, io) {
    const { signal } = io;
    const wanted = tasksNamed(
      names
        .split(",")
        .map((n) => n.trim())
        .filter((n) => n !== ""),
    );
    if (!/[*?]/.test(data)) checkPath(data, "--data");
    const files = await openDocuments(data, { document: document as DocumentMode, field, onNote: (sentence) => io.log(sentence) });
    let count = 0;
    async function* documents(): AsyncGenerator<string> {
      count = 0;
      for await (const { text } of files) {
        signal.throwIfAborted();
        count++;
        yield text;
      }
    }
    const { model, tokenizer, folder } = await openModel(path, checkpoint, io.log, { offline, signal, ...(dtype === undefined ? {} : { dtype }) });
    const results: Record<string, Record<string, number>> = {};
    for (const task of wanted) {
      const line = progressLine(task.name);
      try {
        results[task.name] = await task.run({ model, tokenizer, documents: documents(), options: { context, stride, signal, progress: line?.show } });
      } finally {
        line?.clear();
      }
      io.print(`${task.name}`);
      for (const [name, value] of Object.entries(results[task.name]))
        io.print(`  ${name.padEnd(14)}${Number.isInteger(value) ? grouped(value) : value.toFixed(4)}`);
    }
    return { model: folder, data, documents: count, results };
  },
});

/** A line on the terminal that stays in place; nothing where stderr is a file, or in the first two seconds. */
function progressLine(task: string): { show(scored: number): void; clear(): void } | undefined {
  if (process.stderr.isTTY !== true) return undefined;
  const started = performance.now();
  let shown = 0;
  return {
    show(scored) {
      const now = performance.now();
      if (now - started < 2000 || now - shown < 200) return;
      shown = now;
      process.stderr.write(`\r\u001b[K${task}: ${grouped(scored)} tokens, ${((scored / (now - started)) * 1000).toFixed(0)} tokens/s`);
    },
    clear() {
      if (shown > 0) process.stderr.write("\r\u001b[K");
    },
  };
}

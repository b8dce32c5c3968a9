#!/usr/bin/env node
/** The `groundup` command. To add a command, write its file and one line in this table. */
import { type CommandTable, dispatch } from "./dispatch.ts";
import { EXIT } from "./failure.ts";
import { packageVersion } from "./package-version.ts";

const COMMANDS: CommandTable = [
  ["quickstart", "the main job: from a book to a model that speaks, in minutes", () => import("./quickstart.ts")],
  ["pretrain", "pre-training from text, as a recipe says", () => import("./pretrain.ts")],
  ["plan", "memory, arithmetic and time of a recipe before anything runs", () => import("./plan.ts")],
  ["generate", "continues a text", () => import("./generate.ts")],
  ["chat", "a conversation in the terminal", () => import("./chat.ts")],
  ["eval", "measures a model: perplexity, bits per byte", () => import("./eval.ts")],
  ["pull", "gets a model from the Hugging Face hub", () => import("./pull.ts")],
  ["models", "what is on this machine, and well-known models that could be", () => import("./models.ts")],
  ["tokenizer", "train, encode, decode, inspect", () => import("./tokenizer.ts")],
  ["inspect", "looks into a model, tokenizer, safetensors file, shards or run", () => import("./inspect.ts")],
  ["convert", "a model as GGUF or as a Hugging Face folder", () => import("./convert.ts")],
  ["quantize", "a model with fewer bits a weight, as GGUF", () => import("./quantize.ts")],
  ["doctor", "what this machine offers: backend and why, CPU features, threads, memory", () => import("./doctor.ts")],
];

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") {
    process.stderr.write(`standard output: can't be written, expected room for all of it, got ${error.message}. What was printed is not whole.\n`);
    process.exit(EXIT.failed);
  }
  // A closed pipe (`groundup … | head`) is an ordinary end, unless there is something to save first.
  if (!process.emit("SIGPIPE", "SIGPIPE")) process.exit(EXIT.done);
});
// Lines about the work may get lost; the work goes on.
process.stderr.on("error", () => {});

await dispatch(COMMANDS, process.argv.slice(2), packageVersion());

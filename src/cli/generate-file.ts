/** A file of prompts through the engine, and its answers into another file: a line for each, and none twice, however often the process is killed. */
import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import { closeSync, createReadStream, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, realpathSync, statSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import * as z from "zod";
import { ConfigError, FormatError, GroundupError, RunError } from "../errors.ts";
import { whatFailed } from "../formats/atomic-write.ts";
import { isJsonObject, type Json, parseConfig, parseJson, writeFileAtomic } from "../formats/index.ts";
import { readError } from "../formats/node-file.ts";
import { takeLock } from "../formats/process-lock.ts";
import { createEngine, type Engine, type Prompt, type SpeculationOptions, type TokenEvent } from "../generate/index.ts";
import type { CausalLM, OpenOptions } from "../models/index.ts";
import { duration, grouped } from "../quantities.ts";
import { backend, type StateDType } from "../tensor/index.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { answerEnds, hasTemplate } from "./chat-model.ts";
import type { Io } from "./command.ts";
import { checkFolderOf, checkPath, type OpenedModel } from "./open-model.ts";
import { LOGIT_BIAS, OWN_FLAGS, type RequestFlags, requestOptions } from "./request-flags.ts";

export interface FileOptions {
  inputs: string;
  out: string;
  order: "completion" | "input";
  maxBatch: number;
  seed: number;
  /** What a line does not say. */
  flags: RequestFlags;
  speculation: SpeculationOptions | undefined;
  stateDtype: StateDType;
  /** What weights were opened as, where that was said. */
  dtype: OpenOptions["dtype"];
}

/** One prompt of the file. */
interface Item {
  /** Counted from 1. */
  line: number;
  id: string | number | undefined;
  prompt: Prompt;
  flags: RequestFlags;
  seed: number;
  stopIds: readonly number[];
  /** Of all that the answer depends on but the model. */
  key: string;
}

/** What stands for standard input. */
const STDIN = "-";

/** Before the model is loaded. @throws ConfigError where the inputs are no file, or the answers have none or no folder to go to */
export function checkFiles(inputs: string, out: string): void {
  if (inputs !== STDIN) {
    checkPath(inputs, "--inputs");
    const stat = statSync(inputs);
    if (!stat.isFile()) {
      const [got, advice] = stat.isDirectory() ? ["a folder", "Name a file in it."] : ["a device or pipe", "Write --inputs - for standard input."];
      throw new ConfigError(`--inputs ${inputs}: no file, expected one with a line {"prompt": "…"} for each prompt, got ${got}. ${advice}`);
    }
  }
  if (out === STDIN)
    throw new ConfigError(
      "--out -: no file, expected one that the same command can go on with, got standard output. Name a file, and print it when it is done.",
    );
  checkFolderOf(out, "--out");
  if (existsSync(out) && !statSync(out).isFile())
    throw new ConfigError(
      `${out}: not a file, expected a path for the answers' file, got ${statSync(out).isDirectory() ? "a folder. Name a file in it." : "a device or pipe. Name a file."}`,
    );
}

/**
 * Keeps other processes from the file of answers; gives the function that lets them.
 * @throws RunError where another one writes it
 */
export function lockAnswers(out: string): () => void {
  // However the file is called, it has one lock.
  const file = existsSync(out) ? realpathSync(out) : join(realpathSync(dirname(resolve(out))), basename(out));
  const lock = join(dirname(file), `.${basename(file)}.lock`);
  const taken = takeLock(lock, out, "Write to another --out.");
  if (typeof taken === "function") return taken;
  throw new RunError(
    `${out}: another process writes answers there, expected nobody, got process ${taken.pid} on ${taken.host}. Wait for it or stop it, or write to another --out (if it is gone, remove ${lock}).`,
  );
}

// A file is checked as a whole before anything runs, so it is held as a whole.
const MOST_BYTES = 256 << 20;
const MOST_PROBLEMS = 20;
const MOST_NUMBERS = 5;

const LINE = z.strictObject({
  ...OWN_FLAGS,
  logitBias: LOGIT_BIAS,
  prompt: z.union([z.string(), z.array(z.int().min(0)).min(1)]).optional(),
  message: z.string().min(1).optional(),
  messages: z
    .array(z.looseObject({ role: z.string().min(1) }))
    .min(1)
    .optional(),
  id: z.union([z.string(), z.number()]).optional(),
  seed: z.int().min(0).optional(),
});

/**
 * @returns what `--json` prints
 * @throws ConfigError that lists every bad line before anything runs, RunError where answers are missing at the end
 */
export async function generateFile({ model, tokenizer, folder, stopIds }: OpenedModel, options: FileOptions, io: Io): Promise<object> {
  const { inputs, out, order, maxBatch, speculation, stateDtype } = options;
  const where = inputs === STDIN ? "standard input" : inputs;
  const items = readItems(
    await textOf(inputs, where),
    where,
    options,
    { stopIds, answerEnds: await answerEnds(folder, tokenizer) },
    tokenizer,
    model.dimensions,
  );
  const identity = identityOf(model, tokenizer);
  const have = readAnswers(out, items, where, identity, io.log);
  const open = items.filter(({ line }) => !have.has(line));
  if (have.size > 0) io.log(`${out}: ${grouped(have.size)} of ${grouped(items.length)} answers ${are(have.size)} there`);
  const engine = createEngine(model, { tokenizer, maxBatch, stateDtype, ...(speculation === undefined ? {} : { speculation }) });
  const started = performance.now();
  const seconds = (): number => (performance.now() - started) / 1000;
  // Each prompt in the batch listens.
  setMaxListeners(0, io.signal);
  const writer = createWriter(out, order, open, have.size);
  const failures: string[] = [];
  const progress = setInterval(() => io.log(progressLine(writer.written(), open.length, engine, seconds())), 2000);
  try {
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < open.length && !io.signal.aborted) {
        const item = open[next++];
        try {
          writer.write(item.line, await answer(engine, item, identity, tokenizer, io.signal));
        } catch (error) {
          if (io.signal.aborted) return;
          if (!(error instanceof GroundupError) || error instanceof RunError) throw error;
          failures.push(`line ${item.line}: ${error.message}`);
          writer.leaveOut(item.line);
        }
      }
    };
    // As many again wait, so that no place in the batch is empty for a moment.
    await Promise.all(Array.from({ length: Math.min(open.length, 2 * maxBatch) }, work));
    await engine.drain();
  } finally {
    clearInterval(progress);
    writer.close();
    engine.dispose();
  }
  const { promptTokens, cachedTokens, generatedTokens, draftedTokens, acceptedTokens, preemptions } = engine.usage();
  const total = seconds();
  io.log(progressLine(writer.written(), open.length, engine, total));
  const done = have.size + writer.written();
  if (io.signal.aborted)
    io.log(
      `Stopped: ${grouped(done)} of ${grouped(items.length)} answers ${are(done)} in ${out}. The same command${inputs === STDIN ? " with the same lines" : ""} makes the others.`,
    );
  else if (order === "input") await putInOrder(out);
  if (failures.length > 0)
    throw new RunError(
      `${out}: answers are missing, expected ${open.length}, got ${writer.written()}.\n  ${failures.slice(0, MOST_PROBLEMS).join("\n  ")}\nThe same command tries them again.`,
    );
  io.print(`${out}: ${grouped(done)}${io.signal.aborted ? ` of ${grouped(items.length)} answers` : done === 1 ? " answer" : " answers"}`);
  return {
    model: folder,
    inputs,
    out,
    prompts: items.length,
    answersBefore: have.size,
    answers: writer.written(),
    done: io.signal.aborted ? "stopped" : "finished",
    promptTokens,
    cachedTokens,
    generatedTokens,
    ...(speculation === undefined ? {} : { draftedTokens, acceptedTokens }),
    preemptions,
    seconds: total,
    tokensPerSecond: generatedTokens / total,
  };
}

const are = (count: number): string => (count === 1 ? "is" : "are");

function progressLine(written: number, of: number, engine: Engine, seconds: number): string {
  const { generatedTokens, cachedTokens } = engine.usage();
  const left = written > 0 && written < of ? `, about ${duration(((of - written) * seconds) / written)} left` : "";
  return `${grouped(written)} of ${grouped(of)} answers, ${grouped(generatedTokens)} tokens, ${(generatedTokens / seconds).toFixed(1)} tokens/s${cachedTokens > 0 ? `, ${grouped(cachedTokens)} prompt tokens from the cache` : ""}${left}`;
}

/** Continues one prompt; the answer's line. */
async function answer(engine: Engine, item: Item, model: string, tokenizer: Tokenizer, signal: AbortSignal): Promise<string> {
  const stream = engine.submit(item.prompt, { ...requestOptions(item.flags, tokenizer), seed: item.seed, stopIds: item.stopIds, signal });
  const events: TokenEvent[] = [];
  for await (const event of stream) events.push(event);
  const { line, id, seed, key } = item;
  const last = events.at(-1);
  return JSON.stringify({
    line,
    ...(id === undefined ? {} : { id }),
    text: events.map((e) => e.text).join(""),
    ids: events.map((e) => e.id),
    logprobs: events.map((e) => e.logprob),
    ...(item.flags.topLogprobs > 0 ? { topLogprobs: events.map((e) => e.topLogprobs) } : {}),
    done: last?.done ?? "length",
    promptTokens: last?.usage?.promptTokens ?? (typeof item.prompt === "string" ? tokenizer.count(item.prompt, WHOLE) : item.prompt.length),
    seed,
    key,
    model,
  });
}

/** @throws ConfigError that lists the bad lines with their numbers */
function readItems(
  content: string,
  inputs: string,
  { seed, flags, stateDtype, dtype }: FileOptions,
  { stopIds: textEnds, answerEnds }: { stopIds: readonly number[]; answerEnds: readonly number[] },
  tokenizer: Tokenizer,
  dimensions: { context: number; vocabulary: number },
): Item[] {
  const problems: Problem[] = [];
  const items: Item[] = [];
  for (const [i, text] of content.split("\n").entries()) {
    if (text.trim() === "") continue;
    const line = i + 1;
    try {
      const { prompt: written, message, messages, id, seed: own, ...rest } = parseConfig(LINE, parseLine(text, `line ${line}`), `line ${line}`);
      const prompt = promptOf({ prompt: written, message, messages }, `line ${line}`, tokenizer);
      const stopIds = written === undefined ? [...textEnds, ...answerEnds] : textEnds;
      const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
      const item = {
        line,
        id,
        prompt: typeof prompt === "string" ? prompt : Int32Array.from(prompt),
        flags: { ...flags, ...given } as RequestFlags,
        seed: own ?? seed + i,
        stopIds,
      };
      checkPrompt(item.prompt, `line ${line}`, tokenizer, dimensions);
      // The ids too: a text has others with another tokenizer.
      const ids = typeof prompt === "string" ? [...tokenizer.encode(prompt, WHOLE).ids] : prompt;
      items.push({ ...item, key: hashOf(JSON.stringify({ prompt, ids, flags: item.flags, seed: item.seed, stateDtype, dtype: dtype ?? null, stopIds })) });
    } catch (error) {
      if (!(error instanceof GroundupError)) throw error;
      problems.push(...problemsIn(error.message, line));
    }
  }
  if (problems.length > 0) {
    const bad = new Set(problems.map(({ line }) => line)).size;
    const told = toldOnce(problems);
    const more = told.length > MOST_PROBLEMS ? `\n  and ${told.length - MOST_PROBLEMS} more` : "";
    throw new ConfigError(
      `${inputs}: ${bad === 1 ? "a line" : `${grouped(bad)} lines`} cannot be continued, and nothing was run:\n  ${told.slice(0, MOST_PROBLEMS).join("\n  ")}${more}`,
    );
  }
  if (items.length === 0) throw new ConfigError(`${inputs}: no prompts, expected a line {"prompt": "…"} for each, got an empty file. Write some.`);
  return items;
}

/** What is wrong with a line: what an error says of it behind its number. */
interface Problem {
  readonly line: number;
  readonly text: string;
}

/** An error's message begins with the line; one of several problems has each in a line of its own. */
function problemsIn(message: string, line: number): Problem[] {
  const [first, ...others] = message.split("\n");
  const texts = others.length === 0 ? [first.slice(`line ${line}`.length)] : others.map((other) => `: ${other.trim()}`);
  return texts.map((text) => ({ line, text }));
}

/** What a line is to be continued from: its text or ids as they are, its messages as the template writes them. */
function promptOf({ prompt, message, messages }: Pick<z.output<typeof LINE>, "prompt" | "message" | "messages">, where: string, tokenizer: Tokenizer) {
  const given = Object.entries({ prompt, message, messages }).filter(([, value]) => value !== undefined);
  if (given.length === 0)
    throw new ConfigError(`${where}: prompt is missing, expected a text or a list of token ids, got nothing. Add it, or a message or messages.`);
  if (given.length > 1)
    throw new ConfigError(
      `${where}: expected one of prompt, message and messages, got ${given.map(([key]) => key).join(" and ")}. Leave out what is not meant.`,
    );
  if (prompt !== undefined) return prompt;
  if (!hasTemplate(tokenizer))
    throw new ConfigError(`${where}: this model has no chat template, expected a prompt, got ${given[0][0]}. Write "prompt" with the text to continue.`);
  try {
    return [...tokenizer.applyChatTemplate(messages ?? [{ role: "user", content: message }], { addGenerationPrompt: true }).ids];
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    throw new ConfigError(`${where}: ${error.message.replace(/\s*\n\s*/g, " ")}`, { cause: error });
  }
}

/** A mistake that many lines make is told once, as the first has it, with the numbers of the others. */
function toldOnce(problems: readonly Problem[]): string[] {
  const alike = new Map<string, [Problem, ...Problem[]]>();
  for (const problem of problems) {
    const mistake = problem.text.split(", got ", 1)[0];
    const others = alike.get(mistake);
    if (others === undefined) alike.set(mistake, [problem]);
    else others.push(problem);
  }
  return [...alike.values()].map(([first, ...others]) => {
    const numbers = others.slice(0, MOST_NUMBERS).map(({ line }) => line);
    const list = `${numbers.join(", ")}${others.length > MOST_NUMBERS ? ", …" : ""}`;
    return `line ${first.line}${others.length === 0 ? "" : ` (and ${grouped(others.length)} more: ${list})`}${first.text}`;
  });
}

function parseLine(text: string, where: string): Json {
  const json = parseJson(text, where, { oneLine: true });
  if (!isJsonObject(json)) throw new FormatError(`${where}: expected an object {"prompt": "…"}, got ${text.trim().slice(0, 40)}. Correct it.`);
  return json;
}

function checkPrompt(prompt: Prompt, where: string, tokenizer: Tokenizer, { context, vocabulary }: { context: number; vocabulary: number }): void {
  const length = typeof prompt === "string" ? tokenizer.count(prompt, WHOLE) : prompt.length;
  if (length > context)
    throw new ConfigError(`${where}: the prompt is too long, expected at most ${context} tokens (the model's context), got ${length}. Shorten it.`);
  if (typeof prompt !== "string") checkTokenIds(`${where}: prompt`, prompt, vocabulary, { vocabulary: "the model's vocabulary", advice: "Correct it." });
}

const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);

// A training step changes a matrix everywhere, so parts of a large one tell it from another's.
const WHOLE_BELOW = 1 << 16;
const PIECES = 64;
const PIECE = 1 << 10;

/**
 * What tells a model from others, wherever its files lie and however often they were copied: architecture, config, the tokens, and of every tensor its name, shape, dtype
 * and bytes (of a large one, pieces from its beginning to its end, as it lies in memory).
 */
function identityOf(model: CausalLM, tokenizer: Tokenizer): string {
  const hash = createHash("sha256").update(JSON.stringify([model.modelType, model.config]));
  hash.update(JSON.stringify(Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.idToToken(id) ?? null)));
  const piece = new Uint8Array(PIECE);
  for (const [name, tensor] of model.stateDict()) {
    hash.update(JSON.stringify([name, tensor.shape, tensor.dtype]));
    const { bytes, buffer } = tensor.storage;
    if (bytes <= WHOLE_BELOW) hash.update(tensor.bytesSync());
    else
      for (let i = 0; i < PIECES; i++) {
        backend().read(buffer, Math.floor((i * (bytes - PIECE)) / (PIECES - 1)), piece);
        hash.update(piece);
      }
  }
  return hash.digest("hex").slice(0, 16);
}

async function textOf(inputs: string, where: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const piece of inputs === STDIN ? process.stdin : createReadStream(inputs)) {
      size += piece.length;
      if (size > MOST_BYTES)
        throw new ConfigError(`${where}: too large, expected at most ${MOST_BYTES >> 20} MiB of prompts, got more. Cut it into several files.`);
      pieces.push(piece as Uint8Array);
    }
  } catch (cause) {
    throw cause instanceof GroundupError ? cause : readError(where, cause);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(pieces));
  } catch {
    throw new FormatError(`${where}: not UTF-8 text, expected JSON lines, got bytes that are none. Convert it.`);
  }
}

/** What a line of answers says it is; nothing where it is none. */
function answerIn(text: string): { readonly [key: string]: Json } {
  try {
    const json = parseJson(text, "answers");
    return isJsonObject(json) ? json : {};
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {};
  }
}

/**
 * Lines of the inputs that have an answer already. A last line without its end was being written when the process died: it is cut off.
 * @throws ConfigError where the file has answers to something else
 */
function readAnswers(out: string, items: readonly Item[], inputs: string, identity: string, log: (line: string) => void): Set<number> {
  const have = new Set<number>();
  if (!existsSync(out)) return have;
  const bytes = readFileSync(out);
  const whole = bytes.lastIndexOf(10) + 1;
  const keys = new Map(items.map(({ line, key }) => [line, key]));
  const lines = bytes.subarray(0, whole).toString("utf8").split("\n").slice(0, -1);
  for (const [i, text] of lines.entries()) {
    const { line, key, model } = answerIn(text);
    if (typeof line === "number" && typeof key === "string" && model !== identity)
      throw new ConfigError(
        `${out}: line ${i + 1} is no answer of this model, expected answers that it gave, got ${typeof model === "string" ? "another model's" : "one that does not say whose it is, as older versions of groundup wrote them"}. Write to another --out.`,
      );
    if (typeof line !== "number" || keys.get(line) !== key)
      throw new ConfigError(
        `${out}: line ${i + 1} is no answer to a line of ${inputs}, expected answers to these prompts with these flags, got one to others. Write to another --out.`,
      );
    have.add(line);
  }
  // Only now: what is no file of answers stays as it is.
  const rest = bytes.subarray(whole).toString("latin1");
  if (!rest.startsWith(BEGINNING) && !BEGINNING.startsWith(rest))
    throw new ConfigError(
      `${out}: no answers, expected lines of JSON that begin with ${BEGINNING}, got ${JSON.stringify(rest.slice(0, 40))}. Write to another --out.`,
    );
  if (rest !== "") {
    const file = openSync(out, "r+");
    try {
      ftruncateSync(file, whole);
    } finally {
      closeSync(file);
    }
    log(`${out}: the last line was cut off when it was written; its answer is made again`);
  }
  return have;
}

/** Answers in the order of their lines, where a run that was stopped, or a prompt that failed at first, left them in another. */
async function putInOrder(out: string): Promise<void> {
  const answers = readFileSync(out, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((text) => ({ text, line: Number(answerIn(text).line) }));
  if (answers.every(({ line }, i) => i === 0 || line > (answers[i - 1] as { line: number }).line)) return;
  answers.sort((a, b) => a.line - b.line);
  await writeFileAtomic(out, answers.map(({ text }) => `${text}\n`).join(""));
}

/** How every answer begins. */
const BEGINNING = '{"line":';

interface Writer {
  /** The answer to a line of the inputs. */
  write(line: number, text: string): void;
  /** This line will have none. */
  leaveOut(line: number): void;
  written(): number;
  /** Answers that wait for earlier ones are written all the same: no work is lost. @throws RunError where one could not be written, now or before */
  close(): void;
}

function createWriter(out: string, order: FileOptions["order"], open: readonly Item[], before: number): Writer {
  const file = openSync(out, "a");
  const waiting = new Map<number, string | null>();
  let [next, written] = [0, 0];
  let failure: RunError | undefined;

  /** What the disk refuses ends the writing: nothing may come behind a line of which a part is there. */
  function failed(cause: unknown, bytes: number): RunError {
    const stay = before + written;
    failure = new RunError(
      `${out}: an answer could not be written, ${whatFailed(cause)}, expected room for ${grouped(bytes)} bytes more, got none. ` +
        `The ${stay === 1 ? "answer" : `${grouped(stay)} answers`} before it ${stay === 1 ? "stays" : "stay"}. Make room, and the same command goes on with the others.`,
      { cause },
    );
    return failure;
  }

  function put(text: string): void {
    if (failure !== undefined) throw failure;
    // One call for a line: where the process dies, at most the last one is in parts.
    const bytes = Buffer.from(`${text}\n`);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    } catch (cause) {
      throw failed(cause, bytes.length);
    }
    written++;
  }

  function add(line: number, text: string | null): void {
    if (order === "completion") {
      if (text !== null) put(text);
      return;
    }
    waiting.set(line, text);
    for (; next < open.length && waiting.has(open[next].line); next++) {
      const ready = waiting.get(open[next].line) ?? null;
      waiting.delete(open[next].line);
      if (ready !== null) put(ready);
    }
  }

  return {
    write: (line, text) => add(line, text),
    leaveOut: (line) => add(line, null),
    written: () => written,
    close() {
      try {
        if (failure !== undefined) throw failure;
        for (const text of waiting.values()) if (text !== null) put(text);
        waiting.clear();
        fsyncSync(file);
      } catch (cause) {
        throw failure ?? failed(cause, 0);
      } finally {
        closeSync(file);
      }
    },
  };
}

/** `groundup chat` as a process, on a tiny model with random weights. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { GPT2, saveModel } from "../src/models/index.ts";
import { loadTokenizer, trainBpe } from "../src/tokenizers/index.ts";
import { ensureBuilt, ROOT } from "./built.ts";

let folder: string;
const at = (name: string) => join(folder, name);
const TEMPLATE =
  "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}" +
  "{% if messages[-1].content == 'refuse' %}{{ raise_exception('not this') }}{% endif %}";

beforeAll(async () => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), "groundup-chat-"));
  const tokenizer = trainBpe("How are you? I am well, and you? ".repeat(20), {
    vocabSize: 280,
    specialTokens: ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
  });
  const model = new GPT2({ vocab_size: 280, n_positions: 96, n_embd: 16, n_layer: 1, n_head: 2 });
  await saveModel(model, at("model"));
  await tokenizer.save(at("model"));
  writeFileSync(at("model/chat_template.jinja"), TEMPLATE);
  writeFileSync(at("model/generation_config.json"), JSON.stringify({ temperature: 0.5, do_sample: true, eos_token_id: [0] }));
  const roomy = new GPT2({ vocab_size: 280, n_positions: 256, n_embd: 16, n_layer: 1, n_head: 2 });
  await saveModel(roomy, at("roomy"));
  roomy.dispose();
  await tokenizer.save(at("roomy"));
  writeFileSync(at("roomy/chat_template.jinja"), TEMPLATE);
  await saveModel(model, at("silent"));
  await tokenizer.save(at("silent"));
  model.dispose();
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: string[]): { child: ChildProcess; ended: Promise<{ code: number | null; out: string; err: string }> } {
  const child = spawn(process.execPath, [join(ROOT, "dist", "cli", "main.js"), "chat", ...args], { stdio: "pipe" });
  let [out, err] = ["", ""];
  child.stdout?.on("data", (piece) => (out += piece));
  child.stderr?.on("data", (piece) => (err += piece));
  return { child, ended: new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err }))) };
}

async function chat(input: string, ...args: string[]) {
  const { child, ended } = start(...args);
  child.stdin?.end(input);
  return ended;
}

test("each line of a pipe is a message; what was read before is not read again", { timeout: 60_000 }, async () => {
  const { code, out } = await chat(`${"0123456789".repeat(7)}\nAnd you?\n/stats\n/retry\n`, at("roomy"), "--max-new-tokens", "5", "--json");
  expect(code).toBe(0);
  const { messages, answers, model } = JSON.parse(out);
  expect(model).toBe(at("roomy"));
  expect(messages.map((m: { role: string }) => m.role)).toEqual(["user", "assistant", "user", "assistant"]);
  expect(answers).toHaveLength(3);
  expect(answers[0].reusedTokens).toBe(0);
  // Whole pages of 64 tokens are kept.
  expect(answers[0].promptTokens).toBeGreaterThan(64);
  for (const { promptTokens, reusedTokens } of answers.slice(1)) expect(reusedTokens).toBe(64 * Math.floor((promptTokens - 1) / 64));
});

test("how tokens are drawn comes from flags, else from the model's files, else from groundup, and is told", { timeout: 60_000 }, async () => {
  const sampling = async (...args: string[]) => JSON.parse((await chat("How?\n", ...args, "--max-new-tokens", "1", "--json")).out).sampling;
  expect(await sampling(at("model"))).toEqual({ temperature: 0.5 });
  expect(await sampling(at("model"), "--temperature", "0.7", "--top-k", "5")).toEqual({ temperature: 0.7, topK: 5 });
  expect(await sampling(at("roomy"))).toEqual({ temperature: 0.2, topP: 0.9 });
  expect(await sampling(at("roomy"), "--top-p", "1")).toEqual({ temperature: 0.2, topP: 1 });
});

test("answers stand on stdout alone, the same for the same seed", { timeout: 60_000 }, async () => {
  const [first, again] = [
    await chat("How are you?\n", at("model"), "--max-new-tokens", "6"),
    await chat("How are you?\n", at("model"), "--max-new-tokens", "6"),
  ];
  expect(first.out).toBe(again.out);
  expect(first.out.endsWith("\n")).toBe(true);
  expect(first.code).toBe(0);
});

test("tokens are chosen as generate chooses them, and guessed ahead", { timeout: 60_000 }, async () => {
  const flags = [at("roomy"), "--max-new-tokens", "8", "--temperature", "0", "--json"];
  const text = async (...more: string[]) => JSON.parse((await chat("How are you?\n", ...flags, ...more)).out).answers[0].text;
  const greedy = await text();
  expect(await text("--draft", "prompt-lookup")).toBe(greedy);
  expect(await text("--state-dtype", "f16", "--draft", at("roomy"))).toBe(await text("--state-dtype", "f16"));
  expect(await text("--logit-bias", "65=1000")).toBe((await loadTokenizer(at("roomy"))).decode(Array(8).fill(65)));
  // Too dear to go on with a repetition of one.
  expect(await text("--logit-bias", "65=1000", "--dry-multiplier", "10000")).not.toBe(await text("--logit-bias", "65=1000"));
});

test("save, load, system, clear", { timeout: 60_000 }, async () => {
  const { code } = await chat(`/system Be brief.\nHow?\n/save ${at("saved.json")}\n`, at("model"), "--max-new-tokens", "3");
  expect(code).toBe(0);
  const saved = JSON.parse(readFileSync(at("saved.json"), "utf8"));
  expect(saved.messages.slice(0, 2)).toEqual([
    { role: "system", content: "Be brief." },
    { role: "user", content: "How?" },
  ]);
  const loaded = JSON.parse((await chat("/clear\n", at("model"), "--load", at("saved.json"), "--json")).out);
  expect(loaded.messages).toEqual([{ role: "system", content: "Be brief." }]);
});

test("a conversation that is not saved is not replaced without a word", { timeout: 60_000 }, async () => {
  const talk = async (input: string) => {
    const { code, out, err } = await chat(input, at("roomy"), "--max-new-tokens", "3", "--json");
    return { code, err, contents: code === 0 ? JSON.parse(out).messages.map(({ content }: { content: string }) => content) : [] };
  };
  await talk(`/system Old.\n/save ${at("old.json")}\n`);
  expect(await talk(`How?\n/load ${at("old.json")}\n`)).toMatchObject({
    code: 1,
    err: expect.stringContaining(
      `\n/load: this conversation is not saved, expected it to be before another takes its place, got 2 messages. Write /save FILE first, or /load! ${at("old.json")} to lose it.\n`,
    ),
  });
  expect(await talk(`How?\n/load! ${at("old.json")}\n`)).toMatchObject({ code: 0, contents: ["Old."] });
  const saved = await talk(`How?\n/save ${at("new.json")}\n/load ${at("old.json")}\n/load ${at("new.json")}\n`);
  expect(saved).toMatchObject({ code: 0, contents: ["How?", expect.any(String)] });
  expect(await talk(`/load ${at("new.json")}\nAnd?\n/load ${at("old.json")}\n`)).toMatchObject({ code: 1, err: expect.stringContaining("got 4 messages") });
  // That one means to forget it.
  expect(await talk(`/system Old.\nHow?\n/clear\n/load ${at("old.json")}\n`)).toMatchObject({ code: 0, contents: ["Old."] });
  // Instructions alone are soon written again.
  expect(await talk(`/system New.\n/load ${at("old.json")}\n`)).toMatchObject({ code: 0, contents: ["Old."] });
});

test("a context that is full is told, refused, or shifted where that was asked for", { timeout: 60_000 }, async () => {
  const lines = "a\n".repeat(30);
  const refused = await chat(lines, at("model"), "--max-new-tokens", "2");
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("the conversation is longer than the model's context, expected at most 96 tokens") });
  expect(refused.err).toContain("the context is nearly full");
  const shifted = await chat(lines, at("model"), "--max-new-tokens", "2", "--context-shift");
  expect(shifted).toMatchObject({ code: 0, err: expect.stringMatching(/the model no longer sees the oldest [0-9]+ messages/) });
});

test("with --json, what was said before an error stands beside it", { timeout: 60_000 }, async () => {
  for (const [bad, error] of [
    ["/retyr", /^\/retyr: no such command/],
    ["0123456789".repeat(20), /^the conversation is longer than the model's context/],
  ] as const) {
    const { code, out } = await chat(`How?\n${bad}\nAnd you?\n`, at("model"), "--max-new-tokens", "3", "--json");
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual({
      model: at("model"),
      sampling: { temperature: 0.5 },
      messages: [{ role: "user", content: "How?" }, expect.objectContaining({ role: "assistant" })],
      answers: [expect.objectContaining({ tokens: 3 })],
      error: { name: "ConfigError", message: expect.stringMatching(error) },
    });
  }
});

test("what goes wrong is said", { timeout: 60_000 }, async () => {
  expect(await chat("a\n", at("silent"))).toMatchObject({ code: 1, err: expect.stringContaining("this model has no chat template") });
  expect(await chat("a\n", at("model"), "--template", at("none.jinja"))).toMatchObject({
    code: 1,
    err: expect.stringMatching(/--template .*none\.jinja: not found, expected a readable file, got nothing at this path/),
  });
  expect(await chat("a\n", at("silent"), "--plain", "--max-new-tokens", "2")).toMatchObject({ code: 0 });
  expect(await chat("refuse\n", at("model"))).toMatchObject({ code: 1, err: expect.stringContaining("got: not this") });
  expect(await chat("/retyr\n", at("model"))).toMatchObject({ code: 1, err: expect.stringContaining('Did you mean "/retry"?') });
  expect(await chat("", at("model"), "--set", "x")).toMatchObject({ code: 1, err: expect.stringContaining("bad --set") });
});

test("a template's file is named in what is wrong with it", { timeout: 60_000 }, async () => {
  const error = async (content: string | Buffer, message = "a") => {
    writeFileSync(at("mine.jinja"), content);
    const { code, err } = await chat(`${message}\n`, at("model"), "--template", at("mine.jinja"), "--max-new-tokens", "2");
    return [code, err];
  };
  const where = `--template ${at("mine.jinja")}`;
  const nothing = "writes no messages, expected a Jinja template for conversations";
  expect(await error("")).toEqual([1, `${where}: ${nothing}, got an empty file. Name another file.\n`]);
  expect(await error(" \n\n")).toEqual([1, `${where}: ${nothing}, got a file of blanks alone. Name another file.\n`]);
  expect(await error(Buffer.from([0x7b, 0xff]))).toEqual([1, expect.stringContaining(`${where}: not text, expected UTF-8`)]);
  // Before anything is typed.
  expect(await error("{{ messages }", "")).toEqual([1, expect.stringContaining(`${where}, line 1: not a template, expected Jinja`)]);
  expect(await error("\n{{ raise_exception('not this') }}")).toEqual([1, expect.stringContaining(`${where}, line 2: the template refuses these messages`)]);
  expect(await error("{{ messages | nosuch }}")).toEqual([1, expect.stringContaining(`${where}, line 1: can't be rendered`)]);
  expect(await chat("a\n", at("model"), "--template", folder)).toMatchObject({ code: 1, err: expect.stringContaining(`--template ${folder}: not a file`) });
});

test.skipIf(process.platform === "win32")("Ctrl-C while nothing is answered ends it", { timeout: 60_000 }, async () => {
  const { child, ended } = start(at("model"), "--max-new-tokens", "2");
  child.stdin?.write("How?\n");
  await new Promise((resolve) => child.stdout?.once("data", resolve));
  await new Promise((resolve) => setTimeout(resolve, 300));
  child.kill("SIGINT");
  expect((await ended).code).toBe(130);
});

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { commandLine } from "../../tests/command-line.ts";
import { beamSearch, contrastiveSearch, generate } from "../generate/index.ts";
import { type CausalLM, fromPretrained, GPT2, saveModel } from "../models/index.ts";
import { trainBpe } from "../tokenizers/index.ts";

let folder: string;
let model: CausalLM;
const tokenizer = trainBpe("It was a bright cold day in April. ".repeat(20), { vocabSize: 280, specialTokens: ["<|endoftext|>"] });
const at = (...names: string[]) => join(folder, ...names);

const line = commandLine([["generate", "", () => import("./generate.ts")]]);
const groundup = (...argv: string[]) => line.groundup("generate", at("model"), ...argv);

interface Answer {
  line: number;
  id?: string;
  text: string;
  ids: number[];
  logprobs: number[];
  topLogprobs?: unknown[];
  seed: number;
  done: string;
  promptTokens: number;
}
const answersIn = (name: string): Answer[] =>
  readFileSync(at(name), "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Answer);
const byLine = (list: readonly Answer[]) => list.toSorted((a, b) => a.line - b.line);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "groundup-file-"));
  const made = new GPT2({ vocab_size: 280, n_positions: 64, n_embd: 16, n_layer: 1, n_head: 2, initializer_range: 0.4 });
  await saveModel(made, at("model"));
  await tokenizer.save(at("model"));
  made.dispose();
  model = await fromPretrained(at("model"));
  const lines = Array.from({ length: 20 }, (_, i) =>
    JSON.stringify({ prompt: "It was a bright ".slice(0, 3 + (i % 12)), id: `q${i}`, maxNewTokens: 3 + ((i * 7) % 20) }),
  );
  // A line with nothing, one with ids, one with a sampler of its own.
  lines.splice(4, 0, "", JSON.stringify({ prompt: [5, 6, 7], temperature: 0 }));
  lines.push(JSON.stringify({ prompt: "It", seed: 99, topK: 3, dryMultiplier: 0.8, topLogprobs: 2 }));
  writeFileSync(at("prompts.jsonl"), `${lines.join("\n")}\n`);
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true, force: true });
});
const BATCH = ["--max-batch", "4"];
const flags = (name: string): string[] => ["--inputs", at("prompts.jsonl"), "--out", at(name), "--seed", "7", "--top-p", "0.9", ...BATCH];

test("each line's answer is what that prompt gives alone, with the flags and what the line says for itself", async () => {
  const { out, err } = await groundup(...flags("a.jsonl"), "--json");
  const answers = byLine(answersIn("a.jsonl"));
  expect(answers.map((a) => a.line)).toEqual(Array.from({ length: 23 }, (_, i) => i + 1).filter((line) => line !== 5));
  const lines = readFileSync(at("prompts.jsonl"), "utf8").split("\n");
  for (const { line, id, text, ids, seed, promptTokens } of answers) {
    const { prompt, id: given, maxNewTokens, temperature, topK, dryMultiplier } = JSON.parse(lines[line - 1]);
    const own = {
      topP: 0.9,
      ...(maxNewTokens && { maxNewTokens }),
      ...(topK && { topK, dryMultiplier, dryBreakers: [] }),
      ...(temperature === 0 && { temperature }),
    };
    const alone = await generate(model, typeof prompt === "string" ? prompt : Int32Array.from(prompt), { ...own, tokenizer, seed });
    if (dryMultiplier === undefined) expect([...alone.ids]).toEqual(ids);
    expect(seed).toBe(line === 23 ? 99 : 7 + line - 1);
    expect([id, promptTokens]).toEqual([given, typeof prompt === "string" ? tokenizer.count(prompt) : 3]);
    if (dryMultiplier === undefined) expect(text).toBe(alone.text);
  }
  expect(answers[21].topLogprobs).toHaveLength(answers[21].ids.length);
  expect(JSON.parse(out)).toMatchObject({
    prompts: 22,
    answers: 22,
    answersBefore: 0,
    done: "finished",
    generatedTokens: answers.reduce((n, a) => n + a.ids.length, 0),
    promptTokens: answers.reduce((n, a) => n + a.promptTokens, 0),
  });
  expect(err).toMatch(/22 of 22 answers, .* tokens\/s/);
});

test("in the order of the inputs where asked for, and the same answers with guesses ahead", async () => {
  await groundup(...flags("b.jsonl"), "--order", "input");
  expect(answersIn("b.jsonl")).toEqual(byLine(answersIn("a.jsonl")));
  await groundup(...flags("c.jsonl"), "--draft", at("model"));
  expect(byLine(answersIn("c.jsonl"))).toEqual(byLine(answersIn("a.jsonl")));
  expect(answersIn("a.jsonl")).not.toEqual(byLine(answersIn("a.jsonl")));
});

test("many prompts at a time, without a warning of Node's", async () => {
  const warnings: unknown[] = [];
  const warn = (warning: unknown) => warnings.push(warning);
  process.on("warning", warn);
  await groundup(...flags("m.jsonl").slice(0, -BATCH.length), "--max-batch", "16");
  process.off("warning", warn);
  expect(warnings).toEqual([]);
  expect(byLine(answersIn("m.jsonl"))).toEqual(byLine(answersIn("a.jsonl")));
});

test("keys and values as float16 give log-probabilities that are rounded", async () => {
  await groundup(...flags("h.jsonl"), "--state-dtype", "f16", "--order", "input");
  const [exact, rounded] = [byLine(answersIn("a.jsonl")), answersIn("h.jsonl")].map((list) => list.map((a) => a.logprobs[0] as number));
  expect(rounded).not.toEqual(exact);
  expect(Math.max(...rounded.map((x, i) => Math.abs(x - exact[i])))).toBeLessThan(0.02);
});

test("wherever it was killed, the same command goes on: no answer is lost, and none made twice", { timeout: 30_000 }, async () => {
  const whole = readFileSync(at("a.jsonl"));
  const second = whole.indexOf(10) + 1;
  for (const cut of [0, 1, second - 1, second, second + 5, whole.length - 1]) {
    writeFileSync(at("d.jsonl"), whole.subarray(0, cut));
    const before = whole.subarray(0, cut).filter((byte) => byte === 10).length;
    const { out, err } = await groundup(...flags("d.jsonl"), "--json");
    expect(JSON.parse(out)).toMatchObject({ answersBefore: before, answers: 22 - before });
    expect(byLine(answersIn("d.jsonl"))).toEqual(byLine(answersIn("a.jsonl")));
    expect(err.includes("the last line was cut off")).toBe(cut > 0 && whole[cut - 1] !== 10);
  }
  const { out, err } = await groundup(...flags("d.jsonl"), "--json");
  expect(JSON.parse(out)).toMatchObject({ answersBefore: 22, answers: 0 });
  expect(err).toContain("22 of 22 answers are there");
});

test("Ctrl-C keeps what is there, and the same command goes on", async () => {
  const stop = setInterval(() => {
    if (!existsSync(at("e.jsonl")) || !readFileSync(at("e.jsonl"), "utf8").includes("\n")) return;
    clearInterval(stop);
    process.emit("SIGINT");
  });
  const first = await groundup(...flags("e.jsonl"), "--json", "--max-batch", "4");
  clearInterval(stop);
  const { answers, done } = JSON.parse(first.out);
  expect(first.code).toBe(130);
  expect([done, answers > 0 && answers < 22]).toEqual(["stopped", true]);
  await groundup(...flags("e.jsonl"));
  expect(byLine(answersIn("e.jsonl"))).toEqual(byLine(answersIn("a.jsonl")));
});

test("in the order of the inputs, Ctrl-C keeps answers that waited for earlier ones, and the whole file is in order", async () => {
  const short = Array.from({ length: 9 }, (_, i) => JSON.stringify({ prompt: "It was", maxNewTokens: i === 0 ? 50 : i === 8 ? 40 : 2 }));
  writeFileSync(at("uneven.jsonl"), `${short.join("\n")}\n`);
  const uneven = (name: string) => groundup("--inputs", at("uneven.jsonl"), "--out", at(name), "--order", "input", "--max-batch", "16");
  await uneven("straight.jsonl");
  const { forward } = GPT2.prototype;
  let passes = 0;
  const watched = vi.spyOn(GPT2.prototype, "forward").mockImplementation(function (this: GPT2, ...args) {
    if (++passes === 4) process.emit("SIGINT");
    return forward.apply(this, args);
  });
  const first = await uneven("f.jsonl");
  watched.mockRestore();
  const kept = answersIn("f.jsonl").map(({ line }) => line);
  expect([first.code, kept]).toEqual([130, [2, 3, 4, 5, 6, 7, 8]]);
  expect(first.err).toContain(`Stopped: 7 of 9 answers are in ${at("f.jsonl")}. The same command makes the others.\n`);
  expect(first.out).toBe(`${at("f.jsonl")}: 7 of 9 answers\n`);
  expect((await uneven("f.jsonl")).out).toBe(`${at("f.jsonl")}: 9 answers\n`);
  expect(readFileSync(at("f.jsonl"), "utf8")).toBe(readFileSync(at("straight.jsonl"), "utf8"));
});

test("prompts from standard input, gone on with by the same lines", async () => {
  const piped = async (text: string, name: string) => {
    const input = vi.spyOn(process, "stdin", "get").mockReturnValue(Readable.from([Buffer.from(text)]) as never);
    const printed = await groundup("--inputs", "-", ...flags(name).slice(2), "--order", "input");
    input.mockRestore();
    return printed;
  };
  const prompts = readFileSync(at("prompts.jsonl"), "utf8");
  expect((await piped(prompts, "g.jsonl")).out).toBe(`${at("g.jsonl")}: 22 answers\n`);
  const whole = readFileSync(at("g.jsonl"));
  expect(answersIn("g.jsonl")).toEqual(byLine(answersIn("a.jsonl")));
  writeFileSync(at("g.jsonl"), whole.subarray(0, 2000));
  expect((await piped(prompts, "g.jsonl")).code).toBeUndefined();
  expect(readFileSync(at("g.jsonl")).equals(whole)).toBe(true);
  expect((await piped('{"prompt": "other"}', "g.jsonl")).err).toMatch(/g\.jsonl: line 1 is no answer to a line of standard input, expected/);
  expect((await piped("\n", "none.jsonl")).err).toContain("standard input: no prompts, expected a line");
  expect((await groundup("--inputs", at("prompts.jsonl"), "--out", "-")).err).toContain("--out -: no file, expected one that the same command can go on with");
  expect((await groundup("--inputs", "/dev/null", "--out", at("none.jsonl"))).err).toContain("got a device or pipe. Write --inputs - for standard input.");
});

test("bad lines are named before anything runs", async () => {
  const bad = [
    '{"prompt": "fine"}',
    '{"promt": "x"}',
    "{",
    '{"prompt": "x", "topP": 7}',
    JSON.stringify({ prompt: "It was ".repeat(200) }),
    '{"prompt": [999]}',
    '"text"',
  ];
  writeFileSync(at("bad.jsonl"), bad.join("\n"));
  const { err, code } = await groundup("--inputs", at("bad.jsonl"), "--out", at("none.jsonl"));
  expect(code).toBe(1);
  expect(err).toMatch(/bad\.jsonl: 6 lines cannot be continued, and nothing was run:/);
  expect(err).toMatch(/ {2}line 2: promt is unknown, .*Did you mean "prompt"/);
  expect(err).toMatch(
    / {2}line 3, column 2: bad object, expected a key in "double quotes", got the end of the line\. Correct it\.\n {2}line 4: topP.*\n.*line 5: the prompt is too long, expected at most 64 tokens .*\n.*line 6: prompt: id 999.*\n.*line 7: expected an object/,
  );
  expect(existsSync(at("none.jsonl"))).toBe(false);
  const many = [...Array.from({ length: 30 }, (_, i) => `{"promt": "x${i}"}`), '{"id": 1}', '{"promp": "x", "topP": 7}'];
  writeFileSync(at("bad.jsonl"), many.join("\n"));
  const lines = (await groundup("--inputs", at("bad.jsonl"), "--out", at("none.jsonl"))).err.split("\n");
  expect(lines).toEqual([
    `${at("bad.jsonl")}: 32 lines cannot be continued, and nothing was run:`,
    expect.stringMatching(/^ {2}line 1 \(and 29 more: 2, 3, 4, 5, 6, …\): promt is unknown, .*got "x0"\. Did you mean "prompt"\?/),
    "  line 31: prompt is missing, expected a text or a list of token ids, got nothing. Add it, or a message or messages.",
    expect.stringMatching(/^ {2}line 32: topP is too large/),
    expect.stringMatching(/^ {2}line 32: promp is unknown/),
    "",
  ]);
  writeFileSync(at("bad.jsonl"), "It was\nIt was not\n");
  expect((await groundup("--inputs", at("bad.jsonl"), "--out", at("none.jsonl"))).err).toMatch(
    /bad\.jsonl: 2 lines cannot .*\n {2}line 1 \(and 1 more: 2\), column 1: not JSON, expected a value, got "It was"\. Correct it\.\n$/,
  );
  writeFileSync(at("empty.jsonl"), "\n\n");
  expect((await groundup("--inputs", at("empty.jsonl"), "--out", at("none.jsonl"))).err).toContain("no prompts, expected a line");
  writeFileSync(at("latin.jsonl"), Buffer.from([0x22, 0xe9, 0x22]));
  expect((await groundup("--inputs", at("latin.jsonl"), "--out", at("none.jsonl"))).err).toContain("not UTF-8 text");
});

test("answers to something else are left alone", async () => {
  const before = readFileSync(at("a.jsonl"));
  expect((await groundup(...flags("a.jsonl"), "--temperature", "0.5")).err).toMatch(/a\.jsonl: line 1 is no answer to a line of .*Write to another --out/);
  expect((await groundup(...flags("a.jsonl"), "--state-dtype", "f16")).err).toMatch(/line 1 is no answer/);
  expect((await groundup(...flags("a.jsonl"), "--dtype", "f32")).err).toMatch(/a\.jsonl: line 1 is no answer to a line of .*Write to another --out/);
  writeFileSync(at("notes.txt"), "my notes\nwithout an end");
  expect(await groundup(...flags("notes.txt"))).toMatchObject({ code: 1, err: expect.stringContaining("notes.txt: line 1 is no answer to a line of") });
  expect(await groundup(...flags("."))).toMatchObject({
    code: 1,
    err: expect.stringContaining("not a file, expected a path for the answers' file, got a folder"),
  });
  expect(readFileSync(at("notes.txt"), "utf8")).toBe("my notes\nwithout an end");
  writeFileSync(at("notes.txt"), "without an end");
  expect((await groundup(...flags("notes.txt"))).err).toContain('notes.txt: no answers, expected lines of JSON that begin with {"line":, got "without an end"');
  expect(readFileSync(at("notes.txt"), "utf8")).toBe("without an end");
  expect(readFileSync(at("a.jsonl")).equals(before)).toBe(true);
});

test("a model is told from others by what it is, not by where it lies", async () => {
  const answers = (model: string) => line.groundup("generate", model, "--inputs", at("prompts.jsonl"), "--out", at("whose.jsonl"), "--json");
  cpSync(at("model"), at("other"), { recursive: true });
  expect(JSON.parse((await answers(at("other"))).out)).toMatchObject({ answersBefore: 0, answers: 22 });
  // A copy is the same model.
  expect(JSON.parse((await answers(at("model"))).out)).toMatchObject({ answersBefore: 22, answers: 0 });
  const before = readFileSync(at("whose.jsonl"), "utf8");
  const refused = async (got: string) => {
    expect(await answers(at("other"))).toMatchObject({
      code: 1,
      err: `${at("whose.jsonl")}: line 1 is no answer of this model, expected answers that it gave, got ${got}. Write to another --out.\n`,
    });
  };
  // Another one of the same form, at the same path.
  const made = new GPT2({ vocab_size: 280, n_positions: 64, n_embd: 16, n_layer: 1, n_head: 2, initializer_range: 0.4 });
  rmSync(at("other"), { recursive: true });
  await saveModel(made, at("other"));
  made.dispose();
  await tokenizer.save(at("other"));
  await refused("another model's");
  // The same weights with other tokens.
  rmSync(at("other"), { recursive: true });
  cpSync(at("model"), at("other"), { recursive: true });
  await trainBpe("A cold bright April, and the clocks. ".repeat(20), { vocabSize: 270 }).save(at("other"));
  await refused("another model's");
  expect(readFileSync(at("whose.jsonl"), "utf8")).toBe(before);
  rmSync(at("other"), { recursive: true });
  cpSync(at("model"), at("other"), { recursive: true });
  writeFileSync(at("whose.jsonl"), before.replaceAll(/,"model":"[0-9a-f]+"/g, ""));
  await refused("one that does not say whose it is, as older versions of groundup wrote them");
});

test("a large matrix that was trained on makes another model", async () => {
  const made = new GPT2({ vocab_size: 280, n_positions: 64, n_embd: 128, n_layer: 1, n_head: 2 });
  await saveModel(made, at("wide"));
  made.dispose();
  await tokenizer.save(at("wide"));
  writeFileSync(at("one.jsonl"), '{"prompt": "It", "maxNewTokens": 2}\n');
  const run = () => line.groundup("generate", at("wide"), "--inputs", at("one.jsonl"), "--out", at("wide.jsonl"));
  expect((await run()).out).toBe(`${at("wide.jsonl")}: 1 answer\n`);
  expect((await run()).err).toContain("1 of 1 answers is there");
  const file = at("wide", "model.safetensors");
  const bytes = readFileSync(file);
  const header = Number(bytes.readBigUInt64LE(0));
  const tensors = JSON.parse(bytes.subarray(8, 8 + header).toString()) as Record<string, { data_offsets: [number, number] }>;
  const name = Object.keys(tensors).find((tensor) => tensor.endsWith("h.0.mlp.c_fc.weight")) as string;
  const [from, to] = tensors[name].data_offsets;
  expect(to - from).toBeGreaterThan(1 << 16);
  // Every weight a little.
  for (let i = 8 + header + from; i < 8 + header + to; i += 4) bytes[i] ^= 1;
  writeFileSync(file, bytes);
  expect((await run()).err).toContain("got another model's");
});

test("one process writes a file of answers at a time", async () => {
  const mine = { pid: process.pid, host: hostname(), started: null };
  const lock = at(".locked.jsonl.lock");
  writeFileSync(lock, JSON.stringify(mine));
  expect(await groundup(...flags("locked.jsonl"))).toMatchObject({
    code: 1,
    err: `${at("locked.jsonl")}: another process writes answers there, expected nobody, got process ${process.pid} on ${hostname()}. Wait for it or stop it, or write to another --out (if it is gone, remove ${lock}).\n`,
  });
  expect(existsSync(at("locked.jsonl"))).toBe(false);
  // By another name too.
  writeFileSync(at("locked.jsonl"), "");
  symlinkSync(at("locked.jsonl"), at("link.jsonl"));
  expect((await groundup(...flags("link.jsonl"))).err).toContain("another process writes answers there");
  // One whose process was killed is taken over, and goes with the run.
  const { pid } = spawnSync(process.execPath, ["--version"]);
  writeFileSync(lock, JSON.stringify({ ...mine, pid }));
  expect((await groundup(...flags("locked.jsonl"))).out).toBe(`${at("locked.jsonl")}: 22 answers\n`);
  expect(existsSync(lock)).toBe(false);
});

test("a prompt that fails leaves the others their answers, and is said", async () => {
  const logitBias = Array.from({ length: 280 }, (_, id) => `${id}=-Infinity`);
  writeFileSync(at("three.jsonl"), ['{"prompt": "It"}', JSON.stringify({ prompt: "was", logitBias }), '{"prompt": "a"}'].join("\n"));
  const { err, code } = await groundup("--inputs", at("three.jsonl"), "--out", at("three.out.jsonl"), "--max-new-tokens", "4");
  expect(code).toBe(1);
  expect(err).toMatch(/answers are missing, expected 3, got 2\.\n {2}line 2: sample: every token is forbidden/);
  expect(byLine(answersIn("three.out.jsonl")).map((a) => a.line)).toEqual([1, 3]);
});

test("a line may have messages, which the model's template writes", async () => {
  const talks = at("talks");
  cpSync(at("model"), talks, { recursive: true });
  writeFileSync(
    join(talks, "chat_template.jinja"),
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
  );
  const run = (out: string, ...lines: object[]) => {
    writeFileSync(at("talk.jsonl"), lines.map((one) => JSON.stringify(one)).join("\n"));
    return line.groundup("generate", talks, "--inputs", at("talk.jsonl"), "--out", at(out), "--max-new-tokens", "6", "--temperature", "0");
  };
  const turns = [
    { role: "system", content: "April" },
    { role: "user", content: "It was" },
  ];
  expect((await run("talk.out", { message: "It was" }, { messages: turns }, { prompt: "user: It was\nassistant:" })).out).toContain("3 answers");
  const [one, two, three] = byLine(answersIn("talk.out"));
  expect(one.ids).toEqual(three.ids);
  const alone = await line.json("generate", talks, "--message", "It was", "--max-new-tokens", "6", "--temperature", "0");
  expect([one.text, one.promptTokens]).toEqual([alone.text, alone.promptTokens]);
  const text = "system: April\nuser: It was\nassistant:";
  expect(two.promptTokens).toBe(tokenizer.count(text));
  expect(two.ids).toEqual([...(await generate(model, text, { tokenizer, maxNewTokens: 6, temperature: 0 })).ids]);

  const { err } = await run("none.out", { message: "a", prompt: "b" }, { messages: [] }, { messages: [{ content: "a" }] });
  expect(err).toContain("line 1: expected one of prompt, message and messages, got prompt and message. Leave out what is not meant.");
  expect(err).toMatch(/line 2: messages/);
  expect(err).toMatch(/line 3: messages\[0\]\.role|line 3: messages\.0\.role/);
  writeFileSync(at("talk.jsonl"), '{"message": "It was"}');
  expect((await groundup("--inputs", at("talk.jsonl"), "--out", at("none.out"))).err).toContain(
    'line 1: this model has no chat template, expected a prompt, got message. Write "prompt" with the text to continue.',
  );
});

test("a line's logitBias is a list as the flag's, or an object as the library's", async () => {
  writeFileSync(at("bias.jsonl"), ['{"prompt": "It", "logitBias": {"65": 1000}}', '{"prompt": "It", "logitBias": ["65=1000"]}'].join("\n"));
  await groundup("--inputs", at("bias.jsonl"), "--out", at("bias.out"), "--max-new-tokens", "3", "--temperature", "0");
  expect(byLine(answersIn("bias.out")).map(({ ids }) => ids)).toEqual([
    [65, 65, 65],
    [65, 65, 65],
  ]);
  writeFileSync(at("bias.jsonl"), '{"prompt": "It", "logitBias": {"a": 1}}');
  expect((await groundup("--inputs", at("bias.jsonl"), "--out", at("none.out"))).err).toMatch(/line 1: logitBias .*expected array or \{"ID": NUMBER\}, got/);
});

test("beam and contrastive search are flags", async () => {
  const [beam] = await beamSearch(model, "It was", { tokenizer, numBeams: 3, maxNewTokens: 8, lengthPenalty: 0.5 });
  const run = (...flags: string[]) => line.json("generate", at("model"), "--prompt", "It was", "--max-new-tokens", "8", ...flags);
  expect(await run("--num-beams", "3", "--length-penalty", "0.5")).toMatchObject({ text: beam.text, ids: [...beam.ids], score: beam.score, done: beam.done });
  const found = await contrastiveSearch(model, "It was", { tokenizer, topK: 5, penaltyAlpha: 0.4, maxNewTokens: 8 });
  expect(await run("--penalty-alpha", "0.4", "--top-k", "5")).toMatchObject({ text: found.text, ids: [...found.ids], done: found.done });
  expect((await groundup("--prompt", "It was", "--num-beams", "2", "--max-new-tokens", "4")).out).toMatch(/^It was/);
  for (const [flags, got] of [
    [["--num-beams", "2", "--top-k", "5"], "--top-k"],
    [["--penalty-alpha", "0.5", "--temperature", "0", "--seed", "1"], "--seed, --temperature"],
    [["--num-beams", "2", "--penalty-alpha", "0.5"], "--penalty-alpha"],
  ] as const)
    expect(await groundup("--prompt", "a", ...flags)).toMatchObject({ code: 2, err: expect.stringContaining(`beside it, got ${got}. Leave`) });
  await expect(generate(model, "a", { tokenizer, numBeams: 2 } as object)).rejects.toThrow(
    "generate: numBeams is an option of beamSearch, expected options of drawing tokens, got one of a search. Call beamSearch(model, prompt, { numBeams, … }).",
  );
});

test("which flags belong together is said", async () => {
  expect(await groundup()).toMatchObject({ code: 2, err: expect.stringContaining("one of --prompt, --message and --inputs, got none") });
  expect(await groundup("--prompt", "a", "--inputs", "b", "--out", "c")).toMatchObject({ code: 2, err: expect.stringContaining("got --prompt and --inputs") });
  expect(await groundup("--inputs", at("prompts.jsonl"))).toMatchObject({
    code: 2,
    err: expect.stringContaining("--inputs and --out together, got --inputs alone"),
  });
  expect((await groundup("--prompt", "a", "--logit-bias", "x=1")).err).toContain("--logit-bias");
});

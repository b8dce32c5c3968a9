import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { commandLine } from "../../tests/command-line.ts";
import { openFile, writeCheckpoint } from "../formats/index.ts";
import { GPT2, saveModel } from "../models/index.ts";
import { loadTokenizer, trainBpe } from "../tokenizers/index.ts";
import type { CommandTable } from "./dispatch.ts";
import { command as evaluate } from "./eval.ts";
import { flagOf } from "./flags.ts";
import { command as generate } from "./generate.ts";

let folder: string;
const table: CommandTable = [
  ["generate", "", () => import("./generate.ts")],
  ["eval", "", () => import("./eval.ts")],
  ["tokenizer", "", () => import("./tokenizer.ts")],
  ["inspect", "", () => import("./inspect.ts")],
  ["plan", "", () => import("./plan.ts")],
];

const { groundup, json } = commandLine(table);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "groundup-cli-"));
  writeFileSync(join(folder, "text.txt"), "It was a bright cold day in April, and the clocks were striking.\n".repeat(40));
  const tokenizer = trainBpe("It was a bright cold day in April. ".repeat(20), { vocabSize: 280, specialTokens: ["<|endoftext|>"] });
  const config = { vocab_size: 280, n_positions: 64, n_embd: 16, n_layer: 1, n_head: 2 };
  const run = join(folder, "runs", "mine");
  for (const step of [5, 10, 15]) {
    const checkpoint = join(run, "checkpoints", `step-0000${String(step).padStart(2, "0")}`);
    const model = new GPT2(config);
    await saveModel(model, checkpoint);
    await tokenizer.save(checkpoint);
    model.dispose();
  }
  writeFileSync(join(run, "config.yaml"), "run: {}\n");
  writeFileSync(join(run, "best.json"), JSON.stringify({ step: 10, loss: 1, checkpoint: "checkpoints/step-000010" }));
  writeFileSync(join(run, "metrics.jsonl"), '{"step":1,"loss":5}\n{"step":2,"loss":4.5}\n{"step":3,"lo');
  mkdirSync(join(folder, "empty"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]) => join(folder, ...names);

describe("generate", () => {
  test("streams prompt and continuation; the same seed gives the same text, in JSON too", async () => {
    const args = ["generate", at("runs/mine"), "--prompt", "It was", "--max-new-tokens", "12", "--seed", "3"];
    const first = await groundup(...args);
    const result = await json(...args);
    expect(first.out).toBe(`It was${result.text}\n`);
    expect(result).toMatchObject({ done: "length", prompt: "It was", seed: 3, model: at("runs/mine/checkpoints/step-000010") });
    expect(result.ids).toHaveLength(12);
    expect(first.err).toContain("12 tokens after a prompt of");
    expect((await groundup(...args, "--no-stream")).out).toBe(first.out);
    expect((await json(...args.slice(0, -1), "4")).ids).not.toEqual(result.ids);
  });

  test("best, last and single checkpoints of a run", async () => {
    const model = async (...more: string[]) => (await json("generate", at("runs/mine"), "--prompt", "a", "--max-new-tokens", "1", ...more)).model;
    expect(await model("--checkpoint", "last")).toBe(at("runs/mine/checkpoints/step-000015"));
    expect(await model("--checkpoint", "best")).toBe(at("runs/mine/checkpoints/step-000010"));
    expect(await model("--checkpoint", "5")).toBe(at("runs/mine/checkpoints/step-000005"));
    expect((await groundup("generate", at("runs/mine"), "--prompt", "a", "--checkpoint", "7")).err).toContain("expected best, last or one of 5, 10, 15");
  });

  test("a checkpoint that differs from its own list is refused", async () => {
    const run = at("runs/changed");
    const { path } = await writeCheckpoint(join(run, "checkpoints"), 5, async (folder) => {
      for (const name of ["config.json", "model.safetensors", "tokenizer.json"])
        await folder.write(name, readFileSync(at("runs/mine/checkpoints/step-000005", name)));
    });
    const whole = await json("generate", run, "--prompt", "a", "--max-new-tokens", "1");
    expect(whole.model).toBe(path);
    const weights = readFileSync(join(path, "model.safetensors"));
    weights[weights.length - 2] ^= 1;
    writeFileSync(join(path, "model.safetensors"), weights);
    const { err, code } = await groundup("generate", run, "--prompt", "a");
    expect(err).toMatch(
      /model\.safetensors: damaged, expected SHA-256 \w+, got another\. Use another checkpoint; or, if you changed it on purpose, delete files\.json/,
    );
    expect(code).toBe(1);
  });

  test("files of another kind are named, with what to take instead", async () => {
    const files: [name: string, content: string, got: string, advice: string][] = [
      ["picture.png", "\x89PNG\r\n\x1a\n", "got a PNG picture", "Name the folder."],
      ["pytorch_model.bin", "PK\x03\x04", "got a zip or PyTorch file", "Weights need the config.json that came with them: name the folder that has both\\."],
      ["weights.safetensors", "", "got one file of weights", "Weights need the config.json"],
      ["notes.txt", "", "got a file", "Name the folder."],
    ];
    for (const [name, content, got, advice] of files) {
      writeFileSync(at(name), content, "latin1");
      const { err, code } = await groundup("generate", at(name), "--prompt", "a");
      expect([err, code]).toEqual([expect.stringMatching(`^MODEL ${at(name)}: no model here, expected a folder .*${got}\\. ${advice}`), 1]);
      rmSync(at(name));
    }
    writeFileSync(at("empty", "small.gguf"), "GGUF\x03\0\0\0");
    writeFileSync(at("empty", "tiny.gguf"), "GGUF\x03\0\0\0");
    expect((await groundup("generate", at("empty"), "--prompt", "a")).err).toContain(
      `got small.gguf, tiny.gguf. Name the file itself: ${at("empty", "small.gguf")}.`,
    );
    rmSync(at("empty", "tiny.gguf"));
    expect((await groundup("generate", at("empty", "small.gguf"), "--prompt", "a")).err).toContain(
      "small.gguf: the file ends early, expected more than 8 bytes, got 8.",
    );
    rmSync(at("empty", "small.gguf"));
  });

  test("a message for a model without a template, and files that are not there, are refused with what to do", async () => {
    const { err } = await groundup("generate", at("runs/mine"), "--message", "hi");
    expect(err).toContain("this model has no chat template");
    expect(err).toContain("continue texts with --prompt, or talk with groundup chat");
    const file = async (inputs: string, out: string) => (await groundup("generate", at("runs/mine"), "--inputs", inputs, "--out", out)).err;
    expect(await file(at("none.jsonl"), at("o.jsonl"))).toContain("none.jsonl: not found, expected a file or folder");
    expect(await file(at("empty"), at("o.jsonl"))).toContain("empty: no file, expected one with a line");
    expect(await file(at("text.txt"), at("nowhere", "o.jsonl"))).toContain("o.jsonl: its folder does not exist, expected one to write into");
  });

  test("what is not there is named with its flag or argument", async () => {
    const none = at("nope");
    const run = at("runs/mine");
    const lines: [what: string, ...line: string[]][] = [
      ["MODEL", "generate", none, "--prompt", "a"],
      ["--draft", "generate", run, "--prompt", "a", "--draft", none],
      ["--inputs", "generate", run, "--inputs", none, "--out", at("o.jsonl")],
      ["MODEL", "eval", none, "--data", at("text.txt")],
      ["--data", "eval", run, "--data", none],
      ["TOKENIZER", "tokenizer", "encode", none, "--text", "a"],
      ["TOKENIZER", "tokenizer", "decode", none, "1"],
      ["--file", "tokenizer", "encode", run, "--file", none],
      ["FILES", "tokenizer", "train", none, "--out", at("unmade")],
      ["PATH", "inspect", none],
    ];
    for (const [what, ...line] of lines)
      expect(await groundup(...line)).toMatchObject({ code: 1, err: expect.stringMatching(`^${what} ${none}: not found, expected a file or folder`) });
    expect((await groundup("generate", run, "--prompt", "a", "--draft", at("empty"))).err).toContain(`--draft ${at("empty")}: no model here`);
    expect((await groundup("tokenizer", "encode", none, "Hello")).err).toContain(
      `too many arguments, expected TOKENIZER, got "${none}" "Hello". Put words with spaces in quotes, and what is no TOKENIZER behind its flag, as in: groundup tokenizer encode gpt2/ --text "Call me Ishmael." --pieces`,
    );
  });

  test("a prompt that is refused is not shown first", async () => {
    const { out, err, code } = await groundup("generate", at("runs/mine"), "--prompt", "It was ".repeat(200));
    expect([out, code]).toEqual(["", 1]);
    expect(err).toMatch(/the prompt is too long, expected at most 64 tokens \(the model's context\), got \d+/);
  });

  test("wrong flags, paths and folders are explained", async () => {
    expect(await groundup("generate", at("runs/mine"), "--promt", "a")).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean "--prompt"?') });
    expect(await groundup("generate", at("runs/mien"), "--prompt", "a")).toMatchObject({
      code: 1,
      err: expect.stringContaining(`Did you mean "${at("runs/mine")}"?`),
    });
    expect((await groundup("generate", at("empty"), "--prompt", "a")).err).toContain("no model here");
    expect((await groundup("generate", at("runs/mine"), "--prompt", "a", "--top-p", "1.5")).err).toContain("--top-p");
    expect((await groundup("generate", at("runs/mine"), "--prompt", "a", "--stop", "")).err).toContain(
      '--stop is too short, expected at least 1 character, got "". Correct it.',
    );
    expect((await groundup("generate", at("runs/mine"), "--prompt", "It was ".repeat(200))).err).toContain("at most 64 tokens (the model's context)");
  });
});

test("eval gives one JSON object with the measures", async () => {
  const { results, documents } = await json("eval", at("runs/mine"), "--tasks", "perplexity", "--data", at("text.txt"), "--stride", "20");
  const { nll, perplexity, bitsPerByte, tokens, bytes } = results.perplexity;
  expect(documents).toBe(1);
  expect(perplexity).toBeCloseTo(Math.exp(nll), 6);
  expect(bitsPerByte).toBeCloseTo((nll * tokens) / bytes / Math.LN2, 6);
  expect((await groundup("eval", at("runs/mine"), "--data", at("text.text"))).err).toContain('Did you mean "');
  expect((await groundup("eval", at("runs/mine"), "--data", at("text.txt"), "--tasks", "perplexty")).err).toContain('Did you mean "perplexity"?');
});

test("docs/guides/generating.md names every flag of generate and eval and every key that --json gives", async () => {
  const guide = readFileSync(new URL("../../docs/guides/generating.md", import.meta.url), "utf8");
  const generated = await json("generate", at("runs/mine"), "--prompt", "a", "--max-new-tokens", "2");
  const measured = await json("eval", at("runs/mine"), "--data", at("text.txt"));
  const flags = [...Object.keys(generate.options.shape), ...Object.keys(evaluate.options.shape)].map((key) => (key === "stream" ? "--no-stream" : flagOf(key)));
  const keys = [generated, measured, measured.results, measured.results.perplexity].flatMap(Object.keys).filter((key) => key !== "results");
  expect([...flags, ...keys].filter((name) => !guide.includes(`\`${name}`) && !guide.includes(`${name}\``))).toEqual([]);
});

test("eval cuts text and reads JSONL as it is told", async () => {
  writeFileSync(at("lines.jsonl"), '{"body":"It was a bright day."}\n{"body":"The clocks were striking."}\n');
  const both = await json("eval", at("runs/mine"), "--data", at("lines.jsonl"), "--field", "body");
  expect(both).toMatchObject({ documents: 2, results: { perplexity: { words: 9 } } });
  expect((await groundup("eval", at("runs/mine"), "--data", at("lines.jsonl"))).err).toContain(
    'a string in "text", got the keys body. Name the key that holds',
  );
  expect(await json("eval", at("runs/mine"), "--data", at("text.txt"), "--document", "line")).toMatchObject({ documents: 40 });
});

test("tokenizer train, encode, decode, inspect", async () => {
  const trained = await json("tokenizer", "train", at("text.txt"), "--vocab-size", "290", "--out", at("tok"));
  expect(trained.vocabSize).toBe(290);
  const { ids } = await json("tokenizer", "encode", at("tok"), "--text", "the clocks");
  expect(ids).toEqual([...(await loadTokenizer(at("tok"))).encode("the clocks").ids]);
  expect((await groundup("tokenizer", "decode", at("tok"), ...ids.map(String))).out).toBe("the clocks\n");
  expect(await json("tokenizer", "encode", at("tok"), "--file", at("text.txt"), "--count")).toMatchObject({ tokens: expect.any(Number) });
  expect(await json("tokenizer", "inspect", at("tok"))).toMatchObject({ kind: "byte-level BPE", vocabSize: 290, specialTokens: { "<|endoftext|>": 0 } });
  expect(await groundup("tokenizer", "encode", at("tok"))).toMatchObject({ code: 2, err: expect.stringContaining("one of --text and --file, got neither") });
  expect((await groundup("tokenizer", "decode", at("tok"), "x1")).err).toContain("expected whole numbers");
  expect((await groundup("tokenizer", "decode", at("tok"), "999")).err).toContain("outside the vocabulary");
});

test("tokenizer train makes WordPiece and Unigram, inspect follows a text and compares", async () => {
  const train = (model: string, ...flags: string[]) =>
    json("tokenizer", "train", at("text.txt"), "--model", model, "--vocab-size", "80", "--out", at(model), ...flags);
  expect(await train("wordpiece")).toMatchObject({ model: "wordpiece", documents: 1 });
  expect(await train("unigram")).toMatchObject({ model: "unigram" });
  await groundup("tokenizer", "train", at("text.txt"), "--vocab-size", "290", "--out", at("tok"), "--overwrite");
  expect((await loadTokenizer(at("wordpiece"))).decode((await loadTokenizer(at("wordpiece"))).encode("The clocks").ids, { skipSpecialTokens: true })).toBe(
    "the clocks",
  );
  const { trace } = await json("tokenizer", "inspect", at("tok"), "--text", "the clocks");
  expect(trace.words.map(({ text }: { text: string }) => text)).toEqual(["the", " clocks"]);
  expect((await groundup("tokenizer", "inspect", at("tok"), "--text", "the")).out).toContain('"the"  t h e → ');
  const { compared, bytes } = await json("tokenizer", "inspect", at("tok"), at("wordpiece"), at("unigram"), "--file", at("text.txt"));
  expect(bytes).toBe(readFileSync(at("text.txt")).length);
  for (const { tokens, bytesPerToken } of compared) expect(bytesPerToken).toBeCloseTo(bytes / tokens, 10);
  expect(compared.map(({ kind }: { kind: string }) => kind)).toEqual(["byte-level BPE", "WordPiece", "Unigram"]);
  expect((await groundup("tokenizer", "inspect", at("tok"), at("wordpiece"), "--text", "It was")).out).toContain("It│ w│as");
  expect(await groundup("tokenizer", "inspect", at("tok"), at("unigram"))).toMatchObject({
    code: 2,
    err: expect.stringContaining("--text or --file to compare"),
  });
  expect(await groundup("tokenizer", "train", at("text.txt"), "--model", "unigram", "--pattern", "gpt2", "--out", at("no"))).toMatchObject({
    code: 2,
    err: expect.stringContaining("got --pattern, which is of bpe"),
  });
  expect((await groundup("tokenizer", "inspect", at("tok"), "--text", "x".repeat(1001))).err).toContain("expected at most 1000 characters, got 1001");
});

test("tokenizer train cuts text as eval does", async () => {
  const train = (...flags: string[]) => json("tokenizer", "train", at("text.txt"), "--vocab-size", "290", ...flags);
  expect(await train("--out", at("cut"))).toMatchObject({ documents: 1 });
  expect(await train("--out", at("cut-in-lines"), "--document", "line")).toMatchObject({ documents: 40 });
});

test("tokenizer train replaces no tokenizer unless told to, and says so before it trains", async () => {
  const train = (...flags: string[]) => groundup("tokenizer", "train", at("text.txt"), "--vocab-size", "270", "--out", at("model"), ...flags);
  mkdirSync(at("model"));
  writeFileSync(at("model/merges.txt"), "of a model");
  writeFileSync(at("model/tokenizer.json"), "of a model");
  const { out, err, code } = await train();
  expect([out, err, code]).toEqual([
    "",
    `${at("model")}: files of a tokenizer are there already, expected a folder without them, got tokenizer.json, merges.txt. Name another folder with --out, or add --overwrite to replace them.\n`,
    1,
  ]);
  expect(readFileSync(at("model/tokenizer.json"), "utf8")).toBe("of a model");
  expect((await train("--overwrite")).code).toBeUndefined();
  expect((await loadTokenizer(at("model"))).vocabSize).toBe(270);
});

test("a tokenizer that knows far fewer tokens than the model is remarked on, one that knows more is refused", async () => {
  const model = new GPT2({ vocab_size: 640, n_positions: 16, n_embd: 8, n_layer: 1, n_head: 1 });
  const error = async (vocabSize: number) => {
    await trainBpe(readFileSync(at("text.txt"), "utf8").repeat(2), { vocabSize }).save(at("mixed"));
    return groundup("generate", at("mixed"), "--prompt", "It", "--max-new-tokens", "0");
  };
  await saveModel(model, at("mixed"));
  model.dispose();
  const few = await error(260);
  expect(few.err).toContain(`${at("mixed")}: the tokenizer knows 260 of the model's 640 tokens, and more are missing than padding explains. `);
  expect(few.code).toBeUndefined();
  const small = new GPT2({ vocab_size: 259, n_positions: 16, n_embd: 8, n_layer: 1, n_head: 1 });
  await saveModel(small, at("mixed"));
  small.dispose();
  expect(await error(260)).toMatchObject({ code: 1, err: expect.stringContaining("model and tokenizer do not belong together") });
  expect((await groundup("generate", at("runs/mine"), "--prompt", "It", "--max-new-tokens", "0")).err).not.toContain("padding");
});

test("tokenizer encode reads compressed files and says what was no UTF-8; an empty --out is no folder", async () => {
  await groundup("tokenizer", "train", at("text.txt"), "--vocab-size", "290", "--out", at("tok"), "--overwrite");
  writeFileSync(at("packed.txt.gz"), gzipSync("the clocks"));
  writeFileSync(at("latin1.txt"), "It was a caf\xe9 in April, and the clocks were striking.", "latin1");
  const packed = await json("tokenizer", "encode", at("tok"), "--file", at("packed.txt.gz"));
  expect(packed).toEqual(await json("tokenizer", "encode", at("tok"), "--text", "the clocks"));
  const { err, code } = await groundup("tokenizer", "encode", at("tok"), "--file", at("latin1.txt"));
  expect([err, code]).toEqual([`${at("latin1.txt")}: 1 invalid UTF-8 sequence was replaced by U+FFFD.\n`, undefined]);
  expect((await groundup("generate", at("runs/mine"), "--prompt", "a\ufffd", "--max-new-tokens", "1")).err).toContain("--prompt has bytes that are no UTF-8");
  expect((await groundup("tokenizer", "train", at("text.txt"), "--out", "")).err).toContain('--out is too short, expected at least 1 character, got ""');
});

test("eval: lines of another shape, pipes and a task named twice", async () => {
  const error = async (content: string) => {
    writeFileSync(at("odd.jsonl"), content);
    return (await groundup("eval", at("runs/mine"), "--data", at("odd.jsonl"))).err;
  };
  expect(await error('{"text":5}\n')).toMatch(/line 1: no text, expected an object with a string in "text", got 5\. Name/);
  expect(await error("[1, 2]\n")).toMatch(/got \[1, 2\]\. Name/);
  expect(await error('{"txt":"a"}\n')).toMatch(/got the keys txt\. Did you mean "text"\?|got the keys txt\. Did you mean "txt"\?/);
  expect((await groundup("eval", at("runs/mine"), "--data", "/dev/null")).err).toContain("expected a readable file, got a device or pipe. Save what it gives");
  expect((await groundup("eval", at("runs/mine"), "--data", at("text.txt"), "--tasks", "perplexity,perplexity")).out.match(/perplexity\n/g)).toHaveLength(1);
  rmSync(at("odd.jsonl"));
});

test("a file that is no tokenizer is named as such, and a rank file of one's own takes --pattern", async () => {
  for (const command of [["inspect"], ["tokenizer", "inspect"], ["tokenizer", "encode", "--text", "a"]]) {
    const { err, code } = await groundup(...command, at("text.txt"));
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(/text\.txt: not a tokenizer file, expected tokenizer\.json, .*tiktoken ranks.*, got "It was a bright/),
    ]);
  }
  writeFileSync(at("other.json"), '{"name":"x","version":"1.0"}');
  expect((await groundup("inspect", at("other.json"))).err).toMatch(/other\.json: not a tokenizer file, expected an object with "model" and "added_tokens"/);
  writeFileSync(at("nothing.txt"), "");
  expect((await groundup("inspect", at("nothing.txt"))).err).toMatch(/nothing\.txt: an empty file, expected tokenizer\.json/);
  writeFileSync(at("mine.tiktoken"), Array.from({ length: 256 }, (_, i) => `${Buffer.from([i]).toString("base64")} ${i}\n`).join(""));
  expect((await groundup("tokenizer", "encode", at("mine.tiktoken"), "--text", "ab")).err).toContain("on the command line --pattern");
  expect((await groundup("tokenizer", "encode", at("mine.tiktoken"), "--text", "ab", "--pattern", "gpt2")).out).toBe("97 98\n");
  expect((await groundup("tokenizer", "decode", at("mine.tiktoken"), "97", "98", "--pattern", "gpt2")).out).toBe("ab\n");
});

test("inspect knows runs, models, weights and tokenizers", async () => {
  const run = await json("inspect", at("runs/mine"));
  expect(run).toMatchObject({ kind: "run", checkpoints: [5, 10, 15], last: { step: 2, loss: 4.5 } });
  expect(run.model.parameters.total).toBe(280 * 16 + 64 * 16 + 12 * 16 * 16 + 13 * 16 + 2 * 16);
  const weights = await json("inspect", at("runs/mine/checkpoints/step-000005/model.safetensors"), "--tensors");
  expect(weights).toMatchObject({ kind: "safetensors", values: run.model.parameters.total, dtypes: { F32: 16 } });
  expect(weights.list).toContainEqual({ name: "transformer.wte.weight", dtype: "F32", shape: [280, 16], bytes: 280 * 64 });
  expect((await groundup("inspect", at("runs/mine/checkpoints/step-000005"))).out).toContain("model      gpt2");
  const { models } = JSON.parse(readFileSync(new URL("../tokenizers/sentencepiece/sentencepiece.fixture.json", import.meta.url), "utf8"));
  mkdirSync(at("pieces"));
  writeFileSync(at("pieces/tokenizer.model"), Buffer.from(models[0].model, "base64"));
  for (const path of [at("pieces"), at("pieces/tokenizer.model")]) expect((await json("inspect", path)).model).toMatch(/^SentencePiece, /);
  expect((await groundup("inspect", at("empty"))).err).toContain("an empty folder");
  mkdirSync(at("config-alone"));
  writeFileSync(at("config-alone/config.json"), JSON.stringify({ model_type: "gpt2", n_embd: 8, n_layer: 1, n_head: 1 }));
  expect((await groundup("inspect", at("config-alone"))).out).toContain("\nopens      no: there are no weights\n");
  expect((await groundup("inspect", at("text.txd"))).err).toContain('Did you mean "');
});

test("links that lead nowhere or in a circle, and devices, are said to be that", async () => {
  const at = (name: string) => join(folder, name);
  symlinkSync(at("gone"), at("broken"));
  symlinkSync(at("circle"), at("circle"));
  expect((await groundup("generate", at("broken"), "--prompt", "a")).err).toContain(
    `${at("broken")}: not found, expected a file or folder, got a link to ${at("gone")}, which leads nowhere. Mend the link.`,
  );
  for (const [name, told] of [
    ["SmolLM9", 'goes by its id, "org/name": groundup models --search SmolLM9 shows those that are known.'],
    ["https://huggingface.co/org/name/tree/main", 'goes by its id: "org/name".'],
    ["hf.co/org/name.GGUF", 'goes by its id: "org/name.GGUF".'],
  ] as const) {
    expect((await groundup("generate", name, "--prompt", "a")).err).toContain(told);
    expect((await groundup("inspect", name)).err).toContain(told);
  }
  expect((await groundup("inspect", at("nothing.gguf"))).err).not.toContain("hub");
  for (const path of [at("text.txt/x"), at("circle/x"), at("x".repeat(300))]) {
    const lines = [
      ["generate", path, "--prompt", "a"],
      ["eval", at("runs/mine"), "--data", path],
      ["inspect", path],
      ["tokenizer", "inspect", path],
    ];
    for (const line of lines) expect((await groundup(...line)).err).toContain(`${path}: not found, expected a file or folder, got nothing at this path.`);
  }
  expect((await groundup("plan", "/dev/null")).err).toContain(
    "/dev/null: not a recipe or a run, expected a YAML file or a folder with config.yaml, got a device or pipe. ",
  );
  await expect(openFile(at("circle"))).rejects.toThrow(
    /circle: can't be read, expected a readable file, got links that lead in a circle \(ELOOP\)\. Mend the links\./,
  );
});

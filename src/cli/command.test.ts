import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { type CliCommand, defineCommand } from "./command.ts";
import { type CommandTable, dispatch } from "./dispatch.ts";
import { explain } from "./failure.ts";

let out = "";
let err = "";

beforeEach(() => {
  out = "";
  err = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += text;
    return true;
  });
});

const { isTTY, columns } = process.stdout;

afterEach(() => {
  Object.assign(process.stdout, { isTTY, columns });
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

const seen: { args: readonly string[]; options: object }[] = [];

const train = defineCommand({
  about: "Trains.",
  arguments: [{ name: "RECIPE", description: "a recipe file" }],
  options: z.object({
    maxSteps: z.int().min(1).default(100).describe("steps"),
    rate: z
      .union([z.literal("auto"), z.number()])
      .default("auto")
      .describe("learning rate"),
    out: z.string().optional().describe("run folder").meta({ placeholder: "DIR" }),
    set: z.array(z.string()).default([]).describe("override").meta({ placeholder: "key=value" }),
    kind: z.enum(["small", "large"]).default("small").describe("size"),
    cache: z.boolean().default(true).describe("keep no cache"),
    dryRun: z.boolean().default(false).describe("plan only"),
  }),
  examples: ["groundup train a.yaml"],
  run(args, options, io) {
    seen.push({ args, options });
    io.print("for people");
    return { steps: options.maxSteps };
  },
});

const throwing = (error: unknown): CliCommand =>
  defineCommand({
    about: "Fails.",
    options: z.object({}),
    examples: [],
    run() {
      throw error;
    },
  });

const table: CommandTable = [
  ["train", "trains", async () => ({ command: train })],
  [
    "say",
    "says",
    async () => ({
      command: defineCommand({
        about: "Says.",
        arguments: [{ name: "TEXT", description: "a text" }],
        options: z.object({}),
        examples: [],
        run([text], _options, io) {
          io.print(text);
          io.write(text);
          io.log(text);
          return { text };
        },
      }),
    }),
  ],
  [
    "long",
    "explains",
    async () => ({ command: defineCommand({ about: "Explains itself at length. ".repeat(9), options: z.object({}), examples: [], run: () => undefined }) }),
  ],
  ["tokenizer", "tokenizers", async () => ({ commands: [["encode", "encodes", async () => ({ command: train })]] })],
  [
    "export",
    "writes",
    async () => ({
      command: defineCommand({
        about: "Writes.",
        options: z.object({ out: z.string().describe("where to").meta({ placeholder: "FILE" }), kind: z.enum(["a", "b"]).describe("which") }),
        examples: ["groundup export --kind a --out x.gguf"],
        run: () => undefined,
      }),
    }),
  ],
  ["refuse", "fails", async () => ({ command: throwing(new ConfigError("recipe.yaml: bad")) })],
  ["break", "breaks", async () => ({ command: throwing(new TypeError("x is undefined")) })],
];

const run = (...argv: string[]) => dispatch(table, argv, "1.2.3");
const last = () => seen.at(-1) as { args: string[]; options: Record<string, unknown> };

describe("flags", () => {
  test("values take the schema's types, the rest its defaults", async () => {
    await run("train", "a.yaml", "--max-steps", "7", "--rate=0.5", "--no-cache", "--dry-run", "--set", "a=1", "--set", "b.c=x y", "--out", "runs/a");
    expect(last()).toEqual({
      args: ["a.yaml"],
      options: { maxSteps: 7, rate: 0.5, cache: false, dryRun: true, set: ["a=1", "b.c=x y"], kind: "small", out: "runs/a" },
    });
    expect(out).toBe("for people\n");
    expect(process.exitCode).toBeUndefined();
  });

  test("defaults", async () => {
    await run("train", "a.yaml");
    expect(last().options).toEqual({ maxSteps: 100, rate: "auto", cache: true, dryRun: false, set: [], kind: "small" });
  });

  test("words after -- are arguments", async () => {
    await run("train", "--", "--odd-name.yaml");
    expect(last().args).toEqual(["--odd-name.yaml"]);
  });

  test("--json prints one object on stdout and sends people's lines to stderr", async () => {
    await run("train", "a.yaml", "--json");
    expect(out).toBe('{"steps":100}\n');
    expect(err).toBe("for people\n");
  });

  test("all problems at once, with suggestions, as exit code 2", async () => {
    await run("train", "a.yaml", "--max-step", "7", "--kind", "smal", "--max-steps", "0", "--rate", "fast");
    expect(err).toContain("--max-step is unknown");
    expect(err).toContain('Did you mean "--max-steps"?');
    expect(err).toContain('--kind is not one of its values, expected "small", "large", got "smal". Did you mean "small"?');
    expect(err).toContain("--max-steps is too small, expected at least 1, got 0");
    expect(err).toContain("--rate");
    expect(err).toContain('Run "groundup train --help"');
    expect(process.exitCode).toBe(2);
  });

  test("a flag given twice, without its value, or with one where none belongs", async () => {
    const before = seen.length;
    await run("train", "a.yaml", "--out", "x", "--out", "y", "--no-cache=1", "--kind", "--dry-run");
    for (const problem of [
      '--out is given twice, expected once, got "x" and "y". Leave one out.',
      '--no-cache takes no value, expected it alone, got "1". Write --no-cache or --cache.',
      "--kind lacks its value, expected one behind it, got the flag --dry-run. Write --kind=--dry-run if that is the value.",
    ])
      expect(err).toContain(problem);
    expect([seen.length, process.exitCode]).toEqual([before, 2]);
    process.exitCode = undefined;
    // The same value twice contradicts nothing, and what follows = or -- is no flag.
    await run("train", "--out=--json", "--out=--json", "--set", "a=1", "--set", "a=2", "--", "--kind");
    expect(last()).toMatchObject({ args: ["--kind"], options: { out: "--json", set: ["a=1", "a=2"] } });
  });

  test("flags that are missing are told with what they take and a command line that has them", async () => {
    await run("export", "--wrong");
    expect(err).toBe(
      [
        "groundup export:",
        "  --out is missing, expected --out FILE (where to), got nothing. Add it, as in: groundup export --kind a --out x.gguf",
        "  --kind is missing, expected --kind a|b (which), got nothing. Add it, as in: groundup export --kind a --out x.gguf",
        "  --wrong is unknown, expected one of the 3 flags (--out, --kind, --json), got true. Correct or remove it.",
        'Run "groundup export --help" to see what it takes.',
        "",
      ].join("\n"),
    );
    expect(process.exitCode).toBe(2);
  });

  test("missing and superfluous arguments", async () => {
    await run("train");
    expect(err).toContain("RECIPE is missing, expected a recipe file.");
    err = "";
    await run("train", "a", "b");
    expect(err).toMatch(/too many arguments, expected RECIPE, got "a" "b"\. Put words with spaces in quotes, and what is no RECIPE behind its flag, as in: /);
    err = "";
    await run("train", "a", "--max-steps");
    expect(err).toContain("argument missing");
    expect(process.exitCode).toBe(2);
  });

  test("help shows flags, defaults, choices and examples, and runs nothing", async () => {
    const before = seen.length;
    await run("train", "--help");
    expect(seen.length).toBe(before);
    for (const part of [
      "Usage: groundup train [options] <RECIPE>",
      "--max-steps <n>",
      "steps (default: 100)",
      "--kind <small|large>",
      "--no-cache",
      "--out <DIR>",
      "--set <key=value>",
      "groundup train a.yaml",
    ]) {
      expect(out).toContain(part);
    }
  });
});

test("help is wrapped at 80 columns where the terminal reports none, and a list without items is no default", async () => {
  Object.assign(process.stdout, { isTTY: true, columns: 0 });
  await run("long", "--help");
  expect(Math.max(...out.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  await run("train", "--help");
  expect(out).toContain("override (may be repeated)");
  expect(out).not.toContain("[]");
});

describe("commands", () => {
  test("a table inside a table", async () => {
    await run("tokenizer", "encode", "x");
    expect(last().args).toEqual(["x"]);
    await run("tokenizer", "--help");
    expect(out).toContain("Usage: groundup tokenizer <command>");
    await run("tokenizer", "encod");
    expect(err).toContain('groundup tokenizer: unknown command, expected one of its commands, got "encod". Did you mean "encode"?');
  });

  test("overview and version", async () => {
    await run("--help");
    expect(out).toContain("train      trains");
    out = "";
    await run("--version");
    expect(out).toBe("1.2.3\n");
    out = "";
    await run("help", "train");
    expect(out).toContain("Usage: groundup train");
  });

  test("no command is wrong use, and shows the overview", async () => {
    await run();
    expect(out).toContain("Usage: groundup <command>");
    expect(process.exitCode).toBe(2);
  });
});

describe("what a person is shown", () => {
  const nasty = "a\u001b[31m\u0007\r\u007f\u009b\tb\nc";
  const tame = "a␛[31m␇␍␡\ufffd\tb\nc";
  const { isTTY } = process.stderr;
  afterEach(() => void Object.assign(process.stderr, { isTTY }));

  test("control characters are symbols on a terminal, and themselves in a pipe", async () => {
    await run("say", nasty);
    expect([out, err]).toEqual([`${nasty}\n${nasty}`, `${nasty}\n`]);
    [out, err] = ["", ""];
    Object.assign(process.stdout, { isTTY: true });
    await run("say", nasty);
    expect([out, err]).toEqual([`${tame}\n${tame}`, `${nasty}\n`]);
    [out, err] = ["", ""];
    Object.assign(process.stderr, { isTTY: true });
    await run("say", nasty, "--json");
    expect([JSON.parse(out), err]).toEqual([{ text: nasty }, `${tame}\n${tame}${tame}\n`]);
  });

  test("errors too", async () => {
    Object.assign(process.stderr, { isTTY: true });
    await run(nasty);
    expect(err).toContain(`got "${tame}".`);
  });
});

describe("errors", () => {
  test("expected errors print their message only", async () => {
    await run("refuse");
    expect(err).toBe("recipe.yaml: bad\n");
    expect(process.exitCode).toBe(1);
  });

  test("with --json the error is the object on stdout", async () => {
    await run("refuse", "--json");
    expect(JSON.parse(out)).toEqual({ error: { name: "ConfigError", message: "recipe.yaml: bad" } });
  });

  test("defects print their stack and ask for a report", async () => {
    await run("break");
    expect(err).toContain("TypeError: x is undefined\n    at ");
    expect(err).toContain("Please report it");
    expect(process.exitCode).toBe(1);
  });

  test("exit codes", () => {
    expect(explain(new DOMException("aborted", "AbortError")).exitCode).toBe(130);
    const missing = Object.assign(new Error("ENOENT: no such file or directory, open 'x'"), { code: "ENOENT", syscall: "open" });
    expect(explain(missing)).toEqual({ name: "SystemError", message: "ENOENT: no such file or directory, open 'x'", exitCode: 1 });
    expect(explain("text").message).toContain("text");
  });
});

/** What every command shares: its declaration, `--help`, `--json`, checked flags, Ctrl-C. */
import { CommanderError, Command as Parser } from "commander";
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { parseConfig } from "../formats/hf-config.ts";
import { columnsOf, shownOn } from "../shown-text.ts";
import { UsageError } from "./failure.ts";
import { addFlags, flagOf, flagSchema, missingFlags, misusedFlags, recipeKeys } from "./flags.ts";

/** A command's view of the terminal, where control characters in what it prints are shown as symbols. */
export interface Io {
  /** True with `--json`: stdout belongs to one JSON object, everything else goes to stderr. */
  readonly json: boolean;
  /** A line for people: on stdout, or on stderr with `--json`. */
  print(line?: string): void;
  /** Text for people as it comes, without a line break (streamed tokens). */
  write(text: string): void;
  /** A line about the work, always on stderr. */
  log(line: string): void;
  /**
   * Aborts at the first Ctrl-C (or SIGTERM, or when the terminal is closed), so that the command can save and stop; a second one stops at once. A command that
   * never reads `signal` is stopped by the first.
   */
  readonly signal: AbortSignal;
}

export interface Argument {
  /** As in the usage line, in capitals: `RECIPE`. */
  readonly name: string;
  readonly description: string;
  readonly optional?: boolean;
  /** Takes all that remain; only the last argument may. */
  readonly variadic?: boolean;
}

/** A command as data. Its flags are the keys of `options`: `maxNewTokens` is `--max-new-tokens`. */
export interface CliCommand<Options extends z.ZodObject = z.ZodObject> {
  /** What it does, in a few sentences, for `--help`. */
  readonly about: string;
  readonly arguments?: readonly Argument[];
  readonly options: Options;
  /** The schema of the recipe file that the command takes, listed in `--help`. Read it with `readRecipe`. */
  readonly recipe?: z.ZodType;
  /** It has work to lose: a closed pipe stops it as Ctrl-C does, so that it saves, and not at once. */
  readonly saves?: boolean;
  /** Whole command lines. */
  readonly examples: readonly string[];
  /** Returns what `--json` prints. */
  run(args: readonly string[], options: z.output<Options>, io: Io): Promise<object | undefined> | object | undefined;
}

/** Declares a command; only there to infer the types of `run` from `options`. */
export function defineCommand<Options extends z.ZodObject>(command: CliCommand<Options>): CliCommand {
  return command as unknown as CliCommand;
}

const COMMON = z.object({ json: z.boolean().default(false).describe("print one JSON object on stdout, everything else on stderr") });

/**
 * Parses `argv`, checks it and runs the command.
 *
 * @param name the whole name, `groundup tokenizer train`
 * @throws UsageError that lists every wrong flag and argument at once
 */
export async function runCommand(name: string, command: CliCommand, argv: readonly string[]): Promise<void> {
  const end = argv.indexOf("--");
  if (argv.slice(0, end < 0 ? argv.length : end).some((word) => word === "--help" || word === "-h")) {
    process.stdout.write(helpOf(name, command));
    return;
  }
  const schema = command.options.extend(COMMON.shape);
  const { args, options: flags } = parse(name, command, schema, argv);
  // A command sees its own options only, which it may pass on.
  const { json, ...options } = flags as { json: boolean };
  const io = terminal(json, command.saves === true);
  try {
    const result = await command.run(args, options, io);
    if (io.json) process.stdout.write(`${JSON.stringify(result ?? {})}\n`);
  } finally {
    io.close();
  }
  if (io.stopped()) process.exitCode = 130;
}

function parserOf(name: string, command: CliCommand, schema: z.ZodObject): Parser {
  const parser = new Parser(name).helpOption("-h, --help", "show this help").allowUnknownOption().allowExcessArguments();
  parser.exitOverride().configureOutput({ writeErr: () => {}, getOutHelpWidth: () => columnsOf(process.stdout) });
  for (const a of command.arguments ?? []) {
    const dots = a.variadic ? "..." : "";
    parser.argument(a.optional ? `[${a.name}${dots}]` : `<${a.name}${dots}>`, a.description);
  }
  addFlags(parser, schema);
  return parser;
}

function parse(name: string, command: CliCommand, schema: z.ZodObject, argv: readonly string[]) {
  const parser = parserOf(name, command, schema);
  const misused = misusedFlags(schema, argv);
  if (misused.length > 0) throw new UsageError(listed(name, misused));
  const problems: string[] = [];
  let operands: string[] = [];
  let unknown: string[] = [];
  try {
    ({ operands, unknown } = parser.parseOptions([...argv]));
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    throw new UsageError(`${name}: ${error.message.replace(/^error: /, "")}. ${seeHelp(name)}`);
  }
  const typed: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(parser.opts())) {
    if (value !== undefined) typed[flagOf(key)] = value;
  }
  unknown = unknown.filter((word) => word !== "--");
  for (const [i, word] of unknown.entries()) {
    if (!word.startsWith("-")) continue;
    const [flag, value] = word.split(/=(.*)/s);
    const next = unknown[i + 1];
    typed[flag] = value ?? (next === undefined || next.startsWith("-") ? true : next);
  }
  // Words after an unknown flag may be its value, so arguments are counted only where every flag is known.
  if (unknown.length === 0) problems.push(...argumentProblems(command, operands));

  const missing = missingFlags(schema, Object.keys(typed), command.examples);
  problems.push(...missing.map(({ problem }) => problem));
  try {
    parseConfig(flagSchema(schema), typed, name);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(
      ...error.message
        .split("\n")
        .slice(1)
        // A flag that may be repeated is spoken of as it is typed, not as a list's item.
        .map((line) =>
          line
            .trim()
            .replace(/^(--[\w-]+)\.\d+/, "$1")
            .replace(/ known keys( \(|,)/, " flags$1"),
        )
        .filter((line) => !missing.some(({ flag }) => line.startsWith(`${flag} is missing`))),
    );
  }
  if (problems.length > 0) throw new UsageError(listed(name, problems));
  // Once more with the keys of the schema itself, whose refinements may compare several of them.
  try {
    return { args: operands, options: parseConfig(schema, parser.opts(), name) as Record<string, unknown> };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(`${error.message}\n${seeHelp(name)}`);
  }
}

function argumentProblems({ arguments: wanted = [], examples }: CliCommand, got: readonly string[]): string[] {
  const problems = wanted
    .slice(got.length)
    .filter((a) => !a.optional)
    .map((a) => `${a.name} is missing, expected ${a.description}.`);
  if (got.length > wanted.length && !wanted.at(-1)?.variadic) {
    const names = wanted.map(({ name }) => name).join(" ");
    const example = examples.length === 0 ? "" : `, and what is no ${names || "argument"} behind its flag, as in: ${examples[0]}`;
    problems.push(
      `too many arguments, expected ${names || "none"}, got ${got.map((word) => JSON.stringify(word)).join(" ")}. Put words with spaces in quotes${example}${example === "" ? "." : ""}`,
    );
  }
  return problems;
}

const listed = (name: string, problems: readonly string[]) => `${[`${name}:`, ...problems].join(problems.length === 1 ? " " : "\n  ")}\n${seeHelp(name)}`;

const seeHelp = (name: string) => `Run "${name} --help" to see what it takes.`;

function helpOf(name: string, command: CliCommand): string {
  const parser = parserOf(name, command, command.options.extend(COMMON.shape));
  parser.description(command.about);
  const help = [parser.helpInformation().trimEnd()];
  if (command.recipe !== undefined) help.push("", "Recipe keys (set in the file, or with --set key=value):", ...recipeKeys(command.recipe));
  if (command.examples.length > 0) help.push("", "Examples:", ...command.examples.map((line) => `  ${line}`));
  return `${help.join("\n")}\n`;
}

function terminal(json: boolean, saves: boolean): Io & { stopped(): boolean; close(): void } {
  let controller: AbortController | undefined;
  const people = json ? process.stderr : process.stdout;
  const stop = () => {
    if (controller?.signal.aborted) process.exit(130);
    process.stderr.write("\nstopping; press Ctrl-C again to stop at once\n");
    controller?.abort();
  };
  const leave = () => controller?.abort();
  return {
    json,
    print: (line = "") => void people.write(shownOn(people, `${line}\n`)),
    write: (text) => void people.write(shownOn(people, text)),
    log: (line) => void process.stderr.write(shownOn(process.stderr, `${line}\n`)),
    get signal() {
      if (controller === undefined) {
        controller = new AbortController();
        process.on("SIGINT", stop).on("SIGTERM", stop).on("SIGHUP", leave);
        if (saves) process.on("SIGPIPE", leave);
      }
      return controller.signal;
    },
    stopped: () => controller?.signal.aborted ?? false,
    close: () => void process.off("SIGINT", stop).off("SIGTERM", stop).off("SIGHUP", leave).off("SIGPIPE", leave),
  };
}

/** From the command line to a command. Imports as little as it can, so that `groundup --help` answers at once. */
import { didYouMean } from "../did-you-mean.ts";
import { shownOn } from "../shown-text.ts";
import type { CliCommand } from "./command.ts";
import { EXIT, explain, UsageError } from "./failure.ts";

/** A command's module holds the command, or a table of its own: `groundup tokenizer train`. */
export type CommandModule = { readonly command: CliCommand } | { readonly commands: CommandTable };

/** One line for each command: name, summary, module. Modules are imported only when they run. */
export type CommandTable = readonly (readonly [name: string, summary: string, module: () => Promise<CommandModule>])[];

/** Runs a command line to its end. Never throws: sets the process's exit code and prints what went wrong. */
export async function dispatch(table: CommandTable, argv: readonly string[], version: string): Promise<void> {
  try {
    await choose("groundup", table, argv, version);
  } catch (error) {
    const failure = explain(error);
    process.stderr.write(shownOn(process.stderr, `${failure.message}\n`));
    if (argv.includes("--json")) process.stdout.write(`${JSON.stringify({ ...failure.result, error: { name: failure.name, message: failure.message } })}\n`);
    process.exitCode = failure.exitCode;
  }
}

async function choose(name: string, table: CommandTable, argv: readonly string[], version: string): Promise<void> {
  const [word, ...rest] = argv;
  if (word === undefined || word === "--help" || word === "-h") {
    process.stdout.write(overview(name, table, version));
    if (word === undefined) process.exitCode = EXIT.usage;
    return;
  }
  if (word === "help") return choose(name, table, [...rest, "--help"], version);
  if (name === "groundup" && (word === "--version" || word === "-V")) {
    process.stdout.write(`${version}\n`);
    return;
  }
  const found = table.find(([command]) => command === word);
  if (found === undefined) {
    const names = table.map(([command]) => command);
    const what = word.startsWith("-") ? "unknown flag, expected a command first" : "unknown command, expected one of its commands";
    throw new UsageError(`${name}: ${what}, got "${word}".${didYouMean(word, names)} Run "${name} --help" to see them all.`);
  }
  const module = await found[2]();
  if ("commands" in module) return choose(`${name} ${word}`, module.commands, rest, version);
  const { runCommand } = await import("./command.ts");
  await runCommand(`${name} ${word}`, module.command, rest);
}

function overview(name: string, table: CommandTable, version: string): string {
  const width = Math.max(...table.map(([command]) => command.length));
  return [
    name === "groundup" ? `groundup ${version}: a language model's whole life, from text to talk` : name,
    "",
    `Usage: ${name} <command> [arguments] [--flags]`,
    "",
    ...table.map(([command, summary]) => `  ${command.padEnd(width)}  ${summary}`),
    "",
    `Run "${name} <command> --help" for its flags and examples.`,
    "",
  ].join("\n");
}

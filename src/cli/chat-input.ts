/** What a person types in a conversation: messages of one or many lines, and commands. */
import { didYouMean } from "../did-you-mean.ts";

/** The commands, with what they take and do. */
export const COMMANDS: readonly (readonly [name: string, argument: string | null, does: string])[] = [
  ["system", "TEXT", "begin with this instruction; without TEXT, with none"],
  ["retry", null, "take the last answer back and answer again, with another seed"],
  ["save", "FILE", "write the conversation to a JSON file"],
  ["load", "FILE", "go on with a saved conversation, where this one is saved"],
  ["load!", "FILE", "the same, and this one is lost"],
  ["stats", null, "speed of the last answer, and how much of the context is used"],
  ["clear", null, "begin anew; the system message stays"],
  ["help", null, "show this"],
  ["exit", null, "end the conversation (also Ctrl-D)"],
];

/** A whole input. */
export type Input =
  | { readonly kind: "message"; readonly text: string }
  | { readonly kind: "command"; readonly name: string; readonly argument: string }
  | { readonly kind: "mistake"; readonly text: string };

/** Gathers lines. */
export interface InputLines {
  /** The input that this line completes, or null while more is to come (or nothing was said). */
  push(line: string): Input | null;
  /** Whether lines are being gathered. */
  readonly open: boolean;
  /** What was gathered when the lines end, or null. */
  end(): Input | null;
  /** Forgets what was gathered. */
  reset(): void;
}

const QUOTES = '"""';

/** Lines between `"""` are one message, and so is a line that ends in a backslash with the next; a line that begins with `/` is a command, one with `//` is not. */
export function createInputLines(): InputLines {
  let lines: string[] = [];
  let quoted = false;

  function whole(): Input | null {
    const text = lines.join("\n");
    lines = [];
    quoted = false;
    return text.trim() === "" ? null : { kind: "message", text };
  }

  return {
    get open() {
      return quoted || lines.length > 0;
    },
    push(line) {
      if (quoted) {
        const end = line.indexOf(QUOTES);
        lines.push(end < 0 ? line : line.slice(0, end));
        if (end >= 0 && lines.at(-1) === "") lines.pop();
        return end < 0 ? null : whole();
      }
      if (lines.length === 0) {
        if (line.trimStart().startsWith(QUOTES)) {
          quoted = true;
          const rest = line.trimStart().slice(QUOTES.length);
          const end = rest.indexOf(QUOTES);
          if (end >= 0 || rest !== "") lines.push(end < 0 ? rest : rest.slice(0, end));
          return end < 0 ? null : whole();
        }
        if (line.startsWith("//")) return { kind: "message", text: line.slice(1) };
        if (line.startsWith("/")) return commandOf(line);
      }
      const goesOn = line.endsWith("\\");
      lines.push(goesOn ? line.slice(0, -1) : line);
      return goesOn ? null : whole();
    },
    end: whole,
    reset() {
      lines = [];
      quoted = false;
    },
  };
}

function commandOf(line: string): Input {
  const [, name, argument] = /^\/(\S*)\s*([\s\S]*?)\s*$/.exec(line) as RegExpExecArray;
  const found = COMMANDS.find(([known]) => known === name);
  if (found === undefined) {
    const names = COMMANDS.map(([known]) => known);
    return {
      kind: "mistake",
      text: `/${name}: no such command, expected one of ${names.map((known) => `/${known}`).join(", ")}, got "/${name}".${didYouMean(
        `/${name}`,
        names.map((known) => `/${known}`),
      )} Begin with // for a message that begins with /.`,
    };
  }
  if (found[1] === null && argument !== "")
    return { kind: "mistake", text: `/${name}: takes nothing behind it, expected it alone, got "${argument}". Write /${name}.` };
  if (found[1] === "FILE" && argument === "") return { kind: "mistake", text: `/${name}: lacks its file, expected /${name} FILE, got nothing. Name one.` };
  return { kind: "command", name, argument };
}

/** The help, a line for each command. */
export function helpText(): string {
  const rows = COMMANDS.map(([name, argument, does]) => [`/${name}${argument === null ? "" : ` ${argument}`}`, does]);
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return [
    ...rows.map(([usage, does]) => `  ${usage.padEnd(width)}  ${does}`),
    '  """ begins and ends a message of many lines; so does a backslash at the end of a line. Ctrl-C stops an answer.',
  ].join("\n");
}

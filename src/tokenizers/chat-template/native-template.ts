/** Runs a template: minijinja in the native library (crates/template) where it loads, else the plain JavaScript engine. */
import { FormatError, TemplateError } from "../../errors.ts";
import { loadNative } from "../../tensor/native-binding.ts";
import type { Engine } from "../byte-level/native-text.ts";
import { renderInWorker } from "./worker-template.ts";

/** The function of crates/node/src/template.rs. */
interface TemplateBinding {
  templateRender(source: string, variables: string, clock: string, fuel: number): string;
}

/** A text, or why there is none: Syntax, Raised by the template itself, Limit, Failed otherwise. */
export interface Rendered {
  readonly kind: "=" | "S" | "R" | "L" | "F";
  readonly text: string;
  /** Counted from 1, or null. */
  readonly line: number | null;
}

/** Bytes of a template; known ones have up to 40,000. As in crates/template. */
const LONGEST_TEMPLATE = 1 << 18;
/** Characters that all variables of a template may have, written as JSON, and that it may make of them. */
const LONGEST_TEXT = 1 << 26;
/** Fuel for any template, and for each byte that it is given. One pays for an instruction or for 64 bytes. */
const FUEL = 1 << 20;
const FUEL_A_BYTE = 2;

const REASONS = { S: "syntax", R: "raised", L: "limit", F: "failed" } as const;

/**
 * @param variables JSON of an object
 * @throws TemplateError when the template is no Jinja, raises an exception, asks for what can't be done, or takes more than it may
 */
export function renderTemplate(source: string, variables: string, clock: Readonly<Record<string, string>>, engine: Engine = "auto"): string {
  const bytes = new TextEncoder().encode(source).length;
  if (bytes > LONGEST_TEMPLATE)
    throw new FormatError(`chat template: absurd size, expected at most ${LONGEST_TEMPLATE} bytes, got ${bytes}. This is no chat template.`);
  if (variables.length > LONGEST_TEXT)
    throw new TemplateError(
      `chat template: the conversation is too long, expected at most ${LONGEST_TEXT} characters, got ${variables.length}. Shorten it.`,
      "limit",
    );
  const rendered = run(source, variables, clock, engine);
  if (rendered.kind === "=" && rendered.text.length <= LONGEST_TEXT) return rendered.text;
  throw told(rendered.kind === "=" ? { ...rendered, kind: "L" } : rendered);
}

function run(source: string, variables: string, clock: Readonly<Record<string, string>>, engine: Engine): Rendered {
  const binding = engine === "reference" ? null : (loadNative().binding as unknown as TemplateBinding | null);
  if (binding === null) return renderInWorker(source, variables, clock);
  const fuel = FUEL + FUEL_A_BYTE * variables.length;
  const lines = Object.entries(clock).map(([letter, text]) => letter + text);
  const answer = binding.templateRender(source, variables, lines.join("\n"), fuel);
  const kind = answer[0] as Rendered["kind"];
  if (kind === "=") return { kind, text: answer.slice(1), line: null };
  const [, line, text] = /^.([0-9]+) ([\s\S]*)$/.exec(answer) as RegExpExecArray;
  return { kind, text, line: Number(line) || null };
}

function told({ kind, text, line }: Rendered): TemplateError {
  const where = line === null ? "chat template" : `chat template, line ${line}`;
  const words = text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
  const reason = REASONS[kind as keyof typeof REASONS];
  switch (reason) {
    case "raised":
      return new TemplateError(
        `${where}: the template refuses these messages, expected those that it takes, got: ${words}. Change them as it says.`,
        reason,
        line,
      );
    case "limit":
      return new TemplateError(
        `${where}: takes too much time or memory, expected a template that ends, got one that had to be stopped. Use another template.`,
        reason,
        line,
      );
    case "syntax":
      return new TemplateError(`${where}: not a template, expected Jinja, got: ${words}. Correct the template, or name another.`, reason, line);
    default:
      return new TemplateError(
        `${where}: can't be rendered, expected messages that fit the template, got: ${words}. Change the messages or the template.`,
        reason,
        line,
      );
  }
}

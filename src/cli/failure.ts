/**
 * How a command ends: exit codes, and what a person or a program is told of an error.
 * 0 done · 1 an error that the message explains, or a defect · 2 wrong use of the command line · 130 stopped by Ctrl-C.
 */
import { ConfigError, GroundupError } from "../errors.ts";

/** Wrong commands, flags or arguments. */
export class UsageError extends ConfigError {}

/** A command that failed behind a part of its work: `--json` prints the part beside the error. */
export class PartlyDone extends Error {
  readonly result: object;

  constructor(result: object, cause: unknown) {
    super("partly done", { cause });
    this.result = result;
  }
}

export const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** What to print on stderr, and the process's exit code. */
export interface Failure {
  readonly name: string;
  readonly message: string;
  readonly exitCode: number;
  /** What was done before. */
  readonly result?: object;
}

/** Explains whatever a command threw. Expected errors show their message only, defects their stack and what to do with it. */
export function explain(error: unknown): Failure {
  if (error instanceof PartlyDone) return { ...explain(error.cause), result: error.result };
  const { name, message, stack, code, syscall } = error as { name?: string; message?: string; stack?: string; code?: string; syscall?: string };
  if (name === "AbortError") return { name, message: "stopped", exitCode: EXIT.interrupted };
  if (error instanceof UsageError) return { name: "UsageError", message: error.message, exitCode: EXIT.usage };
  if (error instanceof GroundupError) return { name: error.name, message: error.message, exitCode: EXIT.failed };
  // The operating system's own refusals (no such file, no permission, disk full) are no defects of groundup.
  if (typeof code === "string" && typeof syscall === "string") return { name: "SystemError", message: message ?? code, exitCode: EXIT.failed };
  const shown = stack ?? `${name ?? "Error"}: ${message ?? String(error)}`;
  return {
    name: name ?? "Error",
    message: `${shown}\n\nThis is a defect in groundup. Please report it with the lines above, the command that you ran and what "groundup doctor" prints.`,
    exitCode: EXIT.failed,
  };
}

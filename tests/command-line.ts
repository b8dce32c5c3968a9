/** Command lines run in the tests' own process, and what they print. */
import { afterEach, beforeEach, vi } from "vitest";
import { type CommandTable, dispatch } from "../src/cli/dispatch.ts";

/** stdout, stderr and the exit code. */
export interface Printed {
  readonly out: string;
  readonly err: string;
  readonly code: unknown;
}

/** For a test file that runs commands of this table. */
export function commandLine(table: CommandTable) {
  let [out, err] = ["", ""];
  beforeEach(() => {
    vi.spyOn(process.stdout, "write").mockImplementation((text) => Boolean((out += text)));
    vi.spyOn(process.stderr, "write").mockImplementation((text) => Boolean((err += text)));
  });
  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = undefined;
  });

  async function groundup(...argv: string[]): Promise<Printed> {
    [out, err] = ["", ""];
    process.exitCode = undefined;
    await dispatch(table, argv, "0.0.0");
    return { out, err, code: process.exitCode };
  }
  return {
    groundup,
    json: async (...argv: string[]) => JSON.parse((await groundup(...argv, "--json")).out),
    /** What the last command said on stderr. */
    said: () => err,
  };
}

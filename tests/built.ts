/** The built command line for tests that need a process of their own. Built first when the sources are newer. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadNative } from "../src/tensor/native-binding.ts";

const { binding, asked, reason } = loadNative();
/** Whether processes run on the native library here; a clone without cargo has none. */
export const NATIVE = binding !== null;
/** What a process has on stderr when all is well: nothing, or the one line that says why it runs on the slow backend. */
export const WELL = NATIVE || asked ? "" : `groundup: running on the plain TypeScript backend, which is slow: ${reason}\n`;

export const ROOT = fileURLToPath(new URL("../", import.meta.url));
const MAIN = join(ROOT, "dist", "cli", "main.js");

function newestSource(): number {
  const names = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  return Math.max(...names.map((name) => statSync(join(ROOT, "src", name)).mtimeMs));
}

/** Compiles `dist/` if it is missing or older than the sources. */
export function ensureBuilt(): void {
  if (existsSync(MAIN) && statSync(MAIN).mtimeMs > newestSource()) return;
  const made = spawnSync(process.execPath, [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.build.json"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  if (!existsSync(MAIN)) throw new Error(`build failed: ${made.stdout}${made.stderr}`);
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Starts `groundup …` in a process of its own. */
export function start(args: readonly string[], env: Record<string, string> = {}): { child: ChildProcess; ended: Promise<Ended> } {
  return startProgram(process.execPath, [MAIN, ...args], env);
}

/** As `start`, but no file may become larger than this: the system refuses what goes beyond in the middle of a write, as a full disk does. */
export function startOnSmallDisk(args: readonly string[], largestFile: number): { child: ChildProcess; ended: Promise<Ended> } {
  // POSIX counts the limit in blocks of 512 bytes.
  return startProgram("sh", ["-c", `ulimit -f ${Math.floor(largestFile / 512)} && exec "$@"`, "sh", process.execPath, MAIN, ...args], {});
}

function startProgram(program: string, args: readonly string[], env: Record<string, string>): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name]?.on("data", (piece) => (text[name] += piece));
  return { child, ended: new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, ...text }))) };
}

export const groundup = (args: readonly string[], env?: Record<string, string>): Promise<Ended> => start(args, env).ended;

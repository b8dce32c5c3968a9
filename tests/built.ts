/** The built command line for tests that need a process of their own. Built first when the sources are newer. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
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

function newestSource(root: string): number {
  const names = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  return Math.max(...names.map((name) => statSync(join(root, "src", name)).mtimeMs));
}

/** Longer than any build takes: whoever holds the place for so long is dead. */
const DEAD_AFTER_MS = 120_000;

/** Waits until no other process builds: half of its files would be new and half old. Gives the function that lets the next one in. */
function alone(dist: string): () => void {
  const place = join(dist, ".building");
  mkdirSync(dist, { recursive: true });
  for (;;) {
    try {
      mkdirSync(place);
      return () => rmSync(place, { recursive: true, force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const since = statSync(place, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - since > DEAD_AFTER_MS) rmSync(place, { recursive: true, force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
}

/** Compiles `dist/` if it is missing or older than the sources. */
export function ensureBuilt(root = ROOT): void {
  const main = join(root, "dist", "cli", "main.js");
  const leave = alone(join(root, "dist"));
  try {
    if (existsSync(main) && statSync(main).mtimeMs > newestSource(root)) return;
    // Without noEmitOnError the next one would find new files and take them for a good build.
    const made = spawnSync(
      process.execPath,
      [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", join(root, "tsconfig.build.json"), "--noEmitOnError", "--pretty", "false"],
      { cwd: root, encoding: "utf8" },
    );
    if (made.status !== 0) throw new Error(`build failed: ${made.stdout}${made.stderr}`);
  } finally {
    leave();
  }
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

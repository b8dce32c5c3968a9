/**
 * Locks between processes: a file that names its holder, made in one move, and taken over where the process is gone. Node has no `flock`, and a lock by a file is
 * seen on network disks, too.
 */
import * as fs from "node:fs";
import os from "node:os";
import { basename, dirname, join } from "node:path";
import { RunError } from "../errors.ts";

/** Who holds a lock. */
export interface Holder {
  pid: number;
  host: string;
  /** When the process began, in the system's own clock ticks: tells a new process with an old number apart. */
  started: string | null;
}

function startOf(pid: number): string | null {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ")[19] ?? null;
  } catch {
    return null;
  }
}

function isAlive({ pid, host, started }: Holder): boolean {
  // Another machine's processes can't be seen from here: believe the lock.
  if (host !== os.hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return started === null || startOf(pid) === null || startOf(pid) === started;
}

/** Locks of this process differ in the names of their drafts. */
let drafts = 0;

/**
 * Takes a lock and gives the function that frees it, or gives who holds it. A lock whose process is gone is taken over.
 *
 * @param where what errors speak of
 * @param advice what to do where the folder can't be written
 * @throws RunError where the lock can't be written, or a dead one not removed
 */
export function takeLock(file: string, where: string, advice: string): (() => void) | Holder {
  const mine = JSON.stringify({ pid: process.pid, host: os.hostname(), started: startOf(process.pid) } satisfies Holder);
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      // The name appears with its content in one move, so nobody reads half a lock.
      const draft = join(dirname(file), `.lock.${process.pid}-${(drafts++ >>> 0).toString(16).padStart(8, "0")}.tmp`);
      fs.writeFileSync(draft, mine);
      try {
        fs.linkSync(draft, file);
      } finally {
        fs.rmSync(draft, { force: true });
      }
      return () => {
        if (fs.existsSync(file) && fs.readFileSync(file, "utf8") === mine) fs.rmSync(file, { force: true });
      };
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "EEXIST")
        throw new RunError(`${where}: the lock can't be written, expected a folder that can be written, got ${code}. ${advice}`, { cause });
    }
    const holder = readLock(file);
    if (holder !== "nobody" && holder !== "dead") return holder;
    if (holder === "dead") removeDead(file, where, advice);
  }
  throw new RunError(`${where}: the lock can't be taken, expected ${file} to be free, got others that keep taking it. Try again.`);
}

/**
 * Removes a lock whose process is gone. Only one process at a time may, itself under a lock: another that read the dead lock
 * a moment ago would otherwise remove the one that has been taken since.
 */
function removeDead(file: string, where: string, advice: string): void {
  const free = takeLock(join(dirname(file), `.${basename(file)}.takeover`), where, advice);
  // Somebody else is removing it.
  if (typeof free !== "function") return;
  try {
    if (readLock(file) === "dead") fs.rmSync(file, { force: true });
  } catch (cause) {
    throw new RunError(
      `${where}: the lock of a process that is gone can't be removed, expected a file in a folder that can be written, got ${(cause as NodeJS.ErrnoException).code} for ${file}. Remove it by hand.`,
      { cause },
    );
  } finally {
    free();
  }
}

/** Who holds a lock. One that nobody can read is a dead one: a lock appears with its content. */
function readLock(file: string): Holder | "nobody" | "dead" {
  try {
    const holder = JSON.parse(fs.readFileSync(file, "utf8")) as Holder;
    return isAlive(holder) ? holder : "dead";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "nobody" : "dead";
  }
}

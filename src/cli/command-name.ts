/** How a person calls this program again: what the lines "go on with: …" print. */
import { basename, dirname } from "node:path";

/**
 * `groundup` where that name started it from the PATH, else `npx groundup`, which finds a clone's or a project's own from its folder.
 * npm puts node_modules/.bin into the PATH of what it starts, and into no other.
 */
export function commandName(script = process.argv[1] ?? ""): string {
  const named = basename(script).replace(/\.(cmd|ps1|exe)$/, "") === "groundup";
  return named && basename(dirname(script)) !== ".bin" ? "groundup" : "npx groundup";
}

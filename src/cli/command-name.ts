/** How a person calls this program again: what the lines "go on with: …" print. */
import { basename, dirname } from "node:path";

/** A path as a word of a command that can be copied: in quotes where a shell would cut it apart, in single ones where double ones would not do. */
export function word(text: string): string {
  if (/^[\p{L}\p{N}_./:@%+,=-]+$/u.test(text)) return text;
  return /["$`\\!]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`;
}

/**
 * `groundup` where that name started it from the PATH, else `npx groundup`, which finds a clone's or a project's own from its folder.
 * npm puts node_modules/.bin into the PATH of what it starts, and into no other.
 */
export function commandName(script = process.argv[1] ?? ""): string {
  const named = basename(script).replace(/\.(cmd|ps1|exe)$/, "") === "groundup";
  return named && basename(dirname(script)) !== ".bin" ? "groundup" : "npx groundup";
}

/** How a person calls this program again: what the lines "go on with: …" print. */
import { basename, dirname } from "node:path";

/**
 * A path or a prompt as a word of a command that can be copied: in quotes where a shell would cut it apart, in single ones where double ones would not do.
 * On Windows a backslash is a part of paths and only double quotes are quotes; `%NAME%` is expanded there in any of them.
 */
export function word(text: string, platform: NodeJS.Platform = process.platform): string {
  if (platform === "win32") {
    if (/^[\p{L}\p{N}_./:@%+,=\\-]+$/u.test(text)) return text;
    // Backslashes before a quote would escape it, the closing one too.
    return `"${text.replace(/(\\*)("|$)/g, (_, slashes: string, quote: string) => slashes.repeat(2) + quote.repeat(2))}"`;
  }
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

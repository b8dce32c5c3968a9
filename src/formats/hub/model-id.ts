/** The names that the hub gives things: models, revisions, files. What comes from outside becomes part of paths and URLs, so each is checked first. */
import { ConfigError, HubError } from "../../errors.ts";

/** `org/name@revision:file`, parted. */
export interface ModelId {
  /** `org/name`. */
  readonly repo: string;
  /** A branch, tag or commit; null for the default, `main`. */
  readonly revision: string | null;
  /** A file of the model, or a part of its name that only it has (`Q4_K_M`). */
  readonly file: string | null;
}

const PART = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;
const ID = /^([^/@:\s]+\/[^/@:\s]+)(?:@([^@:\s]+))?(?::([^@:\s]+))?$/;

/** Parts a model's id, or gives null for what is none: a path, a name without an owner. */
export function parseModelId(text: string): ModelId | null {
  const found = ID.exec(text);
  if (found === null) return null;
  const [, repo, revision = null, file = null] = found;
  const fits = repo.split("/").every((part) => PART.test(part) && !part.includes("--") && !part.includes(".."));
  if (!fits || !isRevision(revision ?? "main") || (file !== null && pathProblem(file) !== null)) return null;
  return { repo, revision, file };
}

/** @throws ConfigError for what is no id */
export function modelId(text: string): ModelId {
  const id = parseModelId(text);
  if (id === null)
    throw new ConfigError(`${text}: not a model's id, expected org/name, org/name@revision or org/name:file.gguf, got ${JSON.stringify(text)}. Correct it.`);
  return id;
}

/** Names of branches and tags as Git allows them, as far as the hub does; they become a file's path in the cache. */
const isRevision = (text: string): boolean => /^[\w.+/-]{1,200}$/.test(text) && pathProblem(text) === null;

/** What keeps a name from being a path inside a folder, in a few words; null for nothing. */
function pathProblem(path: string): string | null {
  if (path === "" || path.length > 1000) return "no name, or a very long one";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
  if (/[\u0000-\u001f\u007f\\:]/.test(path)) return "control characters, a backslash or a colon";
  if (path.startsWith("/")) return "an absolute path";
  if (path.split("/").some((part) => part === "" || part === "." || part === "..")) return 'a path with "", "." or ".." in it';
  return null;
}

/** @throws HubError for a file's name that leads elsewhere than into the model's folder */
export function checkFileName(where: string, path: string): void {
  const problem = pathProblem(path);
  if (problem !== null)
    throw new HubError(
      `${where}: a hostile file name, expected a path inside the model's folder, got ${problem}: ${JSON.stringify(path.slice(0, 100))}. Nothing was fetched.`,
    );
}

export const COMMIT = /^[0-9a-f]{40}$/;

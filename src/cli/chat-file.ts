/** Conversations on disk: `{ "format": "groundup-chat", "version": 1, "messages": [{ "role", "content" }] }`. */
import { readFile, stat } from "node:fs/promises";
import { DataError, FormatError } from "../errors.ts";
import { isJsonObject, parseJson, writeFileAtomic } from "../formats/index.ts";
import { checkFolderOf } from "./open-model.ts";

/** A turn of a conversation in the terminal. */
export type Turn = {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
};

const FORMAT = "groundup-chat";
const VERSION = 1;
const ROLES: readonly string[] = ["system", "user", "assistant"];
/** Larger than any model's context. */
const MOST_BYTES = 1 << 26;

/**
 * Writes a conversation; one that is there already is replaced.
 * @throws DataError where a file of that name is something else, which stays as it is; ConfigError where its folder is not there
 */
export async function saveChat(file: string, turns: readonly Turn[]): Promise<void> {
  checkFolderOf(file, "the name");
  const there = await stat(file).then(
    () => true,
    () => false,
  );
  if (there)
    await loadChat(file).catch((cause: Error) => {
      throw new DataError(`${file}: there already, expected a new file or a conversation that /save wrote, got something else. Choose another name.`, {
        cause,
      });
    });
  await writeFileAtomic(file, `${JSON.stringify({ format: FORMAT, version: VERSION, messages: turns }, null, 2)}\n`);
}

/** @throws DataError for a file that can't be read, FormatError for one that is no conversation */
export async function loadChat(file: string): Promise<Turn[]> {
  const info = await stat(file).catch((cause: NodeJS.ErrnoException) => {
    throw new DataError(`${file}: can't be read, expected a saved conversation, got ${cause.code ?? cause.message}. Check the path.`, { cause });
  });
  if (!info.isFile() || info.size > MOST_BYTES)
    throw new FormatError(
      `${file}: no saved conversation, expected a file of at most ${MOST_BYTES} bytes, got ${info.isFile() ? info.size : "no file"}. Name another.`,
    );
  const json = parseJson(await readFile(file, "utf8"), file);
  const refuse = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(`${file}: ${what}, expected ${expected}, got ${JSON.stringify(got)?.slice(0, 80)}. Name a file that /save wrote.`);
  };
  if (!isJsonObject(json) || json.format !== FORMAT)
    return refuse("no saved conversation", `an object with "format": "${FORMAT}"`, isJsonObject(json) ? json.format : json);
  if (json.version !== VERSION) return refuse("another version", `${VERSION}`, json.version);
  const { messages } = json;
  if (!Array.isArray(messages)) return refuse("no messages", "a list", messages);
  return messages.map((message, i): Turn => {
    if (!isJsonObject(message) || typeof message.content !== "string" || !ROLES.includes(message.role as string))
      return refuse(`messages[${i}] is no turn`, `{ "role": ${ROLES.join(" | ")}, "content": text }`, message);
    const role = message.role as Turn["role"];
    if (role === "system" && i > 0) return refuse(`messages[${i}] is out of place`, "a system message to be the first", role);
    return { role, content: message.content };
  });
}

/** Messages from outside as plain JSON, as templates get them. */
import { DataError } from "../../errors.ts";

/** What JSON can hold. */
export type Plain = null | boolean | number | string | Plain[] | { [key: string]: Plain };

/** Messages as a template gets them. */
export type Messages = readonly { readonly [field: string]: Plain }[];

/** How deep lists and objects may stand in each other. */
const DEEPEST = 100;

/** Lone surrogates become U+FFFD, as where text is encoded: they have no form in UTF-8. */
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\ufffd");

/** The value as JSON would hold it. @throws DataError for what JSON does not hold */
export function plainJson(where: string, value: unknown, depth = 0): Plain {
  const refuse = (what: string, expected: string, got: string): never => {
    throw new DataError(`${where}: ${what}, expected ${expected}, got ${got}. Change it.`);
  };
  if (depth > DEEPEST) refuse("nested too deep", `at most ${DEEPEST} levels`, "more");
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "string") return wellFormed(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : refuse("no number of JSON", "a finite number", String(value));
  if (Array.isArray(value)) return value.map((item, i) => plainJson(`${where}[${i}]`, item, depth + 1));
  if (typeof value !== "object") return refuse("a value that JSON does not have", "text, numbers, true, false, null, lists or objects", typeof value);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null)
    refuse("an object of a class", "a plain object", `one of ${prototype.constructor?.name ?? "another"}`);
  const entries = Object.entries(value as object).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [wellFormed(key), plainJson(`${where}.${key}`, item, depth + 1)]));
}

const REASONING = ["reasoning_content", "thinking", "reasoning"];

/**
 * Messages as Hugging Face gives them to templates: without fields that are null (a template would show "None"), and with reasoning under each of the names
 * that it has.
 *
 * @throws DataError for what is no list of messages
 */
export function plainMessages(where: string, messages: unknown): Messages {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new DataError(
      `${where}: no messages, expected a list of at least one { role, content }, got ${Array.isArray(messages) ? "an empty one" : typeof messages}. Give it one.`,
    );
  return messages.map((message, i) => {
    const at = `${where}: messages[${i}]`;
    const plain = plainJson(at, message);
    if (typeof plain !== "object" || plain === null || Array.isArray(plain) || typeof plain.role !== "string")
      throw new DataError(`${at}: not a message, expected an object with a role, got ${JSON.stringify(plain).slice(0, 80)}. Give it one, such as "user".`);
    const fields = Object.fromEntries(Object.entries(plain).filter(([, value]) => value !== null));
    const reasoning = REASONING.map((name) => fields[name]).find((value) => value !== undefined);
    return reasoning === undefined ? fields : { thinking: reasoning, ...fields, reasoning_content: reasoning };
  });
}

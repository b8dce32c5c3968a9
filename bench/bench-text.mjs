/** The text that the tokenizer benchmarks read: a file of the caller's, or ten megabytes made up here. */
import { readFileSync } from "node:fs";

const SYLLABLES = "ka to mi ren sol va der ist ing tion er al pre con un ly ment sta gra ple fo ri ch ou th ea".split(" ");

/** @returns {{ text: string, source: string }} from GROUNDUP_BENCH_TEXT (a path), else generated, the same on every run */
export function benchText(bytes = 10_000_000) {
  const path = process.env.GROUNDUP_BENCH_TEXT;
  if (path) return { text: readFileSync(path, "utf8"), source: path };
  let state = 1;
  const next = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const word = () => Array.from({ length: 1 + next(3) }, () => SYLLABLES[next(SYLLABLES.length)]).join("");
  // Word frequencies fall as in real text: the square of a uniform number favours the first words of the list.
  const words = Array.from({ length: 30_000 }, word);
  const parts = [];
  let length = 0;
  while (length < bytes) {
    const u = next(2 ** 16) / 2 ** 16;
    const kind = next(40);
    const end = kind === 0 ? ".\n" : kind < 4 ? ", " : kind === 4 ? ` ${next(3000)} ` : " ";
    const part = words[Math.floor(u ** 4 * words.length)] + end;
    parts.push(part);
    length += part.length;
  }
  return { text: parts.join("").slice(0, bytes), source: "generated" };
}

/** Documents of 10,000 characters, as the programs of the peers cut them. */
export function cutDocuments(text) {
  const documents = [];
  for (let at = 0; at < text.length; ) {
    let end = Math.min(at + 10_000, text.length);
    // Not through a surrogate pair.
    if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end++;
    documents.push(text.slice(at, end));
    at = end;
  }
  return documents;
}

export function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

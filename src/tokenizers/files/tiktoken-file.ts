/**
 * Reads rank files of tiktoken: a line for each token, its bytes in base64 and its rank, which is its id. The file holds
 * neither the split pattern nor the special tokens; those of OpenAI's encodings are known by name.
 *
 * Format: openai/tiktoken, `tiktoken/load.py`; pattern and special tokens: `tiktoken_ext/openai_public.py`.
 */
import { ConfigError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import { BYTE_TO_CHARACTER } from "../byte-level/byte-alphabet.ts";
import type { PatternName } from "../byte-level/split-patterns.ts";
import { specialToken, type TokenizerSpec } from "../tokenizer-spec.ts";
import { NO_POST_PROCESSOR } from "./components.ts";
import { asId, Place } from "./strict-json.ts";
import { idLimit } from "./vocab-merges.ts";

/** What a rank file does not say. */
export interface TiktokenOptions {
  /** The split pattern; needed unless the file's name is that of a published encoding. */
  pattern?: PatternName;
  /** Special tokens and their ids; by default those of the published encoding. */
  specialTokens?: Readonly<Record<string, number>>;
}

const END_OF_TEXT = "<|endoftext|>";

const PUBLISHED: Readonly<Record<string, Required<TiktokenOptions>>> = {
  r50k_base: { pattern: "gpt2", specialTokens: { [END_OF_TEXT]: 50256 } },
  p50k_base: { pattern: "gpt2", specialTokens: { [END_OF_TEXT]: 50256 } },
  cl100k_base: {
    pattern: "cl100k-tiktoken",
    specialTokens: { [END_OF_TEXT]: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276 },
  },
  o200k_base: { pattern: "o200k", specialTokens: { [END_OF_TEXT]: 199999, "<|endofprompt|>": 200018 } },
};

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** A line's parts, or null for a line of another kind. */
function rankOf(line: string): { base64: string; id: number } | null {
  const [base64, digits, more] = line.split(" ");
  if (more !== undefined || base64 === "" || !BASE64.test(base64) || !/^[0-9]{1,8}$/.test(digits ?? "")) return null;
  return { base64, id: Number(digits) };
}

/** Whether a file begins with a line of a rank file. A SentencePiece model does not: its first byte is a line feed, the tag of its pieces. */
export function startsWithRank(bytes: Uint8Array): boolean {
  const end = bytes.indexOf(10);
  return end > 0 && end < 1000 && rankOf(String.fromCharCode(...bytes.subarray(0, end))) !== null;
}

/**
 * @param file the file's name: errors call it so, and `cl100k_base.tiktoken` and its like are known by it
 * @throws FormatError with the line, what was expected and what is there
 * @throws ConfigError when the pattern is neither given nor known
 */
export function readTiktoken(text: string, file: string, options: TiktokenOptions = {}): TokenizerSpec {
  checkOptions("readTiktoken", options, { pattern: true, specialTokens: true });
  const place = new Place(file);
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  const name =
    file
      .split(/[\\/]/)
      .at(-1)
      ?.replace(/\.tiktoken$/, "") ?? "";
  const published = Object.hasOwn(PUBLISHED, name) ? PUBLISHED[name] : undefined;
  const pattern = options.pattern ?? published?.pattern;
  if (pattern === undefined) {
    const first = lines.find((line) => line !== "") ?? "";
    if (rankOf(first) === null) {
      const expected = "tokenizer.json, vocab.json, merges.txt or tiktoken ranks (lines of a token in base64, a blank, its rank)";
      place.fail(first === "" ? "an empty file" : "not a tokenizer file", expected, first, "Name the tokenizer's folder or file.");
    }
    throw new ConfigError(
      `${file}: a rank file does not say how text is split, expected the option "pattern" or a published name ` +
        `(${Object.keys(PUBLISHED).join(", ")}), got neither. Give the pattern (on the command line --pattern), cl100k or the like.`,
    );
  }
  const tokens: (string | undefined)[] = [];
  const seen = new Map<string, number>();
  const limit = idLimit(lines.length);
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    const fail = (what: string, expected: string): never => place.at(`line ${i + 1}`).fail(what, expected, line);
    const { base64, id } = rankOf(line) ?? fail("bad line", "base64 of a token, a blank, its rank");
    if (id >= limit) fail("absurd rank", `less than ${limit} for ${lines.length} lines`);
    const bytes = atob(base64);
    let token = "";
    for (let k = 0; k < bytes.length; k++) token += BYTE_TO_CHARACTER[bytes.charCodeAt(k)];
    if (tokens[id] !== undefined) fail(`rank ${id} given twice`, "each rank once");
    if (seen.has(token)) fail("token given twice", `it only as rank ${seen.get(token)}`);
    while (tokens.length < id) tokens.push(undefined);
    tokens[id] = token;
    seen.set(token, id);
  }
  if (seen.size === 0) place.fail("no tokens", "a line for each token", "");
  const specials = options.specialTokens ?? published?.specialTokens ?? {};
  const addedTokens = Object.entries(specials).map(([content, id]) => {
    const here = place.at(`special token ${JSON.stringify(content)}`);
    if (asId(id, here) >= limit) here.fail("absurd id", `less than ${limit}`, id);
    if (tokens[id] !== undefined) here.fail(`id ${id} is taken`, "an id that no rank has", tokens[id]);
    return specialToken(content, id);
  });
  const model = { kind: "bpe", tokens, merges: null, wholeWords: true, pattern, addPrefixSpace: false } as const;
  return { model, normalizer: [], postProcessor: NO_POST_PROCESSOR, addedTokens };
}

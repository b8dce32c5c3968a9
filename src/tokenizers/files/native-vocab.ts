/**
 * The quick way into a tokenizer.json of a byte-level BPE: its vocabulary and merges, nearly all of the file, are read by the native part
 * (crates/text/src/vocab_file.rs), only the rest as JSON. It takes files that are as they should be; any other is for the reader of text (tokenizer-json.ts),
 * which makes the same of it, or says what is wrong.
 */
import type { AddedToken } from "../added-tokens.ts";
import { type NativeVocab, readVocabFile } from "../byte-level/native-text.ts";
import { type ModelBytes, type TokenBytes, withoutIds } from "../byte-level/token-bytes.ts";
import { idLimit } from "./vocab-merges.ts";

/** The file's tokens and merges. */
export interface VocabFile extends TokenBytes {
  /** The file's text without them. */
  readonly rest: string;
  readonly merges: Int32Array;
  /** Tokens that are not spelled in the byte alphabet, by id. */
  readonly others: ReadonlyMap<number, string>;
  readonly vocab: NativeVocab;
}

/** @returns null where the native part is not there, or leaves the file to the reader of text */
export function openVocabFile(file: Uint8Array): VocabFile | null {
  const found = readVocabFile(file);
  if (found === null) return null;
  try {
    return { ...found, rest: new TextDecoder("utf-8", { fatal: true }).decode(found.rest) };
  } catch {
    return null;
  }
}

/**
 * The tokens that are not added ones.
 *
 * @returns null where added tokens and vocabulary do not agree
 */
export function ordinaryTokens(file: VocabFile, added: readonly AddedToken[]): ModelBytes | null {
  const count = file.others.size + file.lengths.reduce((sum, length) => sum + (length > 0 ? 1 : 0), 0);
  const limit = idLimit(count + added.length);
  const contents = new Map(added.map(({ id, content }) => [id, content]));
  const spelled = file.vocab.idsSpelling(contents.values());
  const inside = new Set<number>();
  for (const { id, content } of added) {
    const own = file.others.get(id) ?? (file.lengths[id] > 0 ? content : undefined);
    if (id >= limit || (spelled.get(content) ?? id) !== id) return null;
    if (file.lengths[id] > 0 && spelled.get(content) !== id) return null;
    if (own !== undefined && own !== content) return null;
    if (own !== undefined) inside.add(id);
  }
  for (const [id, text] of file.others) if (contents.get(id) !== text) return null;
  return { ...withoutIds(file, inside), hadAdded: inside.size > 0, vocab: file.vocab };
}

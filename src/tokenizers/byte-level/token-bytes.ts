/**
 * The tokens of a vocabulary as bytes, where a reader has them so. A model keeps them beside its `tokens`, which are then made into text only when somebody
 * reads them: most programs never do, and for 150,000 tokens it takes longer than all the rest of opening a file.
 */
import { bytesToAlphabet } from "./byte-alphabet.ts";
import type { NativeVocab } from "./native-text.ts";

export interface TokenBytes {
  /** The bytes of all tokens, one after the other in the order of their ids. */
  readonly bytes: Uint8Array;
  /** Number of bytes of each id; 0 where an id has no token. */
  readonly lengths: Int32Array;
}

/** A model's tokens as bytes. */
export interface ModelBytes extends TokenBytes {
  /** Whether the file's vocabulary had added tokens, which are not in here. */
  readonly hadAdded: boolean;
  /** The file's vocabulary with all of its tokens in the native part. */
  readonly vocab: NativeVocab;
}

const kept = new WeakMap<object, ModelBytes>();

/** Gives a model its tokens: text by id, made when it is first read. */
export function withTokenBytes<M extends object>(model: M, found: ModelBytes): M & { readonly tokens: readonly (string | undefined)[] } {
  let tokens: (string | undefined)[] | undefined;
  const whole = Object.defineProperty(model, "tokens", {
    enumerable: true,
    get() {
      tokens ??= spell(found);
      return tokens;
    },
  }) as M & { readonly tokens: readonly (string | undefined)[] };
  kept.set(whole, found);
  return whole;
}

/** undefined for a model that has only text. */
export const bytesOfModel = (model: object): ModelBytes | undefined => kept.get(model);

/** One more than the largest id that has a token. */
export const tokenCount = (model: { readonly tokens: readonly unknown[] }): number => kept.get(model)?.lengths.length ?? model.tokens.length;

function spell({ bytes, lengths }: TokenBytes): (string | undefined)[] {
  let at = 0;
  return Array.from(lengths, (length) => {
    at += length;
    return length === 0 ? undefined : bytesToAlphabet(bytes.subarray(at - length, at));
  });
}

/** The tokens without some ids, and without the holes that this leaves at the end. */
export function withoutIds({ bytes, lengths }: TokenBytes, removed: ReadonlySet<number>): TokenBytes {
  if (removed.size === 0 && lengths.at(-1) !== 0) return { bytes, lengths };
  const kept = lengths.map((length, id) => (removed.has(id) ? 0 : length));
  let size = kept.length;
  while (size > 0 && kept[size - 1] === 0) size--;
  const left = new Uint8Array(kept.reduce((sum, length) => sum + length, 0));
  let [from, to] = [0, 0];
  for (let id = 0; id < size; id++) {
    if (kept[id] > 0) left.set(bytes.subarray(from, from + kept[id]), to);
    from += lengths[id];
    to += kept[id];
  }
  return { bytes: left, lengths: kept.subarray(0, size) };
}

/** Encodings: from columns, and those whose ids are there at once, made by the native part, and whose rest comes from the TypeScript twin when it is first read. */
import type { AddedToken } from "./added-tokens.ts";
import type { EncodedBatch } from "./byte-level/bpe-engine.ts";
import type { EncodedTexts } from "./encode-options.ts";
import type { Encoding } from "./encoding.ts";
import { type Encoded, emptyEncoded } from "./post-processors/encoded.ts";

/** What a post-processor puts around a text, whatever the text is. */
export interface Around {
  readonly before: Rows;
  readonly after: Rows;
  /** Of the text's own tokens. */
  readonly typeId: number;
}

interface Rows {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
  readonly special: readonly number[];
}

const NO_ROWS: Rows = { ids: [], typeIds: [], special: [] };
export const NOTHING_AROUND: Around = { before: NO_ROWS, after: NO_ROWS, typeId: 0 };

/** No id of any vocabulary. */
const PROBE = -1;

/** What `process` puts around any text; null where that is no matter of ids before and behind it. */
export function aroundText(process: (text: Encoded) => Encoded): Around | null {
  const probe: Encoded = {
    ids: [PROBE],
    tokens: [""],
    places: [[0, 0]],
    typeIds: [0],
    words: [0],
    specialMask: [0],
    attentionMask: [1],
    sequences: [0],
    overflowing: [],
  };
  const found = process(probe);
  const at = found.ids.indexOf(PROBE);
  if (at < 0 || found.ids.indexOf(PROBE, at + 1) >= 0) return null;
  const rows = (start: number, end?: number): Rows => ({
    ids: found.ids.slice(start, end),
    typeIds: found.typeIds.slice(start, end),
    special: found.specialMask.slice(start, end),
  });
  const around = { before: rows(0, at), after: rows(at + 1), typeId: found.typeIds[at] };
  const alone = process(emptyEncoded()).ids;
  return alone.join() === [...around.before.ids, ...around.after.ids].join() ? around : null;
}

/** Every text of a batch with what stands around it. */
export function surround({ ids, counts, replaced }: EncodedBatch, { before, after }: Around): EncodedTexts {
  const starts = new Int32Array(counts.length + 1);
  const more = before.ids.length + after.ids.length;
  for (const [i, count] of counts.entries()) starts[i + 1] = starts[i] + count + more;
  if (more === 0) return { ids, starts, replaced };
  const all = new Int32Array(starts[counts.length]);
  let from = 0;
  for (const [i, count] of counts.entries()) {
    const at = starts[i] + before.ids.length;
    all.set(before.ids, starts[i]);
    all.set(ids.subarray(from, from + count), at);
    all.set(after.ids, at + count);
    from += count;
  }
  return { ids: all, starts, replaced };
}

/** An added token as files spell it, without the blanks that it took along. What is unknown keeps the text that it stands for. */
const withoutBlanks = (token: string, content: string | undefined): string => (content !== undefined && token.trim() === content.trim() ? content : token);

/** Columns as callers see them. */
export function encodingFrom(found: Encoded, added: ReadonlyMap<number, AddedToken>): Encoding {
  return {
    ids: Int32Array.from(found.ids),
    tokens: found.tokens.map((token, i) => withoutBlanks(token, added.get(found.ids[i])?.content)),
    offsets: found.places,
    typeIds: Int32Array.from(found.typeIds),
    attentionMask: Int32Array.from(found.attentionMask),
    specialTokensMask: Int32Array.from(found.ids, (id, i) => (found.specialMask[i] === 1 || added.get(id)?.special === true ? 1 : 0)),
    overflowing: found.overflowing.map((part) => encodingFrom(part, added)),
  };
}

/** What was done to a text beside its ids. */
interface Fitted {
  /** Empty places before and behind it, and their type id. */
  readonly pads: { readonly left: number; readonly right: number; readonly typeId: number };
  /** Whether something was cut off. */
  readonly overflows: boolean;
}

const AS_IT_IS: Fitted = { pads: { left: 0, right: 0, typeId: 0 }, overflows: false };

/**
 * @param ids with what stands around, and padding
 * @param twin makes the whole encoding
 */
export function createIdsEncoding(
  ids: Int32Array,
  around: Around,
  added: ReadonlyMap<number, AddedToken>,
  twin: () => Encoding,
  { pads, overflows }: Fitted = AS_IT_IS,
): Encoding {
  let whole: Encoding | undefined;
  const rest = (): Encoding => {
    whole ??= twin();
    return whole;
  };
  const { before, after, typeId } = around;
  const last = ids.length - pads.right;
  const end = last - after.ids.length;
  return {
    ids,
    get tokens() {
      return rest().tokens;
    },
    get offsets() {
      return rest().offsets;
    },
    get typeIds() {
      const types = new Int32Array(ids.length).fill(pads.typeId).fill(typeId, pads.left, end);
      types.set(before.typeIds, pads.left);
      types.set(after.typeIds, end);
      return types;
    },
    get attentionMask() {
      return new Int32Array(ids.length).fill(1, pads.left, last);
    },
    get specialTokensMask() {
      const mask = Int32Array.from(ids, (id) => (added.get(id)?.special === true ? 1 : 0));
      for (const [i, special] of before.special.entries()) if (special === 1) mask[pads.left + i] = 1;
      for (const [i, special] of after.special.entries()) if (special === 1) mask[end + i] = 1;
      return mask.fill(1, 0, pads.left).fill(1, last);
    },
    get overflowing() {
      return overflows ? rest().overflowing : [];
    },
  };
}

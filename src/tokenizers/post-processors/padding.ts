/** Padding: texts of a batch become equally long. The rules are those of Hugging Face tokenizers. */

import { asCount, type FromShape, nullAs, oneOf, type Reader, readShape } from "../files/json-shape.ts";
import { asId, asObject, asString, type Place } from "../files/strict-json.ts";
import { addedTokens, type Encoded, joinEncoded } from "./encoded.ts";

/** To the longest of the batch, or to a number of tokens. */
export type PaddingStrategy = "BatchLongest" | { readonly Fixed: number };

const asStrategy: Reader<PaddingStrategy> = (value, place) => {
  if (value === "BatchLongest") return value;
  return readShape(asObject(value, place), { Fixed: asCount }, place);
};

const SHAPE = {
  strategy: asStrategy,
  /** The side on which padding stands. */
  direction: oneOf("Left", "Right"),
  pad_to_multiple_of: nullAs(asCount, null),
  pad_id: asId,
  pad_type_id: asCount,
  pad_token: asString,
};

export type PaddingSpec = FromShape<typeof SHAPE>;

/** @throws FormatError with the place, what was expected and what is there */
export function readPadding(value: unknown, place: Place): PaddingSpec | null {
  return value === null || value === undefined ? null : readShape(asObject(value, place), SHAPE, place);
}

/** As tokenizer.json holds it. */
export function writePadding(spec: PaddingSpec | null): unknown {
  return spec;
}

/** The batch with padding; what overflowed becomes as long. A text that is longer already stays as it is. */
export function padBatch(batch: readonly Encoded[], spec: PaddingSpec): Encoded[] {
  const length = paddedLength(
    batch.map((text) => text.ids.length),
    spec,
  );
  return batch.map((text) => pad(text, length, spec));
}

/** How long texts of these lengths become. */
export function paddedLength(lengths: readonly number[], spec: PaddingSpec): number {
  const length = spec.strategy === "BatchLongest" ? lengths.reduce((most, each) => Math.max(most, each), 0) : spec.strategy.Fixed;
  const multiple = spec.pad_to_multiple_of ?? 0;
  return multiple > 0 ? Math.ceil(length / multiple) * multiple : length;
}

function pad(text: Encoded, length: number, spec: PaddingSpec): Encoded {
  const overflowing = text.overflowing.map((part) => pad(part, length, spec));
  const missing = length - text.ids.length;
  if (missing <= 0) return { ...text, overflowing };
  const ids = new Array<number>(missing).fill(spec.pad_id);
  const tokens = new Array<string>(missing).fill(spec.pad_token);
  const padding = addedTokens(ids, tokens, spec.pad_type_id, 0);
  const own = { ...text, overflowing: [] };
  return { ...joinEncoded(spec.direction === "Left" ? [padding, own] : [own, padding]), overflowing };
}

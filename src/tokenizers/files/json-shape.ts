/** Reading a JSON object by a table of its keys: what each must be, and nothing beside them. */
import { asArray, asObject, asString, field, type JsonObject, onlyKeys, type Place } from "./strict-json.ts";

export type Reader<T> = (value: unknown, place: Place) => T;
export type Shape = Readonly<Record<string, Reader<unknown>>>;
export type FromShape<S extends Shape> = { readonly [K in keyof S]: ReturnType<S[K]> };

/** How deep sequences of parts may stand in each other: far deeper than any published file, shallow enough for any stack. */
const DEEPEST = 8;

/** The object's fields as the shape says; `also` names keys that somebody else reads. */
export function readShape<S extends Shape>(object: JsonObject, shape: S, place: Place, also: readonly string[] = []): FromShape<S> {
  onlyKeys(object, [...also, ...Object.keys(shape)], place);
  return Object.fromEntries(Object.entries(shape).map(([key, read]) => [key, read(field(object, key), place.at(key))])) as FromShape<S>;
}

/** What may be missing. */
export const missingAs =
  <T, F>(read: Reader<T>, fallback: F): Reader<T | F> =>
  (value, place) =>
    value === undefined ? fallback : read(value, place);

/** What may be missing or null. */
export const nullAs =
  <T, F>(read: Reader<T>, fallback: F): Reader<T | F> =>
  (value, place) =>
    value === undefined || value === null ? fallback : read(value, place);

/** One of several words. */
export const oneOf =
  <const W extends string>(...words: W[]): Reader<W> =>
  (value, place) => {
    if (!words.includes(value as W)) place.fail("unknown word", words.join(" or "), value);
    return value as W;
  };

/** An array with each item read the same way. */
export const listOf =
  <T>(read: Reader<T>): Reader<T[]> =>
  (value, place) =>
    asArray(value, place).map((item, i) => read(item, place.at(i)));

/** A whole number from 0 on that JavaScript holds exactly. */
export function asCount(value: unknown, place: Place): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) place.fail("bad number", "a whole number from 0 on", value);
  return value as number;
}

/** One character (code point). */
export function asCharacter(value: unknown, place: Place): string {
  const text = asString(value, place);
  if (text === "" || text.length !== String.fromCodePoint(text.codePointAt(0) as number).length) place.fail("wrong length", "one character", value);
  return text;
}

export function asFinite(value: unknown, place: Place): number {
  if (!Number.isFinite(value)) place.fail("bad number", "a finite number", value);
  return value as number;
}

/** A part with its type and the fields that the table has for it. A `Sequence` holds parts under `listKey`. */
export function readPart<S extends Readonly<Record<string, Shape>>, const L extends string>(
  what: string,
  shapes: S,
  listKey: L,
  value: unknown,
  place: Place,
  depth = 0,
): Part<S, L> {
  const object = asObject(value, place);
  const type = asString(field(object, "type"), place.at("type"));
  if (type === "Sequence") {
    if (depth >= DEEPEST) place.fail("sequences nested too deep", `at most ${DEEPEST} levels`, value);
    const inner: Reader<Part<S, L>> = (item, here) => readPart(what, shapes, listKey, item, here, depth + 1);
    return { type, ...readShape(object, { [listKey]: listOf(inner) }, place, ["type"]) } as Part<S, L>;
  }
  if (!Object.hasOwn(shapes, type)) {
    place.at("type").fail(`unknown ${what}`, `${Object.keys(shapes).join(", ")} or Sequence`, type, "This kind of tokenizer is not supported (yet).");
  }
  return { type, ...readShape(object, shapes[type], place, ["type"]) } as Part<S, L>;
}

/** The union of a table's parts, with sequences of them. */
export type Part<S extends Readonly<Record<string, Shape>>, L extends string> =
  | { [T in keyof S & string]: { readonly type: T } & FromShape<S[T]> }[keyof S & string]
  | ({ readonly type: "Sequence" } & { readonly [K in L]: readonly Part<S, L>[] });

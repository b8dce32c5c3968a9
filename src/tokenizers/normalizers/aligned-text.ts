/**
 * A text on its way to the model. It remembers for each of its UTF-16 units the place in the text as it was given, so that a token found in the
 * normalised text has offsets in the user's own.
 *
 * The rules are those of Hugging Face tokenizers (`NormalizedString`), so that offsets are theirs: a character that takes another's place has that one's place,
 * one that is inserted has the place of the unit before it, and a removed one leaves its place to nobody.
 */
import type { Offset } from "../encoding.ts";

/**
 * One character of a new text and what became of the old ones: 0, it stands for the next old character; 1, it is new; -n, it stands for the next and n more
 * behind that one are gone.
 */
export type Change = readonly [character: string, change: number];

export class AlignedText {
  /** The text as it is now. */
  text: string;
  /** Start and end of each unit's place, two numbers a unit; null where each unit stands in its own place. */
  private places: Int32Array | null;
  /** Where the text begins in the whole: the place of what is put before everything. */
  private readonly start: number;

  constructor(text: string, start = 0, places: Int32Array | null = null) {
    this.text = text;
    this.start = start;
    this.places = places;
  }

  /** The place in the given text of the units from `start` up to `end` (at least one). */
  place(start: number, end: number): Offset {
    if (this.places === null) return [this.start + start, this.start + end];
    return [this.places[2 * start], this.places[2 * end - 1]];
  }

  /** The units from `start` up to `end` as a text of its own. */
  slice(start: number, end: number): AlignedText {
    const { text, places } = this;
    if (places === null) return new AlignedText(text.slice(start, end), this.start + start);
    return new AlignedText(text.slice(start, end), start < end ? places[2 * start] : this.start, places.subarray(2 * start, 2 * end));
  }

  /** Leaves the units from `start` up to `end` only. */
  keep(start: number, end: number): void {
    if (start === 0 && end === this.text.length) return;
    this.places = this.placesNow().subarray(2 * start, 2 * end);
    this.text = this.text.slice(start, end);
  }

  /**
   * Replaces the units from `start` up to `end` (all of them without) by the characters of `changes`.
   * @param removed how many old characters are gone before the first new one
   */
  transform(changes: Iterable<Change>, removed = 0, start = 0, end = this.text.length): void {
    const { text } = this;
    const old = this.placesNow();
    const made = new Units(text.length + 16);
    const after = (unit: number, characters: number): number => {
      let to = unit;
      for (let i = 0; i < characters && to < end; i++) to += (text.codePointAt(to) as number) > 0xffff ? 2 : 1;
      return to;
    };
    made.copy(text, old, 0, start);
    let at = after(start, removed);
    for (const [character, change] of changes) {
      this.add(made, character, old, change > 0 ? at - 1 : at);
      if (change <= 0) at = after(at, 1 - change);
    }
    made.copy(text, old, end, text.length);
    this.take(made);
  }

  /** Puts `content` in the place of each match (start and end, in order). It all stands where the match's last unit stood. */
  replaceMatches(matches: Iterable<readonly [start: number, end: number]>, content: string): void {
    this.replace(
      matches,
      () => content,
      (_start, end) => end - 1,
    );
  }

  /** Replaces single characters, those that `affected` (a class, global) finds. What comes for a character stands where it stood. */
  replaceCharacters(affected: RegExp, content: (character: string) => string): void {
    this.replace(indexesOf(this.text, affected), content, (start) => start);
  }

  private replace(
    matches: Iterable<readonly [start: number, end: number]>,
    content: (match: string) => string,
    unit: (start: number, end: number) => number,
  ): void {
    const { text } = this;
    let made: Units | undefined;
    let old: Int32Array = new Int32Array(0);
    let done = 0;
    for (const [start, end] of matches) {
      if (made === undefined) [made, old] = [new Units(text.length + 16), this.placesNow()];
      made.copy(text, old, done, start);
      this.add(made, content(text.slice(start, end)), old, unit(start, end));
      done = end;
    }
    if (made === undefined) return;
    made.copy(text, old, done, text.length);
    this.take(made);
  }

  /** Adds new characters to `made`, all in the place of an old unit, or before everything. */
  private add(made: Units, characters: string, old: Int32Array, unit: number): void {
    if (unit < 0) made.add(characters, this.start, this.start);
    else made.add(characters, old[2 * unit], old[2 * unit + 1]);
  }

  private take(made: Units): void {
    this.places = made.places.subarray(0, 2 * made.length);
    this.text = made.toString();
  }

  private placesNow(): Int32Array {
    if (this.places !== null) return this.places;
    const places = new Int32Array(2 * this.text.length);
    let at = 0;
    for (const character of this.text) {
      for (let i = 0; i < character.length; i++) places.set([this.start + at, this.start + at + character.length], 2 * (at + i));
      at += character.length;
    }
    return places;
  }

  /**
   * The text with each character spelled otherwise, what is spelled in the place of the character; behind `prefix`, which has the place of the
   * first character.
   */
  respell(spell: (character: string) => string, prefix = ""): AlignedText {
    const { text } = this;
    if (text === "") return this;
    const parts: string[] = [prefix];
    let same = prefix === "";
    let length = prefix.length;
    for (const character of text) {
      const spelled = spell(character);
      same &&= spelled.length === character.length;
      length += spelled.length;
      parts.push(spelled);
    }
    const spelled = parts.join("");
    if (spelled === text) return this;
    if (same) return new AlignedText(spelled, this.start, this.places);
    const before = this.placesNow();
    const places = new Int32Array(2 * length);
    for (let i = 0; i < prefix.length; i++) places.set([before[0], before[1]], 2 * i);
    let at = 0;
    let to = 2 * prefix.length;
    let part = 1;
    for (const character of text) {
      for (let i = parts[part++].length; i > 0; i--) {
        places[to++] = before[2 * at];
        places[to++] = before[2 * at + 1];
      }
      at += character.length;
    }
    return new AlignedText(spelled, 0, places);
  }
}

function* indexesOf(text: string, affected: RegExp): Generator<readonly [start: number, end: number]> {
  for (const match of text.matchAll(affected)) yield [match.index, match.index + match[0].length];
}

/** A text that grows, with places: strings that grow a character at a time take many times their size. */
class Units {
  length = 0;
  places: Int32Array;
  private units: Uint16Array;

  constructor(capacity: number) {
    this.units = new Uint16Array(capacity);
    this.places = new Int32Array(2 * capacity);
  }

  add(characters: string, start: number, end: number): void {
    this.reserve(characters.length);
    for (let i = 0; i < characters.length; i++) {
      this.places[2 * this.length] = start;
      this.places[2 * this.length + 1] = end;
      this.units[this.length++] = characters.charCodeAt(i);
    }
  }

  copy(text: string, places: Int32Array, start: number, end: number): void {
    this.reserve(end - start);
    this.places.set(places.subarray(2 * start, 2 * end), 2 * this.length);
    for (let i = start; i < end; i++) this.units[this.length++] = text.charCodeAt(i);
  }

  private reserve(count: number): void {
    if (this.length + count <= this.units.length) return;
    const capacity = 2 * (this.length + count);
    const [units, places] = [new Uint16Array(capacity), new Int32Array(2 * capacity)];
    units.set(this.units);
    places.set(this.places);
    [this.units, this.places] = [units, places];
  }

  toString(): string {
    let text = "";
    for (let i = 0; i < this.length; i += 4096) text += String.fromCharCode(...this.units.subarray(i, Math.min(i + 4096, this.length)));
    return text;
  }
}

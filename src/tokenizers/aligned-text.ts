/**
 * A text on its way to the model. It remembers for each of its UTF-16 units the place in the text as it was given, so that a token found in the
 * normalised text has offsets in the user's own.
 *
 * The rules are those of Hugging Face tokenizers (`NormalizedString`), so that offsets are theirs: a character that takes another's place has that one's place,
 * one that is inserted has the place of the unit before it, and a removed one leaves its place to nobody.
 */
import type { Offset } from "./encoding.ts";

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
  /** Where the text begins in the whole, while `places` is null. */
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
    return new AlignedText(text.slice(start, end), 0, places.subarray(2 * start, 2 * end));
  }

  /**
   * Replaces the units from `start` up to `end` (all of them without) by the characters of `changes`.
   * @param removed how many old characters are gone before the first new one
   */
  transform(changes: Iterable<Change>, removed = 0, start = 0, end = this.text.length): void {
    const old = Array.from(this.text.slice(start, end));
    const before = this.placesNow();
    const places: number[] = [];
    const lengthOf = (from: number, count: number): number => {
      let length = 0;
      for (let i = from; i < Math.min(from + count, old.length); i++) length += old[i].length;
      return length;
    };
    let text = "";
    let taken = removed;
    let at = start + lengthOf(0, removed);
    for (const [character, change] of changes) {
      const unit = change > 0 ? at - 1 : at;
      const place = unit < 0 ? [0, 0] : [before[2 * unit], before[2 * unit + 1]];
      for (let i = 0; i < character.length; i++) places.push(place[0], place[1]);
      if (change <= 0) {
        at += lengthOf(taken, 1 - change);
        taken += 1 - change;
      }
      text += character;
    }
    const all = new Int32Array(2 * (start + text.length + this.text.length - end));
    all.set(before.subarray(0, 2 * start));
    all.set(places, 2 * start);
    all.set(before.subarray(2 * end), 2 * (start + text.length));
    this.places = all;
    this.text = this.text.slice(0, start) + text + this.text.slice(end);
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

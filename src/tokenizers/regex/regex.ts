/**
 * Regular expressions of tokenizer.json: where Oniguruma, the backtracking engine of Hugging Face tokenizers, finds matches, but in time linear
 * in the text for every expression and with memory for what lies ahead only.
 *
 * Leftmost-first: at each start the instructions (regex-program.ts) are followed depth first, the preferred way of each choice before the other, and
 * the first way that reaches the end is the match. That is what a backtracking engine does.
 *
 * Linear: whether a state (instruction, place) can reach the end of its program does not depend on how it was come by: there are no captures,
 * and what an atomic group or look-around holds is a program of its own, whose result at a place is a fact. So a state that has failed
 * is marked, fails at once when it is met again, also from a later start, and no state is tried twice. Of the expression itself one bit is enough:
 * a state is marked when it is first met, since depth first it is met again only after it has failed, or as part of a match; the next start is not
 * before the match's end, so the marks at that end are wiped. Programs within may succeed many times at the same place, so each of their
 * states remembers the end it reaches.
 *
 * A loop whose body may match nothing leaves after a round that did not move (as Oniguruma does). Whether the round moved is part of the state:
 * `still` counts the innermost open rounds that have not moved; a character taken sets it to 0, as it moves them all.
 *
 * States are marked at choices and loops only: between two of them the way is as long as the expression at most. Marks lie in pages by place, which
 * are dropped as the start moves on.
 */

import type { Place } from "../files/strict-json.ts";
import type { CharacterSet } from "./character-set.ts";
import { compileProgram, type Program } from "./regex-program.ts";
import { type Assertion, outerWord } from "./regex-syntax.ts";

export class Regex {
  private readonly program: Program;

  constructor(program: Program) {
    this.program = program;
  }

  /** Start and end (UTF-16 units) of each match, none overlapping. An empty match directly behind another match is none. */
  *matches(text: string): Iterable<readonly [start: number, end: number]> {
    const matcher = new Matcher(this.program, text);
    let last = -1;
    for (let start = 0; start <= text.length; ) {
      const end = matcher.matchAt(start);
      if (end < 0 || (end === start && last === start)) {
        start += widthAt(text, start);
      } else {
        yield [start, end];
        last = end;
        start = end;
      }
    }
  }
}

/** @throws FormatError for an expression that Oniguruma or this engine does not take, with the place in it */
export function compileRegex(source: string, where: Place): Regex {
  return new Regex(compileProgram(source, where));
}

/** Places of one page of marks, as a power of two. */
const PAGE_BITS = 10;
const PAGE = 1 << PAGE_BITS;
/** Numbers of a stack entry: instruction, place, `still`, and what it is: the lowest place of a run, or one of these. */
const ENTRY = 4;
const OTHER_WAY = -1;
const STATE = -2;
/** What an inner state remembers: 0 nothing yet, FAILED, or one more than the end it reaches. */
const FAILED = -1;

class Matcher {
  private readonly program: Program;
  private readonly text: string;
  private readonly word: CharacterSet = outerWordOnce();
  private stack = new Int32Array(64 * ENTRY);
  private top = 0;
  /** Met states, a bit each. */
  private readonly met = new Map<number, Uint32Array>();
  /** Ends that inner states reach. */
  private readonly ends = new Map<number, Int32Array>();
  /** Pages below are dropped. */
  private lowest = 0;

  constructor(program: Program, text: string) {
    this.program = program;
    this.text = text;
  }

  /** The end of the match that begins at `start` (not before the last one), or -1. */
  matchAt(start: number): number {
    const page = Math.max(0, start - this.program.back) >> PAGE_BITS;
    for (; this.lowest < page; this.lowest++) {
      this.met.delete(this.lowest);
      this.ends.delete(this.lowest);
    }
    const end = this.run(0, start, false);
    if (end >= 0) this.wipe(end);
    return end;
  }

  private wipe(at: number): void {
    const page = this.met.get(at >> PAGE_BITS);
    if (page === undefined) return;
    for (let bit = at & (PAGE - 1); bit < this.program.slots << PAGE_BITS; bit += PAGE) page[bit >> 5] &= ~(1 << (bit & 31));
  }

  /** Marks a state of the expression itself; false when it was marked. */
  private meet(slot: number, at: number): boolean {
    let page = this.met.get(at >> PAGE_BITS);
    if (page === undefined) {
      page = new Uint32Array((this.program.slots << PAGE_BITS) >> 5);
      this.met.set(at >> PAGE_BITS, page);
    }
    const bit = (slot << PAGE_BITS) + (at & (PAGE - 1));
    if ((page[bit >> 5] >>> (bit & 31)) & 1) return false;
    page[bit >> 5] |= 1 << (bit & 31);
    return true;
  }

  private knownEnd(slot: number, at: number): number {
    return this.ends.get(at >> PAGE_BITS)?.[(slot << PAGE_BITS) + (at & (PAGE - 1))] ?? 0;
  }

  private rememberEnd(slot: number, at: number, value: number): void {
    let page = this.ends.get(at >> PAGE_BITS);
    if (page === undefined) {
      page = new Int32Array(this.program.innerSlots << PAGE_BITS);
      this.ends.set(at >> PAGE_BITS, page);
    }
    page[(slot << PAGE_BITS) + (at & (PAGE - 1))] = value;
  }

  private push(instruction: number, at: number, still: number, kind: number): void {
    if (this.top === this.stack.length) {
      const larger = new Int32Array(2 * this.stack.length);
      larger.set(this.stack);
      this.stack = larger;
    }
    this.stack[this.top] = instruction;
    this.stack[this.top + 1] = at;
    this.stack[this.top + 2] = still;
    this.stack[this.top + 3] = kind;
    this.top += ENTRY;
  }

  /** Follows a program from an instruction at a place: the end of its first way to `accept`, or -1. */
  private run(instruction: number, place: number, inner: boolean): number {
    const { text } = this;
    const { instructions } = this.program;
    const base = this.top;
    let next = instruction;
    let at = place;
    let still = 0;
    for (;;) {
      const now = instructions[next];
      let failed = false;
      switch (now.op) {
        case "character": {
          const point = text.codePointAt(at);
          failed = point === undefined || !now.set.has(point);
          if (failed) break;
          at += (point as number) > 0xffff ? 2 : 1;
          still = 0;
          next++;
          break;
        }
        case "jump":
          next = now.to;
          break;
        case "split": {
          const slot = now.slot + still;
          if (inner) {
            const known = this.knownEnd(slot, at);
            if (known > 0) return this.succeed(base, known - 1);
            failed = known === FAILED;
            if (!failed) this.push(next, at, still, STATE);
          } else failed = !this.meet(slot, at);
          if (failed) break;
          this.push(now.second, at, still, OTHER_WAY);
          next = now.first;
          break;
        }
        case "run": {
          let end = at;
          let met = 0;
          for (;;) {
            const slot = now.slot + (end === at ? still : 0);
            met = inner ? this.knownEnd(slot, end) : this.meet(slot, end) ? 0 : FAILED;
            if (met !== 0) break;
            const point = text.codePointAt(end);
            if (point === undefined || !now.set.has(point)) break;
            end += point > 0xffff ? 2 : 1;
          }
          failed = met !== 0 && end === at;
          // From a met state on the run is known to fail (then the next is tried with one character less) or to succeed.
          const last = met === 0 || failed ? end : end - widthBefore(text, end);
          if (!failed && (inner || last > at)) this.push(next, last, still, at);
          if (met > 0) return this.succeed(base, met - 1);
          if (failed) break;
          if (last > at) still = 0;
          at = last;
          next++;
          break;
        }
        case "enter":
          still++;
          next++;
          break;
        case "round":
          if (still > 0) {
            still--;
            next = now.exit;
          } else next = now.head;
          break;
        case "assertion":
          failed = !this.holds(now.kind, at);
          next++;
          break;
        case "look": {
          const from = now.width === 0 ? at : this.stepBack(at, now.width);
          const found = from >= 0 && this.run(next + 1, from, true) >= 0;
          failed = found === now.negative;
          next = now.next;
          break;
        }
        case "atomic": {
          const end = this.run(next + 1, at, true);
          failed = end < 0;
          if (failed) break;
          if (end > at) still = 0;
          at = end;
          next = now.next;
          break;
        }
        case "accept":
          return inner ? this.succeed(base, at) : this.leave(base, at);
      }
      if (!failed) continue;
      // Back to the last choice that has another way.
      for (;;) {
        if (this.top === base) return -1;
        this.top -= ENTRY;
        const { stack, top } = this;
        next = stack[top];
        at = stack[top + 1];
        still = stack[top + 2];
        const kind = stack[top + 3];
        if (kind === OTHER_WAY) break;
        const slot = (instructions[next] as { slot: number }).slot;
        if (kind === STATE) {
          this.rememberEnd(slot + still, at, FAILED);
          continue;
        }
        // A run: what lies behind it failed with its characters up to here; with one less?
        if (inner) this.rememberEnd(slot + (at === kind ? still : 0), at, FAILED);
        if (at === kind) continue;
        at -= widthBefore(text, at);
        if (inner || at > kind) this.push(next, at, still, kind);
        if (at > kind) still = 0;
        next++;
        break;
      }
    }
  }

  private leave(base: number, end: number): number {
    this.top = base;
    return end;
  }

  /** All states on the way to an inner program's end remember it. */
  private succeed(base: number, end: number): number {
    const { stack } = this;
    for (let entry = base; entry < this.top; entry += ENTRY) {
      const at = stack[entry + 1];
      const still = stack[entry + 2];
      const kind = stack[entry + 3];
      if (kind === OTHER_WAY) continue;
      const { slot } = this.program.instructions[stack[entry]] as { slot: number };
      const low = kind === STATE ? at : kind;
      for (let place = low; place <= at; place++) this.rememberEnd(slot + (place === low ? still : 0), place, end + 1);
    }
    return this.leave(base, end);
  }

  private holds(kind: Assertion, at: number): boolean {
    const { text } = this;
    switch (kind) {
      case "textStart":
        return at === 0;
      case "textEnd":
        return at === text.length;
      case "lastLineEnd":
        return at === text.length || (at === text.length - 1 && text[at] === "\n");
      case "lineStart":
        return at === 0 || (at < text.length && text[at - 1] === "\n");
      case "lineEnd":
        return at === text.length || text[at] === "\n";
      default: {
        const before = at > 0 && this.word.has(text.codePointAt(at - widthBefore(text, at)) as number);
        const behind = at < text.length && this.word.has(text.codePointAt(at) as number);
        return (before !== behind) === (kind === "wordBoundary");
      }
    }
  }

  private stepBack(place: number, characters: number): number {
    let at = place;
    for (let i = 0; i < characters; i++) {
      if (at === 0) return -1;
      at -= widthBefore(this.text, at);
    }
    return at;
  }
}

let outer: CharacterSet | undefined;
function outerWordOnce(): CharacterSet {
  outer ??= outerWord();
  return outer;
}

/** Units of the character that begins at `at`; 1 at the end of the text. */
function widthAt(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}

/** Units of the character that ends at `at`. */
function widthBefore(text: string, at: number): number {
  return at > 1 && (text.codePointAt(at - 2) as number) > 0xffff ? 2 : 1;
}

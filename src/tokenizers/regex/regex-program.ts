/**
 * Turns a read regular expression into instructions for the matcher (regex.ts). A counted repeat becomes copies, a look-around or atomic group a
 * program within the program, a loop whose body may match nothing gets a guard against going round without moving.
 */

import type { Place } from "../files/strict-json.ts";
import type { CharacterSet } from "./character-set.ts";
import { type Assertion, type Node, parseRegex } from "./regex-syntax.ts";

export type Instruction =
  /** Takes one character of the set. */
  | { op: "character"; set: CharacterSet }
  /** Goes on at `first`, and at `second` if that fails. */
  | { op: "split"; first: number; second: number; slot: number }
  /** Takes as many characters of the set as there are, then fewer and fewer. */
  | { op: "run"; set: CharacterSet; slot: number }
  | { op: "jump"; to: number }
  /** A round of a loop whose body may match nothing begins. */
  | { op: "enter" }
  /** A round ends: back to `head` if it took something, else out to `exit`. */
  | { op: "round"; head: number; exit: number }
  | { op: "assertion"; kind: Assertion }
  /** Tries the program behind this instruction, `width` characters further back, and goes on at `next` without having moved. */
  | { op: "look"; negative: boolean; width: number; next: number }
  /** Runs the program behind this instruction and goes on at `next` with its first match. */
  | { op: "atomic"; next: number }
  | { op: "accept" };

export interface Program {
  instructions: readonly Instruction[];
  /** States to remember for each place in the text: of the program itself, and of the programs within. */
  slots: number;
  innerSlots: number;
  /** How far back look-behinds look, in UTF-16 units at most. */
  back: number;
}

/** Larger ones are attacks: `(?:a{1000}){1000}`. */
const MOST_INSTRUCTIONS = 20_000;

export function compileProgram(source: string, where: Place): Program {
  return new Compiler(source, where).compile(parseRegex(source, where));
}

class Compiler {
  private readonly instructions: Instruction[] = [];
  private slots = 0;
  private innerSlots = 0;
  private back = 0;
  private steps = 0;
  /** Whether the program within a look-around or atomic group is being written. */
  private inner = false;
  /** How many guarded loops of the current program are open. */
  private guards = 0;
  private readonly source: string;
  private readonly where: Place;

  constructor(source: string, where: Place) {
    this.source = source;
    this.where = where;
  }

  compile(node: Node): Program {
    this.write(node);
    this.emit({ op: "accept" });
    const { instructions, slots, innerSlots, back } = this;
    return { instructions, slots, innerSlots, back };
  }

  private emit<T extends Instruction>(instruction: T): T {
    this.instructions.push(instruction);
    return instruction;
  }

  private get here(): number {
    return this.instructions.length;
  }

  /** A state of the current program: one for each number of open guarded loops that may not have moved. */
  private slot(): number {
    const slot = this.inner ? this.innerSlots : this.slots;
    if (this.inner) this.innerSlots += this.guards + 1;
    else this.slots += this.guards + 1;
    return slot;
  }

  private split(): Instruction & { op: "split" } {
    return this.emit({ op: "split", first: this.here + 1, second: this.here + 1, slot: this.slot() });
  }

  private write(node: Node): void {
    if (++this.steps > MOST_INSTRUCTIONS) {
      this.where.fail("too large a regular expression", `at most ${MOST_INSTRUCTIONS} steps with its repeats written out`, this.source);
    }
    switch (node.type) {
      case "set":
        this.emit({ op: "character", set: node.set });
        return;
      case "sequence":
        for (const item of node.items) this.write(item);
        return;
      case "assertion":
        this.emit({ op: "assertion", kind: node.kind });
        return;
      case "choice":
        this.choice(node.items);
        return;
      case "repeat":
        this.repeat(node);
        return;
      case "atomic": {
        const atomic = this.emit({ op: "atomic", next: 0 });
        this.within(node.item);
        atomic.next = this.here;
        return;
      }
      case "look":
        this.look(node);
    }
  }

  private choice(items: readonly Node[]): void {
    const jumps: { to: number }[] = [];
    for (const [i, item] of items.entries()) {
      const split = i < items.length - 1 ? this.split() : undefined;
      this.write(item);
      if (split === undefined) continue;
      jumps.push(this.emit({ op: "jump", to: 0 }));
      split.second = this.here;
    }
    for (const jump of jumps) jump.to = this.here;
  }

  /** A program of its own, with its own states. */
  private within(item: Node): void {
    const { inner, guards } = this;
    this.inner = true;
    this.guards = 0;
    this.write(item);
    this.emit({ op: "accept" });
    this.inner = inner;
    this.guards = guards;
  }

  private look(node: Node & { type: "look" }): void {
    const { behind, negative, item } = node;
    if (behind && item.type === "choice") {
      // Alternatives may have different widths: (?<=a|bc) is (?:(?<=a)|(?<=bc)), (?<!a|bc) is (?<!a)(?<!bc).
      const items = item.items.map((one): Node => ({ ...node, item: one }));
      this.write(negative ? { type: "sequence", items } : { type: "choice", items });
      return;
    }
    const width = behind ? widthOf(item) : 0;
    if (width === undefined) {
      this.where.fail("a look-behind of many widths in a regular expression", "one whose alternatives have each a fixed number of characters", this.source);
    }
    this.back += 2 * width;
    const look = this.emit({ op: "look", negative, width, next: 0 });
    this.within(item);
    look.next = this.here;
  }

  private repeat(node: Node & { type: "repeat" }): void {
    const { item, min, max, mode } = node;
    if (mode === "possessive") {
      this.write({ type: "atomic", item: { ...node, mode: "greedy" } });
      return;
    }
    const lazy = mode === "lazy";
    if (max !== Infinity) {
      for (let i = 0; i < min; i++) this.write(item);
      const splits: (Instruction & { op: "split" })[] = [];
      for (let i = min; i < max; i++) {
        splits.push(this.split());
        this.write(item);
      }
      for (const split of splits) this.exit(split, lazy);
      return;
    }
    for (let i = 1; i < min; i++) this.write(item);
    if (item.type === "set" && !lazy) {
      if (min > 0) this.write(item);
      this.emit({ op: "run", set: item.set, slot: this.slot() });
    } else this.loop(item, min > 0, lazy);
  }

  /** Sends the other way of a split to here. */
  private exit(split: Instruction & { op: "split" }, lazy: boolean): void {
    if (lazy) {
      split.second = split.first;
      split.first = this.here;
    } else split.second = this.here;
  }

  /** Rounds without end: `item*`, or `item+` when there is a first round in any case. */
  private loop(item: Node, firstRound: boolean, lazy: boolean): void {
    const guarded = isNullable(item);
    const skip = firstRound ? this.emit({ op: "jump", to: 0 }) : undefined;
    const head = this.here;
    const split = this.split();
    if (skip !== undefined) skip.to = this.here;
    if (guarded) {
      this.guards++;
      this.emit({ op: "enter" });
    }
    this.write(item);
    if (guarded) {
      this.guards--;
      this.emit({ op: "round", head, exit: this.here + 1 });
    } else this.emit({ op: "jump", to: head });
    this.exit(split, lazy);
  }
}

/** Whether an expression may match without taking a character. */
function isNullable(node: Node): boolean {
  if (node.type === "set") return false;
  if (node.type === "sequence") return node.items.every(isNullable);
  if (node.type === "choice") return node.items.some(isNullable);
  if (node.type === "repeat") return node.min === 0 || isNullable(node.item);
  return node.type === "atomic" ? isNullable(node.item) : true;
}

/** Number of characters that an expression takes, undefined when there are several. */
function widthOf(node: Node): number | undefined {
  if (node.type === "set") return 1;
  if (node.type === "look" || node.type === "assertion") return 0;
  if (node.type === "atomic") return widthOf(node.item);
  if (node.type === "repeat") {
    const width = widthOf(node.item);
    if (width === 0) return 0;
    return width !== undefined && node.min === node.max ? width * node.min : undefined;
  }
  const widths = node.items.map(widthOf);
  if (widths.includes(undefined)) return undefined;
  if (node.type === "sequence") return (widths as number[]).reduce((sum, width) => sum + width, 0);
  return widths.every((width) => width === widths[0]) ? widths[0] : undefined;
}

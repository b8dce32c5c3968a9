/**
 * Keys and values of many sequences in pages of 64 positions, so that sequences may grow, leave and share beginnings without ever
 * moving a row (Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023). One step
 * takes new tokens of any of the sequences, prompts and single tokens alike, as one ragged batch; what a sequence gets has the
 * same bytes as if it ran alone.
 */
import { DataError, GroundupError, OutOfMemoryError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import type { LayerState } from "../nn/index.ts";
import { checkOptions } from "../options.ts";
import {
  indexSelect,
  keep,
  noGrad,
  PAGE_POSITIONS,
  pagedAttention,
  STATE_DTYPES,
  type StateDType,
  scope,
  type Tensor,
  tensor,
  writePages,
  zeros,
} from "../tensor/index.ts";
import { checkTokenIds } from "../token-ids.ts";
import { type CapturedSteps, createCapturedSteps } from "./captured-steps.ts";

/** How ids that a model lacks are refused. */
export const OF_MODEL = { vocabulary: "the model's vocabulary", advice: "Was the text encoded with another tokenizer?" };

/** Positions in a page: the block of keys that attention takes at a time. */
export const PAGE = PAGE_POSITIONS;

/** How layer state is kept. */
export interface StateOptions {
  /** The most pages of 64 positions, each 2 · layers · kvHeads · headDim · 64 items; default: as many as memory holds. */
  maxPages?: number;
  /** What keys and values are kept as: f32, or f16 (rounded to nearest even) in half the memory. Results then differ from those without state within that rounding. Default f32. */
  stateDtype?: StateDType;
}

/** Steps of up to so many new tokens are captured: in larger ones the kernels take so long that JavaScript is nothing beside them. */
const CAPTURED_ROWS = 32;
/** Page tables are as wide as a multiple of this, so that steps have the same form for long. */
const TABLE_PAGES = 8;

/** What keys and values are kept as where nobody says. */
export const DEFAULT_STATE_DTYPE: StateDType = "f32";

/** One sequence's place in the state. Read it; only the state writes it. */
export interface Sequence {
  /** Positions that are filled. */
  readonly length: number;
  /** Its pages, in order; the last may be partly filled. */
  readonly pages: readonly number[];
}

/** What one sequence takes part in a step with. */
export interface StepEntry {
  readonly sequence: Sequence;
  /** What comes next in it: a whole prompt, a part of one, or one token. At least one id. */
  readonly ids: ArrayLike<number>;
  /** How many of its last new tokens give logits. Default 1; 0 for a part of a prompt that another follows. */
  readonly logits?: number;
}

/** Keys and values of many sequences in pages of one pool. */
export interface PagedState {
  /** Begins a sequence: empty, or with what full pages hold, which somebody must hold until then. */
  allocate(pages?: readonly number[]): Sequence;
  /**
   * Begins a sequence with the first `length` positions of another (default: all), without copying: both hold the same pages, and
   * whichever writes into a shared page first gets a copy of it.
   */
  fork(sequence: Sequence, length?: number): Sequence;
  /** Takes the end of a sequence back: its first `length` positions stay, and pages behind them that nobody else holds are free again. */
  truncate(sequence: Sequence, length: number): void;
  /** Ends a sequence; pages that nobody else holds are free again. */
  free(sequence: Sequence): void;
  /** Holds a page that a sequence has, also beyond the sequence's end, until `release`. Who holds a page expects it to be full. */
  hold(page: number): void;
  /** Ends what `hold` began. */
  release(page: number): void;
  /** How many sequences and callers of `hold` have this page. */
  holders(page: number): number;
  /** Pages that `step` would take for `more` tokens of this sequence. */
  needs(sequence: Sequence, more: number): number;
  /**
   * One forward pass over new tokens of some sequences, each at most once.
   *
   * @returns logits after the last new tokens of each entry, as many as `StepEntry.logits` says, in order: (entries, vocabulary) by default, f32. Call it inside a scope.
   * @throws DataError for ids outside the vocabulary or a sequence beyond the model's context, GroundupError when `maxPages` do not suffice; no sequence has changed then
   */
  step(entries: readonly StepEntry[]): Tensor;
  /** `step` that also gives the last hidden states of all new tokens, (ΣT, hidden), which the head sees. */
  stepHidden(entries: readonly StepEntry[]): { logits: Tensor; hidden: Tensor };
  /** Pages held by sequences, pages there is memory for, and the most there may be; and steps so far that were captured ones, run again. */
  usage(): { used: number; capacity: number; most: number; replayedSteps: number };
  dispose(): void;
}

/** What a step is made of. */
interface Layout {
  /** The numbers that differ from step to step: ids, positions, slots (rows each), the rows that give logits (outputs), and `PagedKeys.places`. */
  readonly inputs: Int32Array;
  readonly rows: number;
  readonly outputs: number;
  readonly maxPages: number;
  /** Parts of `inputs`, for who reads them without a tensor. */
  readonly lengths: Int32Array;
  readonly cuSeqlens: Int32Array;
  readonly pageTable: Int32Array;
}

interface MutableSequence extends Sequence {
  length: number;
  pages: number[];
}

/**
 * Room for sequences of a model. Memory grows by halves of itself as pages are needed and is given back by `dispose()`.
 *
 * @throws GroundupError for options that make no sense
 */
export function createPagedState(model: CausalLM, options: StateOptions = {}): PagedState {
  checkOptions("createPagedState", options, { maxPages: true, stateDtype: true });
  const { layers, kvHeads, headDim, context, vocabulary } = model.dimensions;
  const most = options.maxPages ?? Number.POSITIVE_INFINITY;
  if (!(most >= 1)) throw new GroundupError(`createPagedState: bad maxPages, expected at least 1, got ${most}. Give more pages.`);
  const dtype = options.stateDtype ?? DEFAULT_STATE_DTYPE;
  if (!STATE_DTYPES.includes(dtype))
    throw new GroundupError(`createPagedState: bad stateDtype, expected ${STATE_DTYPES.join(" or ")}, got ${String(dtype)}. Correct it.`);
  const captured = model.eager ? null : createCapturedSteps(model);
  const live = new Set<MutableSequence>();
  /** Holders of each page. */
  const holders: number[] = [];
  const unused: number[] = [];
  let stores: { k: Tensor; v: Tensor }[] = [];
  let capacity = 0;
  /** What the layers of the step in progress need to know. */
  let batch: { slots: Tensor; pageTable: Int32Array; maxPages: number; lengths: Int32Array; cuSeqlens: Int32Array; places: Tensor };

  const state: LayerState[] = Array.from({ length: layers }, (_, layer) => ({
    attend(q, k, v, attendOptions) {
      const store = stores[layer];
      writePages(store.k, k, batch.slots, "keys");
      writePages(store.v, v, batch.slots, "values");
      const { pageTable, maxPages, lengths, cuSeqlens, places } = batch;
      return pagedAttention(q, { k: store.k, v: store.v, pageTable, maxPages, lengths, cuSeqlens, places }, attendOptions);
    },
  }));

  /** Makes sure that `count` pages are free. */
  function reserve(count: number): void {
    const used = holders.length - unused.length;
    if (used + count > most) {
      throw new GroundupError(
        `paged state: no room for the next tokens, expected at most ${most} pages of ${PAGE} positions, got ${used} in use and ${count} more needed. ` +
          "Free a sequence first, or create the state with more pages.",
      );
    }
    if (used + count <= capacity) return;
    const grown = Math.min(most, Math.max(capacity + (capacity >> 1), used + count));
    const larger = (old: Tensor | undefined, shape: readonly [number, number]): Tensor => {
      const t = keep(zeros([grown, kvHeads, ...shape], { dtype }));
      if (old !== undefined) scope(() => void t.narrow(0, 0, capacity).copyFrom(old.narrow(0, 0, capacity)));
      return t;
    };
    // One by one: where memory ends half-way, the layers that have grown are as good as the others, and the capacity is what it was.
    for (let layer = 0; layer < layers; layer++) {
      const old = stores[layer];
      const k = larger(old?.k, [headDim, PAGE]);
      try {
        stores[layer] = { k, v: larger(old?.v, [PAGE, headDim]) };
      } catch (error) {
        k.dispose("the paged state, which could not grow");
        throw error;
      }
      old?.k.dispose("the growth of the paged state");
      old?.v.dispose("the growth of the paged state");
    }
    capacity = grown;
  }

  function take(): number {
    const page = unused.pop() ?? holders.length;
    holders[page] = 1;
    return page;
  }

  function release(page: number): void {
    if (--holders[page] === 0) unused.push(page);
  }

  function known(where: string, sequence: Sequence): MutableSequence {
    if (!live.has(sequence as MutableSequence))
      throw new GroundupError(`${where}: unknown sequence, expected one that allocate() gave and free() has not ended, got another. Allocate it first.`);
    return sequence as MutableSequence;
  }

  /** New pages that an entry needs: for positions beyond its pages, and for a copy of a last page that others hold too. */
  function need({ length, pages }: Sequence, more: number): { fresh: number; copy: boolean } {
    const copy = length % PAGE !== 0 && holders[pages[Math.floor(length / PAGE)]] > 1;
    // A step that failed may have left a sequence more pages than it has used.
    return { fresh: Math.max(0, Math.ceil((length + more) / PAGE) - pages.length), copy };
  }

  function check(entries: readonly StepEntry[]): void {
    if (entries.length === 0) throw new GroundupError("paged state: nothing to do, expected at least one entry, got none. Skip the step.");
    const seen = new Set<Sequence>();
    for (const { sequence, ids, logits = 1 } of entries) {
      known("paged state", sequence);
      if (seen.has(sequence)) throw new GroundupError("paged state: a sequence twice in one step, expected each at most once. Put its ids into one entry.");
      seen.add(sequence);
      if (ids.length === 0) throw new DataError("paged state: a sequence without new ids, expected at least one, got none. Leave it out of the step.");
      if (!(Number.isInteger(logits) && logits >= 0 && logits <= ids.length))
        throw new GroundupError(`paged state: bad logits, expected a whole number up to the ${ids.length} new ids, got ${logits}. Ask for fewer.`);
      checkTokenIds("paged state", ids, vocabulary, OF_MODEL);
      if (sequence.length + ids.length > context) {
        throw new DataError(
          `paged state: the sequence is too long, expected at most ${context} positions (the model's context), got ${sequence.length + ids.length}. Shorten the prompt or generate less.`,
        );
      }
    }
  }

  /** All that a step begins with besides the pages, which the entries have: what the layers and the model are to read, one part behind the other. */
  function layOut(entries: readonly StepEntry[]): Layout {
    const sequences = entries.length;
    let [rows, outputs, maxPages] = [0, 0, 0];
    for (const { sequence, ids, logits = 1 } of entries) {
      rows += ids.length;
      outputs += logits;
      maxPages = Math.max(maxPages, Math.ceil((sequence.length + ids.length) / PAGE));
    }
    maxPages = Math.ceil(maxPages / TABLE_PAGES) * TABLE_PAGES;
    const inputs = new Int32Array(3 * rows + outputs + 2 * sequences + 1 + sequences * maxPages);
    let end = 0;
    const part = (length: number) => inputs.subarray(end, (end += length));
    const [ids, positions, slots, read] = [part(rows), part(rows), part(rows), part(outputs)];
    const [cuSeqlens, lengths, pageTable] = [part(sequences + 1), part(sequences), part(sequences * maxPages)];
    let [row, out] = [0, 0];
    for (const [s, entry] of entries.entries()) {
      const { length, pages } = entry.sequence;
      const count = entry.ids.length;
      ids.set(entry.ids, row);
      for (let i = 0; i < count; i++) {
        const at = length + i;
        positions[row + i] = at;
        slots[row + i] = pages[Math.floor(at / PAGE)] * PAGE + (at % PAGE);
      }
      for (let i = 0; i < Math.min(pages.length, maxPages); i++) pageTable[s * maxPages + i] = pages[i];
      row += count;
      cuSeqlens[s + 1] = row;
      lengths[s] = length + count;
      for (let i = entry.logits ?? 1; i > 0; i--) read[out++] = row - i;
    }
    return { inputs, rows, outputs, maxPages, lengths, cuSeqlens, pageTable };
  }

  /** The forward pass over what `layout` says, whose numbers `inputs` holds; `all`: with the hidden states. */
  function pass({ rows, outputs, maxPages, lengths, cuSeqlens, pageTable }: Layout, inputs: Tensor, all: boolean): Tensor[] {
    let end = 0;
    const part = (length: number) => inputs.narrow(0, (end += length) - length, length);
    const [ids, positions, slots, read] = [part(rows), part(rows), part(rows), part(outputs)];
    batch = { slots, pageTable, maxPages, lengths, cuSeqlens, places: part(inputs.size - end) };
    const training = model.training;
    if (training) model.eval();
    try {
      const out = model.forward({ inputIds: ids.reshape([1, rows]), positions, cuSeqlens, lengths, state });
      const hidden = out.hidden.reshape([rows, -1]); // (ΣT, C)
      // Where every row gives logits, as in a step of single tokens, they are all there in order.
      const chosen = () => (outputs === rows ? hidden : indexSelect(hidden, 0, read));
      const logits = outputs === 0 ? zeros([0, vocabulary]) : out.logitsOf(chosen()); // (Σ logits, vocabulary)
      return all ? [logits, hidden] : [logits];
    } finally {
      if (training) model.train();
    }
  }

  function extend(entries: readonly StepEntry[]): void {
    const needs = entries.map((e) => need(e.sequence, e.ids.length));
    reserve(needs.reduce((n, { fresh, copy }) => n + fresh + (copy ? 1 : 0), 0));
    for (const [s, { fresh, copy }] of needs.entries()) {
      const sequence = entries[s].sequence as MutableSequence;
      if (copy) {
        const at = Math.floor(sequence.length / PAGE);
        const old = sequence.pages[at];
        const page = take();
        for (const { k, v } of stores) {
          scope(() => {
            for (const x of [k, v]) x.narrow(0, page, 1).copyFrom(x.narrow(0, old, 1));
          });
        }
        release(old);
        sequence.pages[at] = page;
      }
      for (let i = 0; i < fresh; i++) sequence.pages.push(take());
    }
  }

  /** `all`: with the hidden states. Sequences have changed only when all went well. */
  function run(entries: readonly StepEntry[], all: boolean): { logits: Tensor; hidden: Tensor | null } {
    check(entries);
    try {
      return runOnce(entries, all, captured);
    } catch (error) {
      // What was captured is only there to be quick: it goes before a step fails for want of memory.
      if (!(error instanceof OutOfMemoryError) || captured?.forget() !== true) throw error;
      return runOnce(entries, all, null);
    }
  }

  function runOnce(entries: readonly StepEntry[], all: boolean, captured: CapturedSteps | null): { logits: Tensor; hidden: Tensor | null } {
    return noGrad(() => {
      extend(entries);
      const layout = layOut(entries);
      const { inputs, rows, lengths, maxPages } = layout;
      const work = (numbers: Tensor) => scope(() => pass(layout, numbers, all));
      const [logits, hidden] = scope(() => {
        if (captured === null || rows > CAPTURED_ROWS) return work(tensor(inputs));
        const name = `${entries.map((e) => `${e.ids.length}:${e.logits ?? 1}`).join()} ${maxPages} ${all}`;
        return captured.run({ name, inputs, lengths }, work);
      });
      for (const { sequence, ids } of entries) (sequence as MutableSequence).length += ids.length;
      return { logits, hidden: hidden ?? null };
    });
  }

  function checkLength(where: string, length: number, filled: number): void {
    if (!(Number.isInteger(length) && length >= 0 && length <= filled))
      throw new GroundupError(`${where}: bad length, expected a whole number up to the sequence's ${filled} positions, got ${length}. Give one that it has.`);
  }

  function checkHeld(where: string, page: number): void {
    if (!(holders[page] > 0))
      throw new GroundupError(`${where}: nobody holds this page, expected one that a sequence has, got ${page}. Take it from a sequence.`);
  }

  return {
    allocate(pages = []) {
      for (const page of pages) checkHeld("allocate", page);
      for (const page of pages) holders[page]++;
      const sequence: MutableSequence = { length: pages.length * PAGE, pages: [...pages] };
      live.add(sequence);
      return sequence;
    },
    fork(sequence, length = sequence.length) {
      const { pages, length: filled } = known("fork", sequence);
      checkLength("fork", length, filled);
      const copy: MutableSequence = { length, pages: pages.slice(0, Math.ceil(length / PAGE)) };
      for (const page of copy.pages) holders[page]++;
      live.add(copy);
      return copy;
    },
    truncate(sequence, length) {
      const own = known("truncate", sequence);
      checkLength("truncate", length, own.length);
      for (const page of own.pages.splice(Math.ceil(length / PAGE))) release(page);
      own.length = length;
    },
    free(sequence) {
      const { pages } = known("free", sequence);
      for (const page of pages) release(page);
      live.delete(sequence as MutableSequence);
    },
    hold(page) {
      checkHeld("hold", page);
      holders[page]++;
    },
    release(page) {
      checkHeld("release", page);
      release(page);
    },
    holders: (page) => holders[page] ?? 0,
    needs(sequence, more) {
      const { fresh, copy } = need(sequence, more);
      return fresh + (copy ? 1 : 0);
    },
    step: (entries) => run(entries, false).logits,
    stepHidden: (entries) => run(entries, true) as { logits: Tensor; hidden: Tensor },
    usage: () => ({ used: holders.length - unused.length, capacity, most, replayedSteps: captured?.replayed() ?? 0 }),
    dispose() {
      captured?.forget();
      for (const { k, v } of stores) {
        k.dispose("PagedState.dispose()");
        v.dispose("PagedState.dispose()");
      }
      stores = [];
      capacity = 0;
      holders.length = 0;
      unused.length = 0;
      live.clear();
    },
  };
}

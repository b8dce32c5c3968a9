/**
 * Work that is always the same kernels on the same memory, only with other values in it, captured once and made again without the JavaScript that made it: what CUDA
 * graphs are for a GPU (PyTorch's `torch.cuda.graph`, vLLM's captured decoding steps). A step of generation is some hundred calls, each
 * cheap, and the JavaScript between them a quarter of its time.
 *
 * A capture listens to the border of `backend.ts` and keeps each call's arguments. Tensors made meanwhile lie in blocks that stay the capture's own, so that the same numbers name
 * the same memory later. What the host decides by looking at values (a read, a number that a kernel answers) would not be decided anew: it makes a capture useless, and `problem` says so.
 */
import { GroundupError } from "../errors.ts";
import { autocastPrecision, type Precision } from "./autocast.ts";
import { type Backend, backend, type CallListener } from "./backend.ts";
import type { Operand } from "./kernels.ts";
import { keep } from "./scope.ts";
import { type BlockLender, holdBytes, lendBlocks, ownerNamed, type Storage } from "./storage.ts";
import type { Tensor } from "./tensor.ts";

const owner = ownerNamed("captured work");

let open: Capture | null = null;

/** Whether the backend in use can make calls again. */
export const canCapture = (): boolean => backend().calls !== null;

/**
 * @internal For whoever chooses what kernels get by how long the sequences are (a table that must reach so far): what is captured now holds while each of them has from `from` to `to`
 * positions.
 */
export function capturedForLengths(from: number, to: number): void {
  if (open === null) return;
  open.shortest = Math.max(open.shortest, from);
  open.longest = Math.min(open.longest, to);
}

/** @internal What was done now must not be done again, in words: something was made that stays. */
export function captureFails(problem: string): void {
  open?.passed(problem);
}

/** @internal What is captured now reads a copy of this storage's items as they are: when it is written to, the calls no longer hold. */
export function captureFollows(storage: Storage): void {
  open?.follow(storage);
}

/** Blocks of captures that nobody has any more, and that were not disposed. */
const net = new FinalizationRegistry<CaptureMemory>(freeAll);

/** What a capture has of the backend's memory. */
interface CaptureMemory {
  readonly home: Backend;
  /** All blocks with their sizes. */
  readonly blocks: Map<number, number>;
  /** The bytes of it in the account of captured work, once they are there. */
  counted: number | null;
}

function freeAll(memory: CaptureMemory): void {
  if (memory.counted !== null) holdBytes(owner, -memory.counted, -1);
  memory.counted = null;
  for (const block of memory.blocks.keys()) memory.home.free(block);
  memory.blocks.clear();
}

/** Calls that can be made again, the memory that they work in, and their results. */
export class Capture implements CallListener, BlockLender {
  /** Why these calls must not be made again; null where they may. */
  problem: string | null = null;
  /** What the work gave: the same tensors hold the results of each `replay()`. */
  readonly results: Tensor[] = [];
  /** The lengths of sequences that the calls are right for. */
  shortest = 0;
  longest = Number.POSITIVE_INFINITY;
  /** For each call the kernel's number, the count of its arguments, and those. */
  private program = new Float64Array(1 << 12);
  private size = 0;
  private readonly memory: CaptureMemory = { home: backend(), blocks: new Map(), counted: null };
  private readonly precision: Precision = autocastPrecision();
  /** Memory that is not the capture's, and the numbers of its blocks. */
  private readonly others = new Map<Operand["storage"], number>();
  /** The same, flat: `holds` looks at all of them before each replay. */
  private otherStorages: readonly Operand["storage"][] = [];
  private otherBlocks: readonly number[] = [];
  /** Storages of which a copy is read, and their versions. */
  private readonly followed = new Map<Storage, number>();
  /** The blocks in the order in which they were taken, some several times. */
  private readonly taken: { block: number; bytes: number }[] = [];
  /** Those that a tensor has now, and the rest by size. */
  private readonly used = new Set<number>();
  private readonly free = new Map<number, number[]>();
  private former: Capture | null;
  private closed = false;
  private disposed = false;

  private constructor(former: Capture | null) {
    // One that failed may have blocks in which something lives on.
    this.former = former?.problem === null ? former : null;
    net.register(this, this.memory, this);
  }

  /**
   * Runs `work`, a synchronous function without a graph that gives tensors, and captures its calls. With `former`, an earlier capture of what should be the same work, its tensors get
   * the blocks that they had there, so that `same` can tell; `former` is disposed.
   */
  static of(work: () => readonly Tensor[], former: Capture | null = null): Capture {
    const { calls } = backend();
    if (calls === null || open !== null)
      throw new GroundupError(
        `capture: expected the native backend and no capture around, got ${calls === null ? "a backend that cannot make calls again" : "one inside another"}. Ask canCapture() first, and capture the whole`,
      );
    const made = new Capture(former);
    const lenderBefore = lendBlocks(made);
    open = made;
    calls.listen(made);
    try {
      for (const t of work()) made.results.push(keep(t.alias()));
    } catch (error) {
      made.dispose();
      throw error;
    } finally {
      calls.listen(null);
      open = null;
      lendBlocks(lenderBefore);
      former?.dispose();
      made.former = null;
    }
    made.close();
    return made;
  }

  /** Whether the other captured the same calls on the same memory. */
  same(other: Capture): boolean {
    if (this.size !== other.size || this.results.length !== other.results.length) return false;
    for (let i = 0; i < this.size; i++) if (this.program[i] !== other.program[i]) return false;
    return true;
  }

  /** Whether the calls can be made now: nothing that they read or write has gone, and products run as they did. */
  get holds(): boolean {
    if (this.problem !== null || this.disposed || this.memory.home !== backend() || this.precision !== autocastPrecision()) return false;
    const { otherStorages, otherBlocks } = this;
    for (let i = 0; i < otherStorages.length; i++) {
      const storage = otherStorages[i] as Operand["storage"];
      if (storage.retired || storage.buffer !== otherBlocks[i]) return false;
    }
    for (const [storage, version] of this.followed) if (storage.version !== version) return false;
    return true;
  }

  /** Makes the calls again, where they hold. The values that they begin with must have been written by then. */
  replay(): void {
    if (!this.holds)
      throw new GroundupError(
        `capture: these calls can't be made again, expected them to hold, got ${this.problem ?? "memory that has gone"}. Ask holds first`,
      );
    this.memory.home.calls?.replay(this.program);
  }

  /** Gives the memory back. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    net.unregister(this);
    for (const t of this.results) t.dispose("Capture.dispose()");
    const { memory, used } = this;
    // What a tensor still has goes with the tensor.
    const rest = [...memory.blocks].filter(([block]) => !used.has(block));
    freeAll({ ...memory, blocks: new Map(rest) });
    memory.counted = null;
    for (const [block] of rest) memory.blocks.delete(block);
  }

  private close(): void {
    this.closed = true;
    this.program = this.program.slice(0, this.size);
    this.otherStorages = [...this.others.keys()];
    this.otherBlocks = [...this.others.values()];
    // What a tensor has is in the accounts already.
    let bytes = 0;
    for (const [block, size] of this.memory.blocks) if (!this.used.has(block)) bytes += size;
    holdBytes(owner, bytes, 1);
    this.memory.counted = bytes;
    const given = new Set<unknown>(this.results.map((t) => t.storage.buffer));
    for (const block of this.used) if (!given.has(block)) this.problem ??= "it made tensors that live on";
  }

  /** @internal */
  ran(kernel: number, args: Float64Array, count: number): void {
    const end = this.size + 2 + count;
    if (end > this.program.length) {
      const larger = new Float64Array(Math.max(end, 2 * this.program.length));
      larger.set(this.program);
      this.program = larger;
    }
    this.program[this.size] = kernel;
    this.program[this.size + 1] = count;
    this.program.set(args.subarray(0, count), this.size + 2);
    this.size = end;
  }

  /** @internal */
  uses(storage: Operand["storage"]): void {
    if (!this.memory.blocks.has(storage.buffer)) this.others.set(storage, storage.buffer);
  }

  /** @internal */
  follow(storage: Storage): void {
    this.followed.set(storage, storage.version);
  }

  /** @internal */
  passed(what: string): void {
    this.problem ??= what;
  }

  /** @internal */
  take(bytes: number): number {
    const before = this.former?.taken[this.taken.length];
    let block: number | undefined;
    if (before?.bytes === bytes && !this.used.has(before.block)) {
      block = before.block;
      this.former?.memory.blocks.delete(block);
    } else block = this.unused(bytes) ?? this.memory.home.alloc(bytes);
    this.memory.blocks.set(block, bytes);
    this.used.add(block);
    this.taken.push({ block, bytes });
    return block;
  }

  /** A block of this size that no tensor has any more. */
  private unused(bytes: number): number | undefined {
    const list = this.free.get(bytes);
    let block = list?.pop();
    // One that was had from the former capture may have been used again since it was put there.
    while (block !== undefined && this.used.has(block)) block = list?.pop();
    return block;
  }

  /** @internal */
  giveBack(block: number): void {
    this.used.delete(block);
    const bytes = this.memory.blocks.get(block);
    // Another capture has taken it over.
    if (bytes === undefined) return;
    if (this.disposed) {
      this.memory.blocks.delete(block);
      this.memory.home.free(block);
    } else if (!this.closed) {
      const list = this.free.get(bytes);
      if (list === undefined) this.free.set(bytes, [block]);
      else list.push(block);
    }
  }
}

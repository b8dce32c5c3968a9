/**
 * Who holds how much memory. A storage is one block of the backend, counted by its holders: live tensor handles and entries
 * saved for a backward pass. The last holder gives the block back. All accounts are of one JavaScript thread: a worker has its own.
 */
import { OutOfMemoryError } from "../errors.ts";
import { byteSize } from "../quantities.ts";
import { type Backend, backend, type SharedMemory } from "./backend.ts";

/** Bytes and blocks that one operation's results hold now. */
export interface Owner {
  readonly name: string;
  bytes: number;
  count: number;
}

const owners = new Map<string, Owner>();

/** The account of an owner, made once for each name. */
export function ownerNamed(name: string): Owner {
  let owner = owners.get(name);
  if (owner === undefined) {
    owner = { name, bytes: 0, count: 0 };
    owners.set(name, owner);
  }
  return owner;
}

let liveBytes = 0;
let liveBuffers = 0;
let peakBytes = 0;
let limit = Number.POSITIVE_INFINITY;
let limitSet = false;

/** Sets the most bytes that this thread's tensors may hold together; at the limit an allocation throws with the largest owners. The default is 80 % of the memory that this process may have. */
export function setMemoryLimit(bytes: number): void {
  limit = bytes;
  limitSet = true;
}

/** What tensors hold now. All but `processBytes` and `unclaimedBytes` is of the thread that asks: a worker has its own, and memory that threads share counts in each that holds it. */
export interface MemoryReport {
  liveBytes: number;
  liveBuffers: number;
  peakBytes: number;
  limitBytes: number;
  /** What the tensors of all threads hold, and shares that nobody has claimed yet, each block once; with small freed blocks that a thread keeps for its next tensors. On the reference backend a thread knows of its own only. */
  processBytes: number;
  /**
   * Of these, the blocks that `share` has described and whose description nobody has claimed, each once. What stays here belongs to messages that never arrived, and
   * is lost to the process. 0 on the reference backend, where such memory is collected.
   */
  unclaimedBytes: number;
  /** By operation that made them, largest first. */
  owners: { name: string; bytes: number; count: number }[];
}

/** Live bytes by owner, of this thread's tensors; `processBytes` has those of all threads together. */
export function memory(): MemoryReport {
  if (!limitSet) setMemoryLimit(defaultLimit());
  const list = [...owners.values()].filter((o) => o.count > 0).sort((a, b) => b.bytes - a.bytes);
  const { bytes, unclaimed } = backend().held();
  return { liveBytes, liveBuffers, peakBytes, limitBytes: limit, processBytes: bytes, unclaimedBytes: unclaimed, owners: list.map((o) => ({ ...o })) };
}

/** Starts the peak of `memory()` again from what is live now. */
export function resetPeakMemory(): void {
  peakBytes = liveBytes;
}

function defaultLimit(): number {
  const os = globalThis.process?.getBuiltinModule?.("node:os") as { totalmem(): number } | undefined;
  if (os === undefined) return Number.POSITIVE_INFINITY;
  // In a container the machine's memory is not ours; 0 or an absurd number says that nothing limits it.
  const allowed = (globalThis.process as { constrainedMemory?(): number }).constrainedMemory?.() ?? 0;
  return Math.min(os.totalmem(), allowed > 0 ? allowed : Number.POSITIVE_INFINITY) * 0.8;
}

/** @internal True when so many more bytes stay within the limit. */
export const hasRoom = (bytes: number): boolean => liveBytes + bytes <= limit;

// Small blocks are kept here by size (powers of two from 64 bytes to 4 KiB): a pop is far cheaper than a call.
const SMALLEST = 64;
const LARGEST_SMALL = 4096;
const smallFree: number[][] = Array.from({ length: Math.log2(LARGEST_SMALL / SMALLEST) + 1 }, () => []);
let smallBackend: Backend | undefined;

const smallOf = (size: number): number[] => smallFree[Math.clz32(SMALLEST) - Math.clz32(size)] as number[];

/** Keeps the small blocks of this backend from now on. */
function keepSmallOf(b: Backend): void {
  for (const blocks of smallFree) for (const block of blocks.splice(0)) smallBackend?.free(block);
  smallBackend = b;
}

/** Who gives new tensors their memory in the backend's place, and gets it back (`capture.ts`). */
export interface BlockLender {
  take(bytes: number): number;
  giveBack(block: number): void;
}

let lender: BlockLender | null = null;

/** @internal Has new tensors' memory come from `next`, or with null from the backend again; the one before. */
export function lendBlocks(next: BlockLender | null): BlockLender | null {
  const before = lender;
  lender = next;
  return before;
}

/** @internal Enters memory that is no tensor's in the accounts; negative bytes take it out. */
export function holdBytes(owner: Owner, bytes: number, blocks: number): void {
  owner.bytes += bytes;
  owner.count += blocks;
  liveBytes += bytes;
  liveBuffers += blocks;
  if (liveBytes > peakBytes) peakBytes = liveBytes;
}

let deferring = false;

/**
 * @internal Runs a synchronous function whose larger new tensors get their memory, and the values they begin with, when they are first looked at; what is written over as a
 * whole, or disposed, before that never has them. For models whose weights come from a file.
 */
export function deferred<T>(fn: () => T): T {
  const before = deferring;
  deferring = true;
  try {
    return fn();
  } finally {
    deferring = before;
  }
}

const NOTHING = () => {};

/** What a copy in another layout was made of: weight[j, p] lay at offset + j·row + p·column, for n outputs and k inputs. */
interface Derived {
  storage: Storage | null;
  readonly version: number;
  readonly offset: number;
  readonly row: number;
  readonly column: number;
  readonly n: number;
  readonly k: number;
}

export class Storage {
  /** The backend's block; 0 while there is none. */
  private block = 0;
  /** What writes the items once there is a block for them, while there is none: those that a tensor begins with, or those that lie somewhere else meanwhile. */
  private pending: (() => void) | null = null;
  /** @internal True in the second case (`retire`, `moveOut`). */
  retired = false;
  readonly bytes: number;
  readonly owner: Owner;
  private readonly home: Backend;
  private lender: BlockLender | null = null;
  private holders = 1;
  /** @internal True once another thread may hold the memory too: what it writes leaves `version` as it is. */
  inThreads: boolean;
  /** Counts in-place writes, so that a backward pass can tell that what it saved has changed. */
  version = 0;
  /** @internal Another layout of these items as they were at `version` (packed-weights.ts); its storage is null until it is made. */
  derived: Derived | null = null;

  /** @param claimed the backend's block, where another thread has made it */
  constructor(bytes: number, owner: Owner, claimed?: number) {
    const b = backend();
    const size = bytes <= LARGEST_SMALL ? (bytes <= SMALLEST ? SMALLEST : 1 << (32 - Math.clz32(bytes - 1))) : bytes;
    this.bytes = size;
    this.home = b;
    this.inThreads = claimed !== undefined;
    this.owner = owner;
    if (deferring && claimed === undefined && size > LARGEST_SMALL) this.pending = NOTHING;
    else this.allocate(claimed);
  }

  private allocate(claimed?: number): void {
    const { bytes: size, home: b, owner } = this;
    if (!limitSet) setMemoryLimit(defaultLimit());
    if (claimed === undefined && liveBytes + size > limit) throw outOfMemory(size);
    if (claimed !== undefined) {
      this.block = claimed;
    } else if (lender !== null) {
      this.block = lender.take(size);
      this.lender = lender;
    } else if (size <= LARGEST_SMALL) {
      if (smallBackend !== b) keepSmallOf(b);
      this.block = smallOf(size).pop() ?? b.alloc(size);
    } else {
      this.block = b.alloc(size);
    }
    holdBytes(owner, size, 1);
  }

  /** The number of the backend's block. */
  get buffer(): number {
    if (this.pending !== null) this.materialise(this.pending);
    return this.block;
  }

  private materialise(write: () => void): void {
    this.allocate();
    this.pending = null;
    this.retired = false;
    write();
  }

  /** @internal Writes what covers the whole block: at once, or where the memory is deferred, when it is there. */
  begin(write: () => void): void {
    if (this.pending === null) {
      write();
      return;
    }
    // What it was before, nobody will see.
    this.retired = false;
    this.dropDerived();
    this.pending = write;
  }

  /** True where nobody but this storage's holders knows of the block, so that it may be given away. */
  private get ownsBlock(): boolean {
    return this.pending === null && this.lender === null && !this.inThreads;
  }

  /** @internal Gives the block back, for items that lie somewhere else too. When somebody looks at them here, `write` makes them again. */
  retire(write: () => void): void {
    if (!this.ownsBlock) return;
    this.freeBlock();
    this.pending = write;
    this.retired = true;
  }

  /**
   * @internal Moves the block to a storage of its own, where the items may lie otherwise; `write` is as for `retire`. Null where the block is not this one's to give.
   */
  moveOut(owner: Owner, write: () => void): Storage | null {
    if (!this.ownsBlock) return null;
    holdBytes(this.owner, -this.bytes, -1);
    const moved = new Storage(this.bytes, owner, this.block);
    moved.inThreads = false;
    this.block = 0;
    this.pending = write;
    this.retired = true;
    return moved;
  }

  /** @internal Memory without its first values, for whoever writes over all of it. */
  overwritten(): void {
    if (this.pending !== null) this.materialise(NOTHING);
  }

  retain(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders > 0) return;
    const held = this.pending === null;
    this.pending = null;
    this.retired = false;
    this.dropDerived();
    if (held) this.freeBlock();
  }

  private freeBlock(): void {
    holdBytes(this.owner, -this.bytes, -1);
    // The memory of a shared block is not ours to reuse.
    if (this.lender !== null) {
      this.lender.giveBack(this.block);
    } else if (this.bytes <= LARGEST_SMALL && this.home === smallBackend && !this.inThreads) {
      smallOf(this.bytes).push(this.block);
    } else {
      this.home.free(this.block);
    }
    this.block = 0;
  }

  /** @internal What carries a hold on the memory to another thread. */
  share(): SharedMemory {
    const shared = this.home.share(this.buffer);
    this.inThreads = true;
    this.dropDerived();
    return shared;
  }

  /** @internal Frees the other layout, if there is one; items that lie nowhere else are taken from it first. */
  dropDerived(): void {
    if (this.retired && this.pending !== null) this.materialise(this.pending);
    this.derived?.storage?.release();
    this.derived = null;
  }

  /** True when this is the only holder: an owner may then write in place. */
  get unshared(): boolean {
    return this.holders === 1 && !this.inThreads;
  }
}

function outOfMemory(bytes: number): OutOfMemoryError {
  const largest = memory()
    .owners.slice(0, 5)
    .map((o) => `${o.name} ${byteSize(o.bytes)} in ${o.count} tensors`)
    .join(", ");
  return new OutOfMemoryError(
    `allocate: the memory limit is reached, expected at most ${byteSize(limit)} live, got ${byteSize(liveBytes)} and ${byteSize(bytes)} more. Largest owners: ${largest}. ` +
      "JavaScript frees tensors only between turns of its event loop: wrap each step of a loop in scope(() => …), use smaller batches, or raise setMemoryLimit()",
  );
}

/** Memory of the reference backend: ArrayBuffers (SharedArrayBuffers once they are shared) named by numbers, and the typed views through which kernels see their operands. */
import { GroundupError, OutOfMemoryError, ShapeError, UseAfterFreeError } from "../../errors.ts";
import type { Memory, SharedMemory } from "../backend.ts";
import { DTYPES, type Operand, type Sizes } from "../kernels.ts";

/** An operand's items as an array: writing to it writes the buffer. */
export type Items = Float32Array | Uint16Array | Int32Array | Uint8Array;

/** What kernels use. Each view starts at the operand's offset and is checked to have room for its `n` items. */
export interface Views extends Memory {
  f32(place: Operand, n: number): Float32Array;
  i32(place: Operand, n: number): Int32Array;
  u16(place: Operand, n: number): Uint16Array;
  u8(place: Operand, n: number): Uint8Array;
  /** The view for a dtype's code; bf16 and f16 are seen as their 16 bits. */
  items(place: Operand, dtype: number, n: number): Items;
  /** How many items of `itemBytes` bytes there are from the operand's offset to the end of its buffer. */
  room(place: Operand, itemBytes: number): number;
}

// A buffer's number is generation · 2^22 + slot, as on the native side: a slot's next owner gets another number, so a stale one is
// told from a live one. Slot 0 is never used.
const SLOTS = 2 ** 22;
const GENERATIONS = 2 ** 30;

interface Slot {
  buffer: ArrayBufferLike | null;
  generation: number;
}

/** An empty memory. Blocks start as zeros, but nothing may rely on that. */
export function createMemory(): Views {
  const slots: Slot[] = [{ buffer: null, generation: 0 }];
  const freeSlots: number[] = [];
  let heldBytes = 0;

  function lookup(handle: number): ArrayBufferLike {
    const slot = slots[handle % SLOTS];
    if (slot === undefined || slot.buffer === null || slot.generation !== Math.floor(handle / SLOTS)) {
      throw new UseAfterFreeError(`reference memory: no such buffer, expected the number of a live one, got ${handle}. It was freed, or never allocated`);
    }
    return slot.buffer;
  }

  function alloc(bytes: number): number {
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new ShapeError(`alloc: not a size, expected a whole number of bytes, got ${bytes}`);
    return named(made(ArrayBuffer, bytes));
  }

  function made<T extends ArrayBufferLike>(kind: new (bytes: number) => T, bytes: number): T {
    try {
      return new kind(bytes);
    } catch (cause) {
      throw new OutOfMemoryError(`alloc: no memory left, expected ${bytes} bytes. Free tensors, or use a smaller batch`, { cause });
    }
  }

  /** Gives memory a number. */
  function named(buffer: ArrayBufferLike): number {
    const index = freeSlots.pop() ?? slots.push({ buffer: null, generation: 0 }) - 1;
    if (index >= SLOTS) throw new OutOfMemoryError(`alloc: too many live buffers, expected fewer than ${SLOTS}`);
    const slot = slots[index];
    slot.generation = (slot.generation + 1) % GENERATIONS;
    slot.buffer = buffer;
    heldBytes += buffer.byteLength;
    return slot.generation * SLOTS + index;
  }

  function free(handle: number): void {
    heldBytes -= lookup(handle).byteLength;
    const index = handle % SLOTS;
    slots[index].buffer = null;
    freeSlots.push(index);
  }

  /** A block moves into memory that threads can share the first time that it is shared, by one copy. */
  function share(handle: number): SharedMemory {
    let memory = lookup(handle);
    if (globalThis.SharedArrayBuffer === undefined) {
      throw new GroundupError(
        "share: no shared memory, expected a runtime with SharedArrayBuffer, got one without. " +
          "In a browser the page must be cross-origin isolated; else send the values that await t.data() gives",
      );
    }
    if (!(memory instanceof SharedArrayBuffer)) {
      const shared = made(SharedArrayBuffer, memory.byteLength);
      new Uint8Array(shared).set(new Uint8Array(memory));
      slots[handle % SLOTS].buffer = memory = shared;
    }
    return { memory: memory as SharedArrayBuffer, claimed: new SharedArrayBuffer(4) };
  }

  function claim(shared: unknown, bytes: number): number {
    const { memory, claimed } = (shared ?? {}) as { memory?: unknown; claimed?: unknown };
    const SharedBuffer = globalThis.SharedArrayBuffer;
    if (SharedBuffer === undefined || !(memory instanceof SharedBuffer && claimed instanceof SharedBuffer)) return 0;
    if (memory.byteLength !== bytes || claimed.byteLength !== 4) return 0;
    return Atomics.exchange(new Int32Array(claimed), 0, 1) === 0 ? named(memory) : 0;
  }

  /** The bytes that a copy of `data.byteLength` bytes touches. */
  function range(op: string, handle: number, byteOffset: number, data: ArrayBufferView): Uint8Array {
    const buffer = lookup(handle);
    if (!(byteOffset >= 0 && byteOffset + data.byteLength <= buffer.byteLength)) {
      throw new ShapeError(`${op}: out of the buffer, expected at most ${buffer.byteLength} bytes, got ${data.byteLength} bytes at offset ${byteOffset}`);
    }
    return new Uint8Array(buffer, byteOffset, data.byteLength);
  }

  const bytesOf = (data: ArrayBufferView) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

  function room(place: Operand, itemBytes: number): number {
    return Math.floor(lookup(place.storage.buffer).byteLength / itemBytes) - place.offset;
  }

  function checked(place: Operand, n: number, itemBytes: number): ArrayBufferLike {
    if (!(n >= 0 && place.offset >= 0 && n <= room(place, itemBytes))) {
      throw new ShapeError(
        `reference kernel: operand out of its buffer, expected room for ${n} items of ${itemBytes} bytes at offset ${place.offset}, got ${room(place, itemBytes)}`,
      );
    }
    return lookup(place.storage.buffer);
  }

  const f32 = (place: Operand, n: number) => new Float32Array(checked(place, n, 4), place.offset * 4, n);
  const i32 = (place: Operand, n: number) => new Int32Array(checked(place, n, 4), place.offset * 4, n);
  const u16 = (place: Operand, n: number) => new Uint16Array(checked(place, n, 2), place.offset * 2, n);
  const u8 = (place: Operand, n: number) => new Uint8Array(checked(place, n, 1), place.offset, n);
  const views = { f32, bf16: u16, f16: u16, i32, u8, bool: u8 };

  return {
    alloc,
    free,
    write: (handle, byteOffset, data) => range("write", handle, byteOffset, data).set(bytesOf(data)),
    read: (handle, byteOffset, into) => bytesOf(into).set(range("read", handle, byteOffset, into)),
    share,
    claim,
    held: () => ({ bytes: heldBytes, unclaimed: 0 }),
    f32,
    i32,
    u16,
    u8,
    items: (place, dtype, n) => views[dtypeNamed(dtype)](place, n),
    room,
  };
}

/** The dtype with this code. */
export function dtypeNamed(code: number): (typeof DTYPES)[number] {
  const name = DTYPES[code];
  if (name === undefined) throw new ShapeError(`reference kernel: unknown dtype code, expected 0 to ${DTYPES.length - 1}, got ${code}`);
  return name;
}

/**
 * Walks over a shape row by row (rows of its last dimension) for several strided operands at once: `visit` gets the place of the
 * row's first item in each of them.
 */
export function forEachRow(shape: Sizes, strides: readonly Sizes[], visit: (starts: readonly number[]) => void): void {
  if (shape.includes(0)) return;
  const index = shape.map(() => 0);
  const starts = strides.map(() => 0);
  for (;;) {
    visit(starts);
    // Count up like an odometer, the last but one dimension fastest.
    let d = shape.length - 2;
    for (; d >= 0; d--) {
      index[d]++;
      for (let o = 0; o < starts.length; o++) starts[o] += strides[o][d];
      if (index[d] < shape[d]) break;
      for (let o = 0; o < starts.length; o++) starts[o] -= shape[d] * strides[o][d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

/** Typed arrays in a backend's memory: how tests, and people who read along, call a kernel without tensors. */
import type { Memory } from "../backend.ts";
import type { Operand } from "../kernels.ts";

type Data = Float32Array | Int32Array | Uint16Array | Uint8Array;

export interface Placed<T extends Data> extends Operand {
  /** What the place holds now. */
  values(): T;
}

/** Puts a typed array into a new block, `offset` items after its start. */
export function place<T extends Data>(memory: Memory, data: T, offset = 0): Placed<T> {
  const start = offset * data.BYTES_PER_ELEMENT;
  const buffer = memory.alloc(start + data.byteLength);
  memory.write(buffer, start, data);
  return {
    storage: { buffer },
    offset,
    values() {
      const copy = data.slice() as T;
      memory.read(buffer, start, copy);
      return copy;
    },
  };
}

/** Tensors for other threads. A worker has handles, scopes and a `memory()` of its own, and sees of another thread's memory only what that shared with it. */
import { ShapeError } from "../errors.ts";
import { backend, type SharedMemory } from "./backend.ts";
import { type DType, ITEM_BYTES, type QuantizedDType } from "./kernels.ts";
import { BLOCK_OF, isQuantized, liesAcross, matricesIn, packedBytes, rowsAndItems } from "./quantized-layout.ts";
import { track } from "./scope.ts";
import { checkShape, reach, type Shape, show } from "./shape.ts";
import { ownerNamed, Storage } from "./storage.ts";
import { checkTensor, Tensor } from "./tensor.ts";

/** What `share` gives and `fromShared` takes: a plain object for `postMessage` or `workerData`. */
export interface SharedTensor {
  /** The memory, as the backend names it for one claim. */
  readonly memory: SharedMemory;
  /** How large the memory is; a view has a part of it. */
  readonly bytes: number;
  readonly dtype: DType;
  readonly shape: Shape;
  /** In items. */
  readonly strides: Shape;
  /** Place of the first item in the memory, in items. */
  readonly offset: number;
}

/**
 * Describes a tensor of any shape and dtype for another thread of this process, where `fromShared` makes a tensor over the same memory of it, without a copy:
 *
 * ```ts
 * parentPort.postMessage(share(weight)); // in a worker
 * worker.once("message", (shared) => print(fromShared(shared))); // in the main thread
 * ```
 *
 * The memory lives until the last holder lets it go: the tensors of each thread over it, and every description until it is claimed. A description outlives the
 * thread that made it, so a worker may share its result and end; one that its receiver will not claim (its worker was terminated) is given up by
 * `fromShared(description).dispose()`. Where a worker is terminated after its `share()` and before its message is delivered, nobody has the description, and the memory is lost
 * until the process ends: `memory().unclaimedBytes` counts it. So let a worker end by itself, or wait for its message, before `terminate()`. A view shares the whole of its storage. The graph and `requiresGrad` stay behind, as with `detach()`.
 *
 * Writing in place shows in every thread, at once and without a lock: let one thread write while the others wait for its message, as where
 * a worker trains and the main thread reads the weights between two steps. Who reads meanwhile finds old and new items mixed, and no worse: row numbers are copied before
 * they are checked. No graph notices a write to what it has saved through another holder's tensor, be that in another thread or in
 * the same one. A shared weight is read as it lies, without the packed copy that makes generation fast: `clone()` it for that.
 *
 * On the reference backend the first `share` of a storage moves it into a `SharedArrayBuffer`, by one copy.
 *
 * @throws UseAfterFreeError when the tensor was freed
 * @throws GroundupError on the reference backend of a runtime without SharedArrayBuffer
 */
export function share(t: Tensor): SharedTensor {
  checkTensor("share", t);
  t.check("share");
  return { memory: t.storage.share(), bytes: t.storage.bytes, dtype: t.dtype, shape: [...t.shape], strides: [...t.strides], offset: t.offset };
}

/**
 * The tensor that `share` described, on this thread or another one of the process: of the same shape, dtype and strides, over the same memory, without a graph. A
 * scope frees it as any other tensor; the end of its thread frees it too. A description is claimed once: `share` again for a further holder.
 *
 * @throws ShapeError when it is no description of `share`, reaches out of its memory, was claimed before, or comes from another backend or process; a description that
 * is refused for its shape can still be claimed as it was given
 */
export function fromShared(shared: SharedTensor): Tensor {
  const { memory, bytes, dtype, shape, strides, offset } = (shared ?? {}) as SharedTensor;
  if (memory === undefined || !Object.hasOwn(ITEM_BYTES, dtype) || !Array.isArray(strides) || !sizes([bytes, offset, ...strides])) {
    throw new ShapeError(`fromShared: not a shared tensor, expected the object that share() gave, got ${brief(shared)}. Pass it as it came in the message`);
  }
  checkShape("fromShared", shape);
  const end =
    strides.length !== shape.length
      ? Number.POSITIVE_INFINITY
      : isQuantized(dtype)
        ? endOfQuantized(shared, dtype)
        : (offset + reach(shape, strides)) * ITEM_BYTES[dtype];
  if (end > bytes) {
    throw new ShapeError(
      `fromShared: reaches out of the shared memory, expected ${dtype} items within ${bytes} bytes, got shape ${show(shape)} with strides ${show(strides)} ` +
        `at offset ${offset}. Pass the object as share() gave it, and take views of the tensor`,
    );
  }
  const buffer = backend().claim(memory, bytes);
  if (buffer === 0) {
    throw new ShapeError(
      `fromShared: nothing to claim, expected memory that a thread of this process shared on the ${backend().name} backend and nobody has claimed, ` +
        `got ${brief(memory)} of ${bytes} bytes. A description is claimed once: share() again for a further holder`,
    );
  }
  return track(new Tensor(new Storage(bytes, ownerNamed("fromShared"), buffer), [...shape], [...strides], offset, dtype));
}

/** Where a block-quantised matrix ends in its memory, or the last of several, in bytes; infinite where the numbers describe none. */
function endOfQuantized({ shape, strides, offset }: SharedTensor, dtype: QuantizedDType): number {
  if (shape.length < 2 || shape.length > 3 || offset !== 0) return Number.POSITIVE_INFINITY;
  const [n, k] = rowsAndItems({ shape, strides });
  const matrix = liesAcross({ shape, strides }) ? [1, k] : [k, 1];
  const lies = strides.join() === (shape.length === 3 ? [n * k, ...matrix] : matrix).join();
  return lies && k % BLOCK_OF[dtype].items === 0 ? matricesIn({ shape }) * packedBytes(dtype, n, k) : Number.POSITIVE_INFINITY;
}

const sizes = (values: readonly number[]): boolean => values.every((n) => Number.isSafeInteger(n) && n >= 0);

function brief(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  const keys = Object.keys(value);
  return keys.length === 0 ? "an object without keys" : `an object with the keys ${keys.join(", ")}`;
}

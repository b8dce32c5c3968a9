/**
 * Copies of weights in the layout that products of few rows read in one stream. Generation reads every weight for every token, so the
 * layout decides its speed. A copy belongs to the weight's storage and to one version of it: it is made when a weight serves such
 * a product for the second time without a graph, dropped when the weight has changed or trains again, and freed with the weight. Weights that
 * threads share have none: another thread's writes are not seen here.
 */
import { backend } from "./backend.ts";
import type { Operand } from "./kernels.ts";
import { hasRoom, ownerNamed, Storage } from "./storage.ts";
import type { Tensor } from "./tensor.ts";

/** For more rows, packing within the product costs little. */
const PACKED_ROWS = 32;
/** Smaller weights stay in the cache anyway. */
const LEAST_BYTES = 1 << 16;

/**
 * The packed copy of a weight of n outputs and k inputs, or null where the plain one serves: weight[j, p] lies at j·row + p·column.
 *
 * @param training the product is recorded for a backward pass
 */
export function packedWeight(weight: Tensor, row: number, column: number, n: number, k: number, rows: number, training: boolean): Operand | null {
  const { storage } = weight;
  if (storage.inThreads) return null;
  const { offset } = weight;
  const former = storage.derived;
  if (former !== null) {
    const alike = former.offset === offset && former.row === row && former.column === column && former.n === n && former.k === k;
    if (alike && former.version === storage.version && !training) {
      if (former.storage !== null) return { storage: former.storage, offset: 0 };
      return rows <= PACKED_ROWS ? make(weight, row, column, n, k) : null;
    }
    storage.dropDerived();
  }
  if (!training && rows <= PACKED_ROWS && n * k * 4 >= LEAST_BYTES && backend().name === "native")
    storage.derived = { storage: null, version: storage.version, offset, row, column, n, k };
  return null;
}

const owner = ownerNamed("packed weights");

function make(weight: Tensor, row: number, column: number, n: number, k: number): Operand | null {
  const bytes = Math.ceil(n / 16) * 16 * k * 4;
  if (!hasRoom(bytes) || weight.storage.derived === null) return null;
  const packed = { storage: new Storage(bytes, owner), offset: 0 };
  backend().packWeight(weight, row, column, packed, n, k);
  weight.storage.derived.storage = packed.storage;
  return packed;
}

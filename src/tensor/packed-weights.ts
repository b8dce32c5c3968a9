/**
 * Copies of weights in the layout that products of few rows read in one stream. Generation reads every weight for every token, so the
 * layout decides its speed. A copy belongs to the weight's storage and to one version of it: it is made when a weight serves such
 * a product for the second time without a graph, dropped when the weight has changed or trains again, and freed with the weight. Weights that
 * threads share have none: another thread's writes are not seen here. A large weight lies in its copy alone then (in the same block, where its rows are whole groups), and is made again beside it when somebody reads it otherwise.
 */
import { backend } from "./backend.ts";
import { captureFails, captureFollows } from "./capture.ts";
import { ITEM_BYTES, type Operand } from "./kernels.ts";
import { hasRoom, ownerNamed, Storage } from "./storage.ts";
import type { Tensor } from "./tensor.ts";

/** Outputs that lie side by side in a copy. */
const GROUP = 16;
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
      captureFollows(storage);
      if (former.storage !== null) return { storage: former.storage, offset: 0 };
      return rows <= PACKED_ROWS ? make(weight, row, column, n, k) : null;
    }
    storage.dropDerived();
  }
  if (!training && rows <= PACKED_ROWS && n * k * 4 >= LEAST_BYTES && backend().name === "native")
    storage.derived = { storage: null, version: storage.version, offset, row, column, n, k };
  return null;
}

/** Smaller weights keep their block too. */
const RETIRED_BYTES = 1 << 20;

const owner = ownerNamed("packed weights");

function make(weight: Tensor, row: number, column: number, n: number, k: number): Operand | null {
  const { storage, offset } = weight;
  const copy = storage.derived;
  if (copy === null) return null;
  captureFails("a weight was packed");
  const items = n * k * ITEM_BYTES.f32;
  const retires = items >= RETIRED_BYTES && storage.bytes === items;
  const comeBack = () => unpack({ storage: copy.storage as Storage, offset: 0 }, { storage, offset }, row, column, n, k);
  // Rows in whole groups are packed where they lie.
  const moved = retires && row === k && column === 1 && n % GROUP === 0 ? storage.moveOut(owner, comeBack) : null;
  if (moved !== null) {
    copy.storage = moved;
    backend().packWeightInPlace({ storage: moved, offset: 0 }, n, k);
    return { storage: moved, offset: 0 };
  }
  const bytes = Math.ceil(n / GROUP) * GROUP * k * ITEM_BYTES.f32;
  if (!hasRoom(bytes)) return null;
  const packed = new Storage(bytes, owner);
  backend().packWeight(weight, row, column, { storage: packed, offset: 0 }, n, k);
  copy.storage = packed;
  if (retires) storage.retire(comeBack);
  return { storage: packed, offset: 0 };
}

/** The packed copy of a table (rows, dim) that lies nowhere else, or null: who reads a few of its rows need not bring it back. */
export function packedTable({ storage, offset, isContiguous, shape: [rows, dim] }: Tensor): Operand | null {
  const copy = storage.derived;
  if (!storage.retired || !isContiguous || copy === null || copy.storage === null) return null;
  captureFollows(storage);
  const alike = copy.version === storage.version && copy.offset === offset && copy.row === dim && copy.column === 1 && copy.n === rows && copy.k === dim;
  return alike ? { storage: copy.storage, offset: 0 } : null;
}

/** Writes a weight as it was before `packWeight`. */
function unpack(packed: Operand, weight: Operand, row: number, column: number, n: number, k: number): void {
  const rest = n % GROUP;
  const whole = n - rest;
  backend().copy(packed, [GROUP * k, 1, GROUP], weight, [GROUP * row, row, column], [whole / GROUP, GROUP, k], ITEM_BYTES.f32);
  const [from, to] = [whole * k, weight.offset + whole * row];
  if (rest > 0) backend().copy({ ...packed, offset: from }, [1, GROUP], { ...weight, offset: to }, [row, column], [rest, k], ITEM_BYTES.f32);
}

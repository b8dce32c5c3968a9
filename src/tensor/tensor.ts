/**
 * The tensor: a small handle of shape, dtype, a place in the backend's memory, and the node of the graph that made it.
 * Operations live in `ops/`; `methods.ts` hangs them on the class.
 */
import { GroundupError, ShapeError, UseAfterFreeError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import type { GradNode } from "./autograd.ts";
import { backend } from "./backend.ts";
import { bf16ToF32, CODE, dtypeOf, encode, f16ToF32, type TypedArray } from "./dtype.ts";
import { DTYPES, type DType, ITEM_BYTES, type QuantizedDType } from "./kernels.ts";
import { blockBytes, layoutOf, matricesIn, packedBytes, rowsAndItems } from "./quantized-layout.ts";
import { Handle, track, untrack } from "./scope.ts";
import { checkShape, contiguousStrides, isContiguous, type Shape, show, sizeOf } from "./shape.ts";
import { type Owner, ownerNamed, Storage } from "./storage.ts";

/** Numbers, booleans or typed arrays, nested to any depth. */
export type NestedData = number | boolean | TypedArray | readonly NestedData[];

export interface TensorOptions {
  /** Default: what the data is (typed arrays keep their type, numbers are f32, booleans bool). */
  dtype?: DType;
  /** Gradients are gathered in `.grad` when `backward()` runs. */
  requiresGrad?: boolean;
}

export const TENSOR_OPTIONS: KnownOptions<TensorOptions> = { dtype: true, requiresGrad: true };

/** `ITEM_BYTES`, without a look-up for what nearly all tensors are. */
const itemBytes = (dtype: DType): number => (dtype === "f32" ? 4 : ITEM_BYTES[dtype]);

/**
 * Numbers of one dtype in a shape: made by `tensor`, `zeros`, `randn` … and by operations, which are its methods too. Read them with `await t.data()`, or with
 * `dataSync()`, `item()`. A scope frees those made in it; `keep` and `dispose` say otherwise.
 */
export class Tensor extends Handle {
  readonly shape: Shape;
  /** Place of the first item in the storage, in items. */
  readonly offset: number;
  readonly dtype: DType;
  /** The number of items. */
  readonly size: number;
  /** True where the items lie one after the other, in row-major order. */
  readonly isContiguous: boolean;
  /** True for a block-quantised matrix: its items have no bytes of their own. */
  readonly isQuantized: boolean;
  /** @internal */
  readonly storage: Storage;
  /** @internal The node that made this tensor, and which of its results this is. */
  node: GradNode | null = null;
  /** @internal */
  nodeOutput = 0;
  /** The gradient gathered so far, for tensors made with `requiresGrad`. */
  grad: Tensor | null = null;
  /** @internal Called with the gradient of this tensor when backward() has it. */
  gradHooks: ((gradient: Tensor) => Tensor | undefined)[] | null = null;
  private wantsGrad = false;
  /** Null until somebody asks, where the items lie one after the other. */
  private steps: Shape | null;

  /** @internal Use `tensor()`, `zeros()` … The handle takes over one hold on the storage. No strides: the items lie one after the other. */
  constructor(storage: Storage, shape: Shape, strides: Shape | null, offset: number, dtype: DType) {
    super();
    this.storage = storage;
    this.shape = shape;
    this.steps = strides;
    this.offset = offset;
    this.dtype = dtype;
    this.size = sizeOf(shape);
    this.isContiguous = strides === null || isContiguous(shape, strides);
    this.isQuantized = itemBytes(dtype) === 0;
  }

  /** In items; 0 where a dimension is repeated. */
  get strides(): Shape {
    this.steps ??= contiguousStrides(this.shape);
    return this.steps;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** True when gradients flow to or through this tensor. */
  get requiresGrad(): boolean {
    return this.wantsGrad || this.node !== null;
  }

  set requiresGrad(wanted: boolean) {
    if (this.node !== null) throw new GroundupError(`requiresGrad: expected a leaf, got a result of ${this.node.name}. Use detach() first`);
    if (wanted && this.isQuantized)
      throw new GroundupError(
        `requiresGrad: a block-quantised weight can't be trained, expected a floating dtype, got ${this.dtype}${show(this.shape)}. Train an adapter beside it, or dequantize() it first`,
      );
    if (wanted && this.dtype !== "f32" && this.dtype !== "bf16" && this.dtype !== "f16") {
      throw new GroundupError(`requiresGrad: expected a floating dtype, got ${this.dtype}. Only numbers that can change by a little have gradients`);
    }
    this.wantsGrad = wanted;
  }

  get isLeaf(): boolean {
    return this.node === null;
  }

  /** True once the handle has been freed. */
  get isDisposed(): boolean {
    return this.freedBy !== null;
  }

  /** Frees the handle now (a scope does it for you). Safe to call twice. */
  dispose(by = "dispose()"): void {
    if (this.freedBy !== null) return;
    this.freedBy = by;
    if (this.watched) untrack(this);
    this.storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose("using");
  }

  /** @internal Throws when the handle was freed. */
  check(op: string): void {
    if (this.freedBy !== null) {
      throw new UseAfterFreeError(
        `${op}: tensor was freed, expected a live tensor, got ${this.dtype}${show(this.shape)} freed by ${this.freedBy}. Return it from the scope, or keep() it`,
      );
    }
  }

  /** @internal Throws for a block-quantised matrix. */
  checkItems(op: string): void {
    if (this.isQuantized) refuseQuantized(op, this);
  }

  /** The items, in row-major order: Float32Array for floating dtypes, Int32Array for i32, Uint8Array for u8 and bool. */
  async data(): Promise<Float32Array | Int32Array | Uint8Array> {
    return this.dataSync();
  }

  /** Copies the items of a contiguous f32 tensor into an array that has room for them: a loop that reads at each step makes no garbage. */
  readInto(out: Float32Array): void {
    this.check("readInto");
    if (this.dtype !== "f32" || !this.isContiguous || out.length !== this.size) {
      throw new ShapeError(
        `readInto: expected a contiguous f32 tensor and an array of its size, got ${this.dtype}${show(this.shape)} and room for ${out.length}. Use dataSync()`,
      );
    }
    backend().read(this.storage.buffer, this.offset * ITEM_BYTES.f32, out);
  }

  /** As `data()`, at once. Only where the memory is the machine's own (native and reference backends). */
  dataSync(): Float32Array | Int32Array | Uint8Array {
    this.check("data");
    this.checkItems("data");
    const n = this.size;
    const from = this.isContiguous ? this : contiguousCopy(this);
    const at = from.offset * ITEM_BYTES[this.dtype];
    const b = backend();
    let out: Float32Array | Int32Array | Uint8Array;
    if (this.dtype === "f32") b.read(from.storage.buffer, at, (out = new Float32Array(n)));
    else if (this.dtype === "i32") b.read(from.storage.buffer, at, (out = new Int32Array(n)));
    else if (this.dtype === "u8" || this.dtype === "bool") b.read(from.storage.buffer, at, (out = new Uint8Array(n)));
    else {
      const narrow = new Uint16Array(n);
      b.read(from.storage.buffer, at, narrow);
      out = Float32Array.from(narrow, this.dtype === "bf16" ? bf16ToF32 : f16ToF32);
    }
    if (from !== this) from.dispose("data()");
    return out;
  }

  /** The bytes as they are stored (row-major, little-endian): what a weight file holds. Of a block-quantised matrix, GGUF's blocks of its rows. */
  bytesSync(): Uint8Array {
    this.check("bytes");
    if (this.isQuantized) return blocksOf(this);
    const from = this.isContiguous ? this : contiguousCopy(this);
    const out = new Uint8Array(this.size * ITEM_BYTES[this.dtype]);
    backend().read(from.storage.buffer, from.offset * ITEM_BYTES[this.dtype], out);
    if (from !== this) from.dispose("bytes()");
    return out;
  }

  /** The one number of a tensor with one item. */
  async item(): Promise<number> {
    return this.itemSync();
  }

  itemSync(): number {
    if (this.size !== 1) throw new ShapeError(`item: expected a tensor with one item, got shape ${show(this.shape)}. Use data()`);
    return this.dataSync()[0] as number;
  }

  /** @internal A second handle on the same items, outside the graph and outside every scope. */
  alias(): Tensor {
    return new Tensor(this.storage.retain(), this.shape, this.steps, this.offset, this.dtype);
  }

  /** @internal A tracked view of the same storage with another shape. No strides: its items lie one after the other. */
  view(shape: Shape, strides: Shape | null, offset: number): Tensor {
    return track(new Tensor(this.storage.retain(), shape, strides, offset, this.dtype));
  }

  /** Writes values over the items, in place. For leaves and layer state; not part of the graph. */
  write(data: NestedData): this {
    this.check("write");
    this.checkItems("write");
    if (!this.isContiguous)
      throw new ShapeError(`write: expected a contiguous tensor, got strides ${show(this.strides)} for shape ${show(this.shape)}. Write to its base`);
    const { values, shape } = flatten(data);
    if (values.length !== this.size)
      throw new ShapeError(`write: expected ${this.size} items for shape ${show(this.shape)}, got ${values.length} in shape ${show(shape)}`);
    const items = encode("write", values, this.dtype);
    if (items.byteLength === this.storage.bytes) this.storage.overwritten();
    backend().write(this.storage.buffer, this.offset * ITEM_BYTES[this.dtype], items);
    this.storage.version++;
    return this;
  }
}

/**
 * @internal Writes over all items of a contiguous f32 tensor part by part: each call of what it gives takes the next ones, as their bytes or as numbers. What is not
 * written then is undefined.
 */
export function writtenInParts(t: Tensor): (items: Uint8Array | Float32Array) => void {
  t.check("write");
  if (t.dtype !== "f32" || !t.isContiguous) throw new ShapeError(`write: expected a contiguous f32 tensor, got ${t.dtype}${show(t.shape)}`);
  const { storage } = t;
  let at = t.offset * ITEM_BYTES.f32;
  const end = at + t.size * ITEM_BYTES.f32;
  if (end - at === storage.bytes) storage.overwritten();
  return (items) => {
    if (at + items.byteLength > end)
      throw new ShapeError(
        `write: expected at most ${end - at} more bytes for ${t.dtype}${show(t.shape)}, got ${items.byteLength}. The parts are not this tensor's`,
      );
    backend().write(storage.buffer, at, items);
    at += items.byteLength;
    storage.version++;
  };
}

/** @internal The words for an operation that a block-quantised matrix takes no part in. */
export function refuseQuantized(op: string, t: Tensor): never {
  throw new GroundupError(
    `${op}: not for block-quantised weights, expected numbers of their own, got ${t.dtype}${show(t.shape)}. These take part in linear, embedding, ranges of rows and dequantize(): use dequantize(weight)`,
  );
}

/** GGUF's blocks of a quantised matrix, or of several, row after row. */
function blocksOf(t: Tensor): Uint8Array {
  const dtype = t.dtype as QuantizedDType;
  const [n, k] = rowsAndItems(t);
  const each = blockBytes("bytes", dtype, n, k);
  const bytes = new Uint8Array(matricesIn(t) * each);
  const room = new Storage(each, ownerNamed("bytes"));
  try {
    for (let i = 0; i < matricesIn(t); i++) {
      backend().unpackQuantized({ storage: t.storage, offset: i * packedBytes(dtype, n, k) }, { storage: room, offset: 0 }, layoutOf(dtype), 0, n, n, k);
      backend().read(room.buffer, 0, bytes.subarray(i * each, (i + 1) * each));
    }
  } finally {
    room.release();
  }
  return bytes;
}

function contiguousCopy(t: Tensor): Tensor {
  const out = new Tensor(new Storage(t.size * ITEM_BYTES[t.dtype], ownerNamed("contiguous")), t.shape, null, 0, t.dtype);
  backend().copy(t, t.strides, out, out.strides, t.shape, ITEM_BYTES[t.dtype]);
  return out;
}

/** @internal Refuses what is no tensor, in functions that look at one before an operation does. `place` counts arguments from 0. */
export function checkTensor(op: string, x: unknown, place = 0): asserts x is Tensor {
  if (!(x instanceof Tensor)) notTensor(op, x, place);
}

/** @internal */
export function notTensor(op: string, x: unknown, place: number): never {
  const list = Array.isArray(x) || ArrayBuffer.isView(x);
  const got =
    x === undefined ? "nothing" : x === null ? "null" : typeof x === "object" ? `an ${x.constructor?.name ?? "object"}` : `the ${typeof x} ${String(x)}`;
  throw new ShapeError(`${op}: argument ${place + 1} is no tensor, expected a Tensor, got ${got}. ${list ? "Make one of it with tensor(…)" : "Pass a tensor"}`);
}

/** @internal A new tracked tensor whose items are still undefined. */
export function allocate(shape: Shape, dtype: DType, owner: Owner): Tensor {
  const item = itemBytes(dtype);
  if (!(item > 0)) {
    throw new ShapeError(`${owner.name}: unknown dtype, expected one of ${DTYPES.join(", ")}, got ${JSON.stringify(dtype)}. Numbers with fractions are f32`);
  }
  return track(new Tensor(new Storage(sizeOf(shape) * item, owner), shape, null, 0, dtype));
}

function flatten(data: NestedData): { values: ArrayLike<number | bigint | boolean>; shape: number[]; dtype: DType } {
  if (typeof data === "number") return { values: [data], shape: [], dtype: "f32" };
  if (typeof data === "boolean") return { values: [data], shape: [], dtype: "bool" };
  if (ArrayBuffer.isView(data)) return { values: data as TypedArray, shape: [(data as TypedArray).length], dtype: dtypeOf(data as TypedArray) };
  if (!Array.isArray(data)) throw new ShapeError(`tensor: expected numbers, booleans or typed arrays, nested, got ${typeof data}`);
  if (data.length === 0) return { values: [], shape: [0], dtype: "f32" };
  const parts = (data as readonly NestedData[]).map(flatten);
  const first = parts[0] as (typeof parts)[0];
  for (const [i, p] of parts.entries()) {
    if (p.shape.length !== first.shape.length || p.shape.some((n, j) => n !== first.shape[j])) {
      throw new ShapeError(
        `tensor: ragged data, expected every part of shape ${show(first.shape)}, got ${show(p.shape)} at place ${i}. Pad the parts or make several tensors`,
      );
    }
    if (p.dtype !== first.dtype) throw new ShapeError(`tensor: mixed data, expected every part to be ${first.dtype}, got ${p.dtype} at place ${i}`);
  }
  if (parts.length === 1) return { ...first, shape: [1, ...first.shape] };
  const each = first.values.length;
  const values = new (first.dtype === "i32" ? Int32Array : Float64Array)(each * parts.length);
  for (const [i, p] of parts.entries()) for (let j = 0; j < each; j++) values[i * each + j] = Number(p.values[j]);
  return { values, shape: [parts.length, ...first.shape], dtype: first.dtype };
}

/**
 * A tensor of these values. `tensor([[1, 2], [3, 4]])` is f32 (2, 2); `tensor([ids])` with an `Int32Array` of T ids is i32 (1, T).
 * @throws ShapeError when the parts differ in shape or type.
 */
export function tensor(data: NestedData, options: TensorOptions = {}): Tensor {
  const { values, shape, dtype } = flatten(data);
  return tensorFrom(values, shape, { ...options, dtype: options.dtype ?? dtype });
}

/** A tensor of a flat list of values with a shape. */
export function tensorFrom(values: ArrayLike<number | bigint | boolean>, shape: Shape, options: TensorOptions = {}): Tensor {
  checkOptions("tensor", options, TENSOR_OPTIONS);
  const dtype = options.dtype ?? (ArrayBuffer.isView(values) ? dtypeOf(values as TypedArray) : "f32");
  checkShape("tensor", shape);
  if (values.length !== sizeOf(shape)) throw new ShapeError(`tensor: expected ${sizeOf(shape)} values for shape ${show(shape)}, got ${values.length}`);
  const t = allocate([...shape], dtype, ownerNamed("tensor"));
  backend().write(t.storage.buffer, 0, encode("tensor", values, dtype));
  if (options.requiresGrad) t.requiresGrad = true;
  return t;
}

/** A tensor whose stored bytes are given: what weight files hold (f32, bf16, f16, i32, u8, bool). */
export function tensorFromBytes(bytes: Uint8Array, shape: Shape, dtype: DType): Tensor {
  checkShape("tensor", shape);
  const expected = sizeOf(shape) * ITEM_BYTES[dtype];
  if (bytes.length !== expected) throw new ShapeError(`tensor: expected ${expected} bytes for ${dtype}${show(shape)}, got ${bytes.length}`);
  const t = allocate([...shape], dtype, ownerNamed("tensor"));
  backend().write(t.storage.buffer, 0, bytes);
  return t;
}

/** A tensor filled with one value. */
export function full(shape: Shape, value: number, options: TensorOptions = {}): Tensor {
  checkShape("full", shape);
  checkOptions("full", options, TENSOR_OPTIONS);
  const dtype = options.dtype ?? "f32";
  const t = allocate([...shape], dtype, ownerNamed("full"));
  const { storage, size } = t;
  storage.begin(() => backend().fill({ storage, offset: 0 }, CODE[dtype], size, value));
  if (options.requiresGrad) t.requiresGrad = true;
  return t;
}

/** A tensor of zeros, f32 unless the options say otherwise: `zeros([2, 3])` is f32 (2, 3). */
export const zeros = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 0, options);
/** A tensor of ones, f32 unless the options say otherwise. */
export const ones = (shape: Shape, options?: TensorOptions): Tensor => full(shape, 1, options);

/** start, start + step, … below end: `arange(3)` is i32 0, 1, 2; a fractional number anywhere makes it f32. */
export function arange(start: number, end?: number, step = 1, options: TensorOptions = {}): Tensor {
  const [from, to] = end === undefined ? [0, start] : [start, end];
  if (!(step > 0 ? to >= from : step < 0 && to <= from)) throw new ShapeError(`arange: expected a step that leads from ${from} to ${to}, got ${step}`);
  const whole = Number.isInteger(from) && Number.isInteger(step);
  const fits = whole && Math.max(Math.abs(from), Math.abs(to)) < 2 ** 31;
  const values = new (fits ? Int32Array : Float64Array)(Math.ceil((to - from) / step));
  for (let i = 0; i < values.length; i++) values[i] = from + i * step;
  return tensorFrom(values, [values.length], { dtype: whole ? "i32" : "f32", ...options });
}

/** `count` numbers from start to end, both included. */
export function linspace(start: number, end: number, count: number, options: TensorOptions = {}): Tensor {
  return tensorFrom(
    Array.from({ length: count }, (_, i) => (count === 1 ? start : start + ((end - start) * i) / (count - 1))),
    [count],
    { dtype: "f32", ...options },
  );
}

/** The n×n identity. */
export function eye(n: number, options: TensorOptions = {}): Tensor {
  const values = new Float32Array(n * n);
  for (let i = 0; i < n; i++) values[i * n + i] = 1;
  return tensorFrom(values, [n, n], { dtype: "f32", ...options });
}

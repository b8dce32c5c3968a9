/**
 * Random numbers by counter (Philox, Salmon et al. 2011): item i of a stream is a pure function of (seed, stream, i), so results do not
 * depend on threads or batch splits, and a stream's whole state is one number. One stream each for initialisation, data order, dropout and
 * sampling, so that using one never moves another.
 */
import { ShapeError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { backend } from "./backend.ts";
import { ITEM_BYTES, type Operand } from "./kernels.ts";
import { checkShape, type Shape } from "./shape.ts";
import { ownerNamed } from "./storage.ts";
import { allocate, type Tensor, type TensorOptions } from "./tensor.ts";

/** A stream's state; plain data, saved in checkpoints. */
export interface RandomStream {
  /** 53 bits at most. */
  seed: number;
  /** Which stream of this seed. */
  readonly stream: number;
  /** Blocks of four 32-bit words used so far. */
  position: number;
}

/** The numbers of the streams in use: initialisation, data order, dropout, sampling. A stream of your own takes another. */
export const STREAMS = { init: 1, data: 2, dropout: 3, sampling: 4 } as const;

/**
 * A stream of random numbers, for the `stream` option: its numbers are a function of seed, stream and place alone.
 *
 * @param stream which of the seed's streams; those of `STREAMS` are in use
 * @param position blocks of four words to skip
 * @throws ShapeError when the seed is no whole number from 0 to 2⁵³ − 1
 */
export function randomStream(seed: number, stream: number, position = 0): RandomStream {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new ShapeError(`randomStream: expected a whole seed of at least 0, got ${seed}`);
  return { seed, stream, position };
}

/** The streams in use where none is given. */
export const streams: Record<keyof typeof STREAMS, RandomStream> = {
  init: randomStream(0, STREAMS.init),
  data: randomStream(0, STREAMS.data),
  dropout: randomStream(0, STREAMS.dropout),
  sampling: randomStream(0, STREAMS.sampling),
};

/** Starts every default stream anew from this seed. */
export function manualSeed(seed: number): void {
  for (const name of Object.keys(STREAMS) as (keyof typeof STREAMS)[]) Object.assign(streams[name], randomStream(seed, STREAMS[name]));
}

/** @internal Takes n items' worth of blocks; gives the kernel's key, stream and first block. */
export function take(s: RandomStream, n: number): [keyLow: number, keyHigh: number, stream: number, block: number] {
  const block = s.position;
  s.position += Math.ceil(n / 4);
  return [s.seed >>> 0, Math.floor(s.seed / 4294967296), s.stream, block];
}

export interface RandomOptions extends Pick<TensorOptions, "requiresGrad"> {
  stream?: RandomStream;
}

const RANDOM: KnownOptions<RandomOptions> = { requiresGrad: true, stream: true };
const UNIFORM = { ...RANDOM, low: true, high: true } as const;
const NORMAL = { ...RANDOM, mean: true, std: true } as const;
const FILL_UNIFORM = { stream: true, low: true, high: true } as const;
const FILL_NORMAL = { stream: true, mean: true, std: true } as const;

function make<Options extends RandomOptions>(
  name: string,
  known: KnownOptions<Options>,
  shape: Shape,
  dtype: "f32" | "i32",
  options: Options,
  fill: (out: Tensor, at: ReturnType<typeof take>) => void,
): Tensor {
  checkShape(name, shape);
  checkOptions(name, options, known);
  const out = allocate(shape, dtype, ownerNamed("random"));
  fill(out, take(options.stream ?? streams.init, out.size));
  if (options.requiresGrad) out.requiresGrad = true;
  return out;
}

/** Evenly spread over [low, high). */
export const rand = (shape: Shape, options: RandomOptions & { low?: number; high?: number } = {}): Tensor =>
  make("rand", UNIFORM, shape, "f32", options, (out, at) => backend().uniform(out, out.size, ...at, options.low ?? 0, options.high ?? 1));

/** Normally distributed with this mean and standard deviation. */
export const randn = (shape: Shape, options: RandomOptions & { mean?: number; std?: number } = {}): Tensor =>
  make("randn", NORMAL, shape, "f32", options, (out, at) => backend().normal(out, out.size, ...at, options.mean ?? 0, options.std ?? 1));

/** Whole numbers from low to high − 1, as i32. */
export const randint = (low: number, high: number, shape: Shape, options: RandomOptions = {}): Tensor => {
  if (!(high > low)) throw new ShapeError(`randint: expected high above low, got ${low} and ${high}`);
  return make("randint", RANDOM, shape, "i32", options, (out, at) => backend().randint(out, out.size, ...at, low, high));
};

function overwrite<Options extends { stream?: RandomStream }>(
  t: Tensor,
  options: Options,
  known: KnownOptions<Options>,
  fill: (out: Operand, n: number, at: ReturnType<typeof take>) => void,
): Tensor {
  checkOptions("random fill", options, known);
  t.check("random fill");
  if (t.dtype !== "f32" || !t.isContiguous)
    throw new ShapeError(`random fill: expected a contiguous f32 tensor, got ${t.dtype} with strides [${t.strides.join(", ")}]`);
  const { storage, offset, size } = t;
  const at = take(options.stream ?? streams.init, size);
  const write = () => fill({ storage, offset }, size, at);
  if (size * ITEM_BYTES.f32 === storage.bytes) storage.begin(write);
  else write();
  storage.version++;
  return t;
}

/** Overwrites a tensor with normal numbers, in place. */
export const fillNormal = (t: Tensor, options: { mean?: number; std?: number; stream?: RandomStream } = {}): Tensor =>
  overwrite(t, options, FILL_NORMAL, (out, n, at) => backend().normal(out, n, ...at, options.mean ?? 0, options.std ?? 1));

/** Overwrites a tensor with numbers spread evenly over [low, high), in place. */
export const fillUniform = (t: Tensor, options: { low?: number; high?: number; stream?: RandomStream } = {}): Tensor =>
  overwrite(t, options, FILL_UNIFORM, (out, n, at) => backend().uniform(out, n, ...at, options.low ?? 0, options.high ?? 1));

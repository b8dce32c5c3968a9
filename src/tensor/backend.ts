/**
 * The border between tensors and the machine. A backend is memory plus the kernels of `kernels.ts`; nothing outside
 * `src/tensor/` knows which one runs.
 */
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import type { Kernels, Operand } from "./kernels.ts";
import { createNative } from "./native.ts";
import { loadNative } from "./native-binding.ts";
import { createReference } from "./reference/index.ts";

/** What a message between threads carries of a block: its number in the native library's table and whose table that is, or on the reference backend the memory itself. */
export type SharedMemory = { readonly process: string; readonly number: number } | { readonly memory: SharedArrayBuffer; readonly claimed: SharedArrayBuffer };

/** A backend's memory: blocks named by numbers (0 is never one). Contents of a new block are undefined. */
export interface Memory {
  /** A block of at least `bytes` bytes, aligned for any dtype. Throws when there is no memory left. */
  alloc(bytes: number): number;
  /** Gives a block back; its number is invalid from then on. The memory of a shared block is free once every holder has given it back. */
  free(buffer: number): void;
  /** Copies a typed array into a block. */
  write(buffer: number, byteOffset: number, data: ArrayBufferView): void;
  /** Copies from a block into a typed array. */
  read(buffer: number, byteOffset: number, into: ArrayBufferView): void;
  /** A further hold on a block's memory, for one thread to claim. */
  share(buffer: number): SharedMemory;
  /** Makes what `share` gave, on any thread, a block of this thread. 0 where it is nothing of the sort, is not of so many bytes, or was claimed before. */
  claim(shared: unknown, bytes: number): number;
  /**
   * What the blocks of all threads hold, and of that what waits to be claimed. The reference backend knows of its own thread's, and nothing waits
   * there: what nobody refers to is collected.
   */
  held(): { readonly bytes: number; readonly unclaimed: number };
}

/** Hears of what a backend does (`capture.ts`). */
export interface CallListener {
  /** A kernel runs: its number and arguments as `RepeatedCalls.replay` takes them, the first `count` of `args`, which are the listener's during the call only. */
  ran(kernel: number, args: Float64Array, count: number): void;
  /** An operand of a kernel that runs next, or behind what makes its items. */
  uses(storage: Operand["storage"]): void;
  /** Values went between the host and the backend, in words: calls made again would not do so. */
  passed(what: string): void;
}

/** A backend's way to make calls again. */
export interface RepeatedCalls {
  /** Tells of every call from now on; null ends it. */
  listen(listener: CallListener | null): void;
  /** Makes calls one after the other: for each the kernel's number, the count of its arguments, and those. */
  replay(calls: Float64Array): void;
}

export interface Backend extends Memory, Kernels {
  readonly name: "native" | "reference";
  /** Null where calls can't be made again. */
  readonly calls: RepeatedCalls | null;
  /** Sets (when given) and returns the number of threads. Results do not depend on it. */
  threads(count?: number): number;
  /** Sets (when given) and returns the instruction set in use: avx512, avx2, neon, portable, or javascript. */
  isa(name?: string): string;
  /** The instruction sets this machine can run, best first. */
  isas(): string[];
  /** How bf16 products run under the instruction set in use: on avx512_bf16, or emulated (by rounding; slower than f32). */
  bf16(): "avx512_bf16" | "emulated";
}

const NAMES: readonly Backend["name"][] = ["native", "reference"];

let chosen: Backend | undefined;
let why = "";

/** The backend in use. Chosen at first use: native where its binary loads, else reference, whose reason is printed once. */
export function backend(): Backend {
  if (chosen === undefined) {
    const found = loadNative();
    const made = found.binding !== null ? createNative(found.binding) : createReference();
    if (found.binding === null && !found.asked) globalThis.console?.warn(`groundup: running on the plain TypeScript backend, which is slow: ${found.reason}`);
    const { GROUNDUP_THREADS: threads = "", GROUNDUP_ISA: isa = "" } = globalThis.process?.env ?? {};
    const count = threads === "" ? undefined : threadsOf(threads);
    const set = isa === "" || found.binding === null ? undefined : isaOf(isa, made.isas());
    // Both hold for the process: a worker must not take back what the program has set since.
    if (found.binding?.firstToSet()) {
      made.threads(count);
      made.isa(set);
    }
    // Only a backend that is set up as asked is kept: the next call meets the same error, not half of the settings.
    [chosen, why] = [made, found.reason];
  }
  return chosen;
}

function threadsOf(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 1024) return count;
  throw new ConfigError(`GROUNDUP_THREADS: not a number of threads, expected a whole number from 1 to 1024, got "${text}". Correct it, or unset it`);
}

function isaOf(name: string, known: readonly string[]): string {
  if (known.includes(name)) return name;
  throw new ConfigError(
    `GROUNDUP_ISA: not an instruction set that this machine can run, expected one of ${known.join(", ")}, got "${name}".${didYouMean(name, known)} Correct it, or unset it.`,
  );
}

/** Why this backend was chosen, in words. */
export function backendReason(): string {
  backend();
  return why;
}

/**
 * Uses another backend from now on (tests run every operation on both). Tensors of the former one must not be used any more.
 *
 * @throws ConfigError for what is no backend, and the former stays
 */
export function useBackend(other: Backend): Backend {
  const wrong = whyNoBackend(other);
  if (wrong !== undefined)
    throw new ConfigError(
      `useBackend: not a backend, expected an object as backend() gives it, named ${NAMES.join(" or ")}, got ${wrong}. To choose by name, start with GROUNDUP_BACKEND=reference.`,
    );
  const former = backend();
  chosen = other;
  return former;
}

/** What stands in a backend's place, in words; plain JavaScript may pass anything. */
function whyNoBackend(other: unknown): string | undefined {
  if (typeof other !== "object" || other === null) return typeof other === "string" ? JSON.stringify(other) : String(other);
  const { name, alloc } = other as Partial<Backend>;
  if (typeof name !== "string") return "an object without a name";
  if (!NAMES.includes(name)) return `one named ${JSON.stringify(name)}`;
  return typeof alloc === "function" ? undefined : "an object without kernels";
}

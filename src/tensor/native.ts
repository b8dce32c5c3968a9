/** The native backend: every kernel writes its arguments into one shared array of numbers and makes one call. */
import { GroundupError, OutOfMemoryError, ShapeError, UseAfterFreeError } from "../errors.ts";
import type { Backend, CallListener } from "./backend.ts";
import { ANSWERING, type KernelName, type Operand } from "./kernels.ts";
import type { NativeBinding } from "./native-binding.ts";

type Argument = number | Operand | null | readonly number[] | readonly Operand[];

/** The library throws plain errors: the words are its own, the class is ours. */
function typed(error: unknown): GroundupError {
  const { message } = error as Error;
  if (message.startsWith("internal:")) return new GroundupError(message, { cause: error });
  if (message.startsWith("out of memory")) return new OutOfMemoryError(`alloc: ${message}. Free tensors, or use a smaller batch`, { cause: error });
  const freed = /buffer \d+ (was freed|does not exist)/.test(message);
  return new (freed ? UseAfterFreeError : ShapeError)(message, { cause: error });
}

/**
 * Arguments in the order of the signature: a number takes one slot, an operand two (buffer, offset; 0, 0 for null), an array its
 * length and then its items. `crates/node/src/kernel.rs` reads them.
 */
export function createNative(binding: NativeBinding): Backend {
  const args = new Float64Array(binding.args);
  const { exec } = binding;
  /** Whether a call's arguments are being written: an operand whose memory was deferred is filled by a call of its own meanwhile. */
  let writing = false;
  let listener: CallListener | null = null;

  function put(at: number, a: Operand | null | readonly (number | Operand)[]): number {
    if (a === null) {
      args[at] = 0;
      args[at + 1] = 0;
      return at + 2;
    }
    if (!Array.isArray(a)) {
      const operand = a as Operand;
      listener?.uses(operand.storage);
      args[at] = operand.storage.buffer;
      args[at + 1] = operand.offset;
      return at + 2;
    }
    const n = a.length;
    if (at + 1 + 2 * n > args.length) {
      throw new GroundupError(`native kernel: too many arguments, expected at most ${args.length} numbers, got an array of ${n}. Split the call`);
    }
    args[at++] = n;
    for (let i = 0; i < n; i++) {
      const item = a[i] as number | Operand;
      if (typeof item === "number") args[at++] = item;
      else at = put(at, item);
    }
    return at;
  }

  const kernels: Record<string, (...a: Argument[]) => number | undefined> = {};
  for (const [id, name] of binding.kernels.split("\n").entries()) {
    const answers = ANSWERING.includes(name as KernelName);
    kernels[name] = (...a) => {
      const outer = writing ? args.slice() : null;
      writing = true;
      let at = 0;
      try {
        for (let i = 0; i < a.length; i++) {
          const x = a[i] as Argument;
          if (typeof x === "number") args[at++] = x;
          else at = put(at, x);
        }
      } finally {
        writing = outer !== null;
      }
      if (listener !== null) {
        listener.ran(id, args, at);
        if (answers) listener.passed(`${name} answered`);
      }
      try {
        exec(id);
      } catch (error) {
        throw typed(error);
      }
      if (outer === null) return answers ? args[0] : undefined;
      const answer = args[0];
      args.set(outer);
      return answers ? answer : undefined;
    };
  }

  return {
    ...(kernels as unknown as Backend),
    name: "native",
    calls: {
      listen(next) {
        listener = next;
      },
      replay(calls) {
        try {
          binding.replay(calls);
        } catch (error) {
          throw typed(error);
        }
      },
    },
    alloc(bytes) {
      try {
        return binding.alloc(bytes);
      } catch (error) {
        throw typed(error);
      }
    },
    free(buffer) {
      try {
        binding.free(buffer);
      } catch (error) {
        throw typed(error);
      }
    },
    write(buffer, byteOffset, data) {
      listener?.passed("values of the host's were written");
      try {
        binding.write(buffer, byteOffset, data);
      } catch (error) {
        throw typed(error);
      }
    },
    read(buffer, byteOffset, into) {
      listener?.passed("the host read values");
      try {
        binding.read(buffer, byteOffset, into);
      } catch (error) {
        throw typed(error);
      }
    },
    share(buffer) {
      try {
        return { process: binding.process, number: binding.share(buffer) };
      } catch (error) {
        throw typed(error);
      }
    },
    claim(shared, bytes) {
      const { process, number } = (shared ?? {}) as { process?: unknown; number?: unknown };
      // Numbers begin alike in every process.
      return process === binding.process && typeof number === "number" ? binding.claim(number, bytes) : 0;
    },
    held() {
      const { liveBytes, unclaimedBytes } = JSON.parse(binding.memory()) as { liveBytes: number; unclaimedBytes: number };
      return { bytes: liveBytes, unclaimed: unclaimedBytes };
    },
    threads: (count) => (count === undefined ? binding.threads() : binding.threads(count)),
    isa: (name) => (name === undefined ? binding.isa() : binding.isa(name)),
    isas: () => binding.isas().split(" "),
    bf16: () => (binding.bf16() ? "avx512_bf16" : "emulated"),
  };
}

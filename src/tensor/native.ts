/** The native backend: every kernel writes its arguments into one shared array of numbers and makes one call. */
import { GroundupError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { ANSWERING, type KernelName, type Operand } from "./kernels.ts";
import type { NativeBinding } from "./native-binding.ts";

type Argument = number | Operand | null | readonly number[] | readonly Operand[];

/**
 * Arguments in the order of the signature: a number takes one slot, an operand two (buffer, offset; 0, 0 for null), an array its
 * length and then its items. `crates/node/src/kernel.rs` reads them.
 */
export function createNative(binding: NativeBinding): Backend {
  const args = new Float64Array(binding.args);
  const { exec } = binding;

  function put(at: number, a: Argument): number {
    if (typeof a === "number") {
      args[at] = a;
      return at + 1;
    }
    if (a === null) {
      args[at] = 0;
      args[at + 1] = 0;
      return at + 2;
    }
    if (Array.isArray(a)) {
      if (at + 1 + 2 * a.length > args.length) {
        throw new GroundupError(`native kernel: too many arguments, expected at most ${args.length} numbers, got an array of ${a.length}. Split the call`);
      }
      args[at++] = a.length;
      for (const item of a as readonly (number | Operand)[]) at = put(at, item);
      return at;
    }
    const operand = a as Operand;
    args[at] = operand.storage.buffer;
    args[at + 1] = operand.offset;
    return at + 2;
  }

  const kernels: Record<string, (...a: Argument[]) => number | undefined> = {};
  for (const [id, name] of binding.kernels.split("\n").entries()) {
    const answers = ANSWERING.includes(name as KernelName);
    kernels[name] = (...a) => {
      let at = 0;
      for (let i = 0; i < a.length; i++) at = put(at, a[i] as Argument);
      exec(id);
      return answers ? args[0] : undefined;
    };
  }

  return {
    ...(kernels as unknown as Backend),
    name: "native",
    alloc: binding.alloc,
    free: binding.free,
    write: binding.write,
    read: binding.read,
    threads: (count) => (count === undefined ? binding.threads() : binding.threads(count)),
    isa: (name) => (name === undefined ? binding.isa() : binding.isa(name)),
    isas: () => binding.isas().split(" "),
  };
}

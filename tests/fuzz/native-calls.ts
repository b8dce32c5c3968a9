/** Random calls of the native library, whole and broken, run in a process of their own (native-child.mjs). */
import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CODE } from "../../src/tensor/dtype.ts";
import { loadNative, platformName } from "../../src/tensor/native-binding.ts";
import { STATE_DTYPES } from "../../src/tensor/ops/state.ts";
import { type Random, random } from "../random.ts";

const CHILD = fileURLToPath(new URL("native-child.mjs", import.meta.url));
const LIBRARY = process.env.GROUNDUP_NATIVE ?? fileURLToPath(new URL(`../../native/groundup.${platformName()}.node`, import.meta.url));
const CONTRACT = fileURLToPath(new URL("../../src/tensor/kernels.ts", import.meta.url));
/** Sizes of the buffers in bytes: whole blocks of the allocator, so that no slack lies behind one. */
const BYTES = [64, 128, 256, 512, 1024, 1024, 1024, 1024];
const BUFFERS = BYTES.length;
/** How much larger the buffers of a large run are: kernels take other ways there, and more threads. */
const LARGE = 64;
const CONTENTS = 24;

/** A kernel's parameters, as kernels.ts declares them: a kernel that is added there is tested here. */
interface Kernel {
  name: string;
  parameters: { name: string; type: string }[];
}

export function kernels(): Kernel[] {
  const source = readFileSync(CONTRACT, "utf8").replace(/\/\*\*[\s\S]*?\*\//g, "");
  const body = source.slice(source.indexOf("export interface Kernels {"));
  const found: Kernel[] = [];
  for (const [, name, list] of body.matchAll(/^ {2}(\w+)\(([^)]*)\): (?:void|number);/gm)) {
    // Some take what another takes: `...args: Parameters<Kernels["gemm"]>`.
    const like = found.find((kernel) => kernel.name === /Parameters<Kernels\["(\w+)"\]>/.exec(list as string)?.[1]);
    const own = [...(list as string).matchAll(/(\w+): ([^,]+)/g)].map(([, parameter, type]) => ({ name: parameter as string, type: (type as string).trim() }));
    found.push({ name: name as string, parameters: like?.parameters ?? own });
  }
  return found;
}

interface KernelCall {
  kernel: number;
  slots: number[];
  /** Slots that hold a buffer: its place in the child's list, or −1 for one that was freed. */
  places: [slot: number, buffer: number][];
  contents: number[];
  threads: number;
  /** Made by `replay`, whose arguments end where the call's do, in place of `exec`. */
  replayed: boolean;
}

interface FunctionCall {
  name: string;
  values: unknown[];
  /** The first value is a live buffer. */
  buffer: boolean;
}

/** Numbers that a size, a stride or a handle should not be, or that make sums and products overflow. */
const NASTY = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -1,
  0.5,
  -0,
  0,
  1,
  2,
  255,
  256,
  257,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 32 + 1,
  2 ** 40,
  2 ** 52,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 61,
  2 ** 62,
  2 ** 63,
  2 ** 64,
  1e300,
  -(2 ** 53),
];

/** What the buffers are filled with: zeros, small indices, ascending rows, small floats, any bits. */
function makeContents(r: Random, scale: number): Uint8Array[] {
  const length = 256 * scale;
  return Array.from({ length: CONTENTS }, (_, kind) => {
    if (kind === 0) return new Uint8Array(4 * length);
    if (kind < 6) return new Uint8Array(Int32Array.from({ length }, () => r.below(kind)).buffer);
    if (kind < 9) return new Uint8Array(Int32Array.from({ length }, (_, i) => Math.min(i, (kind - 5) * scale)).buffer);
    if (kind < 18) return new Uint8Array(Float32Array.from({ length }, () => r.below(4001) / 1000 - 2).buffer);
    return new Uint8Array(Int32Array.from({ length }, () => r.below(2 ** 32)).buffer);
  });
}

/** A size as kernels get it: mostly so small that everything fits. */
const size = (r: Random): number => (r.once(40) ? r.pick(NASTY) : r.once(6) ? r.below(r.pick([70, 70, 2000])) : r.below(5));

/** Sizes that depend on each other so much that random ones are always refused. */
const USUAL: [name: RegExp, from: number, below: number][] = [
  [/^(sequences|heads|kvHeads)$/, 1, 3],
  [/^rows[QK]$/, 4, 9],
  [/^(pageCount|maxPages)$/, 1, 4],
  [/^[a-z]+Row$/, 8, 17],
  [/^first$/, 0, 1],
];
function sizeOf(name: string, r: Random): number {
  const usual = USUAL.find(([pattern]) => pattern.test(name));
  return usual === undefined || r.once(8) ? size(r) : usual[1] + r.below(usual[2] - usual[1]);
}

/** Which of the first buffers an operand of indices mostly gets: ascending rows, zeros, small numbers. */
const INDICES = new Map(Object.entries({ cuQ: 0, startK: 1, lenK: 2, pages: 1, slots: 1, index: 2, ids: 2, targets: 2, positions: 0 }));

/** Null together where attention's sequences are alike. */
const BOUNDARIES = new Set(["cuQ", "startK", "lenK", "pages"]);

function kernelCall(r: Random, id: number, { parameters }: Kernel): KernelCall {
  const call: KernelCall = { kernel: id, slots: [], places: [], contents: [], threads: r.once(4) ? 2 : 1, replayed: r.once(4) };
  for (let i = 0; i < BUFFERS; i++) call.contents.push(r.below(CONTENTS));
  if (!r.once(6)) call.contents.splice(0, 3, 6 + r.below(3), 0, 1 + r.below(5));
  const [rank, lists] = [r.below(4), r.below(3)];
  const alike = r.once(3);
  // Rows of whole blocks, of which random sizes would hardly ever be.
  const blocks = parameters.some(({ name }) => /^layouts?$/.test(name));
  const paged = parameters.some(({ name }) => name === "pageCount");
  const operand = (name: string, nullable: boolean): void => {
    const absent = BOUNDARIES.has(name) && name !== "pages" && !r.once(10) ? alike : r.once(2) || (alike && name === "pages");
    if (nullable && absent) {
      call.slots.push(0, 0);
      return;
    }
    if (r.once(60)) {
      call.slots.push(r.pick(NASTY), 0);
      return;
    }
    // The last buffers have room.
    const usual = INDICES.get(name) ?? 4 + r.below(4);
    const which = r.once(80) ? -1 : r.once(6) ? r.below(BUFFERS) : usual;
    call.places.push([call.slots.length, which]);
    call.slots.push(0, r.once(6) ? size(r) : 0);
  };
  for (const { name, type } of parameters) {
    if (type === "Operand" || type === "Operand | null") operand(name, type !== "Operand");
    else if (type === "Sizes" || type === "readonly Operand[]") {
      const usual = name === "maskStrides" ? 4 : /strides|shape/i.test(name) ? rank : lists;
      const length = r.once(60) ? r.below(6) : usual;
      call.slots.push(r.once(100) ? r.pick(NASTY) : length);
      for (let i = 0; i < length; i++) {
        if (type === "Sizes") call.slots.push(size(r));
        else operand(name, false);
      }
    } else if (blocks && /^(k|dim|layout)$/.test(name) && !r.once(8)) call.slots.push(name === "layout" ? r.below(13) : r.pick([0, 32, 64, 256]));
    else if (paged && name === "dtype" && !r.once(8)) call.slots.push(CODE[r.pick(STATE_DTYPES)]);
    else call.slots.push(sizeOf(name, r));
  }
  return call;
}

/** Any numbers in the shared array, for any kernel: lists with absurd lengths, operands where sizes should be. */
function rawCall(r: Random, count: number): KernelCall {
  const slots = Array.from({ length: r.below(40) }, () => (r.once(3) ? r.pick(NASTY) : r.below(6)));
  const places = slots.map((_, i): [number, number] => [i, r.below(BUFFERS + 1) - 1]).filter(() => r.once(3));
  return {
    kernel: r.once(20) ? r.pick(NASTY) : r.below(count),
    slots,
    places,
    contents: Array.from({ length: BUFFERS }, () => r.below(CONTENTS)),
    threads: 1,
    replayed: r.once(4),
  };
}

const FUNCTIONS = ["alloc", "free", "share", "claim", "write", "read", "memory", "threads", "isa", "isas", "exec", "replay"];

function functionCall(r: Random): FunctionCall {
  const strange = ["symbol", "function", "proxy", "args", "view", "shared", "detached"].map((name) => ({ strange: name }));
  const values = [
    ...NASTY,
    ...strange,
    undefined,
    null,
    true,
    "",
    "avx2",
    "portable",
    "avx\u0000512",
    "\ud800",
    10n,
    [],
    {},
    [1],
    new DataView(new ArrayBuffer(8)),
  ];
  values.push(new Float64Array(3), new Uint8Array(64), new Uint8Array(65), new BigInt64Array(2), new ArrayBuffer(8));
  return { name: r.pick(FUNCTIONS), values: Array.from({ length: r.below(5) }, () => r.pick(values)), buffer: r.once(3) };
}

export interface FuzzOutcome {
  /** What went wrong, with the seed and the call; null when nothing did. */
  failure: string | null;
  /** How many calls of each kernel succeeded. */
  succeeded: Map<string, number>;
}

/** Runs `count` random calls in a new process. */
export async function fuzzNative(seed: number, count: number, options: { large?: boolean } = {}): Promise<FuzzOutcome> {
  const scale = options.large ? LARGE : 1;
  const r = random(seed);
  const names = (loadNative().binding?.kernels ?? "").split("\n");
  const list = new Map(kernels().map((kernel) => [kernel.name, kernel]));
  const contents = makeContents(r, scale);
  const calls = Array.from({ length: count }, (_, i) => {
    if (r.once(12)) return functionCall(r);
    const id = i % names.length;
    const kernel = list.get(names[id] as string);
    return kernel === undefined || r.once(10) ? rawCall(r, names.length) : kernelCall(r, id, kernel);
  });
  const child = fork(CHILD, [LIBRARY], { serialization: "advanced", stdio: ["ignore", "pipe", "pipe", "ipc"], execArgv: [] });
  let [at, errors] = ["", ""];
  child.stdout?.on("data", (text) => (at = `${at}${text}`.slice(-40)));
  child.stderr?.on("data", (text) => (errors = `${errors}${text}`.slice(-2000)));
  let reply: { failure?: string; results?: (string | null)[] } | undefined;
  child.on("message", (message) => (reply = message as typeof reply));
  const limit = setTimeout(() => child.kill("SIGKILL"), 20_000 + count);
  child.send({ sizes: BYTES.map((bytes) => bytes * scale), contents, calls });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => child.on("close", (...ended) => resolve(ended)));
  clearTimeout(limit);
  const succeeded = new Map(names.map((name) => [name, 0]));
  if (reply?.results !== undefined) {
    for (const [i, error] of reply.results.entries()) {
      const call = calls[i];
      if (call !== undefined && "kernel" in call && error === null) {
        const name = names[call.kernel];
        if (name !== undefined) succeeded.set(name, (succeeded.get(name) ?? 0) + 1);
      }
    }
    return { failure: null, succeeded };
  }
  const last = Number(/call (\d+)/.exec(reply?.failure ?? "")?.[1] ?? at.trim().split("\n").at(-1));
  const call = calls[last];
  const what = reply?.failure ?? `call ${last}: the process ended with ${signal ?? code}`;
  const name = call !== undefined && "kernel" in call ? names[call.kernel] : "";
  return {
    failure: `seed ${seed}, ${what}\n${name} ${JSON.stringify(call, (_, x) => (typeof x === "bigint" || Number.isNaN(x) ? String(x) : x))}\n${errors}`,
    succeeded,
  };
}

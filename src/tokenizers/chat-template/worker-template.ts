/**
 * Chat templates where there is no native library: `@huggingface/jinja` in a worker thread of Node. It has neither fuel nor a limit of its own, so the thread
 * has a heap of its own and is ended when its time is up; this one waits, so that the call stays an ordinary one.
 */
import { GroundupError } from "../../errors.ts";
import type { Rendered } from "./native-template.ts";

/** Megabytes that a template may hold. */
const HEAP = 256;
/** Until a thread has started, on a machine that is busy. */
const START = 30_000;
/** For one template. A long conversation takes a few milliseconds. */
const TIME = 3_000;

/** What the thread is doing, in the shared word. */
const [WAITING, RUNNING, DONE] = [0, 1, 2];

type Threads = typeof import("node:worker_threads");
type Modules = typeof import("node:module");

// Everything that the engine does not bring: HF's names, ranges that have an end, and errors that say whose they are.
const PROGRAM = `
const { parentPort, workerData } = require("node:worker_threads");
const { Environment, Interpreter, tokenize, parse } = require(workerData);
class Raised extends Error {}
const strftime = (clock) => (format) =>
  String(format).replace(/%(-?)([a-zA-Z%])/g, (all, dash, letter) =>
    letter === "%" && dash === "" ? "%" : clock[letter] === undefined ? all : dash === "" ? clock[letter] : clock[letter].replace(/^0+(?=.)/, ""));
const range = (from, to, step = 1) => {
  if (to === undefined) [from, to] = [0, from];
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= 100000)) throw new Error("range has too many items");
  return Array.from({ length: count }, (_, i) => from + i * step);
};
const globals = (clock) => ({
  true: true, false: false, none: null, True: true, False: false, None: null,
  range, strftime_now: strftime(clock), raise_exception: (message) => { throw new Raised(message); },
});
parentPort.on("message", ({ source, variables, clock, word, port }) => {
  Atomics.store(word, 0, ${RUNNING});
  Atomics.notify(word, 0);
  let answer;
  let kind = "S";
  try {
    const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    kind = "F";
    const given = JSON.parse(variables);
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...globals(clock), ...given })) environment.set(name, value);
    answer = { kind: "=", text: new Interpreter(environment).run(program).value };
  } catch (error) {
    answer = { kind: error instanceof Raised ? "R" : error instanceof RangeError ? "L" : kind, text: String(error?.message ?? error) };
  }
  port.postMessage(answer);
  Atomics.store(word, 0, ${DONE});
  Atomics.notify(word, 0);
});
`;

let thread: InstanceType<Threads["Worker"]> | null = null;

/** The two modules of Node, or an error in words where it is another runtime. */
function nodeModules(): { threads: Threads; modules: Modules } {
  const load = globalThis.process?.getBuiltinModule;
  if (load === undefined)
    throw new GroundupError("chat template: templates run in Node only (so far), expected Node, got another runtime. Send the messages to a server instead.");
  return { threads: load("node:worker_threads") as Threads, modules: load("node:module") as Modules };
}

/** Renders in the thread. What can't be said of a template is where an error is: the engine has no lines. */
export function renderInWorker(source: string, variables: string, clock: Readonly<Record<string, string>>): Rendered {
  const { threads, modules } = nodeModules();
  if (thread === null) {
    const engine = modules.createRequire(import.meta.url).resolve("@huggingface/jinja");
    thread = new threads.Worker(PROGRAM, { eval: true, execArgv: [], env: {}, workerData: engine, resourceLimits: { maxOldGenerationSizeMb: HEAP } });
    thread.unref();
    // It is told of by the time running out; without a listener the process would end.
    thread.on("error", () => {});
  }
  const word = new Int32Array(new SharedArrayBuffer(4));
  const { port1, port2 } = new threads.MessageChannel();
  try {
    thread.postMessage({ source, variables, clock, word, port: port2 }, [port2]);
    const started = Atomics.wait(word, 0, WAITING, START) !== "timed-out" || Atomics.load(word, 0) !== WAITING;
    const ended = started && (Atomics.load(word, 0) === DONE || Atomics.wait(word, 0, RUNNING, TIME) !== "timed-out");
    const answer = ended ? (threads.receiveMessageOnPort(port1)?.message as { kind: Rendered["kind"]; text: string } | undefined) : undefined;
    if (answer !== undefined) return { ...answer, line: null };
    void thread.terminate();
    thread = null;
    return { kind: "L", text: "", line: null };
  } finally {
    port1.close();
  }
}

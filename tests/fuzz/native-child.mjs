/**
 * Runs calls of the native library, sent by native-calls.ts, in a process of its own: a crash or a hang is then a failed test.
 * Buffers lie between guards. After each call the guards and every buffer that the call does not name must be as before, and a
 * second run with other bytes in the guards must leave the same bytes: so nothing is written or read outside of a buffer.
 */
import { writeSync } from "node:fs";
import { createRequire } from "node:module";

const GUARD = 4096;
const binding = createRequire(import.meta.url)(process.argv[2]);
const args = new Float64Array(binding.args);
let sizes = [];
const guards = [];
const buffers = [];

function allocate() {
  guards.push(binding.alloc(GUARD));
  for (const size of sizes) {
    buffers.push(binding.alloc(size));
    guards.push(binding.alloc(GUARD));
  }
}
const stale = binding.alloc(64);
binding.free(stale);

const bytesOf = (handle, size) => {
  const bytes = new Uint8Array(size);
  binding.read(handle, 0, bytes);
  return bytes;
};
const same = (a, b) => Buffer.compare(a, b) === 0;

/** Fills everything, runs the call; gives its error and what the buffers hold afterwards. */
function run(call, contents, guardByte) {
  const guard = new Uint8Array(GUARD).fill(guardByte);
  for (const handle of guards) binding.write(handle, 0, guard);
  for (const [i, handle] of buffers.entries()) binding.write(handle, 0, contents[call.contents[i]].subarray(0, sizes[i]));
  args.fill(0, 0, 256);
  args.set(call.slots);
  for (const [slot, which] of call.places) args[slot] = which < 0 ? stale : buffers[which];
  let error = null;
  try {
    if (call.replayed) binding.replay(Float64Array.of(call.kernel, call.slots.length, ...args.subarray(0, call.slots.length)));
    else binding.exec(call.kernel);
  } catch (thrown) {
    if (!(thrown instanceof Error)) throw new Error(`threw ${String(thrown)}`);
    if (/internal:|panic/.test(thrown.message)) throw new Error(`a panic instead of an error: ${thrown.message}`);
    error = thrown.message;
  }
  for (const [i, handle] of guards.entries()) if (!same(bytesOf(handle, GUARD), guard)) throw new Error(`guard ${i} was written`);
  return { error, after: buffers.map((handle, i) => bytesOf(handle, sizes[i])), answer: args[0] };
}

function check(call, contents) {
  binding.threads(call.threads);
  const first = run(call, contents, 0x7f);
  const named = new Set(call.places.map(([, which]) => which));
  for (const [i, bytes] of first.after.entries()) {
    const before = contents[call.contents[i]].subarray(0, sizes[i]);
    if ((first.error !== null || !named.has(i)) && !same(bytes, before)) {
      throw new Error(`buffer ${i} was written${first.error === null ? "" : ` by a call that failed: ${first.error}`}`);
    }
  }
  // Operands that overlap are a race between threads, which only one thread decides the same way twice.
  if (call.threads > 1) return first.error;
  const second = run(call, contents, 0x3e);
  if (first.error !== second.error) throw new Error(`"${first.error}", then "${second.error}" with other guards`);
  for (const [i, bytes] of second.after.entries()) if (!same(bytes, first.after[i])) throw new Error(`buffer ${i} depends on bytes outside of the buffers`);
  if (first.error === null && !Object.is(first.answer, second.answer)) throw new Error(`the answer depends on bytes outside of the buffers`);
  return first.error;
}

const STRANGE = {
  symbol: Symbol("s"),
  function: () => 1,
  proxy: new Proxy([], {}),
  args: binding.args,
  view: new Uint8Array(8),
  shared: new Uint8Array(new SharedArrayBuffer(8)),
};
const detached = new Uint8Array(8);
structuredClone(detached.buffer, { transfer: [detached.buffer] });
STRANGE.detached = detached;

/** Calls a function with any values; what it allocated is freed again. */
function callFunction({ name, values, buffer }) {
  const live = binding.alloc(64);
  const list = values.map((value) => (value?.strange ? STRANGE[value.strange] : value));
  if (buffer) list[0] = live;
  try {
    const answer = binding[name](...list);
    if (name === "alloc" || name === "share") binding.free(answer);
    if (name === "free" && buffer) return null;
    binding.free(live);
    return null;
  } catch (error) {
    if (!(error instanceof Error)) throw new Error(`threw ${String(error)}`);
    binding.free(live);
    return error.message;
  }
}

process.once("message", ({ sizes: given, contents, calls }) => {
  sizes = given;
  allocate();
  const results = [];
  for (const [i, call] of calls.entries()) {
    // Written at once, so that it is known after a crash.
    writeSync(1, `${i}\n`);
    const from = process.cpuUsage();
    try {
      results.push(call.name === undefined ? check(call, contents) : callFunction(call));
    } catch (error) {
      process.send({ failure: `call ${i}: ${error.message}` }, () => process.exit(0));
      return;
    }
    const { user, system } = process.cpuUsage(from);
    const ms = (user + system) / 1000;
    if (ms > 5000) {
      process.send({ failure: `call ${i}: took ${ms.toFixed(0)} ms of the processor` }, () => process.exit(0));
      return;
    }
  }
  process.send({ results }, () => process.exit(0));
});

/** The same bytes: for any number of threads, on every instruction set of this machine, alone or in a batch. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import { backend, keep, linear, manualSeed, noGrad, randint, randn, scope, type Tensor, tensor } from "../src/index.ts";
import { createModel } from "../src/models/index.ts";
import { adamw } from "../src/optim/index.ts";
import { ensureBuilt } from "./built.ts";
import { whereNative } from "./where-native.ts";

/** What a worker imports, which has no transform for TypeScript. */
const ENTRY = new URL("../dist/index.js", import.meta.url).href;
beforeAll(() => ensureBuilt(), 120_000);

const b = backend();
const was = { threads: b.threads(), isa: b.isa() };
afterAll(() => {
  b.threads(was.threads);
  if (b.name === "native") b.isa(was.isa);
});

const config = {
  model_type: "llama",
  vocab_size: 301,
  hidden_size: 96,
  intermediate_size: 200,
  num_hidden_layers: 2,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  max_position_embeddings: 160,
  tie_word_embeddings: true,
};

/** Weights after some training steps, as one string of bytes. */
function train(): string {
  manualSeed(5);
  const model = createModel(config);
  const optimizer = adamw(model, { lr: 1e-2 });
  for (let step = 0; step < 4; step++) {
    scope(() => {
      const ids = randint(0, 301, [3, 150]);
      const { loss } = model.forward({ inputIds: ids, labels: ids });
      (loss as Tensor).backward();
      optimizer.step();
      return undefined;
    });
    optimizer.zeroGrad();
  }
  const bytes = Buffer.concat(model.parameters().map((p) => Buffer.from(p.bytesSync()))).toString("base64");
  model.dispose();
  return bytes;
}

test("training gives the same bytes for 1, 2 and 3 threads", () => {
  const seen = [1, 2, 3].map((n) => {
    b.threads(n);
    return train();
  });
  expect(seen[1] === seen[0] && seen[2] === seen[0]).toBe(true);
  b.threads(was.threads);
});

whereNative("every instruction set", () => {
  test("training gives the same bytes on every instruction set of this CPU", () => {
    const sets = b.isas();
    expect(sets.length).toBeGreaterThan(1);
    const seen = sets.map((name) => {
      b.isa(name);
      return train();
    });
    for (const [i, bytes] of seen.entries()) expect(bytes === seen[0], `${sets[i]} against ${sets[0]}`).toBe(true);
    b.isa(was.isa);
  });

  test("another thread that changes the instruction set waits for the product that runs", async () => {
    const [x, w] = scope(() => [keep(randn([23, 300])), keep(randn([600, 300]))]);
    const product = () => scope(() => linear(x, w).bytesSync());
    const first = product();
    const flag = new Int32Array(new SharedArrayBuffer(4));
    const code = `
      const { workerData: { entry, flag } } = require("node:worker_threads");
      import(entry).then(({ backend }) => {
        const sets = backend().isas();
        for (let i = 0; Atomics.load(flag, 0) < 2; i++) {
          backend().isa(sets[i % sets.length]);
          Atomics.store(flag, 0, Math.max(Atomics.load(flag, 0), 1));
        }
      });`;
    const worker = new Worker(code, { eval: true, execArgv: [], workerData: { entry: ENTRY, flag } });
    const end = once(worker, "exit");
    while (Atomics.load(flag, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    let others = 0;
    let products = 0;
    // Two busy threads and the library's own share the cores: where others are busy, too, a product waits long for its turn.
    for (const until = performance.now() + 20_000; products < 3000 && performance.now() < until; products++)
      if (Buffer.compare(product(), first) !== 0) others++;
    Atomics.store(flag, 0, 2);
    expect(await end).toEqual([0]);
    b.isa(was.isa);
    for (const t of [x, w]) t.dispose();
    expect(others).toBe(0);
    expect(products).toBeGreaterThan(100);
  });
});

test("another seed gives other bytes", () => {
  const first = train();
  manualSeed(6);
  const model = createModel(config);
  const other = Buffer.concat(model.parameters().map((p) => Buffer.from(p.bytesSync()))).toString("base64");
  expect(other).not.toBe(first);
  model.dispose();
});

test("a sequence's logits are the same bytes alone, in a batch of any size, and as ragged rows", () => {
  manualSeed(5);
  const model = createModel(config).eval();
  const rows = [...Array(7)].map((_, s) => Int32Array.from({ length: 40 }, (_, i) => (i * 7 + s * 31) % 301));
  noGrad(() =>
    scope(() => {
      const alone = rows.map((ids) => model.forward({ inputIds: tensor([ids]) }).logits.bytesSync());
      const together = model.forward({ inputIds: tensor(rows) }).logits.bytesSync();
      const each = alone[0]?.length as number;
      for (const [s, bytes] of alone.entries()) expect(Buffer.compare(bytes, together.subarray(s * each, (s + 1) * each)), `row ${s} of the batch`).toBe(0);
      const lengths = [1, 40, 13];
      const flat = Int32Array.from(lengths.flatMap((n, s) => [...(rows[s] as Int32Array).subarray(0, n)]));
      const ragged = model.forward({ inputIds: tensor([flat]), cuSeqlens: Int32Array.of(0, 1, 41, 54) }).logits.bytesSync();
      let at = 0;
      for (const [s, n] of lengths.entries()) {
        const size = (each / 40) * n;
        expect(Buffer.compare((alone[s] as Uint8Array).subarray(0, size), ragged.subarray(at, at + size)), `ragged sequence ${s}`).toBe(0);
        at += size;
      }
      return undefined;
    }),
  );
  model.dispose();
});

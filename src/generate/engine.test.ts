import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Random, random } from "../../tests/random.ts";
import { whereNative } from "../../tests/where-native.ts";
import { type CausalLM, createModel, fromPretrained, GPT2, Llama, saveGguf } from "../models/index.ts";
import { memory, setMemoryLimit, type Tensor } from "../tensor/index.ts";
import { byteTokenizer } from "../tokenizers/index.ts";
import { createEngine, type EngineOptions, type EngineRequestOptions, type EngineStream } from "./engine.ts";
import { type Generation, generate } from "./generate.ts";
import { logprobs } from "./logprobs.ts";
import type { RequestUsage, TokenEvent } from "./request.ts";

const CONTEXT = 320;
const VOCABULARY = 259;
const tokenizer = byteTokenizer({ specialTokens: ["<|endoftext|>"] });
const llamaConfig = {
  vocab_size: VOCABULARY,
  max_position_embeddings: CONTEXT,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  initializer_range: 0.4,
};
const SIZES = { vocab_size: VOCABULARY, max_position_embeddings: CONTEXT, num_attention_heads: 4, num_key_value_heads: 2, initializer_range: 0.4 };
const GEMMA = { ...SIZES, hidden_size: 16, head_dim: 4, intermediate_size: 24, num_hidden_layers: 2 };
const GPT_OSS = { ...GEMMA, sliding_window: 40, num_local_experts: 4, num_experts_per_tok: 2 };
let llama: CausalLM;
let gpt2: CausalLM;
let small: CausalLM;
beforeAll(() => {
  llama = new Llama(llamaConfig).eval();
  gpt2 = new GPT2({ vocab_size: VOCABULARY, n_positions: CONTEXT, n_embd: 16, n_layer: 2, n_head: 2, initializer_range: 0.4 }).eval();
  small = new Llama({ ...llamaConfig, num_hidden_layers: 1 }).eval();
});
afterAll(() => {
  for (const model of [llama, gpt2, small]) model.dispose();
});

const SAMPLERS: EngineRequestOptions[] = [
  { temperature: 0 },
  { temperature: 0, repetitionPenalty: 1.2 },
  { temperature: 0.8, topK: 30 },
  { topP: 0.9, presencePenalty: 0.4, frequencyPenalty: 0.2 },
  { temperature: 0.05 },
  { mirostatTau: 4, temperature: 0.9 },
  { dryMultiplier: 0.8, temperature: 0.3 },
  { typicalP: 0.6, topNSigma: 2, minP: 0.02 },
];

/** A Llama whose weights are blocks. */
async function inBlocks(): Promise<CausalLM> {
  const folder = mkdtempSync(join(tmpdir(), "groundup-engine-"));
  const source = createModel({ ...SIZES, model_type: "llama", hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2 });
  try {
    await saveGguf(source, join(folder, "model.gguf"), { type: "Q4_0" });
    const model = await fromPretrained(join(folder, "model.gguf"));
    expect([...model.namedParameters()].filter(([, { dtype }]) => dtype.startsWith("q")).length).toBeGreaterThan(10);
    return model.eval();
  } finally {
    source.dispose();
    rmSync(folder, { recursive: true });
  }
}

interface Wish {
  prompt: Int32Array;
  options: EngineRequestOptions;
}

/** Random prompts, many with the same beginnings or with repetitions in them. */
function wishes(rng: Random, count: number): Wish[] {
  const bases = [0, 1, 2].map((b) => Int32Array.from({ length: 200 }, (_, i) => (b === 2 ? (i % 9) + 65 : rng.below(250))));
  return Array.from({ length: count }, () => {
    const shared = rng.pick(bases).subarray(0, rng.below(200));
    const own = Int32Array.from({ length: rng.below(20) + (shared.length === 0 ? 1 : 0) }, () => rng.below(250));
    const prompt = Int32Array.of(...shared, ...own);
    const options: EngineRequestOptions = { ...rng.pick(SAMPLERS), maxNewTokens: 1 + rng.below(90), seed: rng.below(1000) };
    if (rng.once(4)) options.topLogprobs = 1 + rng.below(3);
    if (rng.once(5)) options.stopIds = [rng.below(250), rng.below(250), rng.below(250)];
    return { prompt, options };
  });
}

const settle = (turns: number): Promise<void> => (turns === 0 ? Promise.resolve() : new Promise<void>((r) => setImmediate(r)).then(() => settle(turns - 1)));

/** Runs all of them through one engine, arriving bit by bit, some cancelled on the way; null for these. */
async function throughEngine(model: CausalLM, list: readonly Wish[], options: EngineOptions, rng: Random) {
  const engine = createEngine(model, { tokenizer, ...options });
  const results: Promise<Generation | null>[] = [];
  for (const { prompt, options } of list) {
    const stream = engine.submit(prompt, options);
    if (rng.once(8)) {
      const after = rng.below(12);
      void settle(after).then(() => stream.cancel(new Error("enough")));
      results.push(
        stream.result().then(
          () => null,
          (error: Error) => {
            expect(error.message).toBe("enough");
            return null;
          },
        ),
      );
    } else results.push(stream.result());
    if (rng.once(3)) await settle(rng.below(6));
  }
  const all = await Promise.all(results);
  await engine.drain();
  const usage = engine.usage();
  engine.dispose();
  return { all, usage };
}

whereNative("the engine", () => {
  const alone = async (model: CausalLM, list: readonly Wish[]): Promise<Generation[]> => {
    const out: Generation[] = [];
    for (const { prompt, options } of list) out.push(await generate(model, prompt, { ...options, tokenizer, prefixCache: false, stopIds: options.stopIds }));
    return out;
  };

  test.each<[name: string, rounds: number, make: () => Promise<CausalLM>]>([
    ["llama", 8, async () => new Llama(llamaConfig).eval()],
    ["gpt2", 8, async () => new GPT2({ vocab_size: VOCABULARY, n_positions: CONTEXT, n_embd: 16, n_layer: 2, n_head: 2, initializer_range: 0.4 }).eval()],
    ["blocks of 4 bits and activations of 8", 3, inBlocks],
    ["windows and soft caps", 3, async () => createModel({ ...GEMMA, model_type: "gemma2", sliding_window: 40 }).eval()],
    ["experts, sinks and windows", 3, async () => createModel({ ...GPT_OSS, model_type: "gpt_oss" }).eval()],
  ])("%s: alone, batched, from the cache, set back, speculated: the same bytes", { timeout: 120_000 }, async (_, rounds, make) => {
    const model = await make();
    const rng = random(rounds);
    const before = memory().liveBytes;
    const sums = { cachedTokens: 0, acceptedTokens: 0, draftedTokens: 0, preemptions: 0 };
    for (let round = 0; round < rounds; round++) {
      const list = wishes(rng, 30);
      const expected = await alone(model, list);
      const options: EngineOptions = {
        maxBatch: 1 + rng.below(12),
        // From just enough for one.
        maxPages: 5 + rng.below(round < 5 ? 4 : 40),
        prefillTokens: 1 + rng.below(200),
        prefixCache: !rng.once(4),
      };
      if (round % 3 === 1) options.speculation = { draft: "prompt-lookup", maxTokens: 1 + rng.below(8) };
      if (round % 3 === 2) options.speculation = { draft: round === 2 ? small : model, maxTokens: 1 + rng.below(8) };
      const { all, usage } = await throughEngine(model, list, options, rng);
      for (const [i, got] of all.entries()) if (got !== null) expect(got).toEqual(expected[i]);
      expect(all.filter((g) => g !== null).length).toBeGreaterThan(15);
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += usage[key];
      expect(usage).toMatchObject({ running: 0, waiting: 0, maxPages: options.maxPages });
      expect(usage.usedPages).toBe(usage.cachedPages);
    }
    // All of it happened.
    for (const sum of Object.values(sums)) expect(sum).toBeGreaterThan(rounds);
    expect(memory().liveBytes).toBe(before);
    model.dispose();
  });
});

whereNative("rotary scalings that adapt to the length", () => {
  test("a request's bytes are the same alone and in an engine that is short of pages", async () => {
    const rope_parameters = { rope_type: "longrope" as const, short_factor: [1, 1.5], long_factor: [3, 7], original_max_position_embeddings: 100 };
    const model = new Llama({ ...llamaConfig, rope_parameters }).eval();
    const list = wishes(random(5), 12).map(({ prompt, options }) => ({ prompt, options: { ...options, maxNewTokens: 80, stopIds: [] } }));
    const engine = createEngine(model, { tokenizer, maxPages: 6, prefillTokens: 50, speculation: { draft: model } });
    const results = await Promise.all(list.map(({ prompt, options }) => engine.submit(prompt, options).result()));
    for (const [i, { prompt, options }] of list.entries()) expect(results[i]).toEqual(await generate(model, prompt, { ...options, tokenizer }));
    expect(engine.usage()).toMatchObject({ cachedTokens: 0, draftedTokens: 0 });
    expect(engine.usage().preemptions).toBeGreaterThan(0);
    engine.dispose();
    model.dispose();
  });
});

/** The number of the step in which each request's last token came. */
async function lastSteps(engine: ReturnType<typeof createEngine>, streams: readonly EngineStream[]): Promise<number[]> {
  return Promise.all(
    streams.map(async (stream) => {
      for await (const _ of stream);
      return engine.usage().steps;
    }),
  );
}

const ids = (n: number, first = 65): Int32Array => Int32Array.from({ length: n }, (_, i) => (first + i * 7) % 250);

test("many short requests do not wait for a long one, nor a long one for many short", async () => {
  const engine = createEngine(llama, { maxBatch: 4, prefillTokens: 32, prefixCache: false });
  const long = engine.submit(ids(250), { maxNewTokens: 60, stopIds: [] });
  const short = Array.from({ length: 40 }, (_, i) => engine.submit(ids(6, i), { maxNewTokens: 3, stopIds: [] }));
  const [longEnd, ...shortEnds] = await lastSteps(engine, [long, ...short]);
  // Three at a time beside the long one, three steps and one for the prompt each; the long one's prompt takes what they leave.
  expect(Math.max(...shortEnds)).toBeLessThan(70);
  expect(shortEnds[0]).toBeLessThan(8);
  expect(longEnd).toBeLessThan(95);
  // In order of arrival.
  expect(shortEnds).toEqual(shortEnds.toSorted((a, b) => a - b));
  engine.dispose();
});

test("a long prompt holds nobody up who generates: at most 128 of its tokens stand in a step with theirs", async () => {
  const rows: number[] = [];
  const plain = llama.forward.bind(llama);
  const forward = vi.spyOn(llama, "forward").mockImplementation((inputs) => {
    rows.push(inputs.inputIds.size);
    return plain(inputs);
  });
  const engine = createEngine(llama);
  const first = engine.submit(ids(3), { maxNewTokens: 9, stopIds: [] });
  await first[Symbol.asyncIterator]().next();
  await engine.submit(ids(300, 9), { maxNewTokens: 1, stopIds: [] }).result();
  await engine.drain();
  forward.mockRestore();
  expect(rows.filter((n) => n > 1)).toEqual([3, 129, 129, 45]);
  engine.dispose();
});

test("prompts with the same beginning compute it once, also when they come together", async () => {
  const engine = createEngine(llama);
  const prompt = ids(200);
  const streams = [1, 2, 3, 4].map((seed) => engine.submit(prompt, { seed, maxNewTokens: 2, stopIds: [] }));
  const usages = await Promise.all(
    streams.map(async (stream) => {
      let last: TokenEvent | undefined;
      for await (const event of stream) last = event;
      return last?.usage;
    }),
  );
  expect(usages.map((u) => u?.cachedTokens)).toEqual([0, 192, 192, 192]);
  expect(usages[1]).toEqual({ promptTokens: 200, cachedTokens: 192, generatedTokens: 2, draftedTokens: 0, acceptedTokens: 0, preemptions: 0 });
  expect(engine.usage()).toMatchObject({ promptTokens: 800, cachedTokens: 576, usedPages: 3, cachedPages: 3 });
  // What was generated is a beginning too: the next turn of a conversation.
  const { ids: said } = await engine.submit(prompt, { maxNewTokens: 70, stopIds: [] }).result();
  const next = await engine.submit(Int32Array.of(...prompt, ...said, 65), { maxNewTokens: 1 }).result();
  expect(next.ids).toHaveLength(1);
  expect(engine.usage().cachedTokens).toBe(576 + 192 + 256);
  engine.dispose();
});

test("cancelling ends a request before the next step, by its signal, by cancel() and by leaving the loop", async () => {
  const before = memory().liveBytes;
  const engine = createEngine(llama, { prefixCache: false });
  const controller = new AbortController();
  const by = [{ signal: controller.signal }, {}, {}].map((more) => engine.submit(ids(5), { ...more, maxNewTokens: 300, stopIds: [] }));
  const iterators = by.map((stream) => stream[Symbol.asyncIterator]());
  for (const iterator of iterators) expect((await iterator.next()).done).toBe(false);
  controller.abort(new Error("by signal"));
  by[1].cancel();
  await iterators[2].return?.();
  const { steps } = engine.usage();
  const rest = async (iterator: AsyncIterator<TokenEvent>) => {
    for (let n = 0; ; n++) if ((await iterator.next()).done) return n;
  };
  await expect(rest(iterators[0])).rejects.toThrow("by signal");
  await expect(rest(iterators[1])).rejects.toMatchObject({ name: "AbortError" });
  expect(await rest(iterators[2])).toBe(0);
  await engine.drain();
  expect(engine.usage().steps).toBeLessThanOrEqual(steps + 2);
  expect(engine.usage()).toMatchObject({ running: 0, usedPages: 0 });
  // Readers that come before the events do get one each.
  const eager = engine.submit(ids(4), { maxNewTokens: 2, stopIds: [] })[Symbol.asyncIterator]();
  expect((await Promise.all([eager.next(), eager.next(), eager.next()])).map((r) => r.done)).toEqual([false, false, true]);
  // One that was never begun, and one whose signal had come before.
  const gone = engine.submit(ids(3), { signal: AbortSignal.abort(new Error("before")) });
  await expect(gone.result()).rejects.toThrow("before");
  const late = engine.submit(ids(3));
  late.cancel(new Error("at once"));
  await expect(late.result()).rejects.toThrow("at once");
  await engine.drain();
  engine.dispose();
  expect(memory().liveBytes).toBe(before);
});

test("a request whose logits are not finite fails alone, and leaves nothing behind", async () => {
  const broken = new Llama({ ...llamaConfig, tie_word_embeddings: false }).eval();
  const table = [...broken.namedParameters()].find(([name]) => name.includes("embed_tokens"))?.[1] as Tensor;
  const rows = table.dataSync().slice() as Float32Array;
  rows.fill(Number.NaN, 7 * 16, 8 * 16);
  table.write(rows);
  const forbidden = { logitBias: { 7: -Infinity }, maxNewTokens: 12, stopIds: [], seed: 4 };
  const expected = await generate(broken, ids(70, 8), forbidden);
  // One page more than one of them needs: all go through the same pages.
  const engine = createEngine(broken, { maxPages: 3, maxBatch: 3 });
  for (let round = 0; round < 3; round++) {
    const bad = engine.submit(Int32Array.of(...ids(66, 8), 7), { maxNewTokens: 4 });
    const good = engine.submit(ids(70, 8), forbidden);
    await expect(bad.result()).rejects.toThrow(/logits are not finite after 67 tokens of the prompt/);
    expect((await good.result()).ids).toEqual(expected.ids);
  }
  await engine.drain();
  expect(engine.usage()).toMatchObject({ running: 0, waiting: 0 });
  engine.dispose();
  broken.dispose();
});

test("a step that breaks costs those who break it: the others go on", async () => {
  const plain = llama.forward.bind(llama);
  const forward = vi.spyOn(llama, "forward").mockImplementation((inputs) => {
    if ((inputs.inputIds.dataSync() as Int32Array).includes(3)) throw new Error("no threes");
    return plain(inputs);
  });
  const engine = createEngine(llama);
  const options = { maxNewTokens: 5, stopIds: [], logitBias: { 3: -Infinity } };
  const streams = [ids(8), Int32Array.of(1, 2, 3), ids(9)].map((prompt) => engine.submit(prompt, options));
  const results = await Promise.allSettled(streams.map((s) => s.result()));
  forward.mockRestore();
  expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(results[1]).toMatchObject({ reason: { message: "no threes" } });
  engine.dispose();
  expect((results[0] as PromiseFulfilledResult<Generation>).value).toEqual(await generate(llama, ids(8), options));
});

test("where memory ends before maxPages, the younger wait", async () => {
  const list = Array.from({ length: 6 }, (_, i) => ({ prompt: ids(150, i), options: { maxNewTokens: 20, stopIds: [], seed: i } }));
  const expected = [];
  for (const { prompt, options } of list) expected.push(await generate(llama, prompt, options));
  const engine = createEngine(llama, { maxPages: 1000, prefillTokens: 16 });
  // A page has 2 layers · 2 · 64 positions · 2 heads · 4 numbers · 4 bytes = 8 KiB.
  const limit = memory().limitBytes;
  setMemoryLimit(memory().liveBytes + 120_000);
  try {
    const results = await Promise.all(list.map(({ prompt, options }) => engine.submit(prompt, options).result()));
    expect(results.map((r) => [...r.ids])).toEqual(expected.map((r) => [...r.ids]));
    expect(engine.usage().preemptions).toBeGreaterThan(0);
  } finally {
    setMemoryLimit(limit);
    engine.dispose();
  }
});

test("speculation says how many guesses were right, and stops guessing where they are not", async () => {
  const repeating = { prompt: Int32Array.from({ length: 120 }, (_, i) => 65 + (i % 5)), options: { temperature: 0, maxNewTokens: 150, stopIds: [] } };
  const count = async (model: CausalLM, draft: CausalLM | "prompt-lookup", options: EngineRequestOptions) => {
    const engine = createEngine(model, { speculation: { draft, maxTokens: 6 } });
    const events: TokenEvent[] = [];
    for await (const event of engine.submit(repeating.prompt, options)) events.push(event);
    const { steps } = engine.usage();
    engine.dispose();
    return { ...(events.at(-1)?.usage as RequestUsage), steps };
  };
  // A model that guesses for itself is always right: greedily, and with the same draws.
  for (const options of [repeating.options, { ...repeating.options, temperature: 1, seed: 5 }]) {
    const own = await count(llama, llama, options);
    expect(own.acceptedTokens).toBe(own.draftedTokens);
    expect(own.steps).toBeLessThan(40);
  }
  // One that knows nothing of the other is hardly ever right: after a few tries it is asked now and then only.
  const other = await count(llama, gpt2, { ...repeating.options, temperature: 1 });
  expect(other.draftedTokens).toBeLessThan(60);
  expect(other.draftedTokens).toBeGreaterThan(0);
  expect(other.steps).toBeGreaterThan(130);
});

test("what cannot be is refused before it runs, in words", async () => {
  expect(() => createEngine(llama, { maxBatch: 0, prefillTokens: 1.5 })).toThrow(
    /maxBatch: expected a whole number of at least 1, got 0; prefillTokens: .*got 1.5/,
  );
  expect(() => createEngine(llama, { maxpages: 3 } as EngineOptions)).toThrow(/unknown option.*Did you mean "maxPages"/);
  expect(() => createEngine(llama, { speculation: { draft: "n-gram" as "prompt-lookup" } })).toThrow(/expected "prompt-lookup" or a model/);
  const other = new Llama({ ...llamaConfig, vocab_size: 100 });
  expect(() => createEngine(llama, { speculation: { draft: other } })).toThrow(/another vocabulary, expected 259 tokens, got 100/);
  other.dispose();
  const engine = createEngine(llama, { maxPages: 2 });
  expect(() => engine.submit("text")).toThrow(/engine: a prompt of text without a tokenizer/);
  expect(() => engine.submit(ids(CONTEXT + 1))).toThrow(/too long, expected at most 320 tokens \(the model's context\), got 321/);
  expect(() => engine.submit(ids(100), { maxNewTokens: 40 })).toThrow(/does not fit, expected at most 2 pages .* got 100 tokens and 40 new ones, which take 3/);
  expect(() => engine.submit(ids(3), { topP: 7 })).toThrow(/topP/);
  expect((await engine.submit(ids(3), { maxNewTokens: 0 }).result()).ids).toHaveLength(0);
  const stream = engine.submit(ids(100), { maxNewTokens: 29, stopIds: [] });
  expect((await stream.result()).ids).toHaveLength(29);
  const open = engine.submit(ids(3), { maxNewTokens: 9 });
  engine.dispose();
  engine.dispose();
  await expect(open.result()).rejects.toThrow(/disposed/);
  await engine.drain();
  expect(() => engine.submit(ids(3))).toThrow(/disposed/);
});

test("log-probabilities of the likeliest tokens are the model's own, whatever shapes the draw", async () => {
  const options = { topLogprobs: 259, temperature: 0.3, topK: 2, maxNewTokens: 3, seed: 3, stopIds: [] };
  const { ids: got, logprobs: chosen, topLogprobs = [] } = await generate(llama, ids(9), options);
  const all = logprobs(llama, [...ids(9), ...got]);
  for (const [t, top] of topLogprobs.entries()) {
    expect(top.map(({ logprob }) => logprob)).toEqual(top.map(({ logprob }) => logprob).toSorted((a, b) => b - a));
    expect(new Set(top.map(({ id }) => id)).size).toBe(259);
    expect(top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 5);
    expect(top.find(({ id }) => id === got[t])?.logprob).toBe(chosen[t]);
    expect(chosen[t]).toBeCloseTo(all[8 + t], 4);
  }
  expect((await generate(llama, ids(9), { ...options, topLogprobs: 2 })).topLogprobs).toEqual(topLogprobs.map((top) => top.slice(0, 2)));
});

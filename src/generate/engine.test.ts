import { afterAll, beforeAll, expect, test } from "vitest";
import { type Random, random } from "../../tests/random.ts";
import { whereNative } from "../../tests/where-native.ts";
import { type CausalLM, GPT2, Llama } from "../models/index.ts";
import { memory } from "../tensor/index.ts";
import { byteTokenizer } from "../tokenizers/index.ts";
import { createEngine, type EngineOptions, type EngineRequestOptions, type EngineStream } from "./engine.ts";
import { type Generation, generate } from "./generate.ts";
import type { TokenEvent } from "./request.ts";

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
          (error: Error) => (expect(error.message).toBe("enough"), null),
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

  test.each([
    ["llama", 1],
    ["gpt2", 2],
  ] as const)("%s: alone, batched, from the cache, set back, speculated: the same bytes", { timeout: 120_000 }, async (name, seed) => {
    const model = name === "llama" ? llama : gpt2;
    const rng = random(seed);
    const before = memory().liveBytes;
    const sums = { cachedTokens: 0, acceptedTokens: 0, draftedTokens: 0, preemptions: 0 };
    for (let round = 0; round < 8; round++) {
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
    for (const sum of Object.values(sums)) expect(sum).toBeGreaterThan(20);
    expect(memory().liveBytes).toBe(before);
  });
});

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { logprobs } from "../generate/index.ts";
import { type CausalLM, GPT2 } from "../models/index.ts";
import { memory } from "../tensor/index.ts";
import { byteTokenizer, charTokenizer, createTokenizer } from "../tokenizers/index.ts";
import { negativeLogLikelihood, perplexity } from "./perplexity.ts";
import { tasksNamed } from "./tasks.ts";

let model: CausalLM;
beforeAll(() => {
  model = new GPT2({ vocab_size: 256, n_positions: 32, n_embd: 16, n_layer: 2, n_head: 2, initializer_range: 0.3 }).eval();
});
afterAll(() => model.dispose());
const tokenizer = byteTokenizer();
const text = "It was the best of times, it was the worst of times, it was the age of wisdom: naïve.";

/** The definition: each token from the window that first reaches it. */
function plain(ids: Int32Array, context: number, stride: number): number {
  let sum = 0;
  for (let t = 1; t < ids.length; t++) {
    let end = Math.min(context, ids.length);
    while (end <= t) end = Math.min(end + stride, ids.length);
    const begin = Math.max(0, end - context);
    sum -= logprobs(model, ids.subarray(begin, t + 1))[t - begin - 1];
  }
  return sum;
}

describe("perplexity", () => {
  test.each([
    [32, 16],
    [32, 31],
    [10, 1],
    [2, 1],
  ])("context %i, stride %i: each token once, with its window", async (context, stride) => {
    const { ids } = tokenizer.encode(text);
    const { sum, tokens } = await negativeLogLikelihood(model, ids, { context, stride });
    expect(tokens).toBe(ids.length - 1);
    expect(sum).toBeCloseTo(plain(ids, context, stride), 3);
  });

  test("half a window is the stride unless one is given, and progress counts the tokens of all documents", async () => {
    const { ids } = tokenizer.encode(text);
    const halves = await negativeLogLikelihood(model, ids, { context: 32, stride: 16 });
    expect(await negativeLogLikelihood(model, ids)).toEqual(halves);
    expect(halves.sum).not.toBe((await negativeLogLikelihood(model, ids, { stride: 8 })).sum);
    const told: [number, number | null][] = [];
    await perplexity(model, tokenizer, [text, "short", text], { progress: (scored, of) => void told.push([scored, of]) });
    const all = 2 * (ids.length - 1) + 4;
    expect(told.map(([scored]) => scored)).toEqual([31, 47, 63, 79, 85, 89, 120, 136, 152, 168, 174]);
    expect(new Set(told.map(([, of]) => of))).toEqual(new Set([all]));
  });

  test("documents that come one by one are scored as they come, with the same numbers", async () => {
    const events: string[] = [];
    async function* documents() {
      for (const document of [text, "x", "short"]) {
        events.push(`gives ${document.length}`);
        yield document;
      }
    }
    const options = { context: 32, stride: 31, progress: (scored: number, of: number | null) => void events.push(`scored ${scored} of ${of}`) };
    const streamed = await perplexity(model, tokenizer, documents(), options);
    expect(events).toEqual(["gives 85", ...[31, 62, 85].map((n) => `scored ${n} of null`), "gives 1", "gives 5", "scored 89 of null"]);
    expect(streamed).toEqual(await perplexity(model, tokenizer, [text, "x", "short"], { context: 32, stride: 31 }));
  });

  test("a text shorter than the window is one window", async () => {
    const { ids } = tokenizer.encode("abc");
    const sum = -logprobs(model, ids).reduce((a, b) => a + b, 0);
    expect(await negativeLogLikelihood(model, ids)).toEqual({ sum, tokens: 2 });
  });

  test("reports what belongs together", async () => {
    const { nll, perplexity: ppl, bitsPerByte, tokens, bytes, words } = await perplexity(model, tokenizer, text);
    expect(ppl).toBeCloseTo(Math.exp(nll), 8);
    // Bytes are the tokens here, and the first is not scored.
    expect([tokens, bytes, words]).toEqual([Buffer.byteLength(text) - 1, Buffer.byteLength(text) - 1, 19]);
    expect(bitsPerByte).toBeCloseTo(nll / Math.LN2, 8);
    const characters = charTokenizer(text);
    const fit = await perplexity(model, characters, text);
    expect([fit.tokens, fit.bytes]).toEqual([text.length - 1, Buffer.byteLength(text) - 1]);
  });

  test("bytes: a first token that is a part of a character counts its part, one that the tokenizer puts there none", async () => {
    expect((await perplexity(model, tokenizer, "€uro")).bytes).toBe(5);
    const { spec } = byteTokenizer({ specialTokens: ["<s>"] });
    const begun = createTokenizer({ ...spec, postProcessor: { ...spec.postProcessor, before: [{ id: 256, typeId: 0 }] } });
    const larger = new GPT2({ vocab_size: 257, n_positions: 32, n_embd: 16, n_layer: 1, n_head: 2 }).eval();
    const { bytes, tokens, nll, bitsPerByte } = await perplexity(larger, begun, "€uro");
    expect([bytes, tokens]).toEqual([6, 6]);
    expect(bitsPerByte).toBeCloseTo(nll / Math.LN2, 8);
    larger.dispose();
    if (spec.model.kind !== "bpe") throw new Error("a byte tokenizer is a BPE");
    const blank = createTokenizer({ ...spec, model: { ...spec.model, addPrefixSpace: true }, addedTokens: [] });
    expect([(await perplexity(model, blank, "whale")).bytes, (await perplexity(model, blank, " whale")).bytes]).toEqual([5, 5]);
  });

  test("documents are scored each on its own", async () => {
    const [a, b] = [await perplexity(model, tokenizer, "first text"), await perplexity(model, tokenizer, "another")];
    const both = await perplexity(model, tokenizer, ["first text", "x", "another"]);
    expect(both.nll * both.tokens).toBeCloseTo(a.nll * a.tokens + b.nll * b.tokens, 6);
    expect([both.tokens, both.words]).toEqual([a.tokens + b.tokens, 3]);
  });

  test("leaves no memory, stops at a signal, says what is wrong", async () => {
    await perplexity(model, tokenizer, text);
    const before = memory().liveBytes;
    await perplexity(model, tokenizer, text, { stride: 3 });
    expect(memory().liveBytes).toBe(before);
    await expect(perplexity(model, tokenizer, text, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
    await expect(perplexity(model, tokenizer, "a")).rejects.toThrow(/at least 2 tokens/);
    await expect(perplexity(model, tokenizer, text, { context: 33 })).rejects.toThrow(/from 2 to 32/);
    await expect(perplexity(model, tokenizer, text, { context: 8, stride: 8 })).rejects.toThrow(/from 1 to 7/);
  });
});

test("tasks are found by name, and unknown ones get a suggestion", async () => {
  const [task] = tasksNamed(["perplexity"]);
  expect(await task.run({ model, tokenizer, documents: [text], options: {} })).toMatchObject({ words: 19 });
  expect(() => tasksNamed(["perplexty"])).toThrow(/got "perplexty"\. Did you mean "perplexity"\? Correct/);
});

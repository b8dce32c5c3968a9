import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type CausalLM, GPT2, Llama } from "../models/index.ts";
import { memory, noGrad, scope, tensor } from "../tensor/index.ts";
import { byteTokenizer, type Tokenizer, trainBpe } from "../tokenizers/index.ts";
import { type Generation, generate, generateStream } from "./generate.ts";
import { logprobs } from "./logprobs.ts";
import type { TokenEvent } from "./request.ts";
import { sample, uniformAt } from "./samplers.ts";
import { createTextStream } from "./text-stream.ts";

let model: CausalLM;
let tokenizer: Tokenizer;
beforeAll(() => {
  tokenizer = byteTokenizer({ specialTokens: ["<|endoftext|>"] });
  // Two rows more than the tokenizer has ids, as padded vocabularies do.
  model = new Llama({
    vocab_size: 259,
    max_position_embeddings: 96,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    initializer_range: 0.3,
  }).eval();
});
afterAll(() => model.dispose());

async function events(...args: Parameters<typeof generateStream>): Promise<TokenEvent[]> {
  const out: TokenEvent[] = [];
  for await (const e of generateStream(...args)) out.push(e);
  return out;
}

/** Greedy generation without any state. */
function plainGreedy(ids: Int32Array, count: number): number[] {
  const all = [...ids];
  for (let i = 0; i < count; i++) {
    const logits = scope(() => ({
      data: noGrad(() => model.forward({ inputIds: tensor([Int32Array.from(all)]) }).logits.narrow(1, all.length - 1, 1)).dataSync(),
    })).data;
    all.push(logits.indexOf(Math.max(...logits)));
  }
  return all.slice(ids.length);
}

describe("generate", () => {
  test("greedy equals taking the largest logit of the plain forward", async () => {
    const ids = Int32Array.of(72, 101, 108, 108, 111);
    const { ids: got, done, text } = await generate(model, ids, { temperature: 0, maxNewTokens: 70 });
    expect([...got]).toEqual(plainGreedy(ids, 70));
    expect(done).toBe("length");
    expect(text).toBe("");
  });

  test("token t is drawn from the plain forward's distribution by the seed's number t", async () => {
    const prompt = Int32Array.of(72, 101, 108);
    const options = { temperature: 0.9, topK: 40, presencePenalty: 0.3 };
    const { ids } = await generate(model, prompt, { ...options, maxNewTokens: 24, seed: 5 });
    const all = [...prompt];
    for (let t = 0; t < 24; t++) {
      const logits = scope(() => ({
        data: noGrad(() => model.forward({ inputIds: tensor([Int32Array.from(all)]) }).logits.narrow(1, all.length - 1, 1)).dataSync(),
      })).data as Float32Array;
      all.push(sample(logits, options, prompt, all.slice(3), uniformAt(5, t)));
    }
    expect([...ids]).toEqual(all.slice(3));
  });

  test("a step takes at most prefillTokens of prompts, and one token of each request that generates", async () => {
    const rows: number[] = [];
    const plain = model.forward.bind(model);
    const forward = vi.spyOn(model, "forward").mockImplementation((inputs) => {
      rows.push(inputs.inputIds.size);
      return plain(inputs);
    });
    await generate(model, [new Int32Array(12).fill(65), new Int32Array(3).fill(66)], { maxNewTokens: 3, prefillTokens: 5, stopIds: [] });
    forward.mockRestore();
    // 12 + 3 prompt tokens in fives, in turns: the short one is through in the second step, and generates from then on.
    expect(rows).toEqual([5, 5, 5 + 1, 2, 1]);
  });

  test.each(["f32", "f16"] as const)(
    "a request's tokens depend on its prompt and seed only: alone, in a batch, in small steps; state in %s",
    async (stateDtype) => {
      const prompts = ["The sea", "A", "What is a whale? ".repeat(4), "The sea"];
      const options = { tokenizer, maxNewTokens: 20, topK: 50, topP: 0.95, stopIds: [], stateDtype };
      const batch = await generate(model, prompts, { ...options, seed: [1, 2, 3, 4] });
      const small = await generate(model, prompts, { ...options, seed: [1, 2, 3, 4], prefillTokens: 5 });
      const alone = await Promise.all(prompts.map((p, i) => generate(model, p, { ...options, seed: i + 1 })));
      expect(batch).toEqual(alone);
      expect(small).toEqual(alone);
      expect(batch[0].ids).not.toEqual(batch[3].ids);
      expect(await generate(model, "The sea", { ...options, seed: 4 })).toEqual(batch[3]);
      const other = await generate(model, "The sea", { ...options, seed: 1, stateDtype: stateDtype === "f32" ? "f16" : "f32" });
      expect(other.logprobs).not.toEqual(batch[0].logprobs);
    },
  );

  test("log-probabilities are the model's own, whatever shapes the draw", async () => {
    const prompt = tokenizer.encode("Call me").ids;
    const { ids, logprobs: got } = await generate(model, prompt, { temperature: 0.5, topK: 5, repetitionPenalty: 1.5, maxNewTokens: 12, seed: 7 });
    const all = logprobs(model, [...prompt, ...ids]);
    for (const [i, p] of got.entries()) expect(p).toBeCloseTo(all[prompt.length - 1 + i], 4);
  });

  test("ends at stop ids, at the context's end, and not before maxNewTokens", async () => {
    const free = await generate(model, "abc", { tokenizer, maxNewTokens: 30, temperature: 0 });
    const stopId = free.ids[7];
    const at = free.ids.indexOf(stopId);
    const stopped = await generate(model, "abc", { tokenizer, maxNewTokens: 30, temperature: 0, stopIds: [stopId] });
    expect([...stopped.ids]).toEqual([...free.ids.subarray(0, at + 1)]);
    expect(stopped.done).toBe("stop");
    expect(stopped.text).toBe(
      tokenizer.decode(
        free.ids.subarray(0, at).filter((id) => id < 257),
        { skipSpecialTokens: true },
      ),
    );
    const full = await generate(model, "abc", { tokenizer, temperature: 1, stopIds: [], maxNewTokens: 500 });
    expect([full.done, full.ids.length]).toEqual(["context", 94]);
    expect((await generate(model, "abc", { tokenizer, maxNewTokens: 0 })).ids).toHaveLength(0);
  });

  test("ends before a stop string, which no event shows, and at the tokenizer's end-of-text token by default", async () => {
    const options = { tokenizer, maxNewTokens: 60, temperature: 0, stopIds: [], logitBias: Object.fromEntries([256, 257, 258].map((id) => [id, -Infinity])) };
    const free = await generate(model, "abc", options);
    const stop = [...free.text].slice(20, 23).join("");
    const list = await events(model, "abc", { ...options, stop: ["never in there", stop] });
    expect(list.map((e) => e.text).join("")).toBe(free.text.slice(0, free.text.indexOf(stop)));
    expect(list.at(-1)?.done).toBe("stop");
    expect(list.length).toBeLessThan(60);
    const ended = await generate(model, "abc", { tokenizer, maxNewTokens: 9, logitBias: { 256: 1e6 } });
    expect(ended).toMatchObject({ text: "", done: "stop", ids: Int32Array.of(256) });
    expect((await generate(model, "abc", { tokenizer, maxNewTokens: 9, logitBias: { 256: 1e6 }, stopIds: [] })).ids).toHaveLength(9);
    await expect(generate(model, "abc", { tokenizer, logitBias: { 256: 1, 9999: 1 } })).rejects.toThrow(
      `generate: logitBias for tokens that the model lacks, expected ids below ${model.dimensions.vocabulary}, got 9999`,
    );
  });

  test("penalties see what was generated, and repetition the prompt too", async () => {
    const prompt = Int32Array.of(72, 101, 108);
    const run = async (options: object) => [...(await generate(model, prompt, { temperature: 0, maxNewTokens: 40, ...options })).ids];
    const once = await run({ presencePenalty: 1e6 });
    expect(new Set(once).size).toBe(40);
    // A token that was generated gets likelier each time: the first stays.
    expect(new Set(await run({ frequencyPenalty: -1e6 })).size).toBe(1);
    const fresh = await run({ repetitionPenalty: 1e30, logitBias: Object.fromEntries([...prompt].map((id) => [id, 1e3])) });
    expect(new Set(fresh).size).toBe(40);
    expect(fresh.filter((id) => prompt.includes(id))).toEqual([]);
    // Presence and frequency leave the prompt alone.
    expect((await run({ presencePenalty: 1e6, logitBias: { 101: 1e3 } }))[0]).toBe(101);
  });

  test("streams every token once, the texts joined are the text", async () => {
    const options = { tokenizer, maxNewTokens: 25, seed: 3 };
    const list = await events(model, ["one", "two"], options);
    const whole = await generate(model, ["one", "two"], options);
    for (const r of [0, 1]) {
      const mine = list.filter((e) => e.request === r);
      expect(mine.map((e) => e.id)).toEqual([...whole[r].ids]);
      expect(mine.map((e) => e.text).join("")).toBe(whole[r].text);
      expect(mine.slice(0, -1).every((e) => e.done === null) && mine.at(-1)?.done !== null).toBe(true);
    }
  });

  test("generations leave no memory behind, finished or broken off", async () => {
    const round = async (i: number): Promise<number> => {
      await generate(model, ["ab", "c"], { tokenizer, maxNewTokens: 4, seed: i });
      for await (const _ of generateStream(model, "abc", { tokenizer })) break;
      return memory().liveBytes;
    };
    const before = await round(0);
    for (let i = 1; i < 60; i++) expect(await round(i)).toBe(before);
  });

  test("a signal stops it between steps, and the event loop gets its turns", async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 5);
    const before = memory().liveBytes;
    let tokens = 0;
    await expect(
      (async () => {
        for (;;) for await (const _ of generateStream(model, "abc", { tokenizer, stopIds: [], signal: controller.signal })) tokens++;
      })(),
    ).rejects.toMatchObject({ name: "AbortError" });
    expect(tokens).toBeGreaterThan(0);
    expect(memory().liveBytes).toBe(before);
  });

  test("says what is wrong", async () => {
    await expect(generate(model, "x".repeat(97), { tokenizer })).rejects.toThrow(
      /the prompt is too long, expected at most 96 tokens \(the model's context\), got 97/,
    );
    await expect(generate(model, "abc")).rejects.toThrow(/without a tokenizer/);
    await expect(generate(model, new Int32Array(0))).rejects.toThrow(/the prompt is empty/);
    const knowsNothing = { ...tokenizer, encode: () => tokenizer.encode("") };
    await expect(generate(model, ["", "abc"], { tokenizer: knowsNothing })).rejects.toThrow(/prompt 1 has no tokens, .* got none from 3 characters of text/);
    await expect(generate(model, Int32Array.of(300))).rejects.toThrow(/id 300 at place 0/);
    await expect(generate(model, ["a", "b"], { tokenizer, seed: [1], maxNewTokens: -1, stop: [""] })).rejects.toThrow(
      /maxNewTokens: .*; stop: .*; seed: expected 2 of them/,
    );
    await expect(generate(model, "a", { tokenizer, topP: 2 })).rejects.toThrow(/topP: expected a number above 0/);
  });

  test("weights that are not finite are an error that says so", async () => {
    const broken = new GPT2({ vocab_size: 9, n_positions: 8, n_embd: 4, n_layer: 1, n_head: 1 }).eval();
    broken.parameters()[0].write(new Float32Array(36).fill(Number.NaN));
    await expect(generate(broken, Int32Array.of(1), { maxNewTokens: 2 })).rejects.toThrow(/logits are not finite/);
    broken.dispose();
  });
});

describe("logprobs", () => {
  test("equals the log-softmax of the logits", () => {
    const ids = Int32Array.from({ length: 40 }, (_, i) => (i * 37) % 250);
    const expected = scope(() => ({ data: noGrad(() => model.forward({ inputIds: tensor([ids]) }).logits.logSoftmax(-1)).dataSync() })).data;
    const got = logprobs(model, ids);
    expect(got).toHaveLength(39);
    for (let t = 0; t < 39; t++) expect(got[t]).toBeCloseTo(expected[t * 259 + ids[t + 1]], 5);
    expect(() => logprobs(model, [1])).toThrow(/at least 2/);
    expect(() => logprobs(model, new Int32Array(97))).toThrow(/at most 96/);
  });
});

test("log-probabilities of a large vocabulary, which come in parts, equal those at once", { timeout: 30_000 }, () => {
  const large = new GPT2({ vocab_size: 2 ** 19, n_positions: 48, n_embd: 4, n_layer: 1, n_head: 1, initializer_range: 0.5 }).eval();
  const ids = Int32Array.from({ length: 48 }, (_, i) => (i * 7919 * 64) % 2 ** 19);
  const got = logprobs(large, ids);
  // Windows of at most 33 ids fit into one part.
  for (const [begin, end] of [
    [0, 33],
    [0, 20],
  ]) {
    const part = logprobs(large, ids.subarray(begin, end));
    expect(got.subarray(begin, end - 1)).toEqual(part);
  }
  const last = scope(() => ({
    data: noGrad(() =>
      large
        .forward({ inputIds: tensor([ids.subarray(0, 47)]) })
        .logits.narrow(1, 46, 1)
        .logSoftmax(-1),
    ).dataSync(),
  })).data;
  expect(got[46]).toBeCloseTo(last[ids[47]], 4);
  large.dispose();
});

describe("text stream", () => {
  /** Everything a stream gives for the bytes of a text, piece by piece. */
  function streamed(text: string, stop: string[]): { pieces: string[]; stopped: boolean } {
    const stream = createTextStream(tokenizer, stop);
    const pieces: string[] = [];
    for (const id of tokenizer.encode(text).ids) {
      const { text: piece, stopped } = stream.push(id);
      pieces.push(piece);
      if (stopped) return { pieces, stopped };
    }
    const { text: rest, stopped } = stream.end();
    return { pieces: [...pieces, rest], stopped };
  }

  test("a stop string never shows, not even its beginning, and false beginnings do", () => {
    const { pieces, stopped } = streamed("abc STO abc STOSTOP def", ["STOP", "zzz"]);
    expect(pieces.join("")).toBe("abc STO abc STO");
    expect(stopped).toBe(true);
    for (let i = 0, shown = ""; i < pieces.length; i++) {
      shown += pieces[i];
      expect("abc STO abc STO".startsWith(shown)).toBe(true);
    }
    expect(streamed("aaab", ["aab"]).pieces.join("")).toBe("a");
    expect(streamed("xyz ST", ["STOP"])).toMatchObject({ stopped: false });
    expect(streamed("xyz ST", ["STOP"]).pieces.join("")).toBe("xyz ST");
  });

  test("the earliest of several stop strings counts, in many characters of one token too", () => {
    const bpe = trainBpe("hello world. ".repeat(50), { vocabSize: 280 });
    const stream = createTextStream(bpe, ["world", "lo"]);
    let text = "";
    for (const id of bpe.encode("hello world. hello").ids) {
      const piece = stream.push(id);
      text += piece.text;
      if (piece.stopped) break;
    }
    expect(text).toBe("hel");
    const both = createTextStream(bpe, ["rld", "wo"]);
    const id = bpe.encode(" world").ids;
    expect([id.length, both.push(id[0])]).toEqual([1, { text: " ", stopped: true }]);
  });

  test("characters come whole, and the rest of a broken one at the end", () => {
    expect(streamed("a€😀b", []).pieces.filter((p) => p !== "")).toEqual(["a", "€", "😀", "b"]);
    const stream = createTextStream(tokenizer, []);
    expect([stream.push(0xe2).text, stream.end().text]).toEqual(["", "\ufffd"]);
  });

  test("special tokens and ids that the tokenizer lacks give no text", () => {
    const stream = createTextStream(tokenizer, []);
    expect([256, 65, 258].map((id) => stream.push(id).text)).toEqual(["", "A", ""]);
  });
});

test("rotary scalings that adapt to the length give a text the same alone and beside a longer one", async () => {
  const model = new Llama({
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: 48,
    initializer_range: 0.5,
    rope_parameters: { rope_type: "longrope", short_factor: [1, 1.5], long_factor: [3, 7], original_max_position_embeddings: 12 },
  }).eval();
  const prompts = [3, 20, 9].map((n) => Int32Array.from({ length: n }, (_, i) => (i * i + n) % 11));
  const options = { maxNewTokens: 8, stopIds: [], seed: 3 };
  const alone: Generation[] = [];
  for (const prompt of prompts) alone.push(await generate(model, prompt, options));
  expect(await generate(model, prompts, options)).toEqual(alone);
  model.dispose();
});

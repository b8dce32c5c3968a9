import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Llama } from "../models/index.ts";
import { memory } from "../tensor/index.ts";
import { byteTokenizer } from "../tokenizers/index.ts";
import { type BeamSearchOptions, beamSearch } from "./beam-search.ts";
import { generate } from "./generate.ts";
import { logprobs } from "./logprobs.ts";

interface Fixture {
  config: ConstructorParameters<typeof Llama>[0];
  weights: Record<string, { values: number[] }>;
  cases: {
    prompt: number[];
    options: {
      num_beams: number;
      max_new_tokens: number;
      eos_token_id?: number[];
      num_return_sequences?: number;
      length_penalty?: number;
      early_stopping?: boolean | "never";
    };
    beams: { ids: number[]; score: number | null }[];
  }[];
}
const fixture = JSON.parse(readFileSync(new URL("./beam-search.fixture.json", import.meta.url), "utf8")) as Fixture;
let model: Llama;
beforeAll(() => {
  model = new Llama(fixture.config).eval();
  for (const [name, p] of model.namedParameters()) p.write(Float32Array.from(fixture.weights[name].values));
});
afterAll(() => model.dispose());

const optionsOf = (o: Fixture["cases"][number]["options"]): BeamSearchOptions => ({
  numBeams: o.num_beams,
  maxNewTokens: o.max_new_tokens,
  stopIds: o.eos_token_id ?? [],
  numReturnSequences: o.num_return_sequences ?? 1,
  lengthPenalty: o.length_penalty ?? 1,
  earlyStopping: o.early_stopping ?? false,
});

describe("beam search equals transformers", () => {
  test.each(fixture.cases.map((c) => [`${JSON.stringify(c.options)} after ${c.prompt.join(" ")}`, c] as const))("%s", async (_, { prompt, options, beams }) => {
    const got = await beamSearch(model, Int32Array.from(prompt), optionsOf(options));
    expect(got.map((b) => [...b.ids])).toEqual(beams.map((b) => b.ids));
    for (const [i, { score }] of beams.entries())
      if (score !== null) expect(Math.abs(got[i].score - score)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(score)));
  });
});

test("a score is the text's log-probability by its length, and one beam is greedy", async () => {
  const prompt = Int32Array.of(3, 17, 5);
  const [best] = await beamSearch(model, prompt, { numBeams: 5, maxNewTokens: 9, lengthPenalty: 0.5, stopIds: [3] });
  const each = logprobs(model, [...prompt, ...best.ids]).slice(2);
  expect(best.score).toBeCloseTo(each.reduce((a, b) => a + b) / each.length ** 0.5, 4);
  const [greedy] = await beamSearch(model, prompt, { numBeams: 1, maxNewTokens: 9 });
  expect(greedy.ids).toEqual((await generate(model, prompt, { temperature: 0, maxNewTokens: 9 })).ids);
});

test("ends at the model's context, gives memory back, and beams over many pages are those of few", async () => {
  const before = memory().liveBytes;
  const found = await beamSearch(
    model,
    Int32Array.from({ length: 60 }, (_, i) => (i * 5) % 24),
    { numBeams: 3, numReturnSequences: 3 },
  );
  expect(found.map((b) => [b.ids.length, b.done])).toEqual([1, 2, 3].map(() => [5, "context"]));
  expect(memory().liveBytes).toBe(before);
  const controller = new AbortController();
  const stopped = beamSearch(model, Int32Array.of(1), { signal: controller.signal });
  controller.abort(new Error("no more"));
  await expect(stopped).rejects.toThrow("no more");
  expect(memory().liveBytes).toBe(before);
  expect(await beamSearch(model, Int32Array.of(1), { maxNewTokens: 0 })).toEqual([]);
});

test("text, and what is wrong in words", async () => {
  const tokenizer = byteTokenizer({ specialTokens: ["<|endoftext|>"] });
  const bytes = new Llama({ ...fixture.config, vocab_size: 257, initializer_range: 0.5 }).eval();
  const [best] = await beamSearch(bytes, "abc", { tokenizer, maxNewTokens: 6 });
  expect(best.text).toBe(tokenizer.decode(best.ids, { skipSpecialTokens: true }));
  bytes.dispose();
  await expect(
    beamSearch(model, Int32Array.of(1), { numBeams: 2, numReturnSequences: 3, earlyStopping: "soon" as "never", lengthPenalty: Number.NaN }),
  ).rejects.toThrow(
    /numReturnSequences: expected a whole number of at least 1, at most 2, got 3; lengthPenalty: .*; earlyStopping: expected true, false or "never", got soon/,
  );
  await expect(beamSearch(model, Int32Array.of(1), { numBeams: 13 })).rejects.toThrow(
    /few enough for a vocabulary of 24 tokens, got 13, which look at 26 at once/,
  );
  await expect(beamSearch(model, "abc")).rejects.toThrow(/without a tokenizer/);
});

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { checkSampling, draw, greedy, type SamplingOptions, sample, shapeLogits, uniformAt } from "./samplers.ts";
import { keepMinP, keepTopK, keepTopP, penalizePresence } from "./shapers.ts";

interface Fixture {
  prompt: number[];
  cases: { options: SamplingOptions; logits: number[]; shaped: (number | null)[] }[];
}
const fixture = JSON.parse(readFileSync(new URL("./samplers.fixture.json", import.meta.url), "utf8")) as Fixture;
const logs = (p: readonly number[]): Float32Array => Float32Array.from(p, Math.log);
const kept = (logits: Float32Array): number[] => [...logits.keys()].filter((i) => logits[i] > -Infinity);

describe("shapeLogits equals transformers", () => {
  test.each(fixture.cases.map((c) => [JSON.stringify(c.options), c] as const))("%s", (_, { options, logits, shaped }) => {
    const got = shapeLogits(Float32Array.from(logits), options, fixture.prompt, []);
    expect(kept(got)).toEqual([...shaped.keys()].filter((i) => shaped[i] !== null));
    for (const [i, x] of shaped.entries()) if (x !== null) expect(Math.abs(got[i] - x)).toBeLessThanOrEqual(1e-6 * Math.abs(x));
  });
});

describe("what is kept", () => {
  const p = [0.1, 0.3, 0.05, 0.3, 0.25];
  test("top-k keeps equals of the k-th", () => {
    expect(kept(keepTopK(logs(p), 1))).toEqual([1, 3]);
    expect(kept(keepTopK(logs(p), 3))).toEqual([1, 3, 4]);
    expect(kept(keepTopK(logs(p), 9))).toEqual([0, 1, 2, 3, 4]);
  });
  test("top-p keeps the fewest that reach p, lower ids of equals first", () => {
    expect(kept(keepTopP(logs(p), 0.01))).toEqual([1]);
    expect(kept(keepTopP(logs(p), 0.31))).toEqual([1, 3]);
    expect(kept(keepTopP(logs(p), 0.7))).toEqual([1, 3, 4]);
    expect(kept(keepTopP(logs(p), 0.999))).toEqual([0, 1, 2, 3, 4]);
  });
  test("top-p and top-k equal a full sort, on many random rows", () => {
    for (let round = 0; round < 200; round++) {
      const n = 1 + Math.floor(uniformAt(1, round) * 300);
      // Rounded, so that there are many equals.
      const logits = Float32Array.from({ length: n }, (_, i) => Math.round(uniformAt(round + 2, i) * 30) / 4);
      const k = 1 + Math.floor(uniformAt(3, round) * n);
      const sorted = [...logits].sort((a, b) => b - a);
      expect(kept(keepTopK(logits.slice(), k))).toEqual([...logits.keys()].filter((i) => logits[i] >= sorted[k - 1]));
      const topP = 0.02 + 0.97 * uniformAt(4, round);
      const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
      const total = order.reduce((s, i) => s + Math.exp(logits[i]), 0);
      let mass = 0;
      const wanted = order.filter((i) => {
        const before = mass;
        mass += Math.exp(logits[i]);
        return before < topP * total * (1 - 1e-12);
      });
      expect(kept(keepTopP(logits.slice(), topP))).toEqual(wanted.sort((a, b) => a - b));
    }
  });
  test("min-p compares with the likeliest", () => {
    expect(kept(keepMinP(logs(p), 0.5))).toEqual([1, 3, 4]);
    expect(kept(keepMinP(logs(p), 0))).toEqual([0, 1, 2, 3, 4]);
  });
  test("presence and frequency count what was generated only", () => {
    const options = { presencePenalty: 1, frequencyPenalty: 0.5 };
    expect([...shapeLogits(new Float32Array(4), options, [3, 3], [1, 1, 2])]).toEqual([0, -2, -1.5, 0]);
    expect([...penalizePresence(new Float32Array(2), [0, 0, 0], 0, -1)]).toEqual([3, 0]);
  });
});

describe("drawing", () => {
  test("u cuts [0, 1) into the probabilities, in the order of ids", () => {
    const logits = logs([0.5, 0.125, 0.375]);
    expect([0, 0.499, 0.501, 0.624, 0.626, 0.999999].map((u) => draw(logits, u))).toEqual([0, 0, 1, 1, 2, 2]);
    expect(draw(Float32Array.of(-Infinity, 1, -Infinity), 0.9999999999999999)).toBe(1);
  });

  test("a shaped distribution comes out with its exact probabilities", () => {
    // Top-k 3 of these at temperature 0.5: squares, made to sum to 1.
    const p = [0.4, 0.05, 0.3, 0.2, 0.05];
    const expected = [16, 0, 9, 4, 0].map((x) => x / 29);
    const counts = [0, 0, 0, 0, 0];
    const n = 60_000;
    for (let i = 0; i < n; i++) counts[sample(logs(p), { temperature: 0.5, topK: 3 }, [], [], uniformAt(11, i))]++;
    // Chi-squared with 2 degrees of freedom is below 13.8 in 99.9 % of all runs; the seed is fixed.
    let chi = 0;
    for (const [i, e] of expected.entries()) if (e > 0) chi += (counts[i] - n * e) ** 2 / (n * e);
    expect(chi).toBeLessThan(13.8);
    expect(counts[1] + counts[4]).toBe(0);
  });

  test("temperatures and penalties beyond float32 stay a draw: the likeliest token, or the ones that were pushed up", () => {
    const logits = () => Float32Array.of(1, 5, -2, 4.999);
    for (const temperature of [1e-300, 1e-45, 1e-39]) {
      for (const sign of [1, -1]) {
        const x = logits().map((l) => l * sign);
        for (const u of [0, 0.5, 0.999]) expect(sample(x, { temperature }, [], [], u)).toBe(greedy(x));
      }
    }
    for (const [options, prompt] of [
      [{ presencePenalty: -1e308 }, []],
      [{ frequencyPenalty: -1e308, temperature: 0.5 }, []],
      [{ logitBias: { 2: 1e308 }, topP: 0.9, minP: 0.1 }, []],
      [{ repetitionPenalty: 1e-308 }, [0, 2]],
    ] as [SamplingOptions, number[]][])
      for (const u of [0, 0.4, 0.999]) expect(prompt.length > 0 ? prompt : [2]).toContain(sample(logits(), options, prompt, [2], u));
    const nothing = { logitBias: { 0: -Infinity, 1: -Infinity, 2: -Infinity, 3: -Infinity } };
    for (const temperature of [0, 1]) expect(() => sample(logits(), { ...nothing, temperature }, [], [], 0.5)).toThrow(/every token is forbidden/);
  });

  test("temperature 0 takes the first of the largest", () => {
    expect(greedy(Float32Array.of(1, 3, 3, 2))).toBe(1);
    // Wherever the largest lies, in a whole four or behind the last, with what compares to nothing around it.
    for (let n = 1; n < 14; n++) {
      for (let at = 0; at < n; at++) {
        const row = new Float32Array(n).fill(-Infinity);
        row[0] = NaN;
        row[at] = -3;
        row[n - 1] = Math.max(-3, row[n - 1]);
        expect(greedy(row)).toBe(at);
      }
    }
    expect(greedy(Float32Array.of(NaN, -Infinity, -Infinity))).toBe(1);
    expect(greedy(Float32Array.of(NaN, NaN))).toBe(0);
    expect(sample(Float32Array.of(1, 3, 3, 2), { temperature: 0, topK: 1 }, [], [], 0.99)).toBe(1);
    expect(sample(Float32Array.of(1, 3, 2.9, 2), { temperature: 0, repetitionPenalty: 2 }, [1], [], 0)).toBe(2);
  });

  test("the stream's numbers are spread evenly, and seeds and places are independent", () => {
    const xs = Float64Array.from({ length: 20_000 }, (_, i) => uniformAt(5, i));
    expect(Math.abs(xs.reduce((a, b) => a + b) / xs.length - 0.5)).toBeLessThan(0.01);
    expect(new Set(xs).size).toBe(xs.length);
    expect(uniformAt(5, 3)).not.toBe(uniformAt(6, 3));
    expect(uniformAt(2 ** 40 + 5, 3)).not.toBe(uniformAt(5, 3));
  });
});

test("options outside their ranges are named, all at once", () => {
  expect(() => checkSampling({ temperature: -1, topP: 0, topK: 1.5 })).toThrow(
    /temperature: expected a number of at least 0, got -1; topK: .*got 1.5; topP: .*got 0/,
  );
  expect(() => checkSampling({ logitBias: { [-1]: 2 } })).toThrow(/logitBias/);
  expect(() => checkSampling({ temperature: 0, topK: 0, topP: 1, minP: 0, logitBias: { 3: -Infinity } })).not.toThrow();
});

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { byteTokenizer } from "../tokenizers/index.ts";
import { breakerIds, checkSampling, draw, greedy, type SamplingOptions, sample, samplerState, shapeLogits, uniformAt } from "./samplers.ts";
import { keepMinP, keepSurprise, keepTopK, keepTopNSigma, keepTopP, keepTypical, penalizeDry, penalizePresence } from "./shapers.ts";

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

describe("what is typical, near the top, not surprising", () => {
  const rows = Array.from({ length: 100 }, (_, round) =>
    // Rounded, so that there are many equals.
    Float32Array.from({ length: 2 + Math.floor(uniformAt(21, round) * 200) }, (_, i) => Math.round(uniformAt(round + 22, i) * 40) / 4),
  );
  const probabilities = (logits: Float32Array): number[] => {
    const total = logits.reduce((s, x) => s + Math.exp(x), 0);
    return [...logits].map((x) => Math.exp(x) / total);
  };

  test("typical sampling equals a full sort by |−ln p − entropy|", () => {
    for (const [round, logits] of rows.entries()) {
      const mass = 0.02 + 0.96 * uniformAt(23, round);
      const p = probabilities(logits);
      const entropy = -p.reduce((s, x) => s + x * Math.log(x), 0);
      // Equals of one logit are as far, whatever rounding says.
      const groups = [...new Set(logits)].map((x) => ({ x, far: Math.abs(-Math.log(p[logits.indexOf(x)]) - entropy), mass: 0 }));
      for (const g of groups) g.mass = p.filter((_, i) => logits[i] === g.x).reduce((a, b) => a + b, 0);
      let sum = 0;
      const near = new Set(
        groups
          .sort((a, b) => a.far - b.far)
          .filter((g) => {
            const before = sum;
            sum += g.mass;
            return before < mass;
          })
          .map((g) => g.x),
      );
      expect(kept(keepTypical(logits.slice(), mass))).toEqual([...logits.keys()].filter((i) => near.has(logits[i])));
    }
    expect(kept(keepTypical(logs([0.5, 0.25, 0.25]), 1))).toEqual([0, 1, 2]);
  });

  test("the likeliest token may be untypical", () => {
    // The entropy is 1.96 nats: −ln 0.4 = 0.92 is farther from it than −ln 0.1 = 2.3.
    expect(kept(keepTypical(logs([0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), 0.5))).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("top-nσ keeps what is within n standard deviations of the largest logit, of those that are allowed", () => {
    for (const logits of rows) {
      const x = Float32Array.of(...logits, -Infinity);
      const mean = logits.reduce((a, b) => a + b) / logits.length;
      const sigma = Math.sqrt(logits.reduce((s, l) => s + (l - mean) ** 2, 0) / logits.length);
      expect(kept(keepTopNSigma(x.slice(), 0.7))).toEqual([...logits.keys()].filter((i) => logits[i] >= Math.max(...logits) - 0.7 * sigma));
      // The temperature does not change it.
      expect(kept(shapeLogits(x.slice(), { topNSigma: 0.7, temperature: 3 }, [], []))).toEqual(kept(keepTopNSigma(x.slice(), 0.7)));
    }
  });

  test("Mirostat cuts what surprises by more than mu bits, and leaves the likeliest", () => {
    expect(kept(keepSurprise(logs([0.5, 0.25, 0.125, 0.125]), 2.5))).toEqual([0, 1]);
    expect(kept(keepSurprise(logs([0.5, 0.25, 0.125, 0.125]), 3.5))).toEqual([0, 1, 2, 3]);
    expect(kept(keepSurprise(logs([0.25, 0.5, 0.25]), -4))).toEqual([1]);
  });

  test("Mirostat's mu moves by eta times the error, and the surprise comes to be tau", () => {
    const p = [0.4, 0.3, 0.2, 0.1];
    const state = samplerState({ mirostatTau: 1 });
    expect(state.mu).toBe(2);
    // 2 bits leave 0.4 and 0.3; token 1 then has 3/7.
    expect(sample(logs(p), { mirostatTau: 1, mirostatEta: 0.5 }, [], [], 0.9, state)).toBe(1);
    expect(state.mu).toBeCloseTo(2 - 0.5 * (Math.log2(7 / 3) - 1), 6);
    const wide = Float32Array.from({ length: 500 }, (_, i) => -1.5 * Math.log(i + 1));
    for (const tau of [2, 4]) {
      const options = { mirostatTau: tau };
      const running = samplerState(options);
      let surprise = 0;
      const n = 3000;
      for (let i = 0; i < n; i++) {
        const shaped = shapeLogits(wide.slice(), options, [], [], { ...running });
        const total = shaped.reduce((s, x) => s + Math.exp(x), 0);
        const id = sample(wide, options, [], [], uniformAt(9, i), running);
        if (i >= n / 3) surprise -= Math.log2(Math.exp(wide[id]) / total) / ((2 * n) / 3);
      }
      expect(Math.abs(surprise - tau)).toBeLessThan(0.1);
    }
  });

  test("Mirostat draws from what it has left, with its exact probabilities", () => {
    const counts = [0, 0, 0, 0];
    const n = 40_000;
    for (let i = 0; i < n; i++) counts[sample(logs([0.4, 0.3, 0.2, 0.1]), { mirostatTau: 1.25 }, [], [], uniformAt(13, i))]++;
    // mu = 2.5 bits leave the first three (0.2 has 2.32 bits).
    let chi = 0;
    for (const [i, e] of [4 / 9, 3 / 9, 2 / 9].entries()) chi += (counts[i] - n * e) ** 2 / (n * e);
    // Chi-squared with 2 degrees of freedom is below 13.8 in 99.9 % of all runs; the seed is fixed.
    expect(chi).toBeLessThan(13.8);
    expect(counts[3]).toBe(0);
  });
});

describe("DRY", () => {
  /** The definition: for every place where the last tokens stood before, how many of them, and what followed. */
  function slow(ids: readonly number[], { multiplier, base, allowedLength, breakers }: Parameters<typeof penalizeDry>[2]): Map<number, number> {
    const taken = new Map<number, number>();
    for (let end = 0; end < ids.length - 1; end++) {
      let n = 0;
      while (end - n >= 0 && ids[end - n] === ids[ids.length - 1 - n] && !breakers.has(ids[end - n])) n++;
      const next = ids[end + 1];
      if (n >= allowedLength && !breakers.has(next)) taken.set(next, Math.max(taken.get(next) ?? 0, multiplier * base ** (n - allowedLength)));
    }
    return taken;
  }

  test("equals the definition on random texts with many repetitions", () => {
    let penalized = 0;
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: Math.floor(uniformAt(31, round) * 60) }, (_, i) => Math.floor(uniformAt(round + 32, i) * (2 + (round % 3))));
      const options = { multiplier: 0.5, base: 1.5, allowedLength: 1 + (round % 4), breakers: new Set(round % 2 === 0 ? [] : [1]) };
      const got = penalizeDry(new Float32Array(5), ids, options);
      const expected = new Float32Array(5);
      for (const [id, penalty] of slow(ids, options)) expected[id] = -penalty;
      expect(got).toEqual(expected);
      penalized += expected.filter((x) => x !== 0).length;
    }
    expect(penalized).toBeGreaterThan(200);
  });

  test("a repetition may not go on: the longer, the dearer; prompt, range and breakers count", () => {
    const options = { dryMultiplier: 1, dryBase: 2, dryAllowedLength: 2, temperature: 0 };
    const shaped = (o: SamplingOptions, prompt: number[], generated: number[]) => [...shapeLogits(new Float32Array(6), o, prompt, generated)];
    // 1 2 3 stood before, then 4: three tokens, one more than is allowed for 1.
    expect(shaped(options, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, -2, 0]);
    expect(shaped({ ...options, dryRange: 5 }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, 0, 0]);
    expect(shaped({ ...options, dryRange: 6 }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, -1, 0]);
    expect(shaped({ ...options, dryRange: 7 }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, -2, 0]);
    expect(shaped({ ...options, dryBreakers: [1] }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, -1, 0]);
    expect(shaped({ ...options, dryBreakers: [3] }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, 0, 0]);
    expect(shaped({ ...options, dryBreakers: [4] }, [0, 1, 2, 3, 4], [1, 2, 3])).toEqual([0, 0, 0, 0, 0, 0]);
    // Beyond what float32 holds it is the least there can be, and not −∞: a draw stays possible.
    const long = Array.from({ length: 3000 }, () => 1);
    expect(sample(new Float32Array(1).fill(1), { ...options, dryBase: 1.75 }, [], [0, 0, 0], 0.5)).toBe(0);
    expect(shapeLogits(new Float32Array(2), options, long, [])[1]).toBeGreaterThan(-Infinity);
  });

  test("breakerIds are the tokens with one of the texts in them", () => {
    const tokenizer = byteTokenizer();
    expect(breakerIds(tokenizer, ["\n", "*"])).toEqual([10, 42]);
  });
});

describe("drawing", () => {
  test("u cuts [0, 1) into the probabilities, in the order of ids", () => {
    const logits = logs([0.5, 0.125, 0.375]);
    expect([0, 0.499, 0.501, 0.624, 0.626, 0.999999].map((u) => draw(logits, u))).toEqual([0, 0, 1, 1, 2, 2]);
    expect(draw(Float32Array.of(-Infinity, 1, -Infinity), 0.9999999999999999)).toBe(1);
  });

  test("large vocabularies are gone through in parts: the token where the sum of the probabilities passes u", () => {
    const logits = Float32Array.from({ length: 1000 }, (_, i) => (i % 300 > 200 ? -Infinity : Math.sin(i * 12.9898) * 6));
    const weights = Float64Array.from(logits, (x) => Math.exp(x));
    const total = weights.reduce((a, b) => a + b, 0);
    for (let step = 0; step < 2000; step++) {
      const u = (step + 0.5) / 2000;
      let sum = 0;
      const wanted = weights.findIndex((w) => (sum += w) > u * total);
      expect(draw(logits, u)).toBe(wanted);
    }
    expect(draw(logits, 0)).toBe(0);
    // Nothing may come behind the last that may come.
    const few = new Float32Array(1000).fill(-Infinity);
    few[3] = few[700] = 0;
    expect([0, 0.49, 0.51, 1 - 2 ** -53, 1].map((u) => draw(few, u))).toEqual([3, 3, 700, 700, 700]);
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

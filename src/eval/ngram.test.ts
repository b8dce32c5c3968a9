import { describe, expect, test } from "vitest";
import { ngramModel } from "./ngram.ts";

/** Ids with structure: a random walk that prefers some successors. */
function walk(n: number, vocabulary: number, seed = 1): Int32Array {
  let state = seed;
  const next = (m: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * m);
  };
  const ids = new Int32Array(n);
  for (let i = 1; i < n; i++) ids[i] = next(3) === 0 ? next(vocabulary) : (ids[i - 1] * 3 + 1 + next(2)) % vocabulary;
  return ids;
}

/** The definition written out over strings: modified Kneser-Ney of Chen and Goodman, one probability at a time. */
function plainKneserNey(train: readonly number[], order: number, vocabulary: number) {
  const padded = [...Array<string>(order - 1).fill("B"), ...train.map(String)];
  const grams = (n: number) =>
    new Set(
      padded
        .slice(n - 1)
        .map((_, i) => padded.slice(i, i + n).join(" "))
        .filter((g) => !g.endsWith("B")),
    );
  const values: Map<string, number>[] = [];
  for (let n = 1; n <= order; n++) {
    const counted = new Map<string, number>();
    if (n === order)
      for (let i = 0; i + n <= padded.length; i++) counted.set(padded.slice(i, i + n).join(" "), (counted.get(padded.slice(i, i + n).join(" ")) ?? 0) + 1);
    else for (const g of grams(n + 1)) counted.set(g.split(" ").slice(1).join(" "), (counted.get(g.split(" ").slice(1).join(" ")) ?? 0) + 1);
    values[n] = counted;
  }
  const taken = (n: number, c: number): number => {
    const [n1, n2, n3, n4] = [1, 2, 3, 4].map((k) => [...values[n].values()].filter((v) => v === k).length);
    const y = n1 / (n1 + 2 * n2);
    const exact = [1 - (2 * y * n2) / n1, 2 - (3 * y * n3) / n2, 3 - (4 * y * n4) / n3];
    // Few n-grams give no such estimates; then the module's plain discounts hold.
    return c === 0 ? 0 : (exact.every((d, i) => d > 0 && d <= i + 1) ? exact : [0.5, 0.75, 0.9])[Math.min(c, 3) - 1];
  };
  return (context: readonly string[], token: number): number => {
    let p = 1 / vocabulary;
    for (let n = 1; n <= order; n++) {
      const prefix = context.slice(context.length - (n - 1)).join(" ");
      const followers = [...values[n]].filter(([g]) => g.split(" ").slice(0, -1).join(" ") === prefix);
      const sum = followers.reduce((a, [, c]) => a + c, 0);
      if (sum === 0) continue;
      const c = values[n].get(prefix === "" ? String(token) : `${prefix} ${token}`) ?? 0;
      p = (c - taken(n, c)) / sum + (followers.reduce((a, [, v]) => a + taken(n, v), 0) / sum) * p;
    }
    return p;
  };
}

describe("ngramModel", () => {
  test.each([1, 2, 3])("order %i equals the definition", (order) => {
    const train = walk(400, 20);
    const held = walk(30, 20, 5);
    const p = plainKneserNey([...train], order, 20);
    const got = ngramModel(train, { order, vocabSize: 20 }).logprobs(held);
    const padded = [...Array<string>(order - 1).fill("B"), ...[...held].map(String)];
    for (let i = 0; i < held.length; i++) expect(Math.exp(got[i])).toBeCloseTo(p(padded.slice(i, i + order - 1), held[i]), 12);
  });

  test("probabilities of all next tokens sum to 1, after seen and unseen contexts", () => {
    for (const order of [1, 2, 4, 6]) {
      const model = ngramModel([walk(500, 9), walk(30, 9, 3)], { order, vocabSize: 12 });
      for (const context of [[], [0], [3, 1], [11, 11, 11], [0, 1, 4, 8, 2, 7]]) {
        let sum = 0;
        for (let w = 0; w < 12; w++) sum += Math.exp(model.logprobs([...context, w])[context.length]);
        expect(sum).toBeCloseTo(1, 12);
      }
    }
  });

  test("a longer context predicts a text with structure better", () => {
    const [train, held] = [walk(20_000, 50), walk(3_000, 50, 9)];
    const perplexity = [1, 2].map((order) => ngramModel(train, { order, vocabSize: 50 }).perplexity(held).perplexity);
    expect(perplexity[1]).toBeLessThan(0.6 * perplexity[0]);
  });

  test("reports bits per byte", () => {
    const { nll, perplexity, bitsPerByte, tokens } = ngramModel(walk(100, 4), { vocabSize: 4 }).perplexity(walk(10, 4, 2), { bytes: 20 });
    expect(perplexity).toBeCloseTo(Math.exp(nll), 10);
    expect(bitsPerByte).toBeCloseTo((nll * tokens) / Math.LN2 / 20, 10);
  });

  test("says what is wrong", () => {
    expect(() => ngramModel([])).toThrow(/no training ids/);
    expect(() => ngramModel([1, 2], { order: 9 })).toThrow(/from 1 to 6, got 9/);
    expect(() => ngramModel([1, 2], { vocabSize: 3 }).logprobs([1, 3])).toThrow(/id 3 at place 1/);
    expect(() => ngramModel([1, 2]).perplexity([])).toThrow(/no ids/);
  });
});

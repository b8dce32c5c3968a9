import { afterAll, beforeAll, expect, test } from "vitest";
import { GPT2 } from "../models/index.ts";
import { memory, noGrad, scope, tensor } from "../tensor/index.ts";
import { contrastiveSearch } from "./contrastive-search.ts";
import { generate } from "./generate.ts";
import { logprobs } from "./logprobs.ts";

let model: GPT2;
beforeAll(() => {
  model = new GPT2({ vocab_size: 40, n_positions: 96, n_embd: 16, n_layer: 2, n_head: 2, initializer_range: 0.5 }).eval();
});
afterAll(() => model.dispose());

/** Logits after the last id and all hidden states, without any state. */
function plain(ids: readonly number[]): { logits: number[]; hidden: number[][] } {
  return scope(() => {
    const out = noGrad(() => model.forward({ inputIds: tensor([Int32Array.from(ids)]) }));
    const hidden = [...(out.hidden.dataSync() as Float32Array)];
    return {
      logits: [...(out.logits.dataSync() as Float32Array)].slice(-40),
      hidden: ids.map((_, i) => hidden.slice(16 * i, 16 * (i + 1))),
    };
  });
}

/** The definition, as it stands in the paper: every candidate's text through the whole model. */
function reference(prompt: readonly number[], count: number, k: number, alpha: number): number[] {
  const all = [...prompt];
  const cosine = (a: number[], b: number[]) => {
    const dot = (x: number[], y: number[]) => x.reduce((s, v, i) => s + v * y[i], 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  for (let t = 0; t < count; t++) {
    const { logits, hidden } = plain(all);
    const total = logits.reduce((s, x) => s + Math.exp(x), 0);
    const candidates = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, k);
    const scores = candidates.map((id) => {
      const own = plain([...all, id]).hidden.at(-1) as number[];
      return ((1 - alpha) * Math.exp(logits[id])) / total - alpha * Math.max(...hidden.map((h) => cosine(h, own)));
    });
    all.push(candidates[scores.indexOf(Math.max(...scores))]);
  }
  return all.slice(prompt.length);
}

test.each([
  [4, 0.6],
  [8, 0.3],
  [3, 1],
])("k %i, α %d: the definition", async (topK, penaltyAlpha) => {
  const prompt = [3, 17, 5, 5, 30];
  const { ids, logprobs: got } = await contrastiveSearch(model, Int32Array.from(prompt), { topK, penaltyAlpha, maxNewTokens: 30 });
  expect([...ids]).toEqual(reference(prompt, 30, topK, penaltyAlpha));
  const all = logprobs(model, [...prompt, ...ids]);
  for (const [i, p] of got.entries()) expect(p).toBeCloseTo(all[4 + i], 4);
});

test("without a penalty it is greedy; it ends at stop ids and at the context, and gives memory back", async () => {
  const prompt = Int32Array.of(1, 2, 3);
  const before = memory().liveBytes;
  const greedy = await generate(model, prompt, { temperature: 0, maxNewTokens: 20 });
  const found = await contrastiveSearch(model, prompt, { penaltyAlpha: 0, maxNewTokens: 20 });
  expect(found.ids).toEqual(greedy.ids);
  const at = found.ids.indexOf(found.ids[6]);
  expect(await contrastiveSearch(model, prompt, { penaltyAlpha: 0, maxNewTokens: 20, stopIds: [found.ids[6]] })).toMatchObject({
    ids: found.ids.slice(0, at + 1),
    done: "stop",
  });
  expect(await contrastiveSearch(model, new Int32Array(90))).toMatchObject({ done: "context", ids: { length: 6 } });
  expect(memory().liveBytes).toBe(before);
  await expect(contrastiveSearch(model, prompt, { topK: 0, penaltyAlpha: 2 })).rejects.toThrow(
    /topK: .*got 0; penaltyAlpha: expected a number from 0 to 1, got 2/,
  );
});

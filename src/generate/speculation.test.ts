import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CausalLM, Llama } from "../models/index.ts";
import { memory } from "../tensor/index.ts";
import { createRequest, type Request } from "./request.ts";
import { adapt, createDrafter, startPace } from "./speculation.ts";

let model: CausalLM;
beforeAll(() => {
  model = new Llama({
    vocab_size: 50,
    max_position_embeddings: 512,
    hidden_size: 8,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 1,
  }).eval();
});
afterAll(() => model.dispose());
const request = (ids: readonly number[]): Request => createRequest("test", model, Int32Array.from(ids), { index: 0, name: "the prompt" }, { temperature: 0 });

describe("prompt lookup", () => {
  const guesses = (ids: readonly number[], count: number): readonly number[] => {
    const drafter = createDrafter("test", model, { draft: "prompt-lookup" });
    const r = request(ids);
    drafter.draft([r], [count]);
    drafter.dispose();
    return r.draft;
  };
  test("guesses what followed the longest match, the latest of equals", () => {
    expect(guesses([1, 2, 3, 4, 5, 9, 1, 2, 3], 3)).toEqual([4, 5, 9]);
    // 2 3 stood there twice; three tokens agree with the first place only.
    expect(guesses([1, 2, 3, 4, 7, 2, 3, 5, 1, 2, 3], 2)).toEqual([4, 7]);
    expect(guesses([7, 2, 3, 4, 7, 2, 3, 5, 8, 2, 3], 2)).toEqual([5, 8]);
    expect(guesses([1, 2, 3, 4, 5], 3)).toEqual([]);
    expect(guesses([1, 1], 3)).toEqual([]);
  });
  test("goes round where a text repeats itself", () => {
    expect(guesses([9, 4, 5, 6, 4, 5, 6, 4, 5], 7)).toEqual([6, 4, 5, 6, 4, 5, 6]);
    expect(guesses([3, 3, 3], 4)).toEqual([3, 3, 3, 3]);
  });
  test("what came since counts too", () => {
    const drafter = createDrafter("test", model, { draft: "prompt-lookup" });
    const r = request([1, 2, 3]);
    drafter.draft([r], [2]);
    expect(r.draft).toEqual([]);
    r.ids = Int32Array.of(1, 2, 3, 8, 2, 3);
    r.length = 6;
    drafter.draft([r], [2]);
    expect(r.draft).toEqual([8, 2]);
    drafter.dispose();
  });
});

test("a model guesses what it would say itself, catches up with long prompts in parts, and gives its memory back", () => {
  const before = memory().liveBytes;
  const drafter = createDrafter("test", model, { draft: model });
  const r = request(Array.from({ length: 300 }, (_, i) => (i * 7) % 50));
  const drafts: number[] = [];
  for (let i = 0; i < 3; i++) {
    drafter.draft([r], [4]);
    drafts.push(r.draft.length);
  }
  // 128 and 128 tokens, then the rest and four guesses.
  expect(drafts).toEqual([0, 0, 4]);
  const first = [...r.draft];
  drafter.draft([r], [4]);
  expect(r.draft).toEqual(first);
  drafter.forget(r);
  drafter.dispose();
  expect(memory().liveBytes).toBe(before);
});

test("guesses reach further while they are right, shorter when not, and pause where they do not pay", () => {
  const pace = startPace();
  const reach: number[] = [];
  for (let i = 0; i < 4; i++) {
    adapt(pace, pace.length, pace.length, 8);
    reach.push(pace.length);
  }
  expect(reach).toEqual([4, 8, 8, 8]);
  adapt(pace, 8, 2, 8);
  expect([pace.length, pace.pause]).toEqual([3, 0]);
  const pauses: number[] = [];
  for (let i = 0; i < 40; i++) {
    adapt(pace, 2, 0, 8);
    if (pace.pause > 0) pauses.push(pace.pause);
    pace.pause = 0;
  }
  expect(pauses.slice(0, 7)).toEqual([16, 32, 64, 128, 256, 512, 512]);
  // Right again: the next pause is short.
  adapt(pace, 2, 2, 8);
  expect(pace.nextPause).toBe(16);
});

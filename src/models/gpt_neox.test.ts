import { expect, test } from "vitest";
import { GPTNeoX, weightEntries } from "./index.ts";
import { rotaryOf, shareThatTurns } from "./rope-tables.ts";

const SIZES = { vocab_size: 11, hidden_size: 16, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 8 };

test("files call the head embed_out, as every reader of them knows it", () => {
  const model = new GPTNeoX(SIZES);
  const names = weightEntries(model).map(({ name }) => name);
  expect(names).toContain("embed_out.weight");
  expect(names).not.toContain("lm_head.weight");
  expect(names.length).toBe(model.stateDict().size);
  model.dispose();
});

test("the share of each head that turns is read by every name, and must leave something", () => {
  const share = (config: Record<string, unknown>) => {
    const model = new GPTNeoX({ ...SIZES, ...config });
    model.dispose();
    return model.config.partial_rotary_factor;
  };
  expect(share({})).toBe(0.25);
  expect(share({ rotary_pct: 0.5 })).toBe(0.5);
  expect(share({ rope_parameters: { rope_type: "default", partial_rotary_factor: 0.75, rope_theta: 100 } })).toBe(0.75);
  expect(() => share({ rotary_pct: 0.5, rope_parameters: { partial_rotary_factor: 0.75 } })).toThrow(/two names of one setting and contradict each other/);
  expect(() => share({ rotary_pct: 0.1 })).toThrow(/rope: the heads can't turn, expected an even number of items of at least 2, got 0/);
});

test("a number of items that turn comes back from its share, for every size of head", () => {
  for (let dim = 2; dim <= 256; dim += 2) for (let n = 2; n <= dim; n += 2) expect(rotaryOf(dim, shareThatTurns(n, dim))).toBe(n);
  expect(rotaryOf(88, 30 / 88)).toBe(29); // what the plain division gives
});

import { expect, test } from "vitest";
import { backend, noGrad, scope, tensor, useBackend } from "../tensor/index.ts";
import { architectures } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { gpt2Counts, llamaCounts, modelCounts } from "./counts.ts";
import { GPT2, gpt2ConfigSchema } from "./gpt2.ts";
import { Llama, llamaConfigSchema } from "./llama.ts";

const models: [string, () => CausalLM][] = [
  ["gpt2", () => new GPT2({ vocab_size: 53, n_positions: 24, n_embd: 16, n_layer: 3, n_head: 2 })],
  [
    "gpt2, head of its own, wide",
    () => new GPT2({ vocab_size: 53, n_positions: 24, n_embd: 16, n_layer: 1, n_head: 4, n_inner: 40, tie_word_embeddings: false }),
  ],
  [
    "llama",
    () =>
      new Llama({
        vocab_size: 41,
        hidden_size: 24,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 64,
      }),
  ],
  [
    "llama, tied, biases, heads of another size",
    () =>
      new Llama({
        vocab_size: 41,
        hidden_size: 24,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        head_dim: 10,
        attention_bias: true,
        mlp_bias: true,
        tie_word_embeddings: true,
        max_position_embeddings: 64,
      }),
  ],
];

const PART: [part: string, names: RegExp][] = [
  ["embedding", /wte|embed_tokens/],
  ["positions", /wpe/],
  ["norms", /ln_|norm/],
  ["attention", /attn/],
  ["mlp", /mlp/],
  ["head", /lm_head/],
];

test.each(models)("%s: formulas equal the real thing", (_, make) => {
  const model = make().eval();
  const counts = modelCounts(model);

  const parts: Record<string, number> = { embedding: 0, positions: 0, attention: 0, mlp: 0, norms: 0, head: 0, total: model.parameterCount() };
  for (const [name, p] of model.namedParameters()) parts[(PART.find(([, names]) => names.test(name)) as (typeof PART)[number])[0]] += p.size;
  expect(counts.parameters).toEqual(parts);

  // The products that really run, counted at the border.
  let flops = 0;
  const real = backend();
  const length = 12;
  useBackend({
    ...real,
    linear: (...a) => {
      flops += 2 * a[8] * a[9] * a[10];
      real.linear(...a);
    },
    attention: (...a) => {
      const [heads, dim] = [a[17], a[19]];
      flops += 4 * heads * dim * ((length * (length + 1)) / 2);
      real.attention(...a);
    },
  });
  try {
    scope(() => void noGrad(() => model.forward({ inputIds: tensor([new Int32Array(length)]) }).logits));
  } finally {
    useBackend(real);
  }
  expect(length * counts.forwardFlops(length)).toBe(flops);
  expect(counts.trainingFlops(length)).toBe(3 * counts.forwardFlops(length));
  model.dispose();
});

test("published sizes", () => {
  // GPT-2 small, and SmolLM2-135M.
  expect(gpt2Counts(gpt2ConfigSchema.parse({})).parameters.total).toBe(124_439_808);
  const smol = {
    vocab_size: 49152,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    tie_word_embeddings: true,
  };
  expect(llamaCounts(llamaConfigSchema.parse(smol)).parameters.total).toBe(134_515_008);
});

test("every architecture has a formula", () => {
  for (const name of Object.keys(architectures))
    expect(() => modelCounts({ modelType: name, config: architectures[name].schema.parse({}) as object })).not.toThrow();
  expect(() => modelCounts({ modelType: "gpt3", config: {} })).toThrow(/Did you mean "gpt2"/);
});

/** Sizes of a config that do not go together: refused with the file, the key and both numbers, beside every other problem. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import { recipeSchema } from "../train/index.ts";
import { Bloom, Falcon, fromPretrained, GPT2, GPTNeoX, Granite, Llama, Olmo2, OPT, Phi3 } from "./index.ts";

test.each([
  [() => new GPT2({ n_embd: 32, n_head: 3 }), "n_head: does not divide n_embd, expected no rest, got 3 for 32. Change one of them."],
  [
    () => new Llama({ hidden_size: 32, num_attention_heads: 3 }),
    "num_attention_heads: does not divide hidden_size, expected no rest, got 3 for 32. Change one of them. Or set head_dim.",
  ],
  [
    () => new Llama({ hidden_size: 32, num_attention_heads: 4, num_key_value_heads: 3 }),
    "num_key_value_heads: does not divide num_attention_heads, expected no rest, got 3 for 4. Change one of them.",
  ],
  [
    () => new Phi3({ rope_parameters: { rope_type: "linear", factor: 2 } }),
    "rope_parameters: not a type that Phi-3 has, expected default or longrope, got linear. Change rope_type.",
  ],
  [() => new GPTNeoX({ hidden_size: 64, num_attention_heads: 5 }), "num_attention_heads: does not divide hidden_size, expected no rest, got 5 for 64."],
  [
    () => new Olmo2({ hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 3 }),
    "num_key_value_heads: does not divide num_attention_heads, expected no rest, got 3 for 4.",
  ],
  [() => new Granite({ logits_scaling: 0 }), "logits_scaling is too small, expected more than 0, got 0."],
  [() => new OPT({ layerdrop: 0.1 } as never), "layerdrop is not one of its values, expected 0, got 0.1."],
  [() => new Bloom({ hidden_size: 64, n_head: 5 }), "n_head: does not divide hidden_size, expected no rest, got 5 for 64."],
  [
    () => new Falcon({ new_decoder_architecture: true, parallel_attn: false }),
    "parallel_attn: contradicts new_decoder_architecture, which has both parts side by side, expected true, got false.",
  ],
  [
    () => new Falcon({ multi_query: false, num_kv_heads: 2 }),
    "num_kv_heads: another number than of query heads, expected 71 without multi_query and new_decoder_architecture, got 2.",
  ],
  [() => new Falcon({ num_ln_in_parallel_attn: 2 }), "num_ln_in_parallel_attn: two norms without new_decoder_architecture, expected 1 or null, got 2."],
])("a class, case %#", (create, line) => {
  expect(create).toThrow(ConfigError);
  expect(create).toThrow(line);
});

test("a head size of its own needs no division", () => {
  const model = new Llama({
    vocab_size: 8,
    hidden_size: 32,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 3,
    head_dim: 8,
    max_position_embeddings: 8,
  });
  expect(model.dimensions.headDim).toBe(8);
});

test("a folder and a recipe name their file, and every problem at once", async () => {
  const folder = mkdtempSync(join(tmpdir(), "groundup-config-"));
  try {
    writeFileSync(join(folder, "config.json"), JSON.stringify({ model_type: "gpt2", n_embd: 32, n_head: 3 }));
    await expect(fromPretrained(folder)).rejects.toThrow(`${folder}/config.json: 1 problem\n  n_head: does not divide n_embd, expected no rest, got 3 for 32.`);
  } finally {
    rmSync(folder, { recursive: true });
  }
  const { error } = recipeSchema.safeParse({
    data: { path: "a.txt", validation_fraction: 3 },
    tokenizer: { type: "characters" },
    model: { model_type: "gpt2", n_embd: 32, n_head: 3 },
    training: { max_steps: 1, batch_size: 1, context_length: 8 },
  });
  expect(error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`)).toEqual([
    expect.stringContaining("data.validation_fraction"),
    "model: n_head: does not divide n_embd, expected no rest, got 3 for 32. Change one of them.",
  ]);
});

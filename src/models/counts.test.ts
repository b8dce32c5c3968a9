import { expect, test } from "vitest";
import { describeModel, modelCounts } from "./index.ts";

test.each([
  ["GPT-2 small", { model_type: "gpt2" }, 124_439_808],
  ["Llama 2 7B", { model_type: "llama" }, 6_738_415_616],
  [
    "SmolLM2-135M",
    {
      model_type: "llama",
      vocab_size: 49152,
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      tie_word_embeddings: true,
    },
    134_515_008,
  ],
])("%s has its published number of parameters", (_, config, parameters) => {
  expect(modelCounts(describeModel(config)).parameters.total).toBe(parameters);
});

test("an architecture that there is not is named, with the nearest", () => {
  expect(() => describeModel({ model_type: "gpt3" })).toThrow(
    /^config: unknown architecture, expected model_type to be one of gpt2, llama, .*got "gpt3"\. Did you mean "gpt2"/,
  );
  expect(() => describeModel({ model_type: "constructor" })).toThrow(/unknown architecture/);
});

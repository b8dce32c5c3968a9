import { expect, test } from "vitest";
import { describeModel, modelCounts } from "./index.ts";

const QWEN = { num_key_value_heads: 2, tie_word_embeddings: true };

test.each([
  ["GPT-2 small", { model_type: "gpt2" }, 124_439_808],
  ["Llama 2 7B", { model_type: "llama" }, 6_738_415_616],
  ["Mistral 7B", { model_type: "mistral" }, 7_241_732_096],
  ["Qwen 2.5 0.5B", { model_type: "qwen2", ...QWEN, intermediate_size: 4864, num_hidden_layers: 24, num_attention_heads: 14, hidden_size: 896 }, 494_032_768],
  [
    "Qwen 3 0.6B",
    { model_type: "qwen3", ...QWEN, num_key_value_heads: 8, intermediate_size: 3072, num_hidden_layers: 28, num_attention_heads: 16, hidden_size: 1024 },
    596_049_920,
  ],
  ["Mixtral 8x7B", { model_type: "mixtral" }, 46_702_792_704],
  ["Qwen3 30B A3B", { model_type: "qwen3_moe", num_hidden_layers: 48, head_dim: 128 }, 30_532_122_624],
  ["gpt-oss 120B", { model_type: "gpt_oss" }, 116_829_156_672],
  ["SmolLM3 3B", { model_type: "smollm3" }, 3_075_098_624],
  [
    "Gemma 2B",
    { model_type: "gemma", hidden_size: 2048, intermediate_size: 16384, num_hidden_layers: 18, num_attention_heads: 8, num_key_value_heads: 1 },
    2_506_172_416,
  ],
  ["Gemma 2 2B", { model_type: "gemma2" }, 2_614_341_888],
  [
    "Gemma 3 270M",
    {
      model_type: "gemma3_text",
      vocab_size: 262144,
      hidden_size: 640,
      intermediate_size: 2048,
      num_hidden_layers: 18,
      num_attention_heads: 4,
      num_key_value_heads: 1,
    },
    268_098_176,
  ],
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

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
  ["Phi-3 mini", { model_type: "phi3" }, 3_821_079_552],
  ["GPT-NeoX 20B", { model_type: "gpt_neox" }, 20_554_567_680],
  [
    "Pythia 70M",
    { model_type: "gpt_neox", vocab_size: 50304, hidden_size: 512, num_hidden_layers: 6, num_attention_heads: 8, intermediate_size: 2048 },
    70_426_624,
  ],
  ["OLMo 2 7B", { model_type: "olmo2", vocab_size: 100352 }, 7_298_617_344],
  ["OPT 125M", { model_type: "opt" }, 125_239_296],
  [
    "OPT 350M",
    {
      model_type: "opt",
      hidden_size: 1024,
      num_hidden_layers: 24,
      ffn_dim: 4096,
      num_attention_heads: 16,
      word_embed_proj_dim: 512,
      do_layer_norm_before: false,
    },
    331_196_416,
  ],
  ["BLOOM 560M", { model_type: "bloom", hidden_size: 1024, n_layer: 24, n_head: 16 }, 559_214_592],
  ["Falcon 7B", { model_type: "falcon" }, 6_921_720_704],
])("%s has its published number of parameters", (_, config, parameters) => {
  expect(modelCounts(describeModel(config)).parameters.total).toBe(parameters);
});

test("an architecture that there is not is named, with the nearest", () => {
  expect(() => describeModel({ model_type: "gpt3" })).toThrow(
    /^config: an architecture that groundup does not run \(yet\), expected a model_type that it has, got "gpt3"\. Did you mean "gpt2"\? Choose a model of one of gpt2, llama, /,
  );
  expect(() => describeModel({ model_type: "constructor" })).toThrow(/does not run \(yet\).*got "constructor"\. Choose a model of one of gpt2, /);
  const settings = { num_key_value_heads: 2, rms_norm_eps: 1e-6, num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 4, norm_topk_prob: true };
  expect(() => describeModel({ model_type: "wholly_new", architectures: ["WhollyNewForCausalLM"], ...settings })).toThrow(
    /got "wholly_new" \(WhollyNewForCausalLM\)\. By its settings it is nearest to qwen3_moe\./,
  );
  for (const architectures of [[], [null, { a: 1 }]]) expect(() => describeModel({ model_type: "mamba", architectures })).toThrow(/got "mamba"\. Choose/);
  // What every model has says nothing.
  const few = {
    hidden_size: 64,
    num_hidden_layers: 2,
    vocab_size: 99,
    intermediate_size: 128,
    rms_norm_eps: 1e-6,
    bos_token_id: 0,
    eos_token_id: 1,
    use_cache: true,
  };
  expect(() => describeModel({ model_type: "mamba", ...few })).toThrow(/got "mamba"\. Choose a model of one of gpt2, /);
  expect(() => describeModel({ hidden_size: 4 })).toThrow(/^config: no model_type, expected one of gpt2, .*, got none\./);
});

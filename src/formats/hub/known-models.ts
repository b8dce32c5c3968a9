/** Well-known open models, for people who look for one. Figures are the models' own (their configs and model cards); what a pull says counts. */

/** A model as its card describes it. */
export interface KnownModel {
  readonly id: string;
  /** `model_type` of its config.json. */
  readonly modelType: string;
  readonly parameters: number;
  /** SPDX's name, or what its owners call it. */
  readonly licence: string;
  /** The longest text in tokens; null where there is no limit. */
  readonly context: number | null;
  /** How its conversations are written; null for models that only continue text. */
  readonly template: string | null;
  /** Its owners ask for agreement before it can be pulled. */
  readonly gated: boolean;
}

type Row = [id: string, modelType: string, parameters: number, licence: string, context: number | null, template: string | null, gated?: "gated"];

const ROWS: readonly Row[] = [
  ["openai-community/gpt2", "gpt2", 124_439_808, "MIT", 1024, null],
  ["distilbert/distilgpt2", "gpt2", 81_912_576, "Apache-2.0", 1024, null],
  ["HuggingFaceTB/SmolLM2-135M", "llama", 134_515_008, "Apache-2.0", 8192, null],
  ["HuggingFaceTB/SmolLM2-135M-Instruct", "llama", 134_515_008, "Apache-2.0", 8192, "chatml"],
  ["HuggingFaceTB/SmolLM2-360M-Instruct", "llama", 361_821_120, "Apache-2.0", 8192, "chatml"],
  ["HuggingFaceTB/SmolLM2-1.7B-Instruct", "llama", 1_711_376_384, "Apache-2.0", 8192, "chatml"],
  ["TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", 1_100_048_384, "Apache-2.0", 2048, "zephyr"],
  ["meta-llama/Llama-3.2-1B-Instruct", "llama", 1_235_814_400, "llama3.2", 131_072, "llama-3", "gated"],
  ["meta-llama/Llama-3.2-3B-Instruct", "llama", 3_212_749_824, "llama3.2", 131_072, "llama-3", "gated"],
  ["meta-llama/Llama-3.1-8B-Instruct", "llama", 8_030_261_248, "llama3.1", 131_072, "llama-3", "gated"],
  ["Qwen/Qwen2.5-0.5B-Instruct", "qwen2", 494_032_768, "Apache-2.0", 32_768, "chatml"],
  ["Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 1_543_714_304, "Apache-2.0", 32_768, "chatml"],
  ["Qwen/Qwen2.5-7B-Instruct", "qwen2", 7_615_616_512, "Apache-2.0", 32_768, "chatml"],
  ["Qwen/Qwen3-0.6B", "qwen3", 596_049_920, "Apache-2.0", 40_960, "chatml"],
  ["Qwen/Qwen3-1.7B", "qwen3", 1_720_574_976, "Apache-2.0", 40_960, "chatml"],
  ["Qwen/Qwen3-4B", "qwen3", 4_022_468_096, "Apache-2.0", 40_960, "chatml"],
  ["Qwen/Qwen3-8B", "qwen3", 8_190_735_360, "Apache-2.0", 40_960, "chatml"],
  ["google/gemma-2-2b-it", "gemma2", 2_614_341_888, "gemma", 8192, "gemma", "gated"],
  ["google/gemma-3-270m-it", "gemma3_text", 268_098_176, "gemma", 32_768, "gemma", "gated"],
  ["google/gemma-3-1b-it", "gemma3_text", 999_885_952, "gemma", 32_768, "gemma", "gated"],
  ["HuggingFaceH4/zephyr-7b-beta", "mistral", 7_241_732_096, "MIT", 32_768, "zephyr"],
  ["microsoft/Phi-3.5-mini-instruct", "phi3", 3_821_079_552, "MIT", 131_072, "phi-3"],
  ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "qwen2", 1_777_088_000, "MIT", 131_072, "deepseek-r1"],
  ["EleutherAI/pythia-70m", "gpt_neox", 70_426_624, "Apache-2.0", 2048, null],
  ["EleutherAI/pythia-160m", "gpt_neox", 162_322_944, "Apache-2.0", 2048, null],
  ["EleutherAI/pythia-410m", "gpt_neox", 405_334_016, "Apache-2.0", 2048, null],
  ["state-spaces/mamba-130m-hf", "mamba", 129_135_360, "Apache-2.0", null, null],
];

/** The list, families together. */
export const KNOWN_MODELS: readonly KnownModel[] = ROWS.map(([id, modelType, parameters, licence, context, template, gated]) => ({
  id,
  modelType,
  parameters,
  licence,
  context,
  template,
  gated: gated === "gated",
}));

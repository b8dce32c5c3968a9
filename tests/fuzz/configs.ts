/** Random changes of a config.json beside the weights that it was made with. */
import { GroundupError } from "../../src/errors.ts";
import { parseConfigText } from "../../src/formats/hf-config.ts";
import { encodeSafetensors } from "../../src/formats/safetensors-write.ts";
import { memoryFolder } from "../../src/formats/source.ts";
import { createModel, fromPretrained, weightEntries } from "../../src/models/index.ts";
import { noGrad, scope, tensor } from "../../src/tensor/index.ts";
import { type Random, random } from "../random.ts";
import { bytesOf } from "./files.ts";

/** As transformers writes them, with tiny sizes. */
const CONFIGS = {
  gpt2: {
    activation_function: "gelu_new",
    architectures: ["GPT2LMHeadModel"],
    attn_pdrop: 0.1,
    bos_token_id: 0,
    embd_pdrop: 0.1,
    eos_token_id: 0,
    initializer_range: 0.02,
    layer_norm_epsilon: 1e-5,
    model_type: "gpt2",
    n_ctx: 16,
    n_embd: 8,
    n_head: 2,
    n_inner: null,
    n_layer: 2,
    n_positions: 16,
    reorder_and_upcast_attn: false,
    resid_pdrop: 0.1,
    scale_attn_by_inverse_layer_idx: false,
    scale_attn_weights: true,
    summary_type: "cls_index",
    task_specific_params: { "text-generation": { do_sample: true, max_length: 50 } },
    tie_word_embeddings: true,
    torch_dtype: "float32",
    transformers_version: "4.40.0",
    use_cache: true,
    vocab_size: 24,
  },
  llama: {
    architectures: ["LlamaForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 1,
    eos_token_id: [2, 3],
    head_dim: 4,
    hidden_act: "silu",
    hidden_size: 8,
    initializer_range: 0.02,
    intermediate_size: 12,
    max_position_embeddings: 16,
    mlp_bias: false,
    model_type: "llama",
    num_attention_heads: 2,
    num_hidden_layers: 2,
    num_key_value_heads: 1,
    pretraining_tp: 1,
    rms_norm_eps: 1e-5,
    rope_scaling: { factor: 8.0, high_freq_factor: 4.0, low_freq_factor: 1.0, original_max_position_embeddings: 8, rope_type: "llama3" },
    rope_theta: 500000.0,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    transformers_version: "4.51.0",
    use_cache: true,
    vocab_size: 24,
  },
  gemma3_text: {
    _sliding_window_pattern: 2,
    architectures: ["Gemma3ForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    attn_logit_softcapping: null,
    bos_token_id: 2,
    dtype: "bfloat16",
    eos_token_id: 1,
    final_logit_softcapping: 3.5,
    head_dim: 4,
    hidden_activation: "gelu_pytorch_tanh",
    hidden_size: 8,
    initializer_range: 0.02,
    intermediate_size: 12,
    layer_types: ["sliding_attention", "full_attention"],
    max_position_embeddings: 16,
    model_type: "gemma3_text",
    num_attention_heads: 2,
    num_hidden_layers: 2,
    num_key_value_heads: 1,
    pad_token_id: 0,
    query_pre_attn_scalar: 4,
    rms_norm_eps: 1e-6,
    rope_parameters: {
      full_attention: { factor: 8.0, rope_theta: 1000000.0, rope_type: "linear" },
      sliding_attention: { rope_theta: 10000.0, rope_type: "default" },
    },
    sliding_window: 3,
    tie_word_embeddings: true,
    use_bidirectional_attention: false,
    use_cache: true,
    vocab_size: 24,
  },
};

/** Values as JSON text: wrong types, absurd and impossible numbers, depth, names that every object has. */
const VALUES = [
  ..."null true false 0 -1 1 2 3 7 8 0.5 -0 1e-400 1e308 1e999 -1e999 NaN Infinity 4096 65536 2147483647 2147483648 4294967296".split(" "),
  ..."9007199254740991 9007199254740993 123456789012345678901234567890".split(" "),
  '""',
  '"8"',
  '"gelu"',
  '"silu"',
  '"linear"',
  '"dynamic"',
  '"yarn"',
  '"longrope"',
  '"constructor"',
  '"\\ud800"',
  "[]",
  "{}",
  "[1, 2]",
  "[0.5, 0.5]",
  "[[[[]]]]",
  '{"__proto__": {"vocab_size": 5}}',
  '{"rope_type": "dynamic", "factor": 2}',
  '{"rope_type": "longrope", "short_factor": [1], "long_factor": [1, 2, 3]}',
  '{"rope_type": "yarn", "factor": 4, "beta_fast": 1e-9}',
  "[".repeat(5000),
  "[".repeat(40) + "]".repeat(40),
  `"${"x".repeat(20_000)}"`,
];
const NAMES = [
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "",
  "vocab_sise",
  "rope_parameters",
  "n_embd",
  "hidden_size",
  "num_hidden_layers",
  "\u0000",
];
const PIECES = ["{", "}", "[", "]", ",", ":", '"', "\\", "\u0000", "\ufeff", "9", "-", "e", ".", "//", " "];

function changed(config: object, r: Random): string {
  const entries = Object.entries(config).map(([key, value]): [string, string] => [JSON.stringify(key), JSON.stringify(value)]);
  for (let edits = r.below(3); edits >= 0; edits--) {
    const entry = r.pick(entries);
    switch (r.below(8)) {
      case 0:
        entries.splice(entries.indexOf(entry), 1);
        break;
      case 1:
        entries.push([JSON.stringify(r.pick(NAMES)), r.pick(VALUES)]);
        break;
      case 2:
        entries.push([entry[0], r.pick(VALUES)]);
        break;
      case 3:
        entry[0] = JSON.stringify(r.pick(NAMES));
        break;
      case 4: {
        // Inside of a nested value.
        entry[1] = entry[1].replace(/(?<=[:[])[^,\]}]+/, r.pick(VALUES));
        break;
      }
      default:
        entry[1] = r.pick(VALUES);
    }
  }
  let text = `{${entries.map(([key, value]) => `${key}: ${value}`).join(", ")}}`;
  if (r.once(5)) {
    const at = r.below(text.length);
    text = r.once(2) ? text.slice(0, at) : text.slice(0, at) + r.pick(PIECES) + text.slice(at + r.below(4));
  }
  return text;
}

export interface ConfigOutcome {
  opened: number;
  refused: number;
  /** Milliseconds of the slowest, of the processor's time on all threads: what else the machine does counts little. */
  slowest: number;
}

/** Opens `count` changed configs, and runs what opens. @throws whatever is no typed error, with the config */
export async function fuzzConfigs(kind: keyof typeof CONFIGS, seed: number, count: number): Promise<ConfigOutcome> {
  const r = random(seed);
  const model = createModel(CONFIGS[kind]);
  const weights = await bytesOf(encodeSafetensors(weightEntries(model)));
  model.dispose();
  const outcome: ConfigOutcome = { opened: 0, refused: 0, slowest: 0 };
  for (let i = 0; i < count; i++) {
    const text = changed(CONFIGS[kind], r);
    const from = process.cpuUsage();
    try {
      // Beside its weights, or as the recipe of a new model: then sizes may change.
      const pretrained = r.once(2);
      const opened = pretrained
        ? await fromPretrained(memoryFolder({ "config.json": text, "model.safetensors": weights }))
        : createModel(parseConfigText(text, "config.json"), "config.json");
      const loss = scope(() => {
        const ids = tensor([Int32Array.of(1, 2, 3, 4)]);
        return noGrad(() => opened.forward({ inputIds: ids, labels: ids }).loss?.dataSync()[0]);
      });
      opened.dispose();
      // Fresh weights may be as large as the config wants them.
      if (pretrained && (loss === undefined || Number.isNaN(loss))) throw new Error(`the loss is ${loss}`);
      outcome.opened++;
    } catch (error) {
      if (!(error instanceof GroundupError)) throw new Error(`seed ${seed}, config ${i}: ${text.slice(0, 3000)}`, { cause: error });
      outcome.refused++;
    }
    const { user, system } = process.cpuUsage(from);
    outcome.slowest = Math.max(outcome.slowest, (user + system) / 1000);
  }
  if (Object.keys(Object.prototype).length > 0) throw new Error("the prototype of all objects has changed");
  return outcome;
}

/** What a causal model must never do, byte for byte; and what grouped queries and fused attention must save. */
import { describe, expect, test } from "vitest";
import { createPagedState } from "../generate/index.ts";
import { attention, memory, noGrad, randn, resetPeakMemory, scope, tensor } from "../tensor/index.ts";
import { Bloom } from "./bloom.ts";
import type { CausalLM } from "./causal-lm.ts";
import { Falcon } from "./falcon.ts";
import { Gemma } from "./gemma.ts";
import { Gemma2 } from "./gemma2.ts";
import { Gemma3Text } from "./gemma3_text.ts";
import { GPTNeoX } from "./gpt_neox.ts";
import { GptOss } from "./gpt_oss.ts";
import { GPT2 } from "./gpt2.ts";
import { Granite } from "./granite.ts";
import { Llama } from "./llama.ts";
import { Mistral } from "./mistral.ts";
import { Mixtral } from "./mixtral.ts";
import { Olmo2 } from "./olmo2.ts";
import { OPT } from "./opt.ts";
import { Phi3 } from "./phi3.ts";
import { Qwen2 } from "./qwen2.ts";
import { Qwen3 } from "./qwen3.ts";
import { Qwen3Moe } from "./qwen3_moe.ts";
import { SmolLM3 } from "./smollm3.ts";

/** Sizes of Llama and those after it. */
const sizes = {
  vocab_size: 43,
  hidden_size: 32,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 128,
  initializer_range: 0.3,
};
const llama = (heads: number, kvHeads: number) =>
  new Llama({ ...sizes, num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: 32 / heads }).eval();
/** Sizes under the names that most configs have. */
const SIZES = {
  vocab_size: 43,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 128,
  initializer_range: 0.3,
};
const BLOOM = { vocab_size: 43, hidden_size: 32, n_layer: 2, n_head: 4, seq_length: 128, initializer_range: 0.3 };
const MODELS: [string, () => CausalLM][] = [
  ["gpt2", () => new GPT2({ vocab_size: 43, n_positions: 128, n_embd: 32, n_layer: 2, n_head: 4, initializer_range: 0.3 }).eval()],
  ["llama", () => llama(4, 2)],
  // Windows that begin inside of a block of keys.
  ["qwen2", () => new Qwen2({ ...sizes, use_sliding_window: true, sliding_window: 7, max_window_layers: 1 }).eval()],
  ["qwen3", () => new Qwen3({ ...sizes, use_sliding_window: true, sliding_window: 70, max_window_layers: 1 }).eval()],
  ["mistral", () => new Mistral({ ...sizes, sliding_window: 20 }).eval()],
  ["gemma", () => new Gemma(sizes).eval()],
  ["gemma2", () => new Gemma2({ ...sizes, sliding_window: 30, attn_logit_softcapping: 2, final_logit_softcapping: 3 }).eval()],
  ["gemma3_text", () => new Gemma3Text({ ...sizes, sliding_window: 66, sliding_window_pattern: 2 }).eval()],
  ["mixtral", () => new Mixtral({ ...sizes, num_local_experts: 5, sliding_window: 20 }).eval()],
  ["qwen3_moe", () => new Qwen3Moe({ ...sizes, num_local_experts: 5, num_experts_per_tok: 2, moe_intermediate_size: 24, mlp_only_layers: [0] }).eval()],
  ["gpt_oss", () => new GptOss({ ...sizes, num_local_experts: 5, num_experts_per_tok: 2, sliding_window: 20 }).eval()],
  ["smollm3", () => new SmolLM3({ ...sizes, no_rope_layer_interval: 2, use_sliding_window: true, sliding_window: 33 }).eval()],
  ["phi3", () => new Phi3({ ...SIZES, intermediate_size: 40, num_key_value_heads: 2, partial_rotary_factor: 0.75, sliding_window: 70 }).eval()],
  ["gpt_neox", () => new GPTNeoX({ ...SIZES, intermediate_size: 40 }).eval()],
  ["olmo2", () => new Olmo2({ ...SIZES, intermediate_size: 40, num_key_value_heads: 2 }).eval()],
  ["granite", () => new Granite({ ...SIZES, intermediate_size: 40, embedding_multiplier: 3, residual_multiplier: 0.4, logits_scaling: 5 }).eval()],
  [
    "opt",
    () =>
      new OPT({
        vocab_size: 43,
        hidden_size: 32,
        ffn_dim: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        max_position_embeddings: 128,
        init_std: 0.3,
        do_layer_norm_before: false,
        word_embed_proj_dim: 16,
      }).eval(),
  ],
  ["bloom", () => new Bloom(BLOOM).eval()],
  ["falcon", () => new Falcon({ ...SIZES, new_decoder_architecture: true, num_kv_heads: 2 }).eval()],
  ["falcon with ALiBi", () => new Falcon({ ...SIZES, alibi: true, multi_query: false, parallel_attn: false, bias: true }).eval()],
];

const logitsOf = (model: CausalLM, ids: Int32Array, cuSeqlens?: Int32Array): Float32Array =>
  scope(() => ({
    data: noGrad(() => model.forward({ inputIds: tensor([ids]), ...(cuSeqlens === undefined ? {} : { cuSeqlens }) }).logits).dataSync() as Float32Array,
  })).data;

describe.each(MODELS)("%s", (_, make) => {
  const length = 90; // more than one block of keys
  const ids = Int32Array.from({ length }, (__, i) => (i * i + 3 * i) % 43);

  test("a future token never changes a past logit, and does change its own", () => {
    const model = make();
    const before = logitsOf(model, ids);
    for (const place of [1, 40, 63, 64, 65, length - 1]) {
      const changed = ids.slice();
      changed[place] = (changed[place] + 1) % 43;
      const after = logitsOf(model, changed);
      expect(after.slice(0, place * 43), `before ${place}`).toEqual(before.slice(0, place * 43));
      expect(after.slice(place * 43, (place + 1) * 43), `at ${place}`).not.toEqual(before.slice(place * 43, (place + 1) * 43));
    }
    model.dispose();
  });

  test("cached equals uncached, byte for byte", () => {
    const model = make();
    const whole = logitsOf(model, ids);
    const state = createPagedState(model);
    const sequence = state.allocate();
    for (let at = 0; at < length; ) {
      const end = at === 0 ? 40 : at + 1;
      const last = scope(() => ({ data: state.step([{ sequence, ids: ids.subarray(at, end) }]).dataSync() })).data;
      expect(last, `after ${end}`).toEqual(whole.slice((end - 1) * 43, end * 43));
      at = end;
    }
    state.dispose();
    model.dispose();
  });

  test("nor does a token of another sequence in ragged rows", () => {
    const model = make();
    const cu = Int32Array.of(0, 30, length);
    const before = logitsOf(model, ids, cu);
    for (const [place, from, to] of [
      [10, 30, length],
      [50, 0, 50],
    ]) {
      const changed = ids.slice();
      changed[place] = (changed[place] + 1) % 43;
      const after = logitsOf(model, changed, cu);
      expect(after.slice(from * 43, to * 43)).toEqual(before.slice(from * 43, to * 43));
      expect(after).not.toEqual(before);
    }
    model.dispose();
  });
});

test("keys and values shrink by the group factor", () => {
  const bytes = (kvHeads: number): number => {
    const model = llama(8, kvHeads);
    model.eager = true;
    const state = createPagedState(model);
    const before = memory().liveBytes;
    scope(() => void state.step([{ sequence: state.allocate(), ids: [1, 2, 3] }]));
    const taken = memory().liveBytes - before;
    state.dispose();
    model.dispose();
    return taken;
  };
  const whole = bytes(8);
  expect(whole).toBeGreaterThan(0);
  for (const kvHeads of [4, 2, 1]) expect(bytes(kvHeads)).toBe((whole * kvHeads) / 8);
});

test("attention's memory grows with the length, not with its square, forward and backward", () => {
  const peak = (length: number, watched: boolean): number =>
    scope(() => {
      const [q, k, v] = [0, 1, 2].map(() => randn([1, length, 4, 16], { requiresGrad: true }));
      const before = memory().liveBytes;
      resetPeakMemory();
      attention(q, k, v, watched ? { watch: (_, t) => t } : {})
        .sum()
        .backward();
      for (const t of [q, k, v]) t.grad?.dispose();
      return memory().peakBytes - before;
    });
  peak(256, false);
  expect(peak(1024, false) / peak(256, false)).toBeLessThan(4.1);
  // Its composed twin holds the T×T matrix: the measure would see it.
  expect(peak(1024, true) / peak(256, true)).toBeGreaterThan(12);
});

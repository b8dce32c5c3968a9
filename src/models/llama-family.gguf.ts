/** What GGUF files hold alike of all decoders that descend from Llama: sizes, norms, rotary base, names. */
import type { GgufValue } from "../formats/gguf/read.ts";
import { f32, u32 } from "../formats/gguf/values.ts";
import type { GgufLookup, GgufName } from "./architecture.ts";
import { neighbouringHalves } from "./gguf-names.ts";
import { type FamilySizes, familyDimensions } from "./llama-family.ts";

/** The sizes that the metadata tell of, under config.json's names. */
export function sizesFromGguf(file: GgufLookup) {
  const heads = file.number("{arch}.attention.head_count");
  const hidden = file.number("{arch}.embedding_length");
  return {
    vocab_size: file.shape("token_embd.weight")[0],
    hidden_size: hidden,
    intermediate_size: file.number("{arch}.feed_forward_length"),
    num_hidden_layers: file.number("{arch}.block_count"),
    num_attention_heads: heads,
    num_key_value_heads: file.optional("{arch}.attention.head_count_kv") ?? heads,
    head_dim: file.optional("{arch}.attention.key_length") ?? hidden / heads,
    max_position_embeddings: file.number("{arch}.context_length"),
    rms_norm_eps: file.number("{arch}.attention.layer_norm_rms_epsilon"),
    rope_theta: file.optional("{arch}.rope.freq_base") ?? 10000,
    tie_word_embeddings: !file.has("output.weight"),
  };
}

/** What the metadata say of a config: `sizesFromGguf` reads the same sizes back. */
export function ggufSizes(config: FamilySizes & { rms_norm_eps: number; rope_theta: number }): Record<string, GgufValue> {
  const { vocabulary, hidden, layers, heads, kvHeads, headDim, context } = familyDimensions(config);
  return {
    "{arch}.vocab_size": u32(vocabulary),
    "{arch}.embedding_length": u32(hidden),
    "{arch}.feed_forward_length": u32(config.intermediate_size),
    "{arch}.block_count": u32(layers),
    "{arch}.attention.head_count": u32(heads),
    "{arch}.attention.head_count_kv": u32(kvHeads),
    "{arch}.attention.key_length": u32(headDim),
    "{arch}.attention.value_length": u32(headDim),
    "{arch}.context_length": u32(context),
    "{arch}.attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
    "{arch}.rope.dimension_count": u32(headDim),
    "{arch}.rope.freq_base": f32(config.rope_theta),
  };
}

/** Names of what Llama's blocks have too, but for the second norm, which stands before the MLP. */
export const FAMILY_NAMES: readonly GgufName[] = [
  ["token_embd", "model.embed_tokens"],
  ["output_norm", "model.norm"],
  ["output", "lm_head"],
  ["blk.{i}.attn_q", "model.layers.{i}.self_attn.q_proj"],
  ["blk.{i}.attn_k", "model.layers.{i}.self_attn.k_proj"],
  ["blk.{i}.attn_v", "model.layers.{i}.self_attn.v_proj"],
  ["blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"],
  ["blk.{i}.ffn_gate", "model.layers.{i}.mlp.gate_proj"],
  ["blk.{i}.ffn_up", "model.layers.{i}.mlp.up_proj"],
  ["blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"],
  ["blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"],
];

/** Names of norms over the items of query and key heads. */
export const HEAD_NORM_NAMES: readonly GgufName[] = [
  ["blk.{i}.attn_q_norm", "model.layers.{i}.self_attn.q_norm"],
  ["blk.{i}.attn_k_norm", "model.layers.{i}.self_attn.k_norm"],
];

/** Names of the norms of Gemma 2 and 3, behind attention and around the MLP. */
export const POST_NORM_NAMES: readonly GgufName[] = [
  ["blk.{i}.post_attention_norm", "model.layers.{i}.post_attention_layernorm"],
  ["blk.{i}.ffn_norm", "model.layers.{i}.pre_feedforward_layernorm"],
  ["blk.{i}.post_ffw_norm", "model.layers.{i}.post_feedforward_layernorm"],
];

/** `added` of files whose norms are stored as 1 + weight. */
export const unitOffset = (name: string): number => (name.endsWith("norm.weight") ? 1 : 0);

/** `rowOrder` of files whose query and key heads lie as llama.cpp turns Llama's. */
export function turnedRows(name: string, rows: number, config: FamilySizes): Int32Array | null {
  const { heads, kvHeads } = familyDimensions(config);
  return name.includes(".q_proj.") ? neighbouringHalves(rows, heads) : name.includes(".k_proj.") ? neighbouringHalves(rows, kvHeads) : null;
}

/** What a model costs, by formula from its config, before anything is built: parameters, arithmetic, memory of its keys and values. */

import { didYouMean } from "../did-you-mean.ts";
import { ConfigError } from "../errors.ts";
import type { GPT2Config } from "./gpt2.ts";
import type { LlamaConfig } from "./llama.ts";

export interface ModelCounts {
  /** Trained values by part; shared ones once. */
  parameters: { embedding: number; positions: number; attention: number; mlp: number; norms: number; head: number; total: number };
  /**
   * Floating-point operations for each token of a sequence of `length` tokens, on average: 2 for each weight of a matrix product (the
   * head included, tied or not) and 4 · layers · heads · headDim for each key that a query sees, (length + 1)/2 on average. Norms,
   * activations and softmax are left out, as is usual.
   */
  forwardFlops(length: number): number;
  /** Forward, and twice as much for the two products of each backward. */
  trainingFlops(length: number): number;
  /** Bytes that one position's keys and values take in all layers, as float32. */
  stateBytesPerToken: number;
}

/** The sizes that the formulas are about. */
interface Sizes {
  vocabulary: number;
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Width of the MLP, its matrices (3 where gated), and its biases' items. */
  inner: number;
  matrices: 2 | 3;
  positions: number;
  tied: boolean;
  attentionBias: number;
  mlpBias: number;
  /** Items of one norm: weight alone, or weight and bias. */
  norm: number;
}

function countsFrom(s: Sizes): ModelCounts {
  const attention = 2 * s.hidden * s.headDim * (s.heads + s.kvHeads);
  const mlp = s.matrices * s.hidden * s.inner;
  const head = s.vocabulary * s.hidden;
  const parts = {
    embedding: s.vocabulary * s.hidden,
    positions: s.positions * s.hidden,
    attention: s.layers * (attention + s.attentionBias),
    mlp: s.layers * (mlp + s.mlpBias),
    norms: (2 * s.layers + 1) * s.norm,
    head: s.tied ? 0 : head,
  };
  const forwardFlops = (length: number) => 2 * (s.layers * (attention + mlp) + head) + 4 * s.layers * s.heads * s.headDim * ((length + 1) / 2);
  return {
    parameters: { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) },
    forwardFlops,
    trainingFlops: (length) => 3 * forwardFlops(length),
    stateBytesPerToken: 2 * 4 * s.layers * s.kvHeads * s.headDim,
  };
}

export function gpt2Counts(config: GPT2Config): ModelCounts {
  const { vocab_size, n_positions, n_embd, n_layer, n_head, n_inner, tie_word_embeddings } = config;
  const inner = n_inner ?? 4 * n_embd;
  return countsFrom({
    vocabulary: vocab_size,
    hidden: n_embd,
    layers: n_layer,
    heads: n_head,
    kvHeads: n_head,
    headDim: n_embd / n_head,
    inner,
    matrices: 2,
    positions: n_positions,
    tied: tie_word_embeddings,
    attentionBias: 4 * n_embd,
    mlpBias: inner + n_embd,
    norm: 2 * n_embd,
  });
}

export function llamaCounts(config: LlamaConfig): ModelCounts {
  const {
    vocab_size,
    hidden_size,
    intermediate_size,
    num_hidden_layers,
    num_attention_heads: heads,
    num_key_value_heads,
    head_dim,
    attention_bias,
    mlp_bias,
    tie_word_embeddings,
  } = config;
  const [kvHeads, headDim] = [num_key_value_heads ?? heads, head_dim ?? hidden_size / heads];
  return countsFrom({
    vocabulary: vocab_size,
    hidden: hidden_size,
    layers: num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    inner: intermediate_size,
    matrices: 3,
    positions: 0,
    tied: tie_word_embeddings,
    attentionBias: attention_bias ? (heads + 2 * kvHeads) * headDim + hidden_size : 0,
    mlpBias: mlp_bias ? 2 * intermediate_size + hidden_size : 0,
    norm: hidden_size,
  });
}

const COUNTS: Record<string, (config: never) => ModelCounts> = { gpt2: gpt2Counts, llama: llamaCounts };

/**
 * The counts of a model, or of a parsed config with its architecture's name.
 * @throws ConfigError for an architecture without a formula
 */
export function modelCounts({ modelType, config }: { modelType: string; config: object }): ModelCounts {
  const known = Object.keys(COUNTS);
  if (!Object.hasOwn(COUNTS, modelType))
    throw new ConfigError(
      `modelCounts: unknown architecture, expected one of ${known.join(", ")}, got ${JSON.stringify(modelType)}.${didYouMean(modelType, known)} Add its formula to counts.ts.`,
    );
  return COUNTS[modelType](config as never);
}

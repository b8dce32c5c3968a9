/** Models with fresh weights. */
import * as z from "zod";
import { parseConfig } from "../formats/hf-config.ts";
import { checkOptions } from "../options.ts";
import { describeModel, textPart } from "./architectures.ts";
import type { CausalLM } from "./causal-lm.ts";
import { modelCounts } from "./counts.ts";
import { checkMemory } from "./weight-memory.ts";

/** What `createModel` is told besides the config. */
export interface CreateOptions {
  /** What the weights will take; four bytes each by default. Block-quantised ones take less. */
  bytes?: number;
}

/**
 * A model with fresh weights from a config as config.json holds it.
 * @throws ConfigError listing every problem; OutOfMemoryError, before anything is allocated, when its weights can't fit
 */
export function createModel(config: Record<string, unknown>, where = "config", options: CreateOptions = {}): CausalLM {
  checkOptions("createModel", options, { bytes: true });
  const description = describeModel(config, where);
  const { bos_token_id = null, eos_token_id = null, pad_token_id = null } = parseConfig(tokenIdsSchema, textPart(config, where), where);
  const weights = modelCounts(description).parameters.total;
  checkMemory(where, weights, options.bytes ?? 4 * weights);
  const model = description.architecture.create(description.config);
  model.tokenIds = { bos_token_id, eos_token_id, pad_token_id };
  return model;
}

const tokenId = z.int().min(0).nullish();
const tokenIdsSchema = z.object({ bos_token_id: tokenId, eos_token_id: z.union([tokenId, z.array(z.int().min(0))]), pad_token_id: tokenId });

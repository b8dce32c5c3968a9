/** Models with fresh weights. */
import * as z from "zod";
import { OutOfMemoryError } from "../errors.ts";
import { parseConfig } from "../formats/hf-config.ts";
import { checkOptions } from "../options.ts";
import { byteSize } from "../quantities.ts";
import { memory } from "../tensor/index.ts";
import { describeModel, textPart } from "./architectures.ts";
import type { CausalLM } from "./causal-lm.ts";
import { modelCounts } from "./counts.ts";

/** File types of GGUF with the bits that a weight takes in memory, from the most exact to the smallest. */
const FILE_TYPES = [
  ["Q8_0", 8.5],
  ["Q4_0", 4.5],
  ["Q2_K", 3.2],
] as const;

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
  const { limitBytes } = memory();
  const bytes = options.bytes ?? 4 * weights;
  if (bytes > limitBytes) {
    const fits = FILE_TYPES.find(([, bits]) => (weights * bits) / 8 < Math.min(limitBytes, bytes));
    const advice =
      fits === undefined
        ? "Check its sizes, or take a smaller model."
        : `As ${fits[0]} it takes ${byteSize((weights * fits[1]) / 8)} and fits: "groundup quantize MODEL --type ${fits[0]}" makes such a file, one tensor in memory at a time.`;
    throw new OutOfMemoryError(
      `${where}: the model is too large for this machine, expected at most ${byteSize(limitBytes)} of weights, got ${byteSize(bytes)} (${weights.toPrecision(3)} weights). ${advice}`,
    );
  }
  const model = description.architecture.create(description.config);
  model.tokenIds = { bos_token_id, eos_token_id, pad_token_id };
  return model;
}

const tokenId = z.int().min(0).nullish();
const tokenIdsSchema = z.object({ bos_token_id: tokenId, eos_token_id: z.union([tokenId, z.array(z.int().min(0))]), pad_token_id: tokenId });

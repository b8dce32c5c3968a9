/** One dial: the shape of a model from the number of its parameters. */
import { ConfigError } from "../errors.ts";
import type { Shape } from "./architecture.ts";
import { architectureNamed, describeModel } from "./architectures.ts";
import { modelCounts } from "./counts.ts";

/** The config keys that `size` sets for an architecture, which must not be given beside it. */
export const sizedKeys = (modelType: string): string[] => Object.keys(architectureNamed(modelType, "model").shapedBy(shapeOf(1, 1)));

// Widths are multiples of a head's 64 items; heads of 128 from a width of 2048 on, as large models have them.
const shapeOf = (layers: number, units: number): Shape => ({ layers, width: 64 * units, heads: units >= 32 ? units / 2 : units });
/** How much a shape away from one layer for each 64 of width (GPT-2 small, nanochat) counts against a size off the wish. */
const TASTE = 0.15;

/** "15M" as a number. */
export function parameterCountOf(size: string | number): number {
  const [, digits, unit = ""] = /^([\d.]+)([KMB]?)$/i.exec(String(size)) ?? [];
  return Number(digits) * { "": 1, K: 1e3, M: 1e6, B: 1e9 }[unit.toUpperCase() as "" | "K" | "M" | "B"];
}

/**
 * A config of about this many parameters, tables and all: about one layer for each 64 of width. What `config` says besides (vocabulary, context, dropout) stays;
 * below a billion parameters the head shares the embedding's table unless it says otherwise.
 * @throws ConfigError when no shape comes within a quarter of the size
 */
export function sizedConfig(config: Record<string, unknown>, parameters: number): Record<string, unknown> {
  const architecture = architectureNamed(config.model_type, "model");
  const ties = parameters < 1e9 && "tie_word_embeddings" in architecture.keys.keys;
  const base = { ...(ties ? { tie_word_embeddings: true } : {}), ...config };
  const { config: parsed, dimensions } = describeModel({ ...base, ...architecture.shapedBy(shapeOf(1, 1)) });
  let [best, score, total] = [shapeOf(1, 1), Number.POSITIVE_INFINITY, 0];
  for (let layers = 1; layers <= 128; layers++) {
    for (let units = 1; units <= 256; units += units >= 32 ? 2 : 1) {
      const shape = shapeOf(layers, units);
      const n = modelCounts({ architecture, config: { ...parsed, ...architecture.shapedBy(shape) } }).parameters.total;
      const off = Math.abs(Math.log(n / parameters)) + TASTE * Math.abs(Math.log(units / layers));
      if (off < score) [best, score, total] = [shape, off, n];
    }
  }
  if (Math.abs(total - parameters) > parameters / 4) {
    throw new ConfigError(
      `model.size: no ${architecture.modelType} comes near it, expected a size that a vocabulary of ${dimensions.vocabulary} leaves room for, got ${parameters} (nearest ${total}). Choose another size or a smaller vocabulary.`,
    );
  }
  return { ...base, ...architecture.shapedBy(best) };
}

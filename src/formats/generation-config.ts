/** Hugging Face's `generation_config.json`: how a model's authors want text to be made. */
import * as z from "zod";
import { parseConfig, readConfigJson } from "./hf-config.ts";
import type { Folder } from "./source.ts";

const id = z.int().min(0);
const number = z.number();

/** The keys that groundup understands. Files hold many others, for programs that search in other ways: they are passed over. Null is the same as missing. */
const generationConfigSchema = z.object({
  bos_token_id: id.nullish(),
  eos_token_id: z.union([id, z.array(id)]).nullish(),
  pad_token_id: id.nullish(),
  do_sample: z.boolean().nullish(),
  temperature: number.nonnegative().nullish(),
  top_k: z.int().nullish(),
  top_p: number.min(0).max(1).nullish(),
  min_p: number.min(0).max(1).nullish(),
  repetition_penalty: number.positive().nullish(),
  max_new_tokens: z.int().positive().nullish(),
});

/** What a generation_config.json says; what it leaves open is not there. */
export type GenerationConfig = { readonly [key in keyof z.output<typeof generationConfigSchema>]?: NonNullable<z.output<typeof generationConfigSchema>[key]> };

/**
 * Reads a model folder's generation_config.json; null where it has none.
 * @throws ConfigError that lists every value of a wrong kind
 */
export async function readGenerationConfig(folder: Folder): Promise<GenerationConfig | null> {
  const file = "generation_config.json";
  if (!(await folder.has(file))) return null;
  const read = parseConfig(generationConfigSchema, await readConfigJson(folder, file), `${folder.name}/${file}`);
  return Object.fromEntries(Object.entries(read).filter(([, value]) => value !== null && value !== undefined)) as GenerationConfig;
}

/** Settings that GGUF files of an architecture have no key for. */
import { ConfigError } from "../errors.ts";

/** Refuses to write a setting that such files cannot say. @throws ConfigError where it is not the only one that their readers have */
export function checkSayable(architecture: string, key: string, expected: unknown, got: unknown): void {
  if (JSON.stringify(expected) !== JSON.stringify(got))
    throw new ConfigError(
      `GGUF, ${architecture}: no place for ${key}, expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}. Keep the model as a Hugging Face folder.`,
    );
}

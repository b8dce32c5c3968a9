/** What a file is, by its first bytes: Ollama's blobs are GGUF files without the ending, and a name proves nothing. */
import type { Source } from "../source.ts";

/** "GGUF" in ASCII, as every version of the format begins. */
const MAGIC = [0x47, 0x47, 0x55, 0x46];

/** Whether a source is a GGUF file. Only its first bytes are read. */
export async function isGguf(source: Source): Promise<boolean> {
  if (source.size < MAGIC.length) return false;
  const start = await source.read(0, MAGIC.length);
  return MAGIC.every((byte, i) => start[i] === byte);
}

/** From what a person or a program names to a place on this machine: a path, a model of the hub (fetched where it is not here), one of Ollama's. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { isGgufFile } from "../gguf/is-gguf-file.ts";
import { firstOfGgufs } from "../gguf/split-names.ts";
import { isTokenizerFile, isWeightsFile } from "./model-file-names.ts";
import type { PullOptions } from "./pull.ts";

export interface LocateOptions extends Pick<PullOptions, "signal" | "onProgress" | "onConfig" | "onNote"> {
  /** What must be there. */
  weights?: boolean;
  tokenizer?: boolean;
  /** Nothing is fetched. */
  offline?: boolean;
}

/** Where something is on this machine. */
export interface Located {
  readonly path: string;
  /** It is a GGUF file, by its first bytes. */
  readonly gguf: boolean;
  /** The commit, of a model of the hub. */
  readonly commit?: string;
}

/** The GGUF file of a folder in which nothing else has what is wanted, as repositories of such files are; null where there is none, or more than one could be meant. */
function ggufIn(place: string, { weights }: LocateOptions): string | null {
  let names: string[];
  try {
    if (!statSync(place).isDirectory()) return null;
    names = readdirSync(place);
  } catch {
    // Whoever opens it says why.
    return null;
  }
  if (names.some(weights === true ? isWeightsFile : isTokenizerFile)) return null;
  const first = firstOfGgufs(names);
  return first === null ? null : join(place, first);
}

/**
 * Finds a model or tokenizer. A path that exists wins over an id, and a model in the cache is opened as it is: `pullModel` is what looks for a newer commit. What is
 * neither is given back as the path it may have been meant as.
 *
 * @throws ConfigError for an id that is not here and may not be fetched, HubError where the hub does not give it
 */
export async function locate(place: string, options: LocateOptions): Promise<Located> {
  if (existsSync(place)) {
    const inside = ggufIn(place, options);
    if (inside !== null && (await isGgufFile(inside))) return { path: inside, gguf: true };
    return { path: place, gguf: await isGgufFile(place) };
  }
  const { locateModel } = await import("./locate-model.ts");
  return locateModel(place, options);
}

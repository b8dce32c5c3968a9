/**
 * Models that Ollama has on this machine: a manifest for each name and tag, as registries of containers have them, whose layers are blobs by SHA-256; one layer is
 * a GGUF file.
 *
 * Source: https://github.com/ollama/ollama/blob/main/docs/faq.md (where the folder is), the layout of its manifests
 */
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { didYouMean } from "../../did-you-mean.ts";
import { ConfigError, FormatError } from "../../errors.ts";
import { parseJson } from "../json.ts";
import { filesBelow, readError } from "../node-file.ts";
import { sizeOf } from "./cache.ts";

/** What stands before a name of Ollama's. */
export const OLLAMA = "ollama:";

export interface OllamaModel {
  /** As Ollama lists it: `llama3.2:1b`. */
  readonly name: string;
  /** Its GGUF file. */
  readonly path: string;
  readonly bytes: number;
}

const MANIFEST = z.object({ layers: z.array(z.object({ mediaType: z.string(), digest: z.string() })) });
const MODEL_LAYER = "application/vnd.ollama.image.model";
const DEFAULT_HOST = "registry.ollama.ai";

function folders(): string[] {
  if (process.env.OLLAMA_MODELS) return [process.env.OLLAMA_MODELS];
  // Where Linux runs it as a service, its user's home is elsewhere.
  return [join(homedir(), ".ollama", "models"), "/usr/share/ollama/.ollama/models"].filter((folder) => existsSync(folder));
}

/** What is there, by name. What can't be read is left out, and said to `unreadable`. */
export async function ollamaModels(unreadable: (error: Error) => void): Promise<OllamaModel[]> {
  const found: OllamaModel[] = [];
  async function add(folder: string, parts: readonly string[], manifest: string): Promise<void> {
    const path = join(folder, "blobs", (await modelLayer(manifest)).replace(":", "-"));
    const bytes = await sizeOf(path);
    if (bytes !== null) found.push({ name: nameOf(parts), path, bytes });
  }
  for (const folder of folders()) {
    const manifests = join(folder, "manifests");
    try {
      for (const name of await filesBelow(manifests)) {
        const parts = name.split("/");
        if (parts.length >= 4) await add(folder, parts, join(manifests, name)).catch(unreadable);
      }
    } catch (error) {
      unreadable(error as Error);
    }
  }
  return found.sort((a, b) => a.name.localeCompare(b.name));
}

/** `registry.ollama.ai/library/llama3.2/1b` is `llama3.2:1b`; others keep their host. */
function nameOf(parts: readonly string[]): string {
  const path = parts.slice(0, -1);
  const shown = path[0] === DEFAULT_HOST ? path.slice(path[1] === "library" ? 2 : 1) : path;
  return `${shown.join("/")}:${parts.at(-1)}`;
}

/** The digest of a manifest's model. @throws FormatError for what is no manifest */
async function modelLayer(manifest: string): Promise<string> {
  const read = fs.readFile(manifest, "utf8").catch((cause) => {
    throw readError(manifest, cause);
  });
  const { success, data } = MANIFEST.safeParse(parseJson(await read, manifest));
  const digest = data?.layers.find(({ mediaType }) => mediaType === MODEL_LAYER)?.digest ?? "";
  if (success && /^sha256:[0-9a-f]{64}$/.test(digest)) return digest;
  throw new FormatError(`${manifest}: no manifest of a model, expected a layer ${MODEL_LAYER} with a SHA-256 digest, got none. Pull the model again.`);
}

/** The GGUF file of `ollama:name` or `ollama:name:tag`. @throws ConfigError where Ollama has no such model here */
export async function ollamaFile(place: string): Promise<string> {
  const name = place.slice(OLLAMA.length);
  const unreadable: Error[] = [];
  const models = await ollamaModels((error) => unreadable.push(error));
  const found = models.find((model) => model.name === name || model.name === `${name}:latest`);
  if (found !== undefined) return found.path;
  const names = models.map((model) => model.name);
  throw new ConfigError(
    `${place}: Ollama has no such model here, expected one of ${names.join(", ") || `those in ${folders().join(" and ") || "its folder, which is not there"}`}, got "${name}".${didYouMean(name, names)} Run "ollama pull ${name}", or choose another.${unreadable.map(({ message }) => `\n${message}`).join("")}`,
  );
}

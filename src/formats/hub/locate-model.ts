/** What is no path: models of the hub, fetched where they are not here, and of Ollama. Loaded only for such, since it brings the hub's client (locate.ts). */
import { existsSync, readdirSync, statSync } from "node:fs";
import * as fs from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { didYouMean } from "../../did-you-mean.ts";
import { ConfigError, HubError } from "../../errors.ts";
import { isGgufFile } from "../gguf/is-gguf-file.ts";
import { firstOfGgufs } from "../gguf/split-names.ts";
import { isJsonObject, parseJson } from "../json.ts";
import { whereThere } from "../node-file.ts";
import { INDEX_FILE, PYTORCH_FILE, PYTORCH_INDEX, SINGLE_FILE } from "../safetensors-shards.ts";
import { cachedCommit, cachePlaces, sizeOf } from "./cache.ts";
import { hasPart } from "./choose-files.ts";
import type { Located, LocateOptions } from "./locate.ts";
import { isTokenizerFile } from "./model-file-names.ts";
import { type ModelId, parseModelId } from "./model-id.ts";
import { OLLAMA, ollamaFile } from "./ollama.ts";
import { pullModel } from "./pull.ts";
import { hubSettings } from "./settings.ts";

/** As `locate`, for what does not exist as a path. */
export async function locateModel(place: string, options: LocateOptions): Promise<Located> {
  if (place.startsWith(OLLAMA)) return { path: await ollamaFile(place), gguf: true };
  const id = parseModelId(place);
  if (id === null || isMeantAsPath(place)) return { path: place, gguf: /\.gguf$/i.test(place) };
  const settings = hubSettings(options);
  const here = await cached(settings.cache, id, options);
  if (here !== null) return here;
  if (settings.offline) {
    const part = options.tokenizer === true ? await cached(settings.cache, id, { ...options, tokenizer: false, weights: true }) : null;
    if (part !== null)
      throw new ConfigError(
        `${place}: its tokenizer is not on this machine, expected tokenizer.json or another tokenizer's file in ${part.path}, got weights alone, and --offline (or HF_HUB_OFFLINE) forbids to fetch it. Pull it where there is a connection: groundup pull ${place}.`,
      );
    throw new ConfigError(
      `${place}: not on this machine, expected a file, a folder or a model in ${settings.cache}, got none, and --offline (or HF_HUB_OFFLINE) forbids to fetch it. Pull it where there is a connection: groundup pull ${place}.`,
    );
  }
  const { signal, onProgress, onConfig, onNote, weights = false } = options;
  const given = { ...(signal && { signal }), ...(onProgress && { onProgress }), ...(onConfig && { onConfig }), ...(onNote && { onNote }) };
  const pulled = await pullModel(place, { ...given, need: weights ? "model" : "tokenizer" }).catch((cause) => {
    if (!(cause instanceof HubError)) throw cause;
    throw new HubError(`${cause.message} (There is no file or folder ${place} here, so that it was taken for a model of the hub.)`, { cause });
  });
  const file = pulled.files.find(({ path }) => /\.gguf$/i.test(path));
  const single = id.file !== null ? pulled.files[0] : pulled.files.some(({ path }) => path === "config.json") ? undefined : file;
  const path = single === undefined ? pulled.folder : join(pulled.folder, single.path);
  return { path, gguf: await isGgufFile(path), commit: pulled.commit };
}

/** Whether a name that could be an id was typed for a path: it ends as files do, or something like it lies where it would be. */
function isMeantAsPath(place: string): boolean {
  if (/^[^:]*\.(gguf|json|safetensors|model|tiktoken|txt|bin|pt|ya?ml)$/i.test(place)) return true;
  const parent = dirname(place);
  return existsSync(parent) && statSync(parent).isDirectory() && didYouMean(basename(place), readdirSync(parent)) !== "";
}

/** What the cache has of an id, where that is whole. */
async function cached(cache: string, id: ModelId, { weights, tokenizer }: LocateOptions): Promise<Located | null> {
  const places = cachePlaces(cache, id.repo);
  const commit = await cachedCommit(places, id.revision ?? "main");
  if (commit === null) return null;
  const folder = places.snapshot(commit);
  const names = await whereThere(folder, fs.readdir(folder, { recursive: true }), []);
  const there: string[] = [];
  for (const name of names) if ((await sizeOf(join(folder, name))) !== null) there.push(name);
  const file = (name: string): Located => ({ path: join(folder, name), gguf: true, commit });
  const ggufs = there.filter((name) => /\.gguf$/i.test(name));
  if (id.file !== null) {
    const wanted = id.file;
    const found = there.includes(wanted) ? wanted : firstOfGgufs(ggufs.filter((name) => hasPart(name, wanted)));
    return found === null ? null : { ...file(found), gguf: await isGgufFile(join(folder, found)) };
  }
  const whole = (weights !== true || (await hasWeights(folder, there))) && (tokenizer !== true || there.some(isTokenizerFile));
  if (whole) return { path: folder, gguf: false, commit };
  const first = there.includes("config.json") ? null : firstOfGgufs(ggufs);
  return first === null ? null : file(first);
}

/** config.json with all the weights that its index, where there is one, names. */
async function hasWeights(folder: string, there: readonly string[]): Promise<boolean> {
  if (!there.includes("config.json")) return false;
  if (there.some((name) => name === SINGLE_FILE || name === PYTORCH_FILE)) return true;
  const index = [INDEX_FILE, PYTORCH_INDEX].find((name) => there.includes(name));
  if (index === undefined) return false;
  const json = parseJson(await fs.readFile(join(folder, index), "utf8"), join(folder, index));
  const map = isJsonObject(json) ? json.weight_map : undefined;
  return isJsonObject(map) && Object.values(map).every((name) => typeof name === "string" && there.includes(name));
}

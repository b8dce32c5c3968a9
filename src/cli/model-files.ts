/** What `convert` and `quantize` share: opening a model's parts without loading it, and never overwriting by accident. */
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, isAbsolute, join, relative, resolve } from "node:path";
import { ConfigError, GroundupError } from "../errors.ts";
import { isGgufFile, isJsonObject, openFile, openGgufFiles, parseConfigText, readText } from "../formats/index.ts";
import { generate } from "../generate/index.ts";
import { type CausalLM, fromPretrained, openWeights, type WeightSource } from "../models/index.ts";
import { argmax, noGrad, scope, tensorFrom } from "../tensor/index.ts";
import { loadTokenizer, type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { checkFolderOf, findModel, isCheckpointFile, type OpenModelOptions, placeOf } from "./open-model.ts";

/** A model's parts, on the disk. */
export interface ModelFiles {
  /** The folder or file. */
  readonly path: string;
  readonly weights: WeightSource;
  readonly tokenizer: Tokenizer | null;
  readonly chatTemplate: string | null;
  /** The text of generation_config.json, where there is one. */
  readonly generationConfig: string | null;
  /** What to call the model. */
  readonly name: string;
}

/**
 * @param place a path, or a model of the hub or of Ollama's
 * @throws ConfigError where nothing is, FormatError for damaged files, HubError for a model that can't be fetched
 */
export async function openModelFiles(place: string, log: (line: string) => void, options: Pick<OpenModelOptions, "offline"> = {}): Promise<ModelFiles> {
  const found = await placeOf(place, log, { weights: true, tokenizer: true, ...options });
  const gguf = await isGgufFile(found);
  const path = gguf ? found : await findModel(found, "MODEL");
  // The weights first: what is damaged or no model is told once, not as a missing tokenizer too.
  const weights = await openWeights(path);
  try {
    const tokenizer = await tokenizerOf(path, log);
    const beside = gguf ? await fromMetadata(path) : await fromFolder(path);
    // A snapshot's folder is called by its commit, and a blob of Ollama's by its hash.
    const called = found === place ? basename(resolve(place)).replace(/\.gguf$/i, "") : place;
    return { path, weights, tokenizer, ...beside, name: beside.name ?? called };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

async function tokenizerOf(path: string, log: (line: string) => void): Promise<Tokenizer | null> {
  if (isCheckpointFile(path)) {
    log(`no tokenizer: ${path} is a checkpoint of PyTorch's, which has none`);
    return null;
  }
  return loadTokenizer(path).catch((error) => {
    if (!(error instanceof GroundupError)) throw error;
    log(`no tokenizer: ${error.message}`);
    return null;
  });
}

type Beside = Pick<ModelFiles, "chatTemplate" | "generationConfig"> & { name: string | null };

async function fromMetadata(path: string): Promise<Beside> {
  const reader = await openGgufFiles(path);
  await reader.close();
  const text = (key: string): string | null => {
    const found = reader.metadata.get(key);
    return found?.kind === "string" ? found.value : null;
  };
  return { chatTemplate: text("tokenizer.chat_template"), generationConfig: null, name: text("general.name") };
}

async function fromFolder(path: string): Promise<Beside> {
  const text = async (name: string): Promise<string | null> => {
    if (!existsSync(join(path, name))) return null;
    const source = await openFile(join(path, name));
    return readText(source, 16 << 20).finally(() => source.close());
  };
  return {
    chatTemplate: (await text("chat_template.jinja")) ?? templateIn(await text("tokenizer_config.json"), path),
    generationConfig: await text("generation_config.json"),
    name: null,
  };
}

/** `chat_template` of tokenizer_config.json: one, or several by name, of which "default" is meant. */
function templateIn(config: string | null, path: string): string | null {
  if (config === null) return null;
  const found = parseConfigText(config, join(path, "tokenizer_config.json")).chat_template;
  if (typeof found === "string") return found;
  const named = (Array.isArray(found) ? found : []).filter(isJsonObject).find(({ name }) => name === "default")?.template;
  return typeof named === "string" ? named : null;
}

/** @throws ConfigError where something has the name and `force` is not given, source and target are one, or a file's folder is not there */
export function checkTarget(out: string, source: string, force: boolean, folder: boolean): void {
  if (!folder) checkFolderOf(out, "--out");
  if (resolve(out) === resolve(source)) throw new ConfigError(`--out: the model itself, expected another place, got ${out}. Choose another name.`);
  if (!existsSync(out)) return;
  if (!force) throw new ConfigError(`${out}: already exists, expected a new name, got one in use. Choose another, or add --force to replace it.`);
  if (statSync(out).isDirectory() !== folder)
    throw new ConfigError(
      `${out}: of another kind, expected ${folder ? "a folder" : "a file"} to replace, got ${folder ? "a file" : "a folder"}. Choose another name.`,
    );
  if (folder) checkReplaced(out, source);
}

/** A folder goes with all that is in it. @throws ConfigError where that is more than a model, or the source */
function checkReplaced(out: string, source: string): void {
  const inside = relative(realpathSync(out), realpathSync(source));
  if (!inside.startsWith("..") && !isAbsolute(inside))
    throw new ConfigError(`--out ${out}: the model lies in it, expected another place, got the folder of ${source}. Choose another name.`);
  const entries = readdirSync(out, { withFileTypes: true });
  if (entries.length === 0) return;
  const below = entries.find((entry) => entry.isDirectory());
  if (below !== undefined || !entries.some(({ name }) => name === "config.json"))
    throw new ConfigError(
      `--out ${out}: more than a model, expected a folder of files with config.json to replace, got ${below === undefined ? "one without config.json" : `one with the folder ${below.name}`}. Choose another name, or empty it.`,
    );
}

/** Tokens that are compared. */
const COMPARED = 32;

/** How a written model follows the source's own greedy text. */
export interface Comparison {
  agree: number;
  of: number;
}

/**
 * The source's 32 greedy tokens (or as many as its context has room for) after a short prompt, and how many of them the other model would choose too, each after the same ones before it. Both are loaded, one after
 * the other.
 */
export async function compareGreedy(source: string, written: string, tokenizer: Tokenizer | null): Promise<Comparison> {
  const prompt = tokenizer === null ? Int32Array.of(1) : tokenizer.encode("The", WHOLE).ids;
  const of = async <T>(path: string, use: (model: CausalLM) => Promise<T>): Promise<T> => {
    const model = await fromPretrained(path);
    return use(model).finally(() => model.dispose());
  };
  const ids = [...(await of(source, (model) => generate(model, prompt, { maxNewTokens: COMPARED, temperature: 0, stopIds: [] }))).ids];
  // Nothing comes after the last one, so it need not be read, and a full context has no room for it.
  const chosen = await of(written, async (model) => choices(model, [...prompt, ...ids.slice(0, -1)]).slice(prompt.length - 1));
  return { agree: ids.filter((id, i) => id === chosen[i]).length, of: ids.length };
}

/** For each place the likeliest next token. */
function choices(model: CausalLM, ids: readonly number[]): number[] {
  return scope(() =>
    noGrad(() => ({ ids: [...(argmax(model.forward({ inputIds: tensorFrom(Int32Array.from(ids), [1, ids.length]) }).logits, -1).dataSync() as Int32Array)] })),
  ).ids;
}

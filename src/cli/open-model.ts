/** Finds and opens the model that a command line names: a Hugging Face folder, a checkpoint, or a run. */
import { closeSync, existsSync, lstatSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { didYouMean } from "../did-you-mean.ts";
import { ConfigError, FormatError } from "../errors.ts";
import { isGgufFile } from "../formats/gguf/is-gguf-file.ts";
import { type LocateOptions, locate } from "../formats/hub/locate.ts";
import { isJsonObject, listCheckpoints, openFolder, parseJson, readGenerationConfig, verifyCheckpoint } from "../formats/index.ts";
import { endIds, type SpeculationOptions } from "../generate/index.ts";
import { checkArchitecture } from "../models/auto.ts";
import { type CausalLM, fromPretrained, type OpenOptions } from "../models/index.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizers/index.ts";
import { createTransferLine } from "./transfer-line.ts";

export interface OpenedModel {
  model: CausalLM;
  tokenizer: Tokenizer;
  /** The folder that holds the weights, or the GGUF file. */
  folder: string;
  /** Ids that end a text, as config.json, generation_config.json and the tokenizer say. */
  stopIds: number[];
}

/** The flags of every command that takes a MODEL. */
export const DTYPE_FLAG = "f32: a GGUF file's quantised matrices become float32 (by default they multiply integers)";
export const DRAFT_FLAG = "guess tokens ahead, the text is the same: prompt-lookup, or a smaller model with the same vocabulary";
export const STATE_DTYPE_FLAG = "what keys and values are kept as; f16 takes half the memory and rounds them";
export const CHECKPOINT_FLAG = "of a run: best (on validation, the default where there was one), last, or a step's number";
export const OFFLINE_FLAG = "fetch nothing: the model must be on this machine";
export const MODEL_ARGUMENT = {
  name: "MODEL",
  description:
    "a Hugging Face model folder, a GGUF file, a run's folder, one of its checkpoints, or a model of the hub (org/name, org/name:file.gguf) or Ollama's (ollama:name)",
} as const;

/** How a named model is looked for, and opened. */
export type OpenModelOptions = Pick<LocateOptions, "offline" | "signal"> &
  OpenOptions & {
    /** The flag that names it, where it is not the argument MODEL. */
    readonly what?: string;
  };

/**
 * @param log receives what is odd about the model but no error
 * @throws ConfigError for a path that holds no model or for another model's tokenizer, FormatError for damaged files, HubError for a model that can't be fetched
 */
export async function openModel(
  path: string,
  checkpoint: string | undefined,
  log: (line: string) => void,
  options: OpenModelOptions = {},
): Promise<OpenedModel> {
  const { dtype, what = "MODEL", ...where } = options;
  const folder = await findModel(await placeOf(path, log, { weights: true, tokenizer: true, ...where }), what, checkpoint);
  // What a checkpoint's list says of its files, as --resume checks it: a few changed bytes make a model that only writes worse.
  if (existsSync(join(folder, "files.json"))) await verifyCheckpoint(folder, { hashes: true });
  if (isCheckpointFile(folder))
    throw new ConfigError(
      `${folder}: a checkpoint without a tokenizer, expected a model with one, got PyTorch's weights alone. Make a folder of it with groundup convert ${folder} --to hf --out FOLDER, and put its tokenizer there.`,
    );
  const model = await fromPretrained(folder, dtype === undefined ? {} : { dtype });
  const tokenizer = await loadTokenizer(folder);
  const { vocabulary } = model.dimensions;
  if (tokenizer.vocabSize > vocabulary) {
    throw new ConfigError(
      `${folder}: model and tokenizer do not belong together, expected a vocabulary of at most the model's ${vocabulary} tokens, got ${tokenizer.vocabSize}. Use the tokenizer that the model was trained with.`,
    );
  }
  // Vocabularies are padded to a round size: a few ids, or a few in a hundred.
  if (vocabulary - tokenizer.vocabSize > Math.max(256, vocabulary / 10))
    log(
      `${folder}: the tokenizer knows ${tokenizer.vocabSize} of the model's ${vocabulary} tokens, and more are missing than padding explains. If the text makes no sense, use the tokenizer that the model was trained with.`,
    );
  return { model, tokenizer, folder, stopIds: await stopIdsOf(folder, model, tokenizer) };
}

/** What `--draft` asks for. */
export async function speculationOf(
  draft: string | undefined,
  log: (line: string) => void,
  opening: OpenModelOptions,
): Promise<SpeculationOptions | undefined> {
  if (draft === undefined) return undefined;
  return { draft: draft === "prompt-lookup" ? draft : (await openModel(draft, undefined, log, { ...opening, what: "--draft" })).model };
}

/** The path that a name means: itself, or where a model of the hub or of Ollama's lies. What must be fetched is shown as it comes. */
export async function placeOf(name: string, log: (line: string) => void, options: LocateOptions): Promise<string> {
  const line = createTransferLine();
  let begun = false;
  try {
    const { path } = await locate(name, {
      ...options,
      ...(options.weights === true ? { onConfig: checkArchitecture } : {}),
      onProgress(progress) {
        if (!begun) log(`${name} is fetched from the hub`);
        begun = true;
        line.show(progress);
      },
      onNote(sentence) {
        line.clear();
        log(sentence);
      },
    });
    return path;
  } finally {
    line.clear();
  }
}

/** The folder with config.json and weights, or the GGUF file, that a path means. @param what the flag or argument that names it */
export async function findModel(path: string, what: string, checkpoint?: string): Promise<string> {
  checkPath(path, what);
  const single = (await isGgufFile(path)) || isCheckpointFile(path) ? "one file" : existsSync(join(path, "config.json")) ? "config.json" : null;
  if (single !== null) {
    if (checkpoint !== undefined)
      throw new ConfigError(`${path}: a single model, expected a run's folder with --checkpoint, got ${single}. Leave --checkpoint out.`);
    return path;
  }
  const root = join(path, "checkpoints");
  const steps = await listCheckpoints(root);
  if (steps.length === 0) {
    const run = existsSync(join(path, "config.yaml"));
    throw new ConfigError(
      run
        ? `${path}: a run without a checkpoint yet, expected checkpoints/step-…, got none. Wait for the first one, or go on with the run by pretrain ${path} --resume.`
        : `${what} ${path}: no model here, expected a folder with config.json and model.safetensors, a GGUF file, or a run's folder with checkpoints, got ${isFolder(path) ? list(readdirSync(path)) : kindOfFile(path)}. ${adviceOn(path)}`,
    );
  }
  const last = steps[steps.length - 1].path;
  const best = bestOf(path);
  if (checkpoint === undefined) return best !== null && existsSync(best) ? best : last;
  if (checkpoint === "last") return last;
  if (checkpoint === "best") {
    if (best === null || !existsSync(best))
      throw new ConfigError(
        `${path}: no best checkpoint, expected best.json and the checkpoint it names, got ${best ?? "no best.json"}. Take --checkpoint last.`,
      );
    return best;
  }
  const wanted = Number(checkpoint.replace(/^step-/, ""));
  const found = steps.find(({ step }) => step === wanted);
  if (found === undefined)
    throw new ConfigError(
      `${path}: no such checkpoint, expected best, last or one of ${steps.map(({ step }) => step).join(", ")}, got "${checkpoint}".${didYouMean(checkpoint, ["best", "last"])} Correct --checkpoint.`,
    );
  return found.path;
}

/** A file of PyTorch's with weights and config, as nanoGPT writes it. */
export const isCheckpointFile = (path: string): boolean => /\.(pt|pth|ckpt)$/i.test(path) && statSync(path).isFile();

/** How files begin that people take for models. */
const BEGINNINGS: [bytes: string, kind: string][] = [
  ["PK\x03\x04", "a zip or PyTorch file"],
  ["\x80", "a Python pickle"],
  ["\x89PNG", "a PNG picture"],
  ["\xff\xd8", "a JPEG picture"],
  ["%PDF", "a PDF document"],
];

/** What a file is, in words. */
function kindOfFile(path: string): string {
  if (path.endsWith(".safetensors")) return "one file of weights";
  const start = Buffer.alloc(8);
  const file = openSync(path, "r");
  try {
    readSync(file, start);
  } finally {
    closeSync(file);
  }
  return BEGINNINGS.find(([bytes]) => start.toString("latin1").startsWith(bytes))?.[1] ?? "a file";
}

function adviceOn(path: string): string {
  const names = isFolder(path) ? readdirSync(path) : [path];
  if (names.length === 0) return "Check the path.";
  if (!isFolder(path) && path.endsWith(".gguf")) return "It does not begin as a GGUF file does: it is damaged, or another file has its name. Fetch it again.";
  const gguf = names.find((name) => name.endsWith(".gguf"));
  if (gguf !== undefined) return `Name the file itself: ${join(path, gguf)}.`;
  if (names.some((name) => /\.(bin|safetensors)$/.test(name)))
    return `Weights need the config.json that came with them: ${isFolder(path) ? "put it into the folder" : "name the folder that has both"}.`;
  const checkpoint = names.find((name) => /\.(pt|pth|ckpt)$/.test(name));
  if (checkpoint !== undefined) return `Name the checkpoint itself: ${join(path, checkpoint)}.`;
  return "Name the folder.";
}

/** @throws ConfigError when nothing is there, with the nearest name that is @param what the flag or argument that names it */
export function checkPath(path: string, what: string): void {
  if (existsSync(path)) return;
  const where = `${what} ${path || '""'}`;
  if (isLink(path))
    throw new ConfigError(`${where}: not found, expected a file or folder, got a link to ${readlinkSync(path)}, which leads nowhere. Mend the link.`);
  const parent = dirname(path);
  const beside = isFolder(parent) ? readdirSync(parent) : [];
  const runs = isFolder("runs") ? readdirSync("runs").map((name) => join("runs", name)) : [];
  const hint =
    didYouMean(basename(path), beside) ||
    didYouMean(
      basename(path),
      runs.map((r) => basename(r)),
    );
  const suggestion =
    hint === "" ? "" : ` Did you mean "${beside.some((name) => hint.includes(`"${name}"`)) ? join(parent, nameIn(hint)) : join("runs", nameIn(hint))}"?`;
  const hub = (what === "MODEL" || what === "PATH") && suggestion === "" ? hubHint(path) : "";
  throw new ConfigError(
    `${where}: not found, expected a file or folder, got nothing at this path.${suggestion}${hub}${runs.length > 0 && suggestion === "" ? ` There are ${list(runs)}.` : ""} Check the path.`,
  );
}

/** How the hub's models are named, where a path looks like the address or the name of one. */
function hubHint(path: string): string {
  const id = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+)/.exec(path)?.[1];
  if (id !== undefined) return ` A model of the hub goes by its id: "${id}".`;
  return /^[\w.-]+$/.test(path) ? ` A model of the hub goes by its id, "org/name": groundup models --search ${path} shows those that are known.` : "";
}

/** For a file that is to be written. @throws ConfigError where its folder is not there: a misspelt one is not made @param name what is to be corrected */
export function checkFolderOf(file: string, name: string): void {
  const parent = dirname(resolve(file));
  if (isFolder(parent)) return;
  throw new ConfigError(`${file}: its folder does not exist, expected one to write into, got ${parent}. Make it, or correct ${name}.`);
}

/** No where the system refuses to look: below a file or a circle of links, or at a name that is too long. */
function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

const nameIn = (hint: string): string => /"(.*)"/.exec(hint)?.[1] ?? "";
const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory();
const list = (names: readonly string[]): string => (names.length === 0 ? "an empty folder" : names.slice(0, 6).join(", ") + (names.length > 6 ? ", …" : ""));

function bestOf(run: string): string | null {
  const file = join(run, "best.json");
  if (!existsSync(file)) return null;
  const json = parseJson(readFileSync(file, "utf8"), file);
  const name = isJsonObject(json) ? json.checkpoint : undefined;
  if (typeof name !== "string" || !/^checkpoints\/step-[0-9]+$/.test(name))
    throw new FormatError(
      `${file}: unknown content, expected { "checkpoint": "checkpoints/step-…" }, got ${JSON.stringify(json).slice(0, 80)}. Take --checkpoint last.`,
    );
  return join(run, name);
}

async function stopIdsOf(folder: string, model: CausalLM, tokenizer: Tokenizer): Promise<number[]> {
  const generation = (await isGgufFile(folder)) ? null : await readGenerationConfig(openFolder(folder));
  const ends = [model.tokenIds.eos_token_id, generation?.eos_token_id].flatMap((ids) => ids ?? []);
  return [...new Set([...endIds(tokenizer), ...ends])];
}

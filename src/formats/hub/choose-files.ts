/** Which of a model's files are fetched: what groundup and transformers open a model with, and its weights in one format. */
import { didYouMean } from "../../did-you-mean.ts";
import { ConfigError, HubError } from "../../errors.ts";
import { byteSize } from "../../quantities.ts";
import type { HubFile } from "./api.ts";

/** What a pull is for. */
export type Need = "model" | "tokenizer";

export interface Choice {
  /** Patterns (`*.json`, `onnx/*`) in place of the default choice; `*` stands for any characters, `/` among them. */
  readonly include?: readonly string[];
  /** Patterns of what is left out. */
  readonly exclude?: readonly string[];
  /** A file, or a part of a GGUF file's name. */
  readonly file?: string | null;
  readonly need?: Need;
}

/** Beside the weights: configs, tokenizers, chat templates, licences; of sentence-transformers its steps. */
const SMALL = [
  /^[^/]+\.(json|model|tiktoken|jinja)$/,
  /^(vocab\.txt|merges\.txt|vocab\.bpe)$/,
  /^(LICEN[CS]E|NOTICE|USE_POLICY)[^/]*$/i,
  /^(\d+_\w+|additional_chat_templates)\/[^/]+\.(json|jinja)$/,
];
/** Indexes of shards belong to their weights, and what is left of training to nobody. */
const NOT_SMALL = /(\.index\.json|^(trainer_state|all_results|train_results|eval_results)\.json)$/;

const SHARD = /-\d{5}-of-(\d{5})(?=\.\w+$)/;

/**
 * The files to fetch.
 * @throws ConfigError where several GGUF files stand to choice, or nothing fits
 */
export function chooseFiles(files: readonly HubFile[], choice: Choice, where: string): HubFile[] {
  const { include = [], exclude = [], file = null, need = "model" } = choice;
  if (include.length > 0 && file !== null)
    throw new ConfigError(`${where}: two choices, expected one of :file and --include, got :${file} and ${include.join(", ")}. Leave one out.`);
  const [wanted, unwanted] = [include.map(globPattern), exclude.map(globPattern)];
  const left = files.filter(({ path }) => !unwanted.some((pattern) => pattern.test(path)));
  const chosen =
    wanted.length > 0
      ? left.filter(({ path }) => wanted.some((pattern) => pattern.test(path)))
      : file !== null
        ? namedFile(left, file, where)
        : usual(left, need, where);
  if (chosen.length === 0) {
    const there = files.map(({ path }) => path);
    throw new ConfigError(
      `${where}: nothing to fetch, expected files that ${include.length > 0 ? `match ${include.join(", ")}` : "make a model"}, got ${listed(there)}. ${include.length > 0 ? "Correct --include or --exclude." : "Choose with --include."}`,
    );
  }
  return chosen;
}

/** As Python's fnmatch: `*` any characters, `?` one, `[ab]` one of these, `[!ab]` one of none; a pattern that ends in `/` is a whole folder. */
export function globPattern(glob: string): RegExp {
  const text = glob.endsWith("/") ? `${glob}*` : glob;
  const source = text.replace(/\[!?[^\]]+\]|\*+|\?|[\\^$.|+(){}[\]]/g, (found) => {
    if (found.startsWith("*")) return "[^]*";
    if (found === "?") return "[^]";
    if (found.length > 2) return `[${found.slice(1, -1).replace(/^!/, "^").replaceAll("\\", "\\\\")}]`;
    return `\\${found}`;
  });
  try {
    return new RegExp(`^${source}$`);
  } catch {
    throw new ConfigError(`--include, --exclude: not a pattern, expected one such as *.json or onnx/*, got ${JSON.stringify(glob)}. Correct it.`);
  }
}

function usual(files: readonly HubFile[], need: Need, where: string): HubFile[] {
  const small = files.filter(({ path }) => SMALL.some((pattern) => pattern.test(path)) && !NOT_SMALL.test(path));
  const weights = need === "model" ? weightsOf(files) : [];
  const ggufs = ggufGroups(files);
  const bare = need === "model" ? weights.length === 0 : !small.some(({ path }) => /^(tokenizer\.|vocab\.|encoder\.|spiece\.)|\.tiktoken$/.test(path));
  if (bare && ggufs.size > 0) return oneGguf(ggufs, where);
  return [...small, ...weights];
}

/** safetensors, or PyTorch's files where there are none; one set of them. */
function weightsOf(files: readonly HubFile[]): HubFile[] {
  for (const [single, ending] of [
    ["model", "safetensors"],
    ["pytorch_model", "bin"],
  ]) {
    const all = files.filter(({ path }) => !path.includes("/") && path.endsWith(`.${ending}`));
    const of = (fits: (path: string) => boolean) => all.filter(({ path }) => fits(path));
    const adapters = of((path) => path === `adapter_model.${ending}`);
    const whole = of((path) => path === `${single}.${ending}`);
    const shards = of((path) => path.startsWith(`${single}-`) && SHARD.test(path));
    const main = whole.length > 0 ? whole : shards.length > 0 ? shards : adapters.length > 0 ? [] : all;
    const index = main === whole ? [] : files.filter(({ path }) => path === `${single}.${ending}.index.json`);
    if (main.length + adapters.length > 0) {
      const steps = files.filter(({ path }) => new RegExp(`^\\d+_\\w+/model\\.${ending}$`).test(path));
      return [...index, ...main, ...adapters, ...steps];
    }
  }
  return [];
}

/** GGUF files by name; the parts of one that is split count as one. Projectors of pictures are no models of their own. */
function ggufGroups(files: readonly HubFile[]): Map<string, HubFile[]> {
  const groups = new Map<string, HubFile[]>();
  for (const file of files) {
    if (!/\.gguf$/i.test(file.path) || /(^|\/)mmproj/i.test(file.path)) continue;
    const name = file.path.replace(SHARD, "");
    groups.set(name, [...(groups.get(name) ?? []), file]);
  }
  return groups;
}

function oneGguf(groups: ReadonlyMap<string, HubFile[]>, where: string): HubFile[] {
  if (groups.size === 1) return [...groups.values()][0];
  const lines = [...groups.values()].map((files) => `  ${files[0].path}  ${byteSize(files.reduce((sum, { bytes }) => sum + bytes, 0))}`);
  throw new ConfigError(
    `${where}: several GGUF files, expected one to be named, got ${groups.size} of them. Name one as ${where.split(/[@:]/)[0]}:FILE, or with --include:\n${lines.join("\n")}`,
  );
}

/** Whether a GGUF file's name has a part as its own word: `Q4_K` is none of `m-Q4_K_M.gguf`. */
export function hasPart(path: string, part: string): boolean {
  return new RegExp(`(^|[^a-z0-9])${part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")}([^a-z0-9_]|$)`, "i").test(path);
}

/** A file by its whole name, or the GGUF file that alone has these letters in its name. */
function namedFile(files: readonly HubFile[], name: string, where: string): HubFile[] {
  const groups = ggufGroups(files);
  const exact = files.find(({ path }) => path === name);
  if (exact !== undefined) return groups.get(name.replace(SHARD, "")) ?? [exact];
  const found = [...groups].filter(([path]) => hasPart(path, name));
  if (found.length === 1) return found[0][1];
  const names = files.map(({ path }) => path);
  throw new ConfigError(
    `${where}: ${found.length === 0 ? "no such file" : "more than one such file"}, expected one of the model's, got ${JSON.stringify(name)}.${didYouMean(name, names)} There are ${listed(found.length === 0 ? names : found.map(([path]) => path))}.`,
  );
}

const listed = (names: readonly string[]): string =>
  names.length === 0 ? "no files" : names.slice(0, 40).join(", ") + (names.length > 40 ? ` and ${names.length - 40} more` : "");

/** Refuses two files of which one's name is a folder of the other's. */
export function checkTogether(files: readonly HubFile[], where: string): void {
  const paths = new Set(files.map(({ path }) => path));
  for (const path of paths)
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1))
      if (paths.has(path.slice(0, at)))
        throw new HubError(
          `${where}: files in each other's way, expected a file or a folder, got ${JSON.stringify(path.slice(0, at))} as both. Choose with --include.`,
        );
}

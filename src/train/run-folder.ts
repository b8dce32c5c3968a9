/**
 * A run on disk:
 *   config.yaml     the recipe, complete       manifest.json   versions, data hashes, host
 *   metrics.jsonl   one line a step            samples.jsonl   texts written on the way
 *   tokenizer/, data/train, data/validation    what the text became
 *   checkpoints/step-000500/                   Hugging Face folder + training/
 *   best.json, report.html, lock               baseline.json   what the model is compared with, where something is
 */
import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { stringify } from "yaml";
import * as z from "zod";
import { RunError } from "../errors.ts";
import { makeFolder } from "../formats/atomic-write.ts";
import { parseConfig, parseConfigText } from "../formats/hf-config.ts";
import { removeLeftovers, writeFileAtomic } from "../formats/index.ts";
import { takeLock } from "../formats/process-lock.ts";
import { parseRecipe } from "../formats/recipe.ts";
import { checkOptions } from "../options.ts";
import { differences, type Recipe, recipeSchema, withAbsolutePaths } from "./recipe.ts";

/** One line of metrics.jsonl. */
export interface StepMetrics {
  step: number;
  /** Mean over the step's targets, nats a token. */
  loss: number;
  learning_rate: number;
  /** Before clipping. */
  grad_norm: number;
  /** Targets so far. */
  tokens: number;
  tokens_per_second: number;
  /** Training time so far, over all sittings. */
  seconds: number;
  val_loss?: number;
  val_bits_per_byte?: number | null;
}

/** A text that the model wrote during the run. */
export interface RunSample {
  step: number;
  prompt: string;
  text: string;
}

/** A line as the file has it: that of step 0, the untrained model, has its validation loss only. */
export type LoggedMetrics = Pick<StepMetrics, "step"> & Partial<StepMetrics>;

/** Another model's numbers on the validation text. */
export interface Baseline {
  name: string;
  perplexity: number;
  bitsPerByte: number;
}

/** A run on disk that this process holds: its files, its log, and the lock that keeps others out. */
export interface RunFolder {
  readonly path: string;
  /** A file or folder in it. */
  at(...names: string[]): string;
  readonly recipe: Recipe;
  log(metrics: LoggedMetrics): void;
  logSample(sample: RunSample): void;
  metrics(): LoggedMetrics[];
  /** Keeps what the report compares the model with, for every sitting. */
  saveBaseline(baseline: Baseline): Promise<void>;
  /** Null where there is none. @throws FormatError for a damaged file */
  baseline(): Baseline | null;
  samples(): RunSample[];
  /** Forgets lines of later steps: what a killed run had written after its last checkpoint. */
  rewindTo(step: number): Promise<void>;
  /** Takes away what a run that began here has left so far, and with `close` the folder if that was made for it; one that was resumed stays. */
  clear(): void;
  /** Gives the lock back. */
  close(): void;
}

const LOCK = "lock";
const baselineSchema = z.strictObject({ name: z.string(), perplexity: z.number(), bitsPerByte: z.number() });

/**
 * Opens a run for training: a new folder, or with `resume` one that is there.
 * @throws RunError when the folder holds a run already (without `resume`), none (with it), another recipe, or another process trains there
 */
export async function openRun(path: string, recipe: Recipe, options: { resume?: boolean } = {}): Promise<RunFolder> {
  checkOptions("openRun", options, { resume: true });
  const config = join(path, "config.yaml");
  const exists = fs.existsSync(config);
  if (exists && options.resume !== true) {
    throw new RunError(
      `${path}: there is a run in this folder, expected a new or empty one, got config.yaml. Go on with it by --resume, or choose another folder with --out.`,
    );
  }
  if (!exists && options.resume === true)
    throw new RunError(`${path}: no run to resume, expected config.yaml in the folder, got none. Check --out, or start without --resume.`);
  if (fs.existsSync(path) && !fs.statSync(path).isDirectory())
    throw new RunError(`${path}: a file has this name, expected a new or empty folder for the run, got a file. Choose another with --out.`);
  if (!exists && fs.existsSync(path) && fs.readdirSync(path).some((name) => name !== LOCK && !name.startsWith("."))) {
    throw new RunError(
      `${path}: the folder is not empty, expected a new or empty one, got ${fs.readdirSync(path).slice(0, 5).join(", ")}. Choose another with --out.`,
    );
  }
  const made = missingFolders(path);
  try {
    await makeFolder(path);
  } catch (cause) {
    removeEmpty(made);
    throw new RunError(
      `${path}: the folder can't be made, expected a place that can be written, got ${(cause as NodeJS.ErrnoException).code}. Choose another with --out.`,
      { cause },
    );
  }
  let unlock = () => {};
  try {
    unlock = lock(join(path, LOCK), path);
    if (exists) {
      // Through JSON on both sides: YAML has no undefined.
      const changed = differences(storedRecipe(config), JSON.parse(JSON.stringify(recipe)));
      if (changed.length > 0) {
        throw new RunError(
          `${path}: the recipe has changed, expected the one that the run began with, got\n  ${changed.join("\n  ")}\nResume with the old values (or name the run folder in place of the recipe), or start a new run.`,
        );
      }
    } else {
      await writeFileAtomic(config, stringify(recipe));
    }
    for (const folder of [path, join(path, "checkpoints"), join(path, "data"), join(path, "tokenizer")]) await removeLeftovers(folder);
  } catch (error) {
    unlock();
    removeEmpty(made);
    throw error;
  }
  const clear = () => {
    if (!exists)
      for (const name of fs.readdirSync(path)) if (name !== LOCK && !name.startsWith(".")) fs.rmSync(join(path, name), { recursive: true, force: true });
  };
  const close = () => {
    unlock();
    // Nothing is in it where the start failed: the name is free for the next one.
    removeEmpty(made);
  };
  return { ...readRun(path, recipe), clear, close };
}

/** The folder and those above it that are not there, the deepest first. */
function missingFolders(path: string): string[] {
  const missing: string[] = [];
  for (let at = resolve(path); !fs.existsSync(at) && dirname(at) !== at; at = dirname(at)) missing.push(at);
  return missing;
}

/** Removes folders from the deepest up to the first that holds something. */
function removeEmpty(folders: readonly string[]): void {
  try {
    for (const folder of folders) fs.rmdirSync(folder);
  } catch {
    // Not empty, or gone already: no matter for whoever waits for the reason of the failure.
  }
}

/** As it was written; a key that its version did not have counts as the default, which is how that version did it. Paths of older runs may be relative. */
const storedRecipe = (config: string): Recipe => withAbsolutePaths(parseRecipe(recipeSchema, fs.readFileSync(config, "utf8"), config));

/** A run to look at: its lines and files, without the lock. */
export function readRun(path: string, recipe: Recipe): RunFolder {
  const at = (...names: string[]) => join(path, ...names);
  const append = (name: string, line: object) => {
    try {
      fs.appendFileSync(at(name), `${JSON.stringify(line)}\n`);
    } catch (cause) {
      throw new RunError(
        `${at(name)}: a line could not be added, expected a file with room behind it, got ${(cause as NodeJS.ErrnoException).code}. ` +
          "The checkpoints are still good: free some space or mend the folder, and go on with --resume.",
        { cause },
      );
    }
  };
  return {
    path,
    at,
    recipe,
    log: (metrics) => append("metrics.jsonl", metrics),
    logSample: (sample) => append("samples.jsonl", sample),
    metrics: () => lines(at("metrics.jsonl")),
    samples: () => lines(at("samples.jsonl")),
    saveBaseline: (baseline) => writeFileAtomic(at("baseline.json"), `${JSON.stringify(baseline)}\n`),
    baseline() {
      const file = at("baseline.json");
      return fs.existsSync(file) ? parseConfig(baselineSchema, parseConfigText(fs.readFileSync(file, "utf8"), file), file) : null;
    },
    async rewindTo(step) {
      for (const name of ["metrics.jsonl", "samples.jsonl"]) {
        if (!fs.existsSync(at(name))) continue;
        const kept = lines<{ step: number }>(at(name)).filter((line) => line.step <= step);
        await writeFileAtomic(at(name), kept.map((line) => `${JSON.stringify(line)}\n`).join(""));
      }
    },
    clear: () => {},
    close: () => {},
  };
}

/** The whole lines of a file; the last one may have been cut by a kill. */
function lines<T>(path: string): T[] {
  if (!fs.existsSync(path)) return [];
  return fs
    .readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as T];
      } catch {
        return [];
      }
    });
}

/** Takes the lock or throws; gives the function that frees it. */
function lock(file: string, run: string): () => void {
  const taken = takeLock(file, run, "Choose another with --out.");
  if (typeof taken === "function") return taken;
  throw new RunError(
    `${run}: another process is training in this folder, expected nobody, got process ${taken.pid} on ${taken.host}. Wait for it, stop it, or choose another folder with --out (if it is gone, remove ${file}).`,
  );
}

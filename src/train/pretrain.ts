/** Pre-training from a recipe: opens the run, prepares the data, builds or reloads the model, and runs the loop. */
import * as fs from "node:fs";
import os from "node:os";
import * as z from "zod";
import { dataLoader, packedDocuments, sampledWindows, sequentialWindows, weightedMix } from "../data/index.ts";
import { parseConfig, parseConfigText, writeFileAtomic } from "../formats/index.ts";
import { type CausalLM, createModel, describeModel } from "../models/index.ts";
import { adam, adamw, decayGroups, type Optimizer, rmsprop, sgd } from "../optim/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { backend, manualSeed, memory } from "../tensor/index.ts";
import { type Tokenizer, tokenizerFiles } from "../tokenizers/index.ts";
import { checkSameRecipe, findCheckpoint, loadCheckpoint, removeDamaged, type TrainingState, weightHashes } from "./checkpoint.ts";
import { freshState, type Sampler, type TrainingEvent, type TrainingParts, trainingLoop } from "./loop.ts";
import { checkMemory } from "./plan.ts";
import { checkSameData, type DataHashes, openText, type PreparedData, prepareData } from "./prepare-data.ts";
import { modelConfig, type Recipe, withAbsolutePaths } from "./recipe.ts";
import { openRun, type RunFolder } from "./run-folder.ts";

/** Where a run is written, and how it goes on. */
export interface PretrainOptions {
  /** The run's folder. */
  out: string;
  /** Go on with the run in that folder. */
  resume?: boolean;
  signal?: AbortSignal;
  /** Makes the texts that the recipe's `sample` asks for. Called once, before the text is tokenized: what it can't serve it should refuse then (`checkPrompts`). */
  sampler?: (tokenizer: Tokenizer, recipe: Recipe) => Sampler;
  /** What goes into the manifest as the program's own version. */
  version?: string;
}

const OPTIONS: KnownOptions<PretrainOptions> = { out: true, resume: true, signal: true, sampler: true, version: true };

const sides = z.object({ train: z.number(), validation: z.number() });
/** Null where nobody counted: files of tokens do not say what documents they were, and those to train on are not read through. */
const counted = z.object({ train: z.number().nullable(), validation: z.number().nullable() });

/** File name → SHA-256, as in a checkpoint's files.json. */
const hashes = z.record(z.string(), z.string());

const manifestSchema = z.object({
  groundup: z.string(),
  node: z.string(),
  seed: z.number(),
  data: hashes,
  /** Of the untrained model, and of the one at the end when that is reached. */
  weights: z.object({ initial: hashes.optional(), final: hashes.optional() }).default(() => ({})),
  tokens: sides,
  bytes: counted,
  documents: counted,
  vocabulary: z.number(),
  parameters: z.number(),
  precision: z.enum(["f32", "bf16"]),
  /** `bf16`: what ran the products of a bf16 run; only with the same are its bytes the same. */
  host: z.object({ name: z.string(), cpu: z.string(), backend: z.string(), isa: z.string(), threads: z.number(), bf16: z.string().optional() }),
  started: z.string(),
});

/** `manifest.json` of a run, checked: what made it. */
export type Manifest = z.output<typeof manifestSchema>;

/** A run that is ready to train, with everything a listener may want to look at. */
export interface PretrainSession {
  readonly run: RunFolder;
  readonly recipe: Recipe;
  readonly data: PreparedData;
  readonly model: CausalLM;
  readonly parts: TrainingParts;
  readonly manifest: Manifest;
  readonly state: TrainingState;
  /** The folder that the state came from; null for a run that begins. */
  readonly checkpoint: string | null;
  /** Sentences from the preparation. */
  readonly notes: readonly string[];
  train(): AsyncGenerator<TrainingEvent>;
  /** Frees the model, closes the files, gives the lock back. */
  close(): Promise<void>;
}

/** The optimiser that a recipe names, over the model's parameters, matrices alone with weight decay. */
export function optimizerOf(recipe: Recipe, model: CausalLM): Optimizer {
  const { optimizer, learning_rate: lr, betas, eps, momentum, nesterov, alpha, weight_decay: weightDecay, max_grad_norm } = recipe.training;
  const groups = decayGroups(model, weightDecay);
  // Infinity measures the norm for the record without clipping.
  const maxGradNorm = max_grad_norm ?? Number.POSITIVE_INFINITY;
  switch (optimizer) {
    case "adamw":
      return adamw(groups, { lr, betas, eps, maxGradNorm });
    case "adam":
      return adam(groups, { lr, betas, eps, maxGradNorm });
    case "sgd":
      return sgd(groups, { lr, momentum, nesterov, maxGradNorm });
    case "rmsprop":
      return rmsprop(groups, { lr, alpha, eps, maxGradNorm });
  }
}

/**
 * Everything up to the first step.
 * @throws ConfigError, DataError, RunError, FormatError before anything of an earlier run has been touched
 */
export async function openPretraining(asked: Recipe, options: PretrainOptions): Promise<PretrainSession> {
  checkOptions("openPretraining", options, OPTIONS);
  const { out, signal } = options;
  const recipe = withAbsolutePaths(asked);
  const run = await openRun(out, recipe, { resume: options.resume ?? false });
  const notes: string[] = [];
  const note = (sentence: string) => notes.push(sentence);
  const close: (() => unknown)[] = [() => run.close()];
  const closeAll = async () => {
    for (const part of close.toReversed()) await part();
  };
  try {
    const text = await openText(recipe, note);
    const manifestFile = run.at("manifest.json");
    const before = fs.existsSync(manifestFile) ? readManifest(manifestFile) : null;
    if (before !== null) checkSameData(before.data, text.hashes, run.path);
    const { path, damaged } = await findCheckpoint(run.at("checkpoints"));
    if (path !== null) await checkSameRecipe(path, recipe, run.path);
    const sampling: { sampler?: Sampler } = {};
    const onTokenizer = (tokenizer: Tokenizer) => {
      // Refuses a model that has no place for the vocabulary.
      modelConfig(recipe, tokenizer.vocabSize);
      if (options.sampler !== undefined) sampling.sampler = options.sampler(tokenizer, recipe);
    };
    const data = await prepareData(run, text, { onNote: note, onTokenizer, ...(signal === undefined ? {} : { signal }) });
    close.push(() => data.close());
    const { training } = recipe;
    const emulated = emulationNote(recipe);
    if (emulated !== null) note(emulated);
    const moved = before === null ? null : computedOtherwise(before.host);
    if (moved !== null) note(`${moved}: it goes on, but not bit for bit.`);
    const { seed } = recipe.run;

    manualSeed(seed);
    const config = modelConfig(recipe, data.tokenizer.vocabSize);
    const where = `${out}/config.yaml: model`;
    checkMemory(describeModel(config, where), recipe, memory().limitBytes);
    const model = createModel(config, where);
    close.push(() => model.dispose());
    const optimizer = optimizerOf(recipe, model);
    close.push(() => optimizer.dispose());
    const source = recipe.data.order === "documents" ? packedDocuments : sampledWindows;
    const mixed = data.train.map(({ tokens, weight }) => ({ source: source(tokens, { context: training.context_length, seed }), weight }));
    // What the evaluations read: too little of it is said here and not at the first of them.
    sequentialWindows(data.validation, { context: training.context_length });
    const samples = mixed.length === 1 ? mixed[0].source : weightedMix(mixed);
    const loaderAt = (cursor: unknown) => dataLoader(samples, { batchSize: training.batch_size, ...(cursor === undefined ? {} : { cursor }) });

    const { spec } = data.tokenizer;
    const checkpointParts = {
      model,
      optimizer,
      tokenizerFiles: tokenizerFiles({ ...spec, settings: { maxLength: model.dimensions.context, ...spec.settings } }),
      recipe,
    };
    notes.push(...(await removeDamaged(damaged)));
    // Before a checkpoint's weights take the place of the first ones.
    const manifest = before ?? describeRun(recipe, data, model, { data: text.hashes, weights: await weightHashes(model) }, options.version ?? "unknown");
    const writeManifest = () => writeFileAtomic(manifestFile, `${JSON.stringify(manifest, null, 2)}\n`);
    const state = path === null ? freshState(loaderAt(undefined)) : await loadCheckpoint(path, checkpointParts);
    await run.rewindTo(path === null ? -1 : state.step);
    const loader = loaderAt(state.cursor);

    if (before === null) await writeManifest();
    const parts: TrainingParts = {
      ...checkpointParts,
      run,
      loader,
      loaderAt,
      validation: data.validation,
      validationBytes: data.counts.validation.bytes,
      state,
      resumed: path !== null,
      ...sampling,
    };
    async function* train(): AsyncGenerator<TrainingEvent> {
      for await (const event of trainingLoop(parts, signal === undefined ? {} : { signal })) {
        if (event.type === "end" && event.why !== "stopped" && manifest.weights.final === undefined) {
          manifest.weights.final = await weightHashes(model);
          await writeManifest();
        }
        yield event;
      }
    }
    return {
      run,
      recipe,
      data,
      model,
      parts,
      manifest,
      state,
      checkpoint: path,
      notes,
      train,
      close: closeAll,
    };
  } catch (error) {
    // The next try, with what was wrong corrected, finds the folder as this one did.
    if (signal?.aborted !== true) run.clear();
    await closeAll();
    throw error;
  }
}

/** @throws FormatError, ConfigError for a damaged file */
function readManifest(file: string): Manifest {
  return parseConfig(manifestSchema, parseConfigText(fs.readFileSync(file, "utf8"), file), file);
}

/** A sentence for whoever asks for bf16 where it does not pay, else null. */
export function emulationNote({ training }: Recipe): string | null {
  if (training.precision !== "bf16" || backend().bf16() !== "emulated") return null;
  const cpu = os.cpus()[0]?.model.trim() ?? "This CPU";
  return `bf16 products are emulated here and slower than f32: ${cpu} with ${backend().isa()} kernels has no AVX512_BF16. training.precision=f32 is faster.`;
}

/** What the run computed with so far where this machine gives other bytes, else null. */
function computedOtherwise({ backend: name, bf16 }: Manifest["host"]): string | null {
  const here = backend();
  if (name !== here.name) return `This run was computed by the ${name} backend so far and is by the ${here.name} backend here`;
  if (bf16 !== undefined && bf16 !== here.bf16()) return `This run's bf16 products were ${bf16} so far and are ${here.bf16()} here`;
  return null;
}

function describeRun(
  recipe: Recipe,
  data: PreparedData,
  model: CausalLM,
  { data: hashes, weights }: { data: DataHashes; weights: DataHashes },
  version: string,
): Manifest {
  const { train, validation } = data.counts;
  return {
    groundup: version,
    node: process.versions.node,
    seed: recipe.run.seed,
    data: hashes,
    weights: { initial: weights },
    tokens: { train: train.tokens, validation: validation.tokens },
    bytes: { train: train.bytes, validation: validation.bytes },
    documents: { train: train.documents, validation: validation.documents },
    vocabulary: data.tokenizer.vocabSize,
    parameters: model.parameterCount(),
    precision: recipe.training.precision,
    host: {
      name: os.hostname(),
      cpu: os.cpus()[0]?.model.trim() ?? "unknown",
      backend: backend().name,
      isa: backend().isa(),
      threads: backend().threads(),
      ...(recipe.training.precision === "bf16" ? { bf16: backend().bf16() } : {}),
    },
    started: new Date().toISOString(),
  };
}

/** What a checkpoint holds besides the model, and the way there and back. */
import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import { basename, join } from "node:path";
import type { DataCursor } from "../data/index.ts";
import { FormatError, RunError } from "../errors.ts";
import {
  checkpointName,
  encodeModelWeights,
  encodeSafetensors,
  lastGoodCheckpoint,
  listCheckpoints,
  openFile,
  openSafetensors,
  parseConfig,
  parseConfigText,
  type StoredTensor,
  type WriteOptions,
  writeCheckpoint,
  writeFileAtomic,
} from "../formats/index.ts";
import { type CausalLM, configText, loadWeights, weightEntries } from "../models/index.ts";
import type { Optimizer } from "../optim/index.ts";
import { scope, streams, type Tensor, tensorFromBytes } from "../tensor/index.ts";
import type { LossWatch } from "./health.ts";
import { differences, type Recipe, recipeSchema, withFileNames } from "./recipe.ts";

/** Everything that moves during training, besides weights and optimiser: plain JSON. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  /** Targets seen. */
  tokens: number;
  /** Training time over all sittings. */
  seconds: number;
  cursor: DataCursor;
  best: { step: number; loss: number } | null;
  /** Evaluations since the best. */
  stale: number;
  rollbacks: number;
  watch: LossWatch;
}

interface Saved extends TrainingState {
  version: 1;
  optimizer: { kind: string; step: number };
  streams: Record<string, { seed: number; stream: number; position: number }>;
  /** Its files by name: where they lie on one machine is nobody else's business, and their content is in the manifest. Older checkpoints have none. */
  recipe?: Recipe;
}

/** Everything that a checkpoint holds or is read back into. */
export interface CheckpointParts {
  model: CausalLM;
  optimizer: Optimizer;
  /** File name → content, beside the weights. */
  tokenizerFiles: Record<string, string | Uint8Array>;
  /** What the model is trained by; kept so that a run goes on by no other. */
  recipe?: Recipe;
}

const OPTIMIZER = "training/optimizer.safetensors";
const STATE = "training/state.json";

const weightFiles = (model: CausalLM) => encodeModelWeights(weightEntries(model), { metadata: { format: "pt" } });

/** SHA-256 of the weights as a checkpoint's files would have them: file name → hash. */
export async function weightHashes(model: CausalLM): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const { file, content } of weightFiles(model)) {
    const hash = createHash("sha256");
    for await (const piece of content) hash.update(piece);
    hashes[file] = hash.digest("hex");
  }
  return hashes;
}

/** Writes `checkpoints/step-NNNNNN`, whole or not at all. */
export async function saveCheckpoint(
  root: string,
  state: TrainingState,
  { model, optimizer, tokenizerFiles, recipe }: CheckpointParts,
  options: WriteOptions = {},
): Promise<string> {
  const saved = optimizer.state();
  const meta: Saved = {
    version: 1,
    ...state,
    optimizer: { kind: saved.kind, step: saved.step },
    streams: structuredClone(streams),
    ...(recipe === undefined ? {} : { recipe: withFileNames(recipe) }),
  };
  const entries = [...saved.tensors].map(([name, t]) => ({ name, dtype: "F32" as const, shape: t.shape, data: () => t.bytesSync() }));
  const { path } = await writeCheckpoint(
    root,
    state.step,
    async (folder) => {
      for (const { file, bytes, content } of weightFiles(model)) await folder.write(file, content, { bytes });
      await folder.write("config.json", configText(model));
      for (const [name, text] of Object.entries(tokenizerFiles)) await folder.write(name, text);
      const { bytes, content } = encodeSafetensors(entries);
      await folder.write(OPTIMIZER, content, { bytes });
      await folder.write(STATE, `${JSON.stringify(meta, null, 2)}\n`);
    },
    options,
  );
  return path;
}

async function readSaved(path: string): Promise<Omit<Saved, "version">> {
  const file = join(path, STATE);
  const { version, ...saved } = parseConfigText(await fs.readFile(file, "utf8"), file) as unknown as Saved;
  if (version !== 1) throw new FormatError(`${file}: unknown version, expected 1, got ${version}. Resume with the groundup that wrote it.`);
  return saved;
}

/** @throws RunError when the run's recipe is not the one that its checkpoint was trained by: config.yaml is a file that anyone may edit */
export async function checkSameRecipe(path: string, recipe: Recipe, run: string): Promise<void> {
  const { recipe: before } = await readSaved(path);
  if (before === undefined) return;
  // Through JSON and the schema on both sides: JSON has no undefined, and a key that the checkpoint's version did not have counts as its default.
  const changed = differences(parseConfig(recipeSchema, before, `${join(path, STATE)}: recipe`), JSON.parse(JSON.stringify(withFileNames(recipe))));
  if (changed.length > 0)
    throw new RunError(
      `${join(run, "config.yaml")}: the recipe has changed, expected the one that ${basename(path)} was trained by, got\n  ${changed.join("\n  ")}\n` +
        "config.yaml was edited after the run began. Put the old values back, or start a new run.",
    );
}

/** Puts weights, optimiser and random streams back as they were. */
export async function loadCheckpoint(path: string, { model, optimizer }: CheckpointParts): Promise<TrainingState> {
  const { optimizer: settings, streams: positions, recipe: _, ...state } = await readSaved(path);
  await loadWeights(model, path);
  const reader = await openSafetensors(await openFile(join(path, OPTIMIZER)));
  try {
    const stored: StoredTensor[] = [];
    for (const name of reader.tensors.keys()) stored.push(await reader.read(name));
    scope(() => {
      const tensors = new Map<string, Tensor>(stored.map((t) => [t.name, tensorFromBytes(t.data, t.shape, "f32")]));
      optimizer.loadState({ ...settings, tensors });
      return undefined;
    });
  } finally {
    await reader.close();
  }
  for (const [name, position] of Object.entries(positions)) Object.assign(streams[name as keyof typeof streams], position);
  return state;
}

type Damaged = Awaited<ReturnType<typeof lastGoodCheckpoint>>["damaged"];

/** The newest whole checkpoint, null where there is none, and the damaged ones after it; all stay. @throws RunError when none is whole */
export async function findCheckpoint(root: string): Promise<{ path: string | null; damaged: Damaged }> {
  const { checkpoint, damaged } = await lastGoodCheckpoint(root);
  if (checkpoint === undefined && damaged.length > 0) {
    throw new RunError(
      `${root}: no checkpoint is whole, expected at least one, got ${damaged.length} damaged: ${damaged[0]?.error.message} Restore one from a copy, or start a new run.`,
    );
  }
  return { path: checkpoint?.path ?? null, damaged };
}

/** Removes them, since training will write those steps again. Returns sentences about it. */
export async function removeDamaged(damaged: Damaged): Promise<string[]> {
  for (const { checkpoint: bad } of damaged) await fs.rm(bad.path, { recursive: true, force: true });
  return damaged.map(({ error }) => `A damaged checkpoint was left out: ${error.message}`);
}

/**
 * The newest whole checkpoint. Damaged ones after it are removed.
 * @returns null when there is none, and sentences about what was removed
 */
export async function newestCheckpoint(root: string): Promise<{ path: string | null; notes: string[] }> {
  const { path, damaged } = await findCheckpoint(root);
  return { path, notes: await removeDamaged(damaged) };
}

/** Says which checkpoint is best, and removes all but the newest `keep` and the best. */
export async function pruneCheckpoints(run: string, state: TrainingState, keep: number): Promise<void> {
  const root = join(run, "checkpoints");
  if (state.best !== null) {
    await writeFileAtomic(join(run, "best.json"), `${JSON.stringify({ ...state.best, checkpoint: `checkpoints/${checkpointName(state.best.step)}` })}\n`);
  }
  const all = await listCheckpoints(root);
  for (const { step, path } of all.slice(0, -keep)) {
    if (step === state.best?.step) continue;
    // Out of the way in one move first: half a checkpoint must never look like a damaged one. The name is that of an unfinished write.
    const gone = join(root, `.${checkpointName(step)}.${process.pid}-00000000.tmp`);
    await fs.rename(path, gone);
    await fs.rm(gone, { recursive: true, force: true });
  }
}

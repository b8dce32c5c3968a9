/** What a checkpoint holds besides the model, and the way there and back. */
import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import { join } from "node:path";
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
}

/** Everything that a checkpoint holds or is read back into. */
export interface CheckpointParts {
  model: CausalLM;
  optimizer: Optimizer;
  /** File name → content, beside the weights. */
  tokenizerFiles: Record<string, string>;
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
  { model, optimizer, tokenizerFiles }: CheckpointParts,
  options: WriteOptions = {},
): Promise<string> {
  const saved = optimizer.state();
  const meta: Saved = { version: 1, ...state, optimizer: { kind: saved.kind, step: saved.step }, streams: structuredClone(streams) };
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

/** Puts weights, optimiser and random streams back as they were. */
export async function loadCheckpoint(path: string, { model, optimizer }: CheckpointParts): Promise<TrainingState> {
  const file = join(path, STATE);
  const { version, optimizer: settings, streams: positions, ...state } = parseConfigText(await fs.readFile(file, "utf8"), file) as unknown as Saved;
  if (version !== 1) throw new FormatError(`${file}: unknown version, expected 1, got ${version}. Resume with the groundup that wrote it.`);
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

/**
 * The newest whole checkpoint. Damaged ones after it are removed, since training will write those steps again.
 * @returns null when there is none, and sentences about what was removed
 */
export async function newestCheckpoint(root: string): Promise<{ path: string | null; notes: string[] }> {
  const { checkpoint, damaged } = await lastGoodCheckpoint(root);
  if (checkpoint === undefined && damaged.length > 0) {
    throw new RunError(
      `${root}: no checkpoint is whole, expected at least one, got ${damaged.length} damaged: ${damaged[0]?.error.message} Restore one from a copy, or start a new run.`,
    );
  }
  for (const { checkpoint: bad } of damaged) await fs.rm(bad.path, { recursive: true, force: true });
  return { path: checkpoint?.path ?? null, notes: damaged.map(({ error }) => `A damaged checkpoint was left out: ${error.message}`) };
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

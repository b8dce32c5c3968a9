/** Batches one after another, with a cursor that a checkpoint can hold. */
import { ConfigError, RunError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import { type Batch, readBatch, type SampleSource } from "./samples.ts";

/** Where a run is in its data: plain JSON. */
export interface DataCursor {
  version: 1;
  /** Number of the next sample, counted over all workers. */
  nextSample: number;
  /** The source's identity: data, seed and settings. */
  source: string;
}

/** How samples are dealt out to batches and workers. */
export interface LoaderOptions {
  /** Rows of a batch over all workers. */
  batchSize: number;
  /** This worker, from 0; default 0. */
  rank?: number;
  /** Number of workers; must divide `batchSize`; default 1. */
  world?: number;
  /** Go on from here. */
  cursor?: unknown;
}

/** An endless row of batches, and the place in it. */
export interface DataLoader {
  readonly source: SampleSource;
  /** This worker's rows of the next batch. */
  next(): Promise<Batch>;
  /** State before the next batch. The same for every worker, and for any number of them. */
  cursor(): DataCursor;
}

/**
 * An endless loader. Samples are numbered over all workers: batch k holds samples k·B … k·B + B - 1, and worker w of W takes
 * the w-th of W equal parts of them.
 *
 * @throws RunError when the cursor belongs to other data or settings (says both); ConfigError for a bad batch size
 */
export function dataLoader(source: SampleSource, options: LoaderOptions): DataLoader {
  checkOptions("dataLoader", options, { batchSize: true, rank: true, world: true, cursor: true });
  const { batchSize, rank = 0, world = 1 } = options;
  const whole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  if (!whole(batchSize, 1) || !whole(world, 1) || batchSize % world !== 0 || !whole(rank, 0) || rank >= world) {
    throw new ConfigError(
      `data loader: bad batch, expected a batch size that the number of workers divides and a rank below it, ` +
        `got batch size ${batchSize}, ${world} workers, rank ${rank}. Correct them.`,
    );
  }
  let nextSample = options.cursor === undefined ? 0 : startOf(options.cursor, source);
  const rows = batchSize / world;
  return {
    source,
    async next() {
      const first = nextSample;
      nextSample += batchSize;
      return readBatch(source, first + rank * rows, rows);
    },
    cursor: () => ({ version: 1, nextSample, source: source.identity }),
  };
}

function startOf(cursor: unknown, source: SampleSource): number {
  const { version, nextSample, source: identity } = (cursor ?? {}) as Partial<DataCursor>;
  if (version !== 1 || !Number.isSafeInteger(nextSample) || (nextSample as number) < 0 || typeof identity !== "string") {
    throw new RunError(
      `data cursor: damaged, expected { version: 1, nextSample, source }, got ${JSON.stringify(cursor)?.slice(0, 120)}. Resume from another checkpoint.`,
    );
  }
  if (identity !== source.identity) {
    throw new RunError(
      `data cursor: the data or its settings have changed, expected ${identity}, got ${source.identity}. ` +
        "Resume with the data and settings that the run began with, or start a new run.",
    );
  }
  return nextSample as number;
}

/** All samples of a finite source once, in order; the last batch may have fewer rows. */
export async function* batchesOnce(source: SampleSource, batchSize: number): AsyncGenerator<Batch> {
  if (!Number.isFinite(source.samples) || !(Number.isSafeInteger(batchSize) && batchSize > 0)) {
    throw new ConfigError(
      `batches: expected a finite source and a batch size of at least 1, got ${source.samples} samples and ${batchSize}. Use sequentialWindows.`,
    );
  }
  for (let first = 0; first < source.samples; first += batchSize) {
    yield await readBatch(source, first, Math.min(batchSize, source.samples - first));
  }
}

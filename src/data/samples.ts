/**
 * Samples and batches. A sample is a pure function of its number, so a data cursor is one integer and the order of the data
 * is the same for any number of workers: worker w of W simply asks for its share of the numbers.
 */
import { ConfigError, DataError } from "../errors.ts";

/** The target that no loss counts (PyTorch's default ignore index). */
export const IGNORE = -100;

/** One row of `context` tokens. */
export interface Sample {
  /** (T) */
  inputIds: Int32Array;
  /** (T), already shifted: the token behind each input, or `IGNORE`. */
  targets: Int32Array;
  /** (T), for packed rows: places within each document. */
  positions?: Int32Array;
  /** For packed rows: where documents begin within the row; the first is 0. */
  starts?: number[];
}

/** Numbered samples. */
export interface SampleSource {
  /** T: tokens in a row. */
  readonly context: number;
  /** Number of samples after which everything was seen once; Infinity for random windows. */
  readonly samples: number;
  /** Data and settings in words; a cursor is refused when it differs. */
  readonly identity: string;
  /** Sample `index`, the same whenever it is asked for. */
  read(index: number): Promise<Sample>;
}

/** Rows for one forward pass. All arrays are row-major (B, T), flattened. */
export interface Batch {
  /** B */
  rows: number;
  /** T */
  context: number;
  inputIds: Int32Array;
  /** Already shifted, `IGNORE` (-100) where there is nothing to predict. */
  targets: Int32Array;
  /** Packed documents only. */
  positions?: Int32Array;
  /** Packed documents only: borders of the documents within the B·T tokens, from 0 to B·T. */
  cuSeqlens?: Int32Array;
  /** Targets that count, by which a loss summed over micro-batches is divided. */
  targetTokens: number;
}

/** Samples `first` … `first + count - 1` as one batch. */
export async function readBatch(source: SampleSource, first: number, count: number): Promise<Batch> {
  const samples = await Promise.all(Array.from({ length: count }, (_, row) => source.read(first + row)));
  const context = source.context;
  const batch: Batch = {
    rows: count,
    context,
    inputIds: new Int32Array(count * context),
    targets: new Int32Array(count * context),
    targetTokens: 0,
  };
  const packedRows = samples.filter((sample) => sample.positions !== undefined && sample.starts !== undefined).length;
  if (packedRows > 0 && packedRows < count) {
    throw new ConfigError(
      `batch: rows of two kinds, expected packed documents or windows, got ${packedRows} packed rows of ${count}. Mix sources of one kind.`,
    );
  }
  const packed = packedRows > 0;
  if (packed) batch.positions = new Int32Array(count * context);
  const borders: number[] = [];
  samples.forEach((sample, row) => {
    const base = row * context;
    batch.inputIds.set(sample.inputIds, base);
    batch.targets.set(sample.targets, base);
    if (packed) {
      batch.positions?.set(sample.positions as Int32Array, base);
      for (const start of sample.starts as number[]) borders.push(base + start);
    }
  });
  if (packed) batch.cuSeqlens = Int32Array.from([...borders, count * context]);
  for (const target of batch.targets) if (target !== IGNORE) batch.targetTokens++;
  return batch;
}

/** A data set too small for what is asked of it. */
export function tooSmall(name: string, expected: string, tokens: number): DataError {
  return new DataError(`${name}: text smaller than one window, expected ${expected}, got ${tokens} tokens. Use more text or a shorter context.`);
}

export function checkContext(context: number, name: string): void {
  if (!Number.isSafeInteger(context) || context < 1 || context > 1 << 24) {
    throw new DataError(`${name}: bad context length, expected 1 to ${1 << 24} tokens, got ${context}. Correct it.`);
  }
}

/** GGUF's names of tensors and ours, both ways, and the order of rows in which files hold what rotary positions turn. */
import type { GgufName } from "./architecture.ts";

/** Names of one architecture, looked up in both directions. */
export interface GgufNames {
  /** Our name of a tensor in a file; undefined where the file's is unknown. Where a file's name has several of ours, it is the one that `wanted` has. */
  toOurs(file: string, wanted?: { has(name: string): boolean }): string | undefined;
  /** A file's name of one of our weights; undefined where files do not hold it. */
  toFile(ours: string): string | undefined;
  /** Our weight as files hold it: itself, or its parts. */
  partsOf(ours: string): readonly WeightSlice[];
}

/** A weight, or a part of its second dimension, seen as files see it (`transposed`). */
export interface WeightSlice {
  /** The name in the table: ours, with `0/2` behind it for the first of two halves, `0::2` for each second row. */
  readonly key: string;
  readonly name: string;
  readonly part: Part | null;
}

/** An equal part of a dimension: items side by side (`alternates` false), or each `of`-th from `index` on. */
export interface Part {
  readonly index: number;
  readonly of: number;
  readonly alternates: boolean;
}

/** How parts are called in the table. */
const WAYS: readonly (readonly Part[])[] = [false, true].map((alternates) => [0, 1].map((index) => ({ index, of: 2, alternates })));
const keyOf = (name: string, { index, of, alternates }: Part): string => `${name} ${index}${alternates ? "::" : "/"}${of}`;
/** The weight of which a name in the table is a part, or which it is. */
export const wholeOf = (key: string): string => key.replace(/ \d(\/|::)2$/, "");

/** Each pair names a tensor, or what stands before `.weight` and `.bias`. `{i}` stands for a number, the same one on both sides. */
export function ggufNames(pairs: readonly GgufName[]): GgufNames {
  const there = pairs.map(([file, ours]) => ({ pattern: patternOf(file), text: ours }));
  const back = pairs.map(([file, ours]) => ({ pattern: patternOf(ours), text: file }));
  const toFile = (ours: string): string | undefined => translated(back, ours)[0];
  return {
    partsOf(name) {
      const ways = WAYS.map((parts) => parts.map((part): WeightSlice => ({ key: keyOf(name, part), name, part })));
      return ways.find((slices) => slices.every(({ key }) => toFile(key) !== undefined)) ?? [{ key: name, name, part: null }];
    },
    toOurs: (file, wanted) => {
      const ours = translated(there, file);
      return ours.find((name) => wanted?.has(name)) ?? ours[0];
    },
    toFile,
  };
}

function patternOf(template: string): RegExp {
  const literal = template.split("{i}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join("(\\d+)")}(\\.weight|\\.bias)?$`);
}

function translated(table: readonly { pattern: RegExp; text: string }[], name: string): string[] {
  return table.flatMap(({ pattern, text }) => {
    const found = pattern.exec(name);
    return found === null ? [] : [text.replace("{i}", found[1] as string) + (found.at(-1) ?? "")];
  });
}

/**
 * Which of our rows each row of the file is, for a matrix whose rows are the heads': in a head of d rows llama.cpp puts row d/2 + i behind row i, so that the two
 * numbers that rotary positions turn together are neighbours.
 */
export function neighbouringHalves(rows: number, heads: number): Int32Array {
  const d = rows / heads;
  return Int32Array.from({ length: rows }, (_, row) => {
    const [head, i] = [Math.floor(row / d), row % d];
    return head * d + (i % 2) * (d / 2) + (i >> 1);
  });
}

/**
 * Which of our rows each row of the file is, for a fused matrix that has group after group (`inGroups`): llama.cpp puts the queries of all heads first, then all
 * keys, then all values.
 */
export function partsOfGroups(heads: number, kvHeads: number, headDim: number): Int32Array {
  const sharing = heads / kvHeads;
  // The head of ours that each head of the file is: those of a group stand together, its key and its value behind its queries.
  const ours = [
    ...Array.from({ length: heads }, (_, h) => Math.floor(h / sharing) * (sharing + 2) + (h % sharing)),
    ...Array.from({ length: kvHeads }, (_, group) => group * (sharing + 2) + sharing),
    ...Array.from({ length: kvHeads }, (_, group) => group * (sharing + 2) + sharing + 1),
  ];
  return Int32Array.from({ length: ours.length * headDim }, (_, row) => (ours[Math.floor(row / headDim)] as number) * headDim + (row % headDim));
}

/** The shape of a part. */
export const sliceShape = (shape: readonly number[], part: Part | null): readonly number[] =>
  part === null ? shape : [shape[0] as number, (shape[1] as number) / part.of, ...shape.slice(2)];

/** Calls `each` with the place in the whole and the place in the part of every run of items that both have side by side. */
function forRuns(shape: readonly number[], { index, of, alternates }: Part, each: (whole: number, part: number, length: number) => void): void {
  const [blocks, rows, ...rest] = shape as [number, number, ...number[]];
  const own = rows / of;
  const row = rest.reduce((a, b) => a * b, 1);
  for (let b = 0; b < blocks; b++) {
    if (alternates) for (let r = 0; r < own; r++) each((b * rows + r * of + index) * row, (b * own + r) * row, row);
    else each((b * rows + index * own) * row, b * own * row, own * row);
  }
}

/** The part's items of a weight of this shape: numbers, or with `shape` counting them the bytes of blocks. */
export function cutSlice<Values extends Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>>(
  values: Values,
  shape: readonly number[],
  part: Part | null,
): Values {
  if (part === null) return values;
  const out = values.slice(0, values.length / part.of) as Values;
  forRuns(shape, part, (whole, own, length) => out.set(values.subarray(whole, whole + length), own));
  return out;
}

/** Puts a part's items where they belong in those of a weight of this shape. */
export function pasteSlice(into: Float32Array | Uint8Array, shape: readonly number[], part: Part, values: Float32Array | Uint8Array): void {
  forRuns(shape, part, (whole, own, length) => into.set(values.subarray(own, own + length), whole));
}

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

/** A weight, or an equal part of its second dimension. */
export interface WeightSlice {
  /** The name in the table: ours, with `0/2` behind it for the first of two parts. */
  readonly key: string;
  readonly name: string;
  readonly part: readonly [index: number, of: number] | null;
}

/** Each pair names a tensor, or what stands before `.weight` and `.bias`. `{i}` stands for a number, the same one on both sides. */
export function ggufNames(pairs: readonly GgufName[]): GgufNames {
  const there = pairs.map(([file, ours]) => ({ pattern: patternOf(file), text: ours }));
  const back = pairs.map(([file, ours]) => ({ pattern: patternOf(ours), text: file }));
  const toFile = (ours: string): string | undefined => translated(back, ours)[0];
  return {
    partsOf(name) {
      const parts = [0, 1].map((index): WeightSlice => ({ key: `${name} ${index}/2`, name, part: [index, 2] }));
      return parts.every(({ key }) => toFile(key) !== undefined) ? parts : [{ key: name, name, part: null }];
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
export const sliceShape = (shape: readonly number[], part: WeightSlice["part"]): readonly number[] =>
  part === null ? shape : [shape[0] as number, (shape[1] as number) / part[1], ...shape.slice(2)];

/** The part's values of a weight of this shape. */
export function cutSlice(values: Float32Array<ArrayBuffer>, shape: readonly number[], part: WeightSlice["part"]): Float32Array<ArrayBuffer> {
  if (part === null) return values;
  const [blocks, [index, of]] = [shape[0] as number, part];
  const [whole, own] = [values.length / blocks, values.length / blocks / of];
  const out = new Float32Array(blocks * own);
  for (let b = 0; b < blocks; b++) out.set(values.subarray(b * whole + index * own, b * whole + (index + 1) * own), b * own);
  return out;
}

/** Puts a part's values where they belong in those of a weight of this shape. */
export function pasteSlice(into: Float32Array, shape: readonly number[], part: readonly [index: number, of: number], values: Float32Array): void {
  const [blocks, [index, of]] = [shape[0] as number, part];
  const [whole, own] = [into.length / blocks, into.length / blocks / of];
  for (let b = 0; b < blocks; b++) into.set(values.subarray(b * own, (b + 1) * own), b * whole + index * own);
}

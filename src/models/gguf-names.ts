/** GGUF's names of tensors and ours, both ways, and the order of rows in which files hold what rotary positions turn. */
import type { GgufName } from "./architecture.ts";

/** Names of one architecture, looked up in both directions. */
export interface GgufNames {
  /** Our name of a tensor in a file; undefined where the file's is unknown. */
  toOurs(file: string): string | undefined;
  /** A file's name of one of our weights; undefined where files do not hold it. */
  toFile(ours: string): string | undefined;
}

/** Each pair names a tensor, or what stands before `.weight` and `.bias`. `{i}` stands for a number, the same one on both sides. */
export function ggufNames(pairs: readonly GgufName[]): GgufNames {
  const there = pairs.map(([file, ours]) => ({ pattern: patternOf(file), text: ours }));
  const back = pairs.map(([file, ours]) => ({ pattern: patternOf(ours), text: file }));
  return { toOurs: (file) => translated(there, file), toFile: (ours) => translated(back, ours) };
}

function patternOf(template: string): RegExp {
  const literal = template.split("{i}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join("(\\d+)")}(\\.weight|\\.bias)?$`);
}

function translated(table: readonly { pattern: RegExp; text: string }[], name: string): string | undefined {
  for (const { pattern, text } of table) {
    const found = pattern.exec(name);
    if (found === null) continue;
    const suffix = found.at(-1) ?? "";
    return text.replace("{i}", found[1] as string) + suffix;
  }
  return undefined;
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

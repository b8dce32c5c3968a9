/** The names of weights in files and in models. */
import { dequantize, type Tensor } from "../tensor/index.ts";
import type { WeightNames, WeightPart } from "./architecture.ts";

/** The names in a file → the model's own; without those that are known and no weights. */
export function ownNames(
  there: readonly string[],
  wanted: ReadonlyMap<string, Tensor>,
  { base, names }: Pick<WeightNames, "base" | "names">,
): Map<string, string> {
  const renamed = new Map<string, string>();
  for (const file of there) {
    const [pattern, text] = names.find(([p]) => p.test(file)) ?? [];
    if (pattern === undefined) renamed.set(file, file);
    else if (text !== null) renamed.set(file, file.replace(pattern, text as string));
  }
  const whole = [...renamed.values()].some((name) => wanted.has(name));
  return whole ? renamed : new Map([...renamed].map(([file, name]) => [file, base + name]));
}

/** A tensor of a file that is a part of one of ours. */
export interface Piece {
  readonly file: string;
  readonly shape: readonly number[];
  /** Where its numbers begin in ours: they lie side by side. */
  readonly begin: number;
  /** The part of our tensor, a view; the numbers of one that is block-quantised. */
  of(whole: Tensor): Tensor;
}

const floatsIn = (t: Tensor): Tensor => (t.isQuantized ? dequantize(t) : t);

/** The tensors that files have in place of ours of this name and shape, in order; none where they have ours. */
export function piecesOf(name: string, shape: readonly number[], parts: readonly WeightPart[]): Piece[] {
  const found: Piece[] = [];
  for (const { ours, file, part: [index, of] = [0, 1] } of parts) {
    const [before, after] = ours.split("{i}") as [string, string];
    if (!name.startsWith(before) || !name.endsWith(after)) continue;
    const layer = name.slice(before.length, name.length - after.length);
    if (!/^\d+$/.test(layer)) continue;
    const [experts, rows, ...rest] = shape as [number, number, ...number[]];
    const own = [rows / of, ...rest];
    for (let e = 0; e < experts; e++)
      found.push({
        file: file.replace("{i}", layer).replace("{e}", String(e)),
        shape: own,
        begin: (e * of + index) * own.reduce((a, b) => a * b, 1),
        of: (whole) =>
          floatsIn(whole.narrow(0, e, 1))
            .narrow(1, (index * rows) / of, rows / of)
            .reshape(own),
      });
  }
  return found;
}

const MISFIT_ADVICE = {
  "config.json": "\nUse the config.json that came with these weights.",
  metadata: "\nGet a complete file of the model.",
  module: "\nBuild the module as it was when they were saved.",
};

/** The words for weights whose names are not those of what is to hold them: a model as its config.json or metadata describe it, or a module of the user's own. */
export function misfit(where: string, missing: readonly string[], unexpected: readonly string[], of: "config.json" | "metadata" | "module"): string {
  const list = (names: readonly string[]) =>
    names
      .slice(0, 20)
      .map((n) => `\n  ${n}`)
      .join("") + (names.length > 20 ? `\n  … and ${names.length - 20} more` : "");
  return (
    `${where}: the weights do not fit ${of === "config.json" ? of : `the ${of}`}, expected the model's own names, got` +
    (missing.length > 0 ? ` ${missing.length} missing:${list(missing)}` : "") +
    (unexpected.length > 0 ? `${missing.length > 0 ? "\nand" : ""} ${unexpected.length} unexpected:${list(unexpected)}` : "") +
    MISFIT_ADVICE[of]
  );
}

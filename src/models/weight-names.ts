/** The names of weights in files and in models. */
import { FormatError } from "../errors.ts";
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

/** How the weights of a file and of what is to hold them differ. */
export interface Differences {
  /** Names that the file lacks. */
  readonly missing: readonly string[];
  /** Names in the file that nothing takes. */
  readonly unexpected: readonly string[];
  readonly misshaped: readonly { readonly name: string; readonly expected: readonly number[]; readonly got: readonly number[] }[];
}

/** Names in a list at most. */
const MOST_LISTED = 20;

/**
 * Weights must be those of what is to hold them: a model as its config.json or metadata describe it, or a module of the user's own.
 * @throws FormatError with all that differs
 */
export function checkFit(where: string, { missing, unexpected, misshaped }: Differences, of: "config.json" | "metadata" | "module"): void {
  const lists = [
    { what: "missing", lines: missing },
    { what: "unexpected", lines: unexpected },
    { what: "of another shape", lines: misshaped.map(({ name, expected, got }) => `${name}: expected (${expected.join(", ")}), got (${got.join(", ")})`) },
  ].filter(({ lines }) => lines.length > 0);
  if (lists.length === 0) return;
  const told = lists.map(({ what, lines }) => {
    const more = lines.length > MOST_LISTED ? [`… and ${lines.length - MOST_LISTED} more`] : [];
    return [`${lines.length} ${what}:`, ...lines.slice(0, MOST_LISTED), ...more].join("\n  ");
  });
  throw new FormatError(
    `${where}: the weights do not fit ${of === "config.json" ? of : `the ${of}`}, expected the model's own names and shapes, got ${told.join("\nand ")}${MISFIT_ADVICE[of]}`,
  );
}

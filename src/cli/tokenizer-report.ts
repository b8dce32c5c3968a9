/** What a tokenizer is, for `tokenizer inspect` and `inspect`. */
import { grouped } from "../quantities.ts";
import type { Tokenizer } from "../tokenizers/index.ts";

export interface TokenizerReport {
  kind: string;
  vocabSize: number;
  merges: number | null;
  pattern: string | null;
  normalizer: readonly string[];
  specialTokens: Record<string, number>;
  /** Put around every text. */
  template: { before: number[]; after: number[] };
  longestTokens: { id: number; text: string }[];
  engine: string;
}

export function tokenizerReport(tokenizer: Tokenizer): TokenizerReport {
  const { spec } = tokenizer;
  const { model } = spec;
  const lengths = model.tokens.map((token, id) => ({ id, length: token?.length ?? 0 })).filter(({ length }) => length > 0);
  const longest = lengths.sort((a, b) => b.length - a.length || a.id - b.id).slice(0, 8);
  return {
    kind: model.kind === "bpe" ? "byte-level BPE" : "characters",
    vocabSize: tokenizer.vocabSize,
    merges: model.kind === "bpe" && model.merges !== null ? model.merges.length / 2 : null,
    pattern: model.kind === "bpe" ? model.pattern : null,
    normalizer: [...spec.normalizer],
    specialTokens: Object.fromEntries(tokenizer.specialTokens),
    template: { before: spec.postProcessor.before.map(({ id }) => id), after: spec.postProcessor.after.map(({ id }) => id) },
    longestTokens: longest.map(({ id }) => ({ id, text: tokenizer.decode([id]) })),
    engine: tokenizer.engine,
  };
}

export function tokenizerLines(r: TokenizerReport): string[] {
  const special = Object.entries(r.specialTokens);
  const { before, after } = r.template;
  return [
    `kind       ${r.kind}${r.pattern === null ? "" : `, words cut as in ${r.pattern}`}`,
    `tokens     ${grouped(r.vocabSize)}${r.merges === null ? "" : `, ${grouped(r.merges)} merges`}`,
    `special    ${
      special.length === 0
        ? "none"
        : special
            .slice(0, 12)
            .map(([text, id]) => `${text} (${id})`)
            .join(", ") + (special.length > 12 ? `, … ${special.length} in all` : "")
    }`,
    ...(r.normalizer.length > 0 ? [`normalised ${r.normalizer.join(", ")}`] : []),
    ...(before.length + after.length > 0 ? [`template   ${[...before, "text", ...after].join(" ")}`] : []),
    `longest    ${r.longestTokens.map(({ text }) => JSON.stringify(text.length > 24 ? `${text.slice(0, 24)}…` : text)).join(" ")}`,
    `engine     ${r.engine}`,
  ];
}

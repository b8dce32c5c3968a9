/** What a tokenizer is, how it cuts a text, and how several compare: for `tokenizer inspect` and `inspect`. */
import { grouped } from "../quantities.ts";
import { type EncodingTrace, type ModelSpec, type Tokenizer, WHOLE } from "../tokenizers/index.ts";

export interface TokenizerReport {
  kind: string;
  vocabSize: number;
  merges: number | null;
  pattern: string | null;
  normalizer: readonly string[];
  /** The steps that cut text into words, where they have no pattern's name. */
  cut: readonly string[];
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
    kind: kindOf(model),
    vocabSize: tokenizer.vocabSize,
    merges: mergesIn(model),
    pattern: model.kind === "bpe" ? model.pattern : null,
    normalizer: model.kind === "pipeline" ? typesOf(model.normalizer) : [...spec.normalizer],
    cut: model.kind === "pipeline" ? typesOf(model.preTokenizer) : [],
    specialTokens: Object.fromEntries(tokenizer.specialTokens),
    template: templateOf(tokenizer),
    longestTokens: longest.map(({ id }) => ({ id, text: tokenizer.decode([id]) })),
    engine: tokenizer.engine,
  };
}

function kindOf(model: ModelSpec): string {
  switch (model.kind) {
    case "bpe":
      return "byte-level BPE";
    case "characters":
      return "characters";
    case "pipeline":
      return model.pieces.type;
    case "sentencepiece":
      return `SentencePiece, ${model.sentencePiece.kind}`;
  }
}

function mergesIn(model: ModelSpec): number | null {
  const merges = model.kind === "bpe" ? model.merges : model.kind === "pipeline" && model.pieces.type === "BPE" ? model.pieces.merges : null;
  return merges === null ? null : merges.length / 2;
}

/** The types of a part's steps, in order. */
function typesOf(part: { readonly type: string } | null): string[] {
  if (part === null) return [];
  const inner = Object.values(part).find(Array.isArray) as { readonly type: string }[] | undefined;
  return part.type === "Sequence" && inner !== undefined ? inner.flatMap(typesOf) : [part.type];
}

/** What stands around an empty text. */
function templateOf(tokenizer: Tokenizer): { before: number[]; after: number[] } {
  const { model, postProcessor } = tokenizer.spec;
  const list = (pieces: readonly { id: number }[]) => pieces.map(({ id }) => id);
  if (model.kind === "bpe" || model.kind === "characters") return { before: list(postProcessor.before), after: list(postProcessor.after) };
  const { ids, offsets } = tokenizer.encode("a", WHOLE);
  const own = [...ids.keys()].filter((i) => offsets[i][1] > offsets[i][0]);
  return { before: [...ids.slice(0, own[0] ?? ids.length)], after: own.length === 0 ? [] : [...ids.slice((own.at(-1) as number) + 1)] };
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
    ...(r.cut.length > 0 ? [`cut by     ${r.cut.join(", ")}`] : []),
    ...(r.normalizer.length > 0 ? [`normalised ${r.normalizer.join(", ")}`] : []),
    ...(before.length + after.length > 0 ? [`template   ${[...before, "text", ...after].join(" ")}`] : []),
    `longest    ${r.longestTokens.map(({ text }) => JSON.stringify(text.length > 24 ? `${text.slice(0, 24)}…` : text)).join(" ")}`,
    `engine     ${r.engine}`,
  ];
}

/** A text's way through a tokenizer, a line for each word: its parts after each merge, then its tokens. */
export function traceLines(text: string, { normalized, words }: EncodingTrace): string[] {
  const quoted = words.map((word) => JSON.stringify(word.text));
  const width = Math.min(24, Math.max(0, ...quoted.map((word) => word.length)));
  const lines = words.map(({ merges, tokens }, i) => {
    const way = merges.length > 1 ? `${merges.map((parts) => parts.join(" ")).join(" → ")}   ` : "";
    return `  ${quoted[i].padEnd(width)}  ${way}${tokens.map(({ id, token }) => `${JSON.stringify(token)} ${id}`).join(", ")}`;
  });
  return [
    `text       ${JSON.stringify(text)}`,
    ...(normalized === text ? [] : [`normalised ${JSON.stringify(normalized)}`]),
    `words      ${grouped(words.length)}, each with its merges and tokens`,
    ...lines,
  ];
}

/** What one tokenizer makes of a text, beside others. */
export interface TokenizerComparison {
  tokenizer: string;
  kind: string;
  vocabSize: number;
  tokens: number;
  /** Bytes of the text in UTF-8 for each token: more is a shorter sequence. */
  bytesPerToken: number;
}

export function comparedOn(name: string, tokenizer: Tokenizer, text: string): TokenizerComparison {
  const tokens = tokenizer.count(text, { ...WHOLE, addSpecialTokens: false });
  return { tokenizer: name, kind: kindOf(tokenizer.spec.model), vocabSize: tokenizer.vocabSize, tokens, bytesPerToken: Buffer.byteLength(text) / tokens };
}

/** A table, and for a short text where each tokenizer cuts it. */
export function comparisonLines(rows: readonly TokenizerComparison[], cuts: readonly string[] | null): string[] {
  const names = rows.map(({ tokenizer }) => tokenizer);
  const width = Math.max(9, ...names.map((name) => name.length));
  const number = (value: string) => value.padStart(12);
  return [
    `${"tokenizer".padEnd(width)}${number("vocabulary")}${number("tokens")}${number("bytes/token")}  kind`,
    ...rows.map(
      (r) => `${r.tokenizer.padEnd(width)}${number(grouped(r.vocabSize))}${number(grouped(r.tokens))}${number(r.bytesPerToken.toFixed(2))}  ${r.kind}`,
    ),
    ...(cuts === null ? [] : ["", ...cuts.map((cut, i) => `${(names[i] as string).padEnd(width)}  ${cut}`)]),
  ];
}

/** The text with a bar at each cut between two tokens. */
export function cutText(tokenizer: Tokenizer, text: string): string {
  // Where tokens end: a blank before a word is no part of some tokens' places.
  const { offsets } = tokenizer.encode(text, { ...WHOLE, addSpecialTokens: false });
  const cuts = new Set(offsets.map(([, end]) => end));
  return Array.from({ length: text.length }, (_, i) => (i > 0 && cuts.has(i) ? "│" : "") + text[i]).join("");
}

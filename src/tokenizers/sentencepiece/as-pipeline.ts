/**
 * A SentencePiece model as the components of tokenizer.json, for one that came without its `.model` file (out of a GGUF). BPE's merges are all ways to put two pieces
 * together to a third, in the order of the third's score.
 */
import { ConfigError } from "../../errors.ts";
import type { DecoderSpec } from "../decoders/decoders.ts";
import { NO_POST_PROCESSOR } from "../files/components.ts";
import type { PieceModelSpec } from "../models/piece-models.ts";
import type { NormalizerSpec } from "../normalizers/normalizers.ts";
import type { PostProcessorSpec } from "../post-processors/post-processors.ts";
import type { PreTokenizerSpec } from "../pre-tokenizers/pre-tokenizers.ts";
import { type SentencePieceModel, specialToken, type TokenizerSpec } from "../tokenizer-spec.ts";
import { inText, isSpelled, PIECE_TYPES, type SentencePieceSpec } from "./spec.ts";

const SPACE = "\u2581";

/** @throws ConfigError for kinds that tokenizer.json has no model for (words, characters) and spaces behind words */
export function asPipeline(model: SentencePieceModel): TokenizerSpec {
  const { sentencePiece } = model;
  const spec = { ...sentencePiece, pieces: sentencePiece.pieces.map((piece, id) => inText(piece, sentencePiece.types[id])) };
  if ((spec.kind !== "bpe" && spec.kind !== "unigram") || spec.treatWhitespaceAsSuffix)
    throw new ConfigError(
      `tokenizer.json: a SentencePiece model of another kind, expected bpe or unigram with spaces in front, got ${spec.kind}. Keep its .model file.`,
    );
  const postProcessor = template(model);
  const special: number[] = [PIECE_TYPES.control, PIECE_TYPES.unknown];
  const addedTokens = spec.pieces.flatMap((piece, id) => {
    if (special.includes(spec.types[id])) return [specialToken(piece, id)];
    return spec.types[id] === PIECE_TYPES.userDefined ? [{ ...specialToken(piece, id), special: false }] : [];
  });
  return {
    model: { kind: "pipeline", tokens: spec.pieces, ...(spec.kind === "bpe" ? bpe(spec) : unigram(spec)), postProcessor },
    normalizer: [],
    postProcessor: NO_POST_PROCESSOR,
    addedTokens,
    kept: { truncation: null, padding: null, postProcessor },
  };
}

interface Parts {
  readonly normalizer: NormalizerSpec | null;
  readonly preTokenizer: PreTokenizerSpec | null;
  readonly pieces: PieceModelSpec;
  readonly decoder: DecoderSpec;
}

function sequence(normalizers: NormalizerSpec[]): NormalizerSpec | null {
  return normalizers.length > 1 ? { type: "Sequence", normalizers } : (normalizers[0] ?? null);
}

/** What both kinds do before spaces become ▁. */
function cleaned({ normalizer: { charsmap, removeExtraWhitespaces } }: SentencePieceSpec): NormalizerSpec[] {
  return [
    ...(charsmap === null ? [] : [{ type: "Precompiled", precompiled_charsmap: base64(charsmap) } as const]),
    ...(removeExtraWhitespaces
      ? ([
          // Spaces only: what Strip takes off are line breaks too.
          { type: "Replace", pattern: { Regex: "\\A +| +\\z" }, content: "" },
          { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
        ] as const)
      : []),
  ];
}

/** Spaces as ▁, one before the text where the model wants it (Metaspace would leave it out before a space), and back. */
function spaces(spec: SentencePieceSpec): Omit<Parts, "pieces"> {
  const { addDummyPrefix } = spec.normalizer;
  return {
    normalizer: sequence([
      ...cleaned(spec),
      ...(addDummyPrefix ? [{ type: "Prepend", prepend: SPACE } as const] : []),
      { type: "Replace", pattern: { String: " " }, content: SPACE },
    ]),
    preTokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addDummyPrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 } as const] : []),
      ],
    },
  };
}

function bpe(spec: SentencePieceSpec): Parts {
  const { pieces, scores, types, byteFallback } = spec;
  const idOf = new Map(pieces.map((piece, id) => [piece, id]));
  const made: { left: number; right: number; score: number }[] = [];
  for (const [id, piece] of pieces.entries()) {
    if (!isSpelled(types[id])) continue;
    const own: { left: number; right: number; score: number }[] = [];
    for (let at = 1; at < piece.length; at++) {
      const [left, right] = [idOf.get(piece.slice(0, at)), idOf.get(piece.slice(at))];
      if (left !== undefined && right !== undefined && isSpelled(types[left]) && isSpelled(types[right])) own.push({ left, right, score: scores[id] });
    }
    made.push(...own.sort((a, b) => a.left - b.left || a.right - b.right));
  }
  made.sort((a, b) => b.score - a.score);
  return {
    ...spaces(spec),
    pieces: {
      type: "BPE",
      dropout: null,
      unk_token: pieces[types.indexOf(PIECE_TYPES.unknown)] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: byteFallback,
      ignore_merges: false,
      vocab: { tokens: pieces, idOf },
      merges: Int32Array.from(made.flatMap(({ left, right }) => [left, right])),
    },
  };
}

function unigram(spec: SentencePieceSpec): Parts {
  const { pieces, scores, types, byteFallback } = spec;
  const unknown = types.indexOf(PIECE_TYPES.unknown);
  // No text is cut into unused pieces; Hugging Face has no word for that, so they are worse than anything else.
  const vocab = pieces.map((piece, id) => [piece, types[id] === PIECE_TYPES.unused ? -1e9 : scores[id]] as const);
  return { ...spaces(spec), pieces: { type: "Unigram", unk_id: unknown < 0 ? null : unknown, vocab, byte_fallback: byteFallback } };
}

function template({ sentencePiece: { pieces, bosPiece, eosPiece }, bos, eos }: SentencePieceModel): PostProcessorSpec | null {
  const names = [...(bos ? [bosPiece] : []), ...(eos ? [eosPiece] : [])].filter((name) => pieces.includes(name));
  if (names.length === 0) return null;
  const put = (wanted: boolean, id: string, type_id: number) => (wanted && names.includes(id) ? [{ SpecialToken: { id, type_id } }] : []);
  const around = (id: "A" | "B", type_id: number) => [...put(bos, bosPiece, type_id), { Sequence: { id, type_id } }, ...put(eos, eosPiece, type_id)];
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(names.map((name) => [name, { id: name, ids: [pieces.indexOf(name)], tokens: [name] }])),
  };
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

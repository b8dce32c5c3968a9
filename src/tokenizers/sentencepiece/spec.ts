/** What a SentencePiece model is made of, whatever file it came from, and the rules that it must keep. */
import { LARGEST_ID, type Place } from "../files/strict-json.ts";

/** What a piece may be used for; the numbers are those of the file. */
export const PIECE_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A user's own piece as it stands in text, which is how GGUF and tokenizer.json have it: Gemma's two spaces are a piece of their own. */
export const inText = (piece: string, type: number): string => (type === PIECE_TYPES.userDefined ? piece.replaceAll("\u2581", " ") : piece);
/** The other way: as SentencePiece spells it. */
export const asPiece = (text: string, type: number | undefined): string => (type === PIECE_TYPES.userDefined ? text.replaceAll(" ", "\u2581") : text);

/** How text becomes pieces; the numbers are those of the file. */
export const MODEL_KINDS = { unigram: 1, bpe: 2, word: 3, char: 4 } as const;

export interface SentencePieceNormalizer {
  /** What the rules are called, for people (`nmt_nfkc`). */
  readonly name: string;
  /** Replacements of characters (see normalizers/charsmap.ts); null where there are none. */
  readonly charsmap: Uint8Array | null;
  /** Puts a space before the text (or behind it, with `treatWhitespaceAsSuffix`). */
  readonly addDummyPrefix: boolean;
  /** Takes spaces away at both ends, and all but one of several. */
  readonly removeExtraWhitespaces: boolean;
  /** Writes a space as `▁` (U+2581). */
  readonly escapeWhitespaces: boolean;
}

export interface SentencePieceSpec {
  readonly kind: keyof typeof MODEL_KINDS;
  /** By id. */
  readonly pieces: readonly string[];
  /** By id: what a piece is worth in a unigram model, which merge goes first in BPE. */
  readonly scores: Float32Array;
  /** By id: one of PIECE_TYPES. */
  readonly types: Uint8Array;
  readonly normalizer: SentencePieceNormalizer;
  /** Applied to decoded text. */
  readonly denormalizer: SentencePieceNormalizer | null;
  readonly treatWhitespaceAsSuffix: boolean;
  /** Characters that no piece has become the pieces of their bytes, `<0x00>` to `<0xFF>`. */
  readonly byteFallback: boolean;
  /** What the unknown piece is decoded to. */
  readonly unkSurface: string;
  readonly bosPiece: string;
  readonly eosPiece: string;
  readonly padPiece: string;
}

/** A piece that some converters add beside `<0x00>`, and that no text may be cut into. */
export const NUL = "\0";
const LONGEST_PIECE = 7999;
const BYTE_PIECE = /^<0x[0-9A-F]{2}>$/;

export function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** The byte that a byte piece stands for. */
export function pieceByte(piece: string): number {
  return Number.parseInt(piece.slice(3, 5), 16);
}

/** Whether text may be cut into pieces of this type by their spelling; the others have names of their own. */
export function isSpelled(type: number): boolean {
  return type === PIECE_TYPES.normal || type === PIECE_TYPES.userDefined || type === PIECE_TYPES.unused;
}

/**
 * The rules of the library's own loader: one unknown piece (none with byte fallback), no piece empty or given twice, all 256 bytes or none.
 * @throws FormatError that names the piece
 */
export function checkPieces(spec: Pick<SentencePieceSpec, "kind" | "pieces" | "scores" | "types" | "byteFallback">, place: Place): void {
  const { pieces, types } = spec;
  if (pieces.length > LARGEST_ID + 1) place.fail("too many pieces", `at most ${LARGEST_ID + 1}`, pieces.length);
  const spelled = new Map<string, number>();
  const named = new Map<string, number>();
  let unknown = -1;
  let bytes = 0;
  for (const [id, piece] of pieces.entries()) {
    const fail = (what: string, expected: string, got: unknown): never => place.at("pieces").at(id).fail(what, expected, got);
    if (piece === "") fail("empty piece", "at least one character", piece);
    if (piece.length > LONGEST_PIECE) fail("an absurdly long piece", `at most ${LONGEST_PIECE} characters`, piece.length);
    if (piece === NUL && types[id] === PIECE_TYPES.unused) continue;
    if (piece.includes(NUL)) fail("NUL in a piece", "other characters", piece);
    if (!Number.isFinite(spec.scores[id])) fail("bad score", "a finite number", spec.scores[id]);
    const among = isSpelled(types[id]) ? spelled : named;
    const earlier = among.get(piece);
    if (earlier !== undefined) fail("piece given twice", `it only as id ${earlier}`, piece);
    among.set(piece, id);
    if (types[id] === PIECE_TYPES.unknown) {
      if (unknown >= 0) fail("a second unknown piece", `only id ${unknown}`, piece);
      unknown = id;
    }
    if (types[id] === PIECE_TYPES.byte) {
      if (!spec.byteFallback) fail("a byte piece without byte fallback", "trainer_spec.byte_fallback", piece);
      if (!BYTE_PIECE.test(piece)) fail("bad byte piece", "<0x00> to <0xFF>", piece);
      bytes++;
    }
  }
  if (unknown < 0 && !spec.byteFallback) place.fail("no unknown piece", "one piece of type UNKNOWN", `${pieces.length} pieces without one`);
  if (spec.byteFallback && bytes !== 256) place.fail("byte fallback without its bytes", "256 byte pieces", bytes);
  if (spec.kind === "unigram" && spelled.size === 0) place.fail("nothing that text could be cut into", "pieces of type NORMAL", pieces.length);
}

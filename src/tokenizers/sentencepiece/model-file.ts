/**
 * Reads `.model` files of SentencePiece: a `ModelProto` in Protocol Buffers' wire format. Fields that only training used are skipped, as is the self-test;
 * those that decide ids are read strictly.
 *
 * Format: google/sentencepiece, src/sentencepiece_model.proto.
 */
import { Place } from "../files/strict-json.ts";
import { openCharsmap } from "../normalizers/charsmap.ts";
import { checkPieces, MODEL_KINDS, NUL, PIECE_TYPES, type SentencePieceNormalizer, type SentencePieceSpec } from "./spec.ts";
import { WireReader } from "./wire.ts";

/** U+2047 between spaces: what the library decodes the unknown piece to where the file does not say. */
const UNK_SURFACE = " \u2047 ";

/** The part of TrainerSpec that decides how text is cut. */
type Trainer = Pick<SentencePieceSpec, "kind" | "treatWhitespaceAsSuffix" | "byteFallback" | "unkSurface" | "bosPiece" | "eosPiece" | "padPiece">;

/**
 * @param file the file's name, which errors call it by
 * @throws FormatError for a file that is cut off, contradicts itself or is no SentencePiece model
 */
export function readSentencePiece(bytes: Uint8Array, file: string): SentencePieceSpec {
  const place = new Place(file);
  const pieces: string[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  let trainer: Trainer = {
    kind: "unigram",
    treatWhitespaceAsSuffix: false,
    byteFallback: false,
    unkSurface: UNK_SURFACE,
    bosPiece: "<s>",
    eosPiece: "</s>",
    padPiece: "<pad>",
  };
  let normalizer: SentencePieceNormalizer = { name: "", charsmap: null, addDummyPrefix: true, removeExtraWhitespaces: true, escapeWhitespaces: true };
  let denormalizer: SentencePieceNormalizer | null = null;
  const unsaid = normalizer;

  const reader = new WireReader(bytes, place);
  while (reader.next()) {
    if (reader.field === 1) {
      const { piece, score, type } = readPiece(new WireReader(reader.message(), place.at("pieces").at(pieces.length)));
      pieces.push(piece);
      scores.push(score);
      types.push(type);
    } else if (reader.field === 2) trainer = readTrainer(new WireReader(reader.message(), place.at("trainer_spec")), trainer);
    else if (reader.field === 3) normalizer = readNormalizer(new WireReader(reader.message(), place.at("normalizer_spec")), normalizer);
    else if (reader.field === 5) denormalizer = readNormalizer(new WireReader(reader.message(), place.at("denormalizer_spec")), denormalizer ?? unsaid);
    else reader.ignore();
  }
  if (trainer.byteFallback) for (const [id, piece] of pieces.entries()) if (piece === NUL) types[id] = PIECE_TYPES.unused;
  const spec = { ...trainer, pieces, scores: Float32Array.from(scores), types: Uint8Array.from(types), normalizer, denormalizer };
  checkPieces(spec, place);
  return spec;
}

function readPiece(reader: WireReader): { piece: string; score: number; type: number } {
  let piece = "";
  let score = 0;
  let type: number = PIECE_TYPES.normal;
  while (reader.next()) {
    if (reader.field === 1) piece = reader.string();
    else if (reader.field === 2) score = reader.float();
    else if (reader.field === 3) {
      type = reader.varint();
      if (!Object.values<number>(PIECE_TYPES).includes(type)) reader.place.fail("unknown type of piece", "1 to 6", type);
    } else reader.ignore();
  }
  return { piece, score, type };
}

/** A message that comes again changes the fields that it has and keeps the others, as Protocol Buffers merges. */
function readTrainer(reader: WireReader, before: Trainer): Trainer {
  const trainer: { -readonly [Key in keyof Trainer]: Trainer[Key] } = { ...before };
  while (reader.next()) {
    if (reader.field === 3) trainer.kind = readKind(reader);
    else if (reader.field === 24) trainer.treatWhitespaceAsSuffix = reader.boolean();
    else if (reader.field === 35) trainer.byteFallback = reader.boolean();
    else if (reader.field === 44) trainer.unkSurface = reader.string();
    else if (reader.field === 46) trainer.bosPiece = reader.string() || "<s>";
    else if (reader.field === 47) trainer.eosPiece = reader.string() || "</s>";
    else if (reader.field === 48) trainer.padPiece = reader.string() || "<pad>";
    else reader.ignore();
  }
  return trainer;
}

function readKind(reader: WireReader): SentencePieceSpec["kind"] {
  const number = reader.varint();
  for (const kind of Object.keys(MODEL_KINDS) as SentencePieceSpec["kind"][]) if (MODEL_KINDS[kind] === number) return kind;
  return reader.place.at("model_type").fail("unknown model", "1 (unigram), 2 (BPE), 3 (word) or 4 (char)", number);
}

function readNormalizer(reader: WireReader, before: SentencePieceNormalizer): SentencePieceNormalizer {
  const normalizer: { -readonly [Key in keyof SentencePieceNormalizer]: SentencePieceNormalizer[Key] } = { ...before };
  while (reader.next()) {
    if (reader.field === 1) normalizer.name = reader.string();
    else if (reader.field === 2) {
      const charsmap = reader.message();
      // Opened here for its checks: what is wrong with a file is said when it is read.
      if (charsmap.length > 0) openCharsmap(charsmap, reader.place.at("precompiled_charsmap"));
      normalizer.charsmap = charsmap.length > 0 ? charsmap.slice() : null;
    } else if (reader.field === 3) normalizer.addDummyPrefix = reader.boolean();
    else if (reader.field === 4) normalizer.removeExtraWhitespaces = reader.boolean();
    else if (reader.field === 5) normalizer.escapeWhitespaces = reader.boolean();
    else reader.ignore();
  }
  return normalizer;
}

/**
 * Train and validation, split by document. A document's side follows from its text and the seed alone, so it stays where
 * it is when data is added or reordered, and copies of one text never end up on both sides.
 */
import { ConfigError, DataError } from "../errors.ts";
import { checkOptions } from "../options.ts";
import type { Document } from "./documents.ts";
import { fractionOfHash } from "./random-order.ts";
import { hashText } from "./stable-hash.ts";

/** The two parts of the data. */
export type Side = "train" | "validation";

/** How much goes to validation, and by what. */
export interface SplitOptions {
  /** Part of the data for validation, more than 0 and less than 1; default 0.1. */
  validationFraction?: number;
  /** Default 0. */
  seed?: number;
  /**
   * `"document"` (default): whole documents. `"tail"`: the end of each document, by characters; also what happens when
   * there is one document only, and said in `notes`.
   */
  by?: "document" | "tail";
}

/** A split that was decided by one look at the documents: their sizes, and the way to each side. */
export interface SplitPlan {
  /** Whole documents, or each one's tail. */
  readonly by: "document" | "tail";
  readonly documents: { train: number; validation: number };
  readonly characters: { train: number; validation: number };
  /** Sentences for the user when the split is not the plain one. */
  readonly notes: readonly string[];
  /** The documents of one side, in their order. Those given must be the ones that were planned. */
  side(documents: AsyncIterable<Document> | Iterable<Document>, side: Side): AsyncGenerator<Document>;
}

/**
 * Looks at all documents once and decides how to split. Memory does not grow with the data.
 *
 * @throws DataError when there is too little text for two sides
 */
export async function planSplit(documents: AsyncIterable<Document> | Iterable<Document>, options: SplitOptions = {}): Promise<SplitPlan> {
  checkOptions("planSplit", options, { validationFraction: true, seed: true, by: true });
  const { validationFraction = 0.1, seed = 0 } = options;
  if (!(validationFraction > 0 && validationFraction < 1)) {
    throw new ConfigError(`split: bad validation fraction, expected more than 0 and less than 1, got ${validationFraction}. Correct it.`);
  }
  const position = (document: Document) => fractionOfHash(hashText(document.text), seed);
  const whole = { documents: { train: 0, validation: 0 }, characters: { train: 0, validation: 0 } };
  const tails = { documents: { train: 0, validation: 0 }, characters: { train: 0, validation: 0 } };
  let lowest = 2;
  let highest = -1;
  let count = 0;
  for await (const document of documents) {
    count++;
    const at = position(document);
    lowest = Math.min(lowest, at);
    highest = Math.max(highest, at);
    const side: Side = at < validationFraction ? "validation" : "train";
    whole.documents[side]++;
    whole.characters[side] += document.text.length;
    const cut = tailStart(document.text, validationFraction);
    tails.documents.train += cut > 0 ? 1 : 0;
    tails.documents.validation += cut < document.text.length ? 1 : 0;
    tails.characters.train += cut;
    tails.characters.validation += document.text.length - cut;
  }

  const notes: string[] = [];
  const percent = `${Number((validationFraction * 100).toFixed(2))} %`;
  // One document, or copies of one: no split by document leaves text on both sides.
  if (options.by === "tail" || lowest >= highest) {
    if (tails.characters.train === 0 || tails.characters.validation === 0) {
      throw new DataError(
        `split: too little text, expected enough for training and validation, got ${count} documents with ` +
          `${tails.characters.train + tails.characters.validation} characters. Use more text.`,
      );
    }
    if (options.by !== "tail") {
      notes.push(`The data is a single document, so its last ${percent} (by characters) are the validation text.`);
    }
    return {
      by: "tail",
      ...tails,
      notes,
      async *side(again, side) {
        for await (const document of again) {
          const cut = tailStart(document.text, validationFraction);
          const text = side === "train" ? document.text.slice(0, cut) : document.text.slice(cut);
          if (text !== "") yield { ...document, text };
        }
      },
    };
  }

  // With few documents a side can stay empty; then the nearest one moves over.
  let threshold = validationFraction;
  let moved: Side | undefined;
  if (whole.documents.validation === 0) {
    moved = "validation";
    threshold = lowest + Number.EPSILON * lowest;
  } else if (whole.documents.train === 0) {
    moved = "train";
    threshold = highest;
  }
  const sideOf = (document: Document): Side => (position(document) < threshold ? "validation" : "train");
  if (moved !== undefined) {
    notes.push(
      `With ${count} documents, ${percent} for validation would leave no document for ${moved === "train" ? "training" : "validation"}; the nearest one was taken.`,
    );
    whole.documents = { train: 0, validation: 0 };
    whole.characters = { train: 0, validation: 0 };
    for await (const document of documents) {
      whole.documents[sideOf(document)]++;
      whole.characters[sideOf(document)] += document.text.length;
    }
  }
  return {
    by: "document",
    ...whole,
    notes,
    async *side(again, side) {
      for await (const document of again) if (sideOf(document) === side) yield document;
    },
  };
}

/** First character of a text's tail: floor of the training share, as nanoGPT cuts, but never inside a surrogate pair. */
function tailStart(text: string, fraction: number): number {
  const cut = Math.floor(text.length * (1 - fraction));
  const unit = text.charCodeAt(cut);
  return unit >= 0xdc00 && unit <= 0xdfff && cut > 0 ? cut - 1 : cut;
}

/** What a data set holds, in numbers, for reports and manifests. */
import type { Document } from "./documents.ts";

/** What documents add up to. */
export interface DataStatistics {
  documents: number;
  /** Unicode code points. */
  characters: number;
  /** Bytes of the text as UTF-8. */
  bytes: number;
  /** Token ids, end-of-text tokens among them; 0 before tokenization. */
  tokens: number;
  /** tokens / bytes; 0 when there are no bytes. */
  tokensPerByte: number;
  /** Code points of the longest document. */
  longestDocument: number;
  /** Invalid byte sequences that became U+FFFD. */
  replaced: number;
}

/** Statistics before the first document. */
export const emptyStatistics = (): DataStatistics => ({
  documents: 0,
  characters: 0,
  bytes: 0,
  tokens: 0,
  tokensPerByte: 0,
  longestDocument: 0,
  replaced: 0,
});

/** Counts one document into `statistics`. */
export function countDocument(statistics: DataStatistics, document: Pick<Document, "text" | "replaced">, tokens = 0): void {
  const { characters, bytes } = measureText(document.text);
  statistics.documents++;
  statistics.characters += characters;
  statistics.bytes += bytes;
  statistics.tokens += tokens;
  statistics.tokensPerByte = statistics.bytes === 0 ? 0 : statistics.tokens / statistics.bytes;
  statistics.longestDocument = Math.max(statistics.longestDocument, characters);
  statistics.replaced += document.replaced ?? 0;
}

/** Passes documents through and counts them. */
export async function* withStatistics<D extends Document>(documents: AsyncIterable<D> | Iterable<D>, statistics: DataStatistics): AsyncGenerator<D> {
  for await (const document of documents) {
    countDocument(statistics, document);
    yield document;
  }
}

/** Code points and UTF-8 bytes of a text, without encoding it. A lone surrogate counts as U+FFFD (3 bytes). */
function measureText(text: string): { characters: number; bytes: number } {
  let characters = text.length;
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    bytes += unit < 0x800 ? 1 : 2;
    if (unit >= 0xd800 && unit < 0xdc00 && i + 1 < text.length) {
      const next = text.charCodeAt(i + 1);
      if (next >= 0xdc00 && next < 0xe000) {
        // Two units, one character, four bytes: two of them are counted as units.
        characters--;
        i++;
      }
    }
  }
  return { characters, bytes };
}

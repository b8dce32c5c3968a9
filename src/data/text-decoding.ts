/** Bytes to text, streamed: UTF-8 with invalid sequences replaced and counted, and binary data refused. */
import { DataError } from "../errors.ts";

/** What `decodeText` saw. */
export interface DecodeCounts {
  /** Bytes read. */
  bytes: number;
  /** Invalid byte sequences that became U+FFFD. */
  replaced: number;
}

// Large enough that joining and searching costs little, small enough for bounded memory.
const CHUNK_CHARACTERS = 1 << 20;
const HEAD_BYTES = 1 << 16;

/**
 * Decodes UTF-8 in pieces of about a million characters. A byte order mark at the start is dropped.
 *
 * @param counts is counted up as the text is read
 * @throws DataError for UTF-16, for binary data, and for text that is mostly invalid (another encoding)
 */
export async function* decodeText(chunks: AsyncIterable<Uint8Array>, where: string, counts: DecodeCounts = { bytes: 0, replaced: 0 }): AsyncGenerator<string> {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
  let carried: Uint8Array = new Uint8Array(0);
  let pieces: string[] = [];
  let characters = 0;
  let start = true;

  const decode = (bytes: Uint8Array): void => {
    let text: string;
    try {
      text = strict.decode(bytes);
    } catch {
      text = lenient.decode(bytes);
      counts.replaced += count(text, "\ufffd") - countReplacementBytes(bytes);
    }
    pieces.push(text);
    characters += text.length;
  };

  for await (const chunk of chunks) {
    counts.bytes += chunk.length;
    let bytes = carried.length === 0 ? chunk : joined(carried, chunk);
    if (start) {
      // Look at a real piece of the file, even when the first chunks are tiny.
      if (bytes.length < HEAD_BYTES) {
        carried = bytes.slice();
        continue;
      }
      bytes = checkHead(bytes, where);
      start = false;
    }
    const whole = bytes.length - incompleteTail(bytes);
    carried = bytes.slice(whole);
    decode(bytes.subarray(0, whole));
    checkReplaced(counts, where);
    if (characters >= CHUNK_CHARACTERS) {
      yield pieces.join("");
      pieces = [];
      characters = 0;
    }
  }
  decode(start ? checkHead(carried, where) : carried);
  checkReplaced(counts, where);
  if (characters > 0) yield pieces.join("");
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}

function count(text: string, character: string): number {
  let n = 0;
  for (let at = text.indexOf(character); at >= 0; at = text.indexOf(character, at + 1)) n++;
  return n;
}

/** U+FFFD that was in the data already is valid text and not counted. */
function countReplacementBytes(bytes: Uint8Array): number {
  let n = 0;
  for (let at = bytes.indexOf(0xef); at >= 0; at = bytes.indexOf(0xef, at + 1)) {
    if (bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd) n++;
  }
  return n;
}

/** Bytes at the end that begin a character whose rest is still to come (0 to 3). */
function incompleteTail(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
    if (byte < 0x80) return 0;
  }
  return 0;
}

function checkHead(bytes: Uint8Array, where: string): Uint8Array {
  const [a, b, c] = bytes;
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    throw new DataError(`${where}: not UTF-8, expected UTF-8 text, got UTF-16 (by its byte order mark). Save it as UTF-8.`);
  }
  const head = bytes.subarray(0, HEAD_BYTES);
  const kind =
    a === 0x1f && b === 0x8b ? " compressed with gzip; name it .gz" : a === 0x28 && b === 0xb5 && c === 0x2f ? " compressed with Zstandard; name it .zst" : "";
  let control = 0;
  for (const byte of head) if (byte < 9 || (byte > 13 && byte < 32 && byte !== 27)) control++;
  if (kind !== "" || head.includes(0) || (control >= 8 && control > head.length * 0.1)) {
    throw new DataError(`${where}: not text, expected UTF-8 text, got binary data${kind}. Remove it from the data or extract its text first.`);
  }
  return a === 0xef && b === 0xbb && c === 0xbf ? bytes.subarray(3) : bytes;
}

function checkReplaced({ bytes, replaced }: DecodeCounts, where: string): void {
  // A few bad bytes are scars; every fifth is another encoding or no text at all.
  if (replaced >= 8 && replaced > bytes * 0.2) {
    throw new DataError(
      `${where}: not UTF-8, expected UTF-8 text, got ${replaced} invalid sequences in ${bytes} bytes. ` +
        "This is binary data or another encoding; convert it to UTF-8.",
    );
  }
}

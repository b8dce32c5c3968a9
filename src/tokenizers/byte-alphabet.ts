/**
 * The printable characters that stand for bytes in vocabulary files, so that every byte string can be written as text:
 * printable Latin-1 stands for itself, the other 68 bytes take the code points from U+0100 on.
 *
 * Source: GPT-2's `bytes_to_unicode` (openai/gpt-2, src/encoder.py); Hugging Face calls it the ByteLevel alphabet.
 */

/** Character (of one UTF-16 unit) for each byte. */
export const BYTE_TO_CHARACTER: readonly string[] = buildAlphabet();

const CHARACTER_TO_BYTE: ReadonlyMap<number, number> = new Map(
  BYTE_TO_CHARACTER.map((character, byte) => [character.charCodeAt(0), byte]),
);

function buildAlphabet(): string[] {
  const alphabet: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    alphabet.push(String.fromCharCode(printable ? byte : next++));
  }
  return alphabet;
}

/** The bytes in the order of their characters: the order in which training gives them ids. */
export function bytesInFileOrder(): number[] {
  return [...CHARACTER_TO_BYTE.keys()].sort((a, b) => a - b).map((code) => CHARACTER_TO_BYTE.get(code) as number);
}

/** Bytes as text of the alphabet. */
export function bytesToAlphabet(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += BYTE_TO_CHARACTER[byte];
  return text;
}

/** The bytes that `text` stands for, or undefined when it has a character outside the alphabet. */
export function alphabetToBytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const byte = CHARACTER_TO_BYTE.get(text.charCodeAt(i));
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

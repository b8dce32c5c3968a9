/**
 * The printable characters that stand for bytes in vocabulary files, so that every byte string can be written as text:
 * printable Latin-1 stands for itself, the other 68 bytes take the code points from U+0100 on.
 *
 * Source: GPT-2's `bytes_to_unicode` (openai/gpt-2, src/encoder.py); Hugging Face calls it the ByteLevel alphabet.
 */

/** Character (of one UTF-16 unit) for each byte. */
export const BYTE_TO_CHARACTER: readonly string[] = buildAlphabet();

/** Byte for each character code, -1 for codes outside the alphabet. */
const CODE_TO_BYTE: Int16Array = new Int16Array(0x144).fill(-1);
for (const [byte, character] of BYTE_TO_CHARACTER.entries()) CODE_TO_BYTE[character.charCodeAt(0)] = byte;

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
  return [...CODE_TO_BYTE].filter((byte) => byte >= 0);
}

/** Bytes as text of the alphabet. */
export function bytesToAlphabet(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += BYTE_TO_CHARACTER[byte];
  return text;
}

/**
 * Writes the bytes that `text` stands for to `out` from `at` on (one for each character).
 *
 * @returns false when a character is outside the alphabet
 */
export function writeAlphabetBytes(text: string, out: Uint8Array, at: number): boolean {
  for (let i = 0; i < text.length; i++) {
    const byte = CODE_TO_BYTE[text.charCodeAt(i)] ?? -1;
    if (byte < 0) return false;
    out[at + i] = byte;
  }
  return true;
}

/** Whether every character of `text` stands for a byte. */
export function isAlphabet(text: string): boolean {
  for (let i = 0; i < text.length; i++) if ((CODE_TO_BYTE[text.charCodeAt(i)] ?? -1) < 0) return false;
  return true;
}

/** The bytes that `text` stands for, or undefined when it has a character outside the alphabet. */
export function alphabetToBytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(text.length);
  return writeAlphabetBytes(text, bytes, 0) ? bytes : undefined;
}

/** Decoding as ids come, one by one. */

/** Gives text as soon as its characters are whole. */
export interface DecodeStream {
  /** The text that this id completes; empty while a character is still in parts. */
  push(id: number): string;
  /** What is left: U+FFFD for a character that never became whole, else nothing. */
  end(): string;
}

export function createDecodeStream(bytesOf: (id: number) => Uint8Array): DecodeStream {
  // A streaming TextDecoder holds back the bytes of an unfinished character, which is the whole task.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (id) => decoder.decode(bytesOf(id), { stream: true }),
    end: () => decoder.decode(),
  };
}

/** Large files from front to back: while what was read is worked on, the next bytes are on their way. */
import type { Source } from "./source.ts";

/** What one reading takes, where there is so much. */
const READING = 1 << 22;
/** Room before what was read ahead, for the end of the reading before it that a caller did not take. */
const HEAD = 1 << 20;

export interface Forward {
  /** Bytes that are in memory, or null. A view: the next `from` may write over it. */
  held(offset: number, length: number): Uint8Array<ArrayBuffer> | null;
  /** Bytes from `offset` on, at least so many (which the source must have) and at most one reading. A view: the next call may write over it, so that there is one at a time. @throws FormatError as the source does */
  from(offset: number, least: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Waits for what is on its way. */
  settled(): Promise<void>;
}

export function readForward(source: Source): Forward {
  let memory = new Uint8Array(0);
  /** Bytes `start` to `end` of the source lie from `first` on. */
  let [first, start, end] = [0, 0, 0];
  let spare = new Uint8Array(0);
  /** The reading that follows, from `end` on, in `spare` behind HEAD. Its error is told to who wants its bytes. */
  let ahead: { readonly end: number; readonly failed: Promise<{ readonly error: unknown } | null> } | null = null;

  const has = (offset: number, length: number): boolean => offset >= start && offset + length <= end;
  const view = (offset: number): Uint8Array<ArrayBuffer> => memory.subarray(first + offset - start, first + end - start);

  async function readHere(offset: number, least: number): Promise<void> {
    const length = Math.min(Math.max(READING, least), source.size - offset);
    if (memory.length < length) memory = new Uint8Array(length);
    end = start;
    await source.readInto(offset, memory.subarray(0, length));
    [first, start, end] = [0, offset, offset + length];
  }

  function begin(): void {
    const length = Math.min(READING, source.size - end);
    if (length === 0) return;
    if (spare.length < HEAD + READING) spare = new Uint8Array(HEAD + READING);
    const failed = source.readInto(end, spare.subarray(HEAD, HEAD + length)).then(
      () => null,
      (error: unknown) => ({ error }),
    );
    ahead = { end: end + length, failed };
  }

  return {
    held: (offset, length) => (has(offset, length) ? view(offset).subarray(0, length) : null),
    async from(offset, least) {
      if (has(offset, least)) return view(offset);
      // Who goes on where a reading ended, or a little before, is going through the file.
      const goesOn = end > start && offset >= start && offset <= end;
      const [next, rest] = [ahead, end - offset];
      ahead = null;
      const failure = await next?.failed;
      if (next !== null && goesOn && rest <= HEAD && offset + least <= next.end) {
        if (failure) throw failure.error;
        spare.set(memory.subarray(first + offset - start, first + end - start), HEAD - rest);
        [memory, spare] = [spare, memory];
        [first, start, end] = [HEAD - rest, offset, next.end];
      } else await readHere(offset, least);
      if (goesOn && least <= READING) begin();
      return view(offset);
    },
    async settled() {
      await ahead?.failed;
    },
  };
}

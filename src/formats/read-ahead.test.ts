import { expect, test } from "vitest";
import { readForward } from "./read-ahead.ts";
import { bytesSource } from "./source.ts";

const MB = 1 << 20;
const bytes = Uint8Array.from({ length: 19 * MB + 5 }, (_, i) => (i * 2654435761) >>> 24);

/** A source whose readings are written down, and may fail from some place on. */
function watched(failsFrom = Infinity) {
  const source = bytesSource(bytes, "watched");
  const readings: [offset: number, length: number][] = [];
  return {
    readings,
    source: {
      ...source,
      readInto: async (offset: number, into: Uint8Array<ArrayBuffer>) => {
        readings.push([offset, into.length]);
        if (offset >= failsFrom) throw new Error(`no bytes from ${offset}`);
        return source.readInto(offset, into);
      },
    },
  };
}

const same = (got: Uint8Array, offset: number): boolean => got.length > 0 && Buffer.compare(got, bytes.subarray(offset, offset + got.length)) === 0;

test.each([1, 1000, 34 * 4099, 700_001, MB, 3 * MB, 5 * MB])("from front to back in whole units of %i bytes", async (unit) => {
  const { source, readings } = watched();
  const forward = readForward(source);
  for (let at = 0; at < bytes.length; ) {
    const left = bytes.length - at;
    const there = await forward.from(at, Math.min(unit, left));
    const taken = there.length >= left ? left : there.length - (there.length % unit);
    expect(taken).toBeGreaterThan(0);
    expect(same(there.subarray(0, taken), at)).toBe(true);
    at += taken;
  }
  // A rest of at most 1 MB goes before what was read ahead, and what a reading does not hold is not read ahead: nothing is read twice but the first rest, from which it is
  // seen that somebody goes on.
  if (unit !== 3 * MB) expect(readings.reduce((sum, [, length]) => sum + length, 0)).toBeLessThan(bytes.length + unit);
});

test("the next reading begins before it is asked for, where somebody goes on", async () => {
  const { source, readings } = watched();
  const forward = readForward(source);
  await forward.from(0, 1);
  expect(readings).toEqual([[0, 4 * MB]]);
  expect(forward.held(10, 5)).toEqual(bytes.subarray(10, 15));
  expect(forward.held(4 * MB - 1, 2)).toBeNull();
  await forward.from(4 * MB - 3, 10);
  expect(readings.slice(1)).toEqual([
    [4 * MB - 3, 4 * MB],
    [8 * MB - 3, 4 * MB],
  ]);
  const there = await forward.from(8 * MB - 8, 100);
  expect(there.length).toBe(4 * MB + 5);
  expect(same(there, 8 * MB - 8)).toBe(true);
  expect(readings.slice(3)).toEqual([[12 * MB - 3, 4 * MB]]);
});

test("any order gives the right bytes", async () => {
  const forward = readForward(watched().source);
  let at = 7;
  for (let i = 0; i < 60; i++) {
    const least = 1 + ((at * 31) % (2 * MB));
    expect(same((await forward.from(at, least)).subarray(0, least), at)).toBe(true);
    at = i % 3 === 0 ? (at * 48_271) % (17 * MB) : Math.min(at + least, 17 * MB);
  }
});

test("an error of what was read ahead is told to who asks for those bytes, and to nobody else", async () => {
  const { source } = watched(8 * MB);
  const forward = readForward(source);
  await forward.from(0, 1);
  await forward.from(4 * MB, 1);
  await forward.settled();
  expect(same(await forward.from(0, 100), 0)).toBe(true);
  await forward.from(4 * MB, 1);
  await expect(forward.from(8 * MB, 1)).rejects.toThrow(`no bytes from ${8 * MB}`);
  // It may come back.
  await expect(forward.from(8 * MB, 1)).rejects.toThrow("no bytes");
  expect(same(await forward.from(4 * MB, 100), 4 * MB)).toBe(true);
});

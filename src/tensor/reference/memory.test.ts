import { expect, test, vi } from "vitest";
import { GroundupError, ShapeError, UseAfterFreeError } from "../../errors.ts";
import { createMemory, forEachRow } from "./memory.ts";

test("a freed buffer's number is invalid for good, also when its slot has a new owner", () => {
  const memory = createMemory();
  const first = memory.alloc(8);
  memory.free(first);
  const second = memory.alloc(8);
  expect(second).not.toBe(first);
  expect(() => memory.read(first, 0, new Uint8Array(1))).toThrow(UseAfterFreeError);
  expect(() => memory.free(first)).toThrow(`got ${first}`);
  memory.read(second, 0, new Uint8Array(1));
  for (const never of [0, 1, 77, -1, 0.5, Number.NaN]) expect(() => memory.free(never)).toThrow(UseAfterFreeError);
});

test("write and read copy bytes at an offset and stay inside the buffer", () => {
  const memory = createMemory();
  const buffer = memory.alloc(8);
  memory.write(buffer, 4, Float32Array.of(1.5));
  const word = new Uint32Array(3);
  memory.read(buffer, 4, word.subarray(1, 2));
  expect([...word]).toEqual([0, 0x3fc00000, 0]);
  expect(() => memory.write(buffer, 5, Float32Array.of(1))).toThrow("expected at most 8 bytes, got 4 bytes at offset 5");
  expect(() => memory.read(buffer, -1, word)).toThrow(ShapeError);
});

test("a view has room for its items, or throws", () => {
  const memory = createMemory();
  const place = { storage: { buffer: memory.alloc(16) }, offset: 2 };
  expect(memory.f32(place, 2).length).toBe(2);
  expect(memory.u8(place, 14).length).toBe(14);
  expect(memory.room(place, 2)).toBe(6);
  expect(() => memory.f32(place, 3)).toThrow("expected room for 3 items of 4 bytes at offset 2, got 2");
  expect(() => memory.items(place, 9, 1)).toThrow("unknown dtype code");
  expect(() => memory.alloc(-1)).toThrow(ShapeError);
});

test("memory moves once to where threads can share it, and is claimed once for each time that it is shared", () => {
  const [ours, theirs] = [createMemory(), createMemory()];
  const buffer = ours.alloc(8);
  ours.write(buffer, 4, Float32Array.of(1.5));
  const [first, second] = [ours.share(buffer), structuredClone(ours.share(buffer))];
  expect(theirs.claim(first, 4)).toBe(0);
  const claimed = theirs.claim(first, 8);
  const word = new Float32Array(2);
  theirs.read(claimed, 0, word);
  expect([...word]).toEqual([0, 1.5]);
  expect(theirs.claim(first, 8)).toBe(0);
  ours.free(buffer);
  const again = theirs.claim(second, 8);
  theirs.write(claimed, 0, Float32Array.of(2.5));
  theirs.read(again, 0, word);
  expect([...word]).toEqual([2.5, 1.5]);
  expect([ours.held(), theirs.held()].map(({ bytes }) => bytes)).toEqual([0, 16]);
});

test("a runtime without shared memory says so", () => {
  const memory = createMemory();
  const buffer = memory.alloc(8);
  vi.stubGlobal("SharedArrayBuffer", undefined);
  try {
    expect(() => memory.share(buffer)).toThrow(GroundupError);
    expect(() => memory.share(buffer)).toThrow("the page must be cross-origin isolated");
    expect(memory.claim({}, 8)).toBe(0);
  } finally {
    vi.unstubAllGlobals();
  }
});

test("forEachRow visits the rows of all operands in order", () => {
  const seen: number[][] = [];
  const visit = (starts: readonly number[]) => void seen.push([...starts]);
  forEachRow(
    [2, 2, 5],
    [
      [100, 10, 1],
      [7, 0, 0],
    ],
    visit,
  );
  expect(seen).toEqual([
    [0, 0],
    [10, 0],
    [100, 7],
    [110, 7],
  ]);
  seen.length = 0;
  forEachRow([], [[]], visit);
  expect(seen).toEqual([[0]]);
  forEachRow([3, 0], [[1, 1]], visit);
  expect(seen.length).toBe(1);
});
